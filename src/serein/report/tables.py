"""The tables of scores, as plain data; every form of the report shows these."""

from collections.abc import Iterator
from dataclasses import replace

from serein.metrics.measures import WA, Measure, Score
from serein.report import audit, intervals, speakers, summary
from serein.report.summary import Interval, percent
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    interval_column,
    numbers,
    row,
    words,
)
from serein.results import FoldResult, Results

SEVERAL = ("corpus", "language")
"""What scores are split by only where several were tested."""
NO_CLASS = "undefined: no utterance of this class was tested"
NO_EPOCH = "this selection picked no epoch"


def selections(results: Results, task: str) -> Table:
    """Every selection and baseline: pooled, with intervals, and the mean over folds.

    The scores of classes stand side by side; those of numbers, which are more and longer, one
    below the other.
    """
    rows = audit.comparison(results, task)
    measure = summary.measure(results, task)
    if not results.classes[task]:
        return _tall(results, task, measure, rows)
    by_fold = numbers(*(f"{one.title} folds" for one in measure.scores))
    return Table(
        title=f"{task}: scores{summary.head(results, task)}",
        note=" ".join(_notes_of_selections(results, task, rows)),
        columns=(
            *words("selection"),
            *_with_intervals(measure),
            *(by_fold if _has_means(measure, rows) else ()),
        ),
        rows=tuple(_selection(measure, line, means=_has_means(measure, rows)) for line in rows),
    )


def _tall(results: Results, task: str, measure: Measure, rows: list[audit.Row]) -> Table:
    means = _has_means(measure, rows)
    every = (*numbers("value"), interval_column(), *numbers("folds") * means)
    cells = [
        (line, one, _selection(replace(measure, scores=(one,)), line, means=means))
        for line in rows
        for one in measure.scores
    ]
    return Table(
        title=f"{task}: scores",
        note=" ".join(_notes_of_selections(results, task, rows)),
        columns=(*words("selection", "score"), *every),
        rows=tuple(
            row(own.cells[0], one.title, *own.cells[1:], kind=line.kind) for line, one, own in cells
        ),
    )


def _has_means(measure: Measure, rows: list[audit.Row]) -> bool:
    return any(line.folds.get(measure.main.name) is not None for line in rows)


def _with_intervals(measure: Measure) -> Iterator[Column]:
    """A column for each score, and one for its interval."""
    for one in measure.scores:
        yield Column(name=one.title)
        yield interval_column()


def _selection(measure: Measure, line: audit.Row, *, means: bool) -> Row:
    baseline = line.kind == "baseline"
    cells, folds = [], []
    for one in measure.scores:
        own = "" if baseline else bracket(line.intervals.get(one.name), one)
        cells += [summary.cell(one, line.scores.get(one.name)), own]
        folds.append("" if baseline else summary.cell(one, line.folds.get(one.name)))
    return row(
        f"{line.name}{audit.MARKS.get(line.kind, '')}", *cells, *folds * means, kind=line.kind
    )


def _notes_of_selections(results: Results, task: str, rows: list[audit.Row]) -> Iterator[str]:
    measure = summary.measure(results, task)
    heads = ", ".join(f"{one.title} folds" for one in measure.scores if results.classes[task])
    means = f" ({heads or 'folds'}: means over folds)" * _has_means(measure, rows)
    count = results.scored(results.headline)[task].utterances
    yield f"All {count} predictions together{means}."
    if task in results.held_out_tasks:
        yield f"Scored on {summary.HELD_OUT}, not on the test side."
    followers = [line for line in rows if line.chosen_by]
    if followers:
        names = ", ".join(line.name for line in followers)
        yield f"{names}: epoch chosen by {followers[0].chosen_by}."
    yield f"Intervals: {summary.brackets(results, task) or 'none was made'}."


def bracket(interval: Interval, kind: Score = WA) -> str:
    """An interval as a cell holds it."""
    return summary.bounds(interval, kind) or UNDEFINED


def folds(results: Results, task: str) -> Table | None:
    """Each fold's test side under every selection; None where no fold was scored."""
    scored = [fold for fold in results.folds if any(task in own for own in fold.scores.values())]
    if not scored:
        return None
    validators = speakers.validators(results)
    tested = {part.name: part.utterances for part in speakers.parts(results, task, "fold")}
    alone = speakers.are_folds(results) and task not in results.held_out_tasks
    groups = [_fold_columns(results, name, task) for name in results.selections]
    first = Column(name="speaker" if alone else "fold", words=True)
    return Table(
        title=f"{task}: fold by fold{summary.head(results, task)}",
        note=_note_of_folds(results, task, alone=alone),
        columns=(
            first,
            *numbers("utterances"),
            *(words("validated by") if validators else ()),
            *(column for group in groups for column in group),
        ),
        rows=tuple(
            row(
                fold.name,
                str(tested.get(fold.name, 0)),
                *([validators.get(fold.name, "")] if validators else []),
                *_fold_cells(results, fold, task),
            )
            for fold in scored
        ),
    )


