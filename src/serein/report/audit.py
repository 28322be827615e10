"""What the choice of epochs does to the scores: every selection side by side.

How one could have been fooled, and what each way would have been worth here.

The paper's figures beside ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from serein import published
from serein.metrics.bootstrap import bootstrap_difference, choose_resampling_groups
from serein.metrics.scoring import Metric, Scores
from serein.report import summary
from serein.report.summary import Interval
from serein.report.table import Column, Row, Table, make_row, text_columns
from serein.results.evaluation import Results

BASELINES = {
    "majority": "always answers the most frequent class of the training side",
    "chance": "draws each answer uniformly from the classes",
    "mean": "always answers the mean of the training side",
}
LAST_EPOCH = "last"
"""The one selection of a training that no score picks."""
KIND_MARKS = {"headline": " (quoted)", "optimistic": " (optimistic)"}
"""What stands beside a row of such a kind."""
EPOCH_PHRASES = {"validation": "the epochs that validation chose", LAST_EPOCH: "the last epoch"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """One line of a comparison; None is undefined.

    Attributes:
        name: of the selection or baseline.
        note: what it means.
        kind: "headline", "selection", "optimistic" or "baseline".
        scores: of all predictions together.
        intervals: of these scores.
        folds: means of the folds' scores.
        chosen_by: the task whose scores picked the epochs, where it is another one.
    """

    name: str
    note: str
    kind: str
    scores: Scores
    intervals: dict[str, Interval] = field(default_factory=dict)
    fold_means: Scores = field(default_factory=dict)
    chosen_by: str | None = None


def is_optimistic(results: Results, selection: str, task: str) -> bool:
    """Whether a selection picked epochs by this very task's scores on the test side."""
    seen = "optimistic" in results.selections.get(selection, "")
    return seen and get_selecting_task(results, task) is None


def format_selection(results: Results, selection: str, task: str) -> str:
    """The name of a selection, with its mark where it saw the test side."""
    return f"{selection}{KIND_MARKS['optimistic'] * is_optimistic(results, selection, task)}"


def get_audit_heading(results: Results) -> str:
    """What the section of the scores is called: with one selection, nothing is audited."""
    return "Selection audit" if len(results.selections) > 1 else "Scores"


def compare_selections(results: Results, task: str) -> list[ScoreRow]:
    """Every selection of a task, then what knowing nothing scores."""
    rows = [_selection_row(results, name, task) for name in results.selections]
    chosen = [row for row in rows if row is not None]
    return chosen + [
        ScoreRow(name=name, note=note, kind="baseline", scores=scores)
        for name, note in BASELINES.items()
        if (scores := results.baselines.get(name, {}).get(task))
    ]


def _selection_row(results: Results, name: str, task: str) -> ScoreRow | None:
    scores = results.scores_by_task(name).get(task)
    if scores is None:
        return None
    other = "optimistic" if is_optimistic(results, name, task) else "selection"
    names = [one.name for one in summary.get_task_scorer(results, task).metrics]
    return ScoreRow(
        name=name,
        note=results.selections[name],
        kind="headline" if name == results.headline else other,
        scores={score: scores.score(score) for score in names},
        intervals={score: scores.bounds(score) for score in names},
        fold_means=results.fold_means.get(name, {}).get(task, {}),
        chosen_by=get_selecting_task(results, task) if _picks_epochs(results, name) else None,
    )


def _picks_epochs(results: Results, selection: str) -> bool:
    return selection != LAST_EPOCH and any(selection in fold.epochs for fold in results.folds)


def get_selecting_task(results: Results, task: str) -> str | None:
    """The other task whose scores pick the epochs; None where this one has a say in it."""
    lead = summary.get_leading_task(results)
    every = results.recipe.get("training", {}).get("select_by") == "mean"
    own = every or task == lead or summary.is_fitted(results)
    return None if own else lead


def describe_selection_gap(results: Results) -> str | None:
    """How far picking epochs on the test side is from the other selections, in two sentences.

    Only of the task that picks them; None where nothing was picked on the test side.
    """
    task = summary.get_leading_task(results)
    rows = {row.name: row for row in compare_selections(results, task) if row.kind != "baseline"}
    best = next((row for row in rows.values() if row.kind == "optimistic"), None)
    quoted = rows.pop(results.headline, None)
    if best is None or quoted is None:
        return None
    main = summary.get_task_scorer(results, task).main
    top = best.scores[main.name]
    if top is None or quoted.scores[main.name] is None:
        return None
    others = [quoted, *(row for row in rows.values() if row.kind == "selection")]
    apart = [
        f"{_format_points(main, top, score)} {EPOCH_PHRASES.get(row.name, f'the epochs of {row.name}')}"
        for row in others
        if (score := row.scores[main.name]) is not None
    ]
    told = f"{summary.format_score(main, top)}{summary.format_unit(main)}"
    reports = f"Picking epochs on the test side reports a {main.title} of {told}"
    return (
        f"{reports}: {' and '.join(apart)}.{_describe_paired_difference(results, task, best.name)}"
    )


