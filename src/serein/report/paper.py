"""The paper's figures beside ours."""

from collections.abc import Mapping, Sequence

from serein import published
from serein.report import summary
from serein.report.table import Column, Row, Table, make_row, text_columns
from serein.results.evaluation import Results

NOT_REPORTED = "not reported"


def get_followed_recipe(results: Results) -> str:
    """The recipe of the published system that this one is, or that it follows."""
    about = results.recipe.get("about", {})
    return str(about.get("follows") or results.recipe.get("name", ""))


def build_published_table(results: Results) -> Table | None:
    """Ours first, then what the paper printed; None where it printed nothing, or nothing is scored.

    Of a paper's tasks the one that leads here is shown.
    """
    task = next(iter(summary.list_scored_tasks(results)), None)
    if task is None or not results.classes[task]:  # no paper on the shelf prints scores of values
        return None
    printed = [
        one for one in published.find_results(get_followed_recipe(results)) if task in one.scores
    ]
    if not printed:
        return None
    scores = results.scores[results.headline][task]
    ours = {
        one.name: scores.score(one.name) for one in summary.get_task_scorer(results, task).metrics
    }
    names = list(dict.fromkeys([*ours, *(name for one in printed for name in one.scores[task])]))
    return Table(
        title=f"{task}: ours and what was published, %",
        note="Each figure belongs to its corpus, its protocol and its choice of epochs; where "
        "these differ, the figures cannot be compared.",
        columns=(
            *text_columns("system", "corpus", "protocol", "selection"),
            *(Column(name=name.upper(), undefined_reason=NOT_REPORTED) for name in names),
        ),
        rows=(
            _our_row(results, ours, names),
            *(_published_row(one, task, names) for one in printed),
        ),
    )


def list_doubts(results: Results) -> tuple[str, ...]:
    """What the paper's figures say against each other, its text or its code."""
    name = get_followed_recipe(results)
    own = [one for one in published.load_papers() if any(line.recipe == name for line in one.rows)]
    return tuple(doubt for one in own for doubt in one.doubts)


def _our_row(results: Results, scores: Mapping[str, float | None], names: Sequence[str]) -> Row:
    return make_row(
        f"ours ({summary.format_title(results)})",
        str(results.corpus.get("name", "")),
        str(results.protocol.get("name", "")),
        results.headline,
        *(summary.format_percent(scores.get(name)) for name in names),
        kind="headline",
    )


def _published_row(one: published.PublishedResult, task: str, names: Sequence[str]) -> Row:
    scores = {str(name): score for name, score in one.scores[task].items()}
    shown = [
        f"{scores[name]:.1f}" if name in scores else summary.format_percent(None) for name in names
    ]
    return make_row(f"{one.system} ({one.table})", one.corpus, one.protocol, one.selection, *shown)
