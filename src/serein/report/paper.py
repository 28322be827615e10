"""The paper's figures beside ours."""

from collections.abc import Mapping, Sequence

from serein import published
from serein.report import summary
from serein.report.table import Column, Row, Table, row, words
from serein.results import Results

MISSING = "not reported"


def followed(results: Results) -> str:
    """The recipe of the published system that this one is, or that it follows."""
    about = results.recipe.get("about", {})
    return str(about.get("follows") or results.recipe.get("name", ""))


def table(results: Results) -> Table | None:
    """Ours first, then what the paper printed; None where it printed nothing, or nothing is scored.

    Of a paper's tasks the one that leads here is shown.
    """
    task = next(iter(summary.tasks(results)), None)
    if task is None or not results.classes[task]:  # no paper on the shelf prints scores of values
        return None
    printed = [one for one in published.rows(followed(results)) if task in one.scores]
    if not printed:
        return None
    scores = results.scores[results.headline][task]
    ours = {one.name: scores.score(one.name) for one in summary.measure(results, task).scores}
    names = list(dict.fromkeys([*ours, *(name for one in printed for name in one.scores[task])]))
    return Table(
        title=f"{task}: ours and what was published, %",
        note="Each figure belongs to its corpus, its protocol and its choice of epochs; where "
        "these differ, the figures cannot be compared.",
        columns=(
            *words("system", "corpus", "protocol", "selection"),
            *(Column(name=name.upper(), undefined=MISSING) for name in names),
        ),
        rows=(_ours(results, ours, names), *(_theirs(one, task, names) for one in printed)),
    )


def doubts(results: Results) -> tuple[str, ...]:
    """What the paper's figures say against each other, its text or its code."""
    name = followed(results)
    own = [one for one in published.papers() if any(line.recipe == name for line in one.rows)]
    return tuple(doubt for one in own for doubt in one.doubts)


def _ours(results: Results, scores: Mapping[str, float | None], names: Sequence[str]) -> Row:
    return row(
        f"ours ({summary.title(results)})",
        str(results.corpus.get("name", "")),
        str(results.protocol.get("name", "")),
        results.headline,
        *(summary.percent(scores.get(name)) for name in names),
        kind="headline",
    )


def _theirs(one: published.Row, task: str, names: Sequence[str]) -> Row:
    scores = {str(name): score for name, score in one.scores[task].items()}
    shown = [f"{scores[name]:.1f}" if name in scores else summary.percent(None) for name in names]
    return row(f"{one.system} ({one.table})", one.corpus, one.protocol, one.selection, *shown)