def _fold_columns(results: Results, name: str, task: str) -> list[Column]:
    group = audit.marked(results, name, task)
    picked = "C" if summary.is_fitted(results) else "epoch"
    return [
        Column(name=picked, group=group, undefined=NO_EPOCH),
        *(Column(name=one.title, group=group) for one in summary.measure(results, task).scores),
    ]


def _fold_cells(results: Results, fold: FoldResult, task: str) -> Iterator[str]:
    for name in results.selections:
        own = fold.scores.get(name, {}).get(task, {})
        cost = fold.chosen.get(task)
        yield str(fold.epochs.get(name, UNDEFINED)) if cost is None else f"{cost:.3g}"
        for one in summary.measure(results, task).scores:
            yield summary.cell(one, own.get(one.name))


def _note_of_folds(results: Results, task: str, *, alone: bool) -> str:
    lead = audit.chosen_by(results, task)
    by = f" by the {summary.measure(results, lead).main.title} of {lead}" if lead else ""
    sides = "Each fold's test side, one speaker each" if alone else "Each fold's test side"
    if task in results.held_out_tasks:
        sides = f"In each fold, {summary.HELD_OUT}"
    if summary.is_fitted(results):
        return f"{sides}, and the C that its machines had."
    return f"{sides}, and the epoch that each selection picked{by}."


def classes(results: Results, task: str) -> Table:
    """Recall of each class with its interval, and what it is most often taken for."""
    scores = results.scores[results.headline][task]
    found, how = intervals.recalls(results, task)
    mistaken = summary.mistaken_for(results, task)
    recall = Column(name="recall", bar=True, undefined=NO_CLASS)
    interval = Column(
        name="interval", undefined="no interval: some draw holds no utterance of this class"
    )
    return Table(
        title=f"{task}: classes, {results.headline}, %",
        note=f"Intervals: {how}.",
        columns=(
            *words("class"),
            *numbers("utterances"),
            recall,
            interval,
            *words("most often mistaken for"),
        ),
        rows=tuple(
            row(
                name,
                str(sum(counts)),
                percent(scores.recalls.get(name)),
                bracket(found[name]),
                mistaken.get(name, ""),
            )
            for name, counts in zip(results.classes[task], scores.confusion, strict=True)
        ),
    )


def confusion(results: Results, task: str) -> Table:
    """Counts, and percent of each row."""
    names = results.classes[task]
    return Table(
        title=f"{task}: confusion matrix, {results.headline}",
        note="Counts, and in brackets percent of the row; a row is a true class, a column a "
        "predicted one.",
        columns=(*words("truth"), *numbers(*names)),
        rows=tuple(
            row(name, *(_count(count, sum(counts)) for count in counts))
            for name, counts in zip(
                names, results.scores[results.headline][task].confusion, strict=True
            )
        ),
    )


def _count(count: int, total: int) -> str:
    return f"{count} ({percent(count / total)})" if total else str(count)


def parts(results: Results, task: str, kind: str) -> Table | None:
    """Scores of each speaker, gender, corpus or language with intervals; None where none are."""
    found = speakers.parts(results, task, kind)
    if len(found) < (2 if kind in SEVERAL else 1):
        return None
    bounds, how = speakers.bounds(results, task, kind)
    classes, measure = results.classes[task], summary.measure(results, task)
    own = f" UA over the classes that the {kind} has." * bool(kind != "gender" and classes)
    columns = [
        replace(one, bar=measure.main.percent and one.name == measure.main.title)
        for one in _with_intervals(measure)
    ]
    return Table(
        title=f"{task}: each {kind}, {results.headline}{summary.head(results, task)}",
        note=f"Intervals: {how}.{own}",
        columns=(*words(kind), *numbers("utterances"), *columns),
        rows=tuple(
            row(part.name, str(part.utterances), *_part(measure, part, bounds[part.name]))
            for part in found
        ),
    )


def _part(measure: Measure, part: speakers.Part, bounds: dict[str, Interval]) -> Iterator[str]:
    for one in measure.scores:
        yield summary.cell(one, part.scores[one.name])
        yield bracket(bounds[one.name], one)


def kinds(task: str) -> list[str]:
    """What the scores of a task are split by."""
    return ["speaker"] + ["gender"] * (task != "gender") + list(SEVERAL)