def _format_points(main: Metric, score: float, other: float) -> str:
    points = summary.compute_gain(main, score, other) or 0.0
    size = summary.format_gain(main, abs(points)).removeprefix("+")
    if not float(size):
        return "the same as"
    words = " points" if main.is_percent else ""
    return f"{size}{words} {'above' if points > 0 else 'below'}"


def _describe_paired_difference(results: Results, task: str, name: str) -> str:
    interval, words = compute_difference(results, task, name, results.headline)
    if interval is None:
        return ""
    main = summary.get_task_scorer(results, task).main
    low, high = (summary.format_score(main, bound) for bound in interval)
    points = " points" if main.is_percent else ""
    return f" It and the quoted selection differ by {low} to {high}{points}: paired {words}."


def compute_difference(
    results: Results, task: str, first: str, second: str
) -> tuple[Interval, str]:
    """By how much the UA, or CCC, of two selections differs, first less second.

    Both answered the same utterances, so both are resampled with the same draws.

    Returns:
        The interval, None where it is undefined, and how it was made in words.
    """
    items = summary.select_scored(results, task, first, second)
    measure, classes = summary.get_task_scorer(results, task), results.classes[task]
    truth = [item.truth[task] for item in items]
    groups, words = choose_resampling_groups([item.speaker for item in items])
    ours, theirs = (
        measure.tally(truth, summary.get_answers(results, task, name, items), groups, classes)
        for name in (first, second)
    )
    low, high = bootstrap_difference(ours, theirs, measure.main.statistic)
    return (None if np.isnan(low) else (low, high)), words


AUDIT_HINT = (
    "Run the evaluation with --audit to measure a random split and test-speaker normalisation too"
)


def build_optimistic_table(results: Results) -> Table | None:
    """The quoted scores, and what less careful evaluations of the same system report."""
    task = summary.get_leading_task(results)
    scores = results.scores_by_task(results.headline).get(task)
    ways = list(_list_optimistic_variants(results, task)) if scores else []
    if scores is None or not ways:
        return None
    kinds = summary.get_task_scorer(results, task).metrics
    quoted = {one.name: scores.score(one.name) for one in kinds}
    points = " in points" if results.classes[task] else ""
    measured = "" if results.optimistic_variants else f" {AUDIT_HINT}."
    seed = results.environment.get("seed")
    return Table(
        title=f"{task}: what fooling oneself would have been worth{summary.format_title_unit(results, task)}",
        note=f"All of seed {seed}, pooled over folds; gains{points} over the quoted row.{measured}",
        columns=(
            *text_columns("evaluation", "what was done"),
            *(Column(name=one.title) for one in kinds),
            *(Column(name=f"gain in {one.title}") for one in kinds),
        ),
        rows=(
            make_row(
                "as quoted",
                results.selections.get(results.headline, ""),
                *(summary.format_score(one, quoted[one.name]) for one in kinds),
                *("" for _ in kinds),
                kind="headline",
            ),
            *(_optimistic_row(name, note, found, quoted, kinds) for name, note, found in ways),
        ),
    )


def _list_optimistic_variants(results: Results, task: str) -> Iterator[tuple[str, str, Scores]]:
    for name in results.selections:
        if is_optimistic(results, name, task):
            own = results.scores_by_task(name)[task]
            found = {
                one.name: own.score(one.name)
                for one in summary.get_task_scorer(results, task).metrics
            }
            yield "test-picked epochs", results.selections[name], found
    for one in results.optimistic_variants:
        if task in one.scores:
            yield one.name.replace("-", " "), one.description, one.scores[task]


def _optimistic_row(
    name: str, note: str, found: Scores, quoted: Scores, kinds: Sequence[Metric]
) -> Row:
    pairs = [(one, found.get(one.name)) for one in kinds]
    shown = (summary.format_score(one, score) for one, score in pairs)
    gains = (summary.compute_gain(one, score, quoted[one.name]) for one, score in pairs)
    signed = (summary.format_gain(one, gain) for one, gain in zip(kinds, gains, strict=True))
    return make_row(name, note, *shown, *signed, kind="optimistic")


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
