"""The tables of scores, as plain data; every form of the report shows these."""

from collections.abc import Iterable, Iterator

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

NO_CLASS = "undefined: no utterance of this class was tested"
NO_EPOCH = "this selection picked no epoch"


def selections(results: Results, task: str) -> Table:
    """Every selection and baseline: pooled, with intervals, and the mean over folds."""
    rows = audit.comparison(results, task)
    means = any(line.fold_ua is not None for line in rows)
    wa, ua = numbers("WA", "UA")
    columns = [*words("selection"), wa, interval_column(), ua, interval_column()]
    return Table(
        title=f"{task}: scores, %",
        note=" ".join(_notes_of_selections(results, task, rows)),
        columns=(*columns, *(numbers("WA folds", "UA folds") if means else ())),
        rows=tuple(_selection(line, means=means) for line in rows),
    )


def _selection(line: audit.Row, *, means: bool) -> Row:
    baseline = line.kind == "baseline"
    cells = [percent(line.wa), "", percent(line.ua), ""]
    if not baseline:
        cells[1::2] = bracket(line.wa_interval), bracket(line.ua_interval)
    folds = ["", ""] if baseline else [percent(line.fold_wa), percent(line.fold_ua)]
    return row(
        f"{line.name}{audit.MARKS.get(line.kind, '')}", *cells, *folds * means, kind=line.kind
    )


def _notes_of_selections(results: Results, task: str, rows: list[audit.Row]) -> Iterator[str]:
    means = any(line.fold_ua is not None for line in rows)
    count = results.scores[results.headline][task].utterances
    yield f"All {count} predictions together{' (WA folds, UA folds: means over folds)' * means}."
    followers = [line for line in rows if line.chosen_by]
    if followers:
        names = ", ".join(line.name for line in followers)
        yield f"{names}: epoch chosen by {followers[0].chosen_by}."
    yield f"Intervals: {summary.brackets(results, task) or 'none was made'}."


def bracket(interval: Interval) -> str:
    """An interval as a cell holds it."""
    return summary.bounds(interval) or UNDEFINED


def folds(results: Results, task: str) -> Table | None:
    """Each fold's test side under every selection; None where no fold was scored."""
    scored = [fold for fold in results.folds if any(task in own for own in fold.scores.values())]
    if not scored:
        return None
    validators = speakers.validators(results)
    tested = {part.name: part.utterances for part in speakers.parts(results, task, "fold")}
    alone = speakers.are_folds(results)
    groups = [_fold_columns(results, name, task) for name in results.selections]
    first = Column(name="speaker" if alone else "fold", words=True)
    return Table(
        title=f"{task}: fold by fold, %",
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
                *_fold_cells(fold, results.selections, task),
            )
            for fold in scored
        ),
    )


def _fold_columns(results: Results, name: str, task: str) -> list[Column]:
    group = audit.marked(results, name, task)
    picked = "C" if summary.is_fitted(results) else "epoch"
    return [
        Column(name=picked, group=group, undefined=NO_EPOCH),
        *(Column(name=score, group=group) for score in ("WA", "UA")),
    ]


def _fold_cells(fold: FoldResult, names: Iterable[str], task: str) -> Iterator[str]:
    for name in names:
        own = fold.scores.get(name, {}).get(task, {})
        cost = fold.chosen.get(task)
        yield str(fold.epochs.get(name, UNDEFINED)) if cost is None else f"{cost:.3g}"
        yield percent(own.get("wa"))
        yield percent(own.get("ua"))


def _note_of_folds(results: Results, task: str, *, alone: bool) -> str:
    lead = summary.leading(results)
    by = f" by the UA of {lead}" if task != lead else ""
    sides = "Each fold's test side, one speaker each" if alone else "Each fold's test side"
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
    """Scores of each speaker or gender with intervals; None where there are none."""
    found = speakers.parts(results, task, kind)
    if not found:
        return None
    bounds, how = speakers.bounds(results, task, kind)
    own = " UA over the classes that the speaker has." * (kind == "speaker")
    wa, ua = Column(name="WA"), Column(name="UA", bar=True)
    return Table(
        title=f"{task}: each {kind}, {results.headline}, %",
        note=f"Intervals: {how}.{own}",
        columns=(
            *words(kind),
            *numbers("utterances"),
            wa,
            interval_column(),
            ua,
            interval_column(),
        ),
        rows=tuple(
            row(
                part.name,
                str(part.utterances),
                percent(part.wa),
                bracket(bounds[part.name][0]),
                percent(part.ua),
                bracket(bounds[part.name][1]),
            )
            for part in found
        ),
    )


def kinds(task: str) -> list[str]:
    """What the scores of a task are split by."""
    return ["speaker"] + ["gender"] * (task != "gender")
