"""The tables of scores, as plain data; every form of the report shows these.

The same evaluation with several seeds: how far chance alone moves its scores.

How well a model that finds words found them, and what it heard where it was most wrong.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from statistics import fmean, stdev

from serein.labels.vocabulary import normalize_text
from serein.metrics.scoring import WA, Metric, Scorer
from serein.metrics.word_error_rate import count_word_errors
from serein.report import audit, speakers, summary
from serein.report.summary import Interval, format_percent
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    make_interval_column,
    make_row,
    number_columns,
    text_columns,
)
from serein.results.evaluation import FoldResult, Prediction, Results
from serein.results.inference import WordScores

ONLY_IF_SEVERAL = ("corpus", "language")
"""What scores are split by only where several were tested."""
NO_CLASS = "undefined: no utterance of this class was tested"
NO_EPOCH = "this selection picked no epoch"


def build_selection_table(results: Results, task: str) -> Table:
    """Every selection and baseline: pooled, with intervals, and the mean over folds.

    The scores of classes stand side by side; those of numbers, which are more and longer, one
    below the other.
    """
    rows = audit.compare_selections(results, task)
    measure = summary.get_task_scorer(results, task)
    if not results.classes[task]:
        return _build_tall_table(results, task, measure, rows)
    by_fold = number_columns(*(f"{one.title} folds" for one in measure.metrics))
    return Table(
        title=f"{task}: scores{summary.format_title_unit(results, task)}",
        note=" ".join(_selection_notes(results, task, rows)),
        columns=(
            *text_columns("selection"),
            *_score_columns(measure),
            *(by_fold if _has_fold_means(measure, rows) else ()),
        ),
        rows=tuple(
            _selection_row(measure, line, means=_has_fold_means(measure, rows)) for line in rows
        ),
    )


def _build_tall_table(
    results: Results, task: str, measure: Scorer, rows: list[audit.ScoreRow]
) -> Table:
    means = _has_fold_means(measure, rows)
    every = (*number_columns("value"), make_interval_column(), *number_columns("folds") * means)
    cells = [
        (line, one, _selection_row(replace(measure, metrics=(one,)), line, means=means))
        for line in rows
        for one in measure.metrics
    ]
    return Table(
        title=f"{task}: scores",
        note=" ".join(_selection_notes(results, task, rows)),
        columns=(*text_columns("selection", "score"), *every),
        rows=tuple(
            make_row(own.cells[0], one.title, *own.cells[1:], kind=line.kind)
            for line, one, own in cells
        ),
    )


def _has_fold_means(measure: Scorer, rows: list[audit.ScoreRow]) -> bool:
    return any(line.fold_means.get(measure.main.name) is not None for line in rows)


def _score_columns(measure: Scorer) -> Iterator[Column]:
    """A column for each score, and one for its interval."""
    for one in measure.metrics:
        yield Column(name=one.title)
        yield make_interval_column()


def _selection_row(measure: Scorer, line: audit.ScoreRow, *, means: bool) -> Row:
    baseline = line.kind == "baseline"
    cells, folds = [], []
    for one in measure.metrics:
        own = "" if baseline else format_interval_cell(line.intervals.get(one.name), one)
        cells += [summary.format_score(one, line.scores.get(one.name)), own]
        folds.append("" if baseline else summary.format_score(one, line.fold_means.get(one.name)))
    return make_row(
        f"{line.name}{audit.KIND_MARKS.get(line.kind, '')}", *cells, *folds * means, kind=line.kind
    )


def _selection_notes(results: Results, task: str, rows: list[audit.ScoreRow]) -> Iterator[str]:
    measure = summary.get_task_scorer(results, task)
    heads = ", ".join(f"{one.title} folds" for one in measure.metrics if results.classes[task])
    means = f" ({heads or 'folds'}: means over folds)" * _has_fold_means(measure, rows)
    count = results.scores_by_task(results.headline)[task].utterances
    yield f"All {count} predictions together{means}."
    if task in results.held_out_tasks:
        yield f"Scored on {summary.HELD_OUT}, not on the test side."
    followers = [line for line in rows if line.chosen_by]
    if followers:
        names = ", ".join(line.name for line in followers)
        yield f"{names}: epoch chosen by {followers[0].chosen_by}."
    yield f"Intervals: {summary.describe_intervals(results, task) or 'none was made'}."


def format_interval_cell(interval: Interval, metric: Metric = WA) -> str:
    """An interval as a cell holds it."""
    return summary.format_interval(interval, metric) or UNDEFINED


def build_fold_table(results: Results, task: str) -> Table | None:
    """Each fold's test side under every selection; None where no fold was scored."""
    scored = [fold for fold in results.folds if any(task in own for own in fold.scores.values())]
    if not scored:
        return None
    validators = speakers.find_validation_speakers(results)
    tested = {part.name: part.utterances for part in speakers.score_groups(results, task, "fold")}
    alone = speakers.has_speaker_folds(results) and task not in results.held_out_tasks
    groups = [_fold_columns(results, name, task) for name in results.selections]
    first = Column(name="speaker" if alone else "fold", is_text=True)
    return Table(
        title=f"{task}: fold by fold{summary.format_title_unit(results, task)}",
        note=_describe_folds(results, task, is_speaker=alone),
        columns=(
            first,
            *number_columns("utterances"),
            *(text_columns("validated by") if validators else ()),
            *(column for group in groups for column in group),
        ),
        rows=tuple(
            make_row(
                fold.name,
                str(tested.get(fold.name, 0)),
                *([validators.get(fold.name, "")] if validators else []),
                *_fold_cells(results, fold, task),
            )
            for fold in scored
        ),
    )


def _fold_columns(results: Results, name: str, task: str) -> list[Column]:
    group = audit.format_selection(results, name, task)
    picked = "C" if summary.is_fitted(results) else "epoch"
    return [
        Column(name=picked, group=group, undefined_reason=NO_EPOCH),
        *(
            Column(name=one.title, group=group)
            for one in summary.get_task_scorer(results, task).metrics
        ),
    ]


def _fold_cells(results: Results, fold: FoldResult, task: str) -> Iterator[str]:
    for name in results.selections:
        own = fold.scores.get(name, {}).get(task, {})
        cost = fold.selected_c.get(task)
        yield str(fold.epochs.get(name, UNDEFINED)) if cost is None else f"{cost:.3g}"
        for one in summary.get_task_scorer(results, task).metrics:
            yield summary.format_score(one, own.get(one.name))


def _describe_folds(results: Results, task: str, *, is_speaker: bool) -> str:
    lead = audit.get_selecting_task(results, task)
    by = f" by the {summary.get_task_scorer(results, lead).main.title} of {lead}" if lead else ""
    sides = "Each fold's test side, one speaker each" if is_speaker else "Each fold's test side"
    if task in results.held_out_tasks:
        sides = f"In each fold, {summary.HELD_OUT}"
    if summary.is_fitted(results):
        return f"{sides}, and the C that its machines had."
    return f"{sides}, and the epoch that each selection picked{by}."


def build_class_table(results: Results, task: str) -> Table:
    """Recall of each class with its interval, and what it is most often taken for."""
    scores = results.scores[results.headline][task]
    found, how = speakers.compute_recall_intervals(results, task)
    mistaken = summary.find_common_confusions(results, task)
    recall = Column(name="recall", has_bar=True, undefined_reason=NO_CLASS)
    interval = Column(
        name="interval", undefined_reason="no interval: some draw holds no utterance of this class"
    )
    return Table(
        title=f"{task}: classes, {results.headline}, %",
        note=f"Intervals: {how}.",
        columns=(
            *text_columns("class"),
            *number_columns("utterances"),
            recall,
            interval,
            *text_columns("most often mistaken for"),
        ),
        rows=tuple(
            make_row(
                name,
                str(sum(counts)),
                format_percent(scores.recalls.get(name)),
                format_interval_cell(found[name]),
                mistaken.get(name, ""),
            )
            for name, counts in zip(results.classes[task], scores.confusion, strict=True)
        ),
    )


def build_confusion_table(results: Results, task: str) -> Table:
    """Counts, and percent of each row."""
    names = results.classes[task]
    return Table(
        title=f"{task}: confusion matrix, {results.headline}",
        note="Counts, and in brackets percent of the row; a row is a true class, a column a "
        "predicted one.",
        columns=(*text_columns("truth"), *number_columns(*names)),
        rows=tuple(
            make_row(name, *(_format_count(count, sum(counts)) for count in counts))
            for name, counts in zip(
                names, results.scores[results.headline][task].confusion, strict=True
            )
        ),
    )


def _format_count(count: int, total: int) -> str:
    return f"{count} ({format_percent(count / total)})" if total else str(count)


def build_group_table(results: Results, task: str, attribute: str) -> Table | None:
    """Scores of each speaker, gender, corpus or language with intervals; None where none are."""
    found = speakers.score_groups(results, task, attribute)
    if len(found) < (2 if attribute in ONLY_IF_SEVERAL else 1):
        return None
    bounds, how = speakers.compute_group_intervals(results, task, attribute)
    classes, measure = results.classes[task], summary.get_task_scorer(results, task)
    own = f" UA over the classes that the {attribute} has." * bool(
        attribute != "gender" and classes
    )
    columns = [
        replace(one, has_bar=measure.main.is_percent and one.name == measure.main.title)
        for one in _score_columns(measure)
    ]
    return Table(
        title=f"{task}: each {attribute}, {results.headline}{summary.format_title_unit(results, task)}",
        note=f"Intervals: {how}.{own}",
        columns=(*text_columns(attribute), *number_columns("utterances"), *columns),
        rows=tuple(
            make_row(
                part.name, str(part.utterances), *_group_cells(measure, part, bounds[part.name])
            )
            for part in found
        ),
    )


def _group_cells(
    measure: Scorer, part: speakers.GroupScores, bounds: dict[str, Interval]
) -> Iterator[str]:
    for one in measure.metrics:
        yield summary.format_score(one, part.scores[one.name])
        yield format_interval_cell(bounds[one.name], one)


def list_group_attributes(task: str) -> list[str]:
    """What the scores of a task are split by."""
    return ["speaker"] + ["gender"] * (task != "gender") + list(ONLY_IF_SEVERAL)


def build_seed_table(results: Results, task: str) -> Table | None:
    """Each seed's scores under every selection, their mean and deviation; None for one seed."""
    if len(results.repeats) < 2:
        return None
    scores_of = summary.get_task_scorer(results, task).metrics
    kinds = [(name, kind) for name in results.selections for kind in scores_of]
    columns = [
        Column(name=kind.title, group=audit.format_selection(results, name, task))
        for name, kind in kinds
    ]
    by_seed = [
        [repeat.scores.get(name, {}).get(task, {}).get(kind.name) for name, kind in kinds]
        for repeat in results.repeats
    ]

    def cells(scores: Iterable[float | None]) -> list[str]:
        pairs = zip(kinds, scores, strict=True)
        return [summary.format_score(kind, score) for (_, kind), score in pairs]

    points = ", in points" if results.classes[task] else ""
    return Table(
        title=f"{task}: seeds{summary.format_title_unit(results, task)}",
        note="The same evaluation with other weights, order and dropout; the deviation is that of "
        f"a sample (n - 1){points}.",
        columns=(*text_columns("seed"), *columns),
        rows=(
            *(
                make_row(f"{repeat.seed}{_get_seed_mark(results, repeat.seed)}", *cells(scores))
                for repeat, scores in zip(results.repeats, by_seed, strict=True)
            ),
            make_row("mean", *cells(map(_mean_score, zip(*by_seed, strict=True)))),
            make_row(
                "standard deviation", *cells(map(_score_deviation, zip(*by_seed, strict=True)))
            ),
        ),
    )


def _get_seed_mark(results: Results, seed: int) -> str:
    return audit.KIND_MARKS["headline"] if results.environment.get("seed") == seed else ""


def describe_seeds(results: Results, task: str) -> str | None:
    """Mean and deviation of the headline's scores over seeds, in a sentence; None for one seed."""
    clauses = [
        f"{kind.title} {pair[0]}{summary.format_unit(kind)} (standard deviation {pair[1]})"
        for kind in summary.get_task_scorer(results, task).metrics
        if (pair := format_seed_moments(results, task, kind))
    ]
    if not clauses:
        return None
    names = ", ".join(str(repeat.seed) for repeat in results.repeats)
    seed = results.environment.get("seed")
    here = f"; quoted is seed {seed}" if seed is not None else ""
    count = len(results.repeats)
    return f"Mean of {task} over {count} seeds ({names}): {', '.join(clauses)}{here}."


def format_seed_moments(results: Results, task: str, metric: Metric) -> tuple[str, str] | None:
    """Mean and deviation of one of the headline's scores over seeds, as a table holds them.

    None for one seed, and where a seed's score is undefined.
    """
    by_task = [repeat.scores.get(results.headline, {}).get(task, {}) for repeat in results.repeats]
    scores = [own.get(metric.name) for own in by_task]
    deviation = _score_deviation(scores)
    if deviation is None:
        return None
    return summary.format_score(metric, _mean_score(scores)), summary.format_score(
        metric, deviation
    )


def _mean_score(scores: Iterable[float | None]) -> float | None:
    known = _get_complete_scores(scores)
    return fmean(known) if known else None


def _score_deviation(scores: Iterable[float | None]) -> float | None:
    known = _get_complete_scores(scores)
    return stdev(known) if len(known) > 1 else None


def _get_complete_scores(scores: Iterable[float | None]) -> list[float]:
    # A mean of the seeds that happen to be defined would be one of something else.
    scores = list(scores)
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else []


MAX_TRANSCRIPTS = 12
"""How many transcripts a report shows."""


def build_word_table(results: Results) -> Table | None:
    """The word error rate of every selection; None where nobody looked for words."""
    if not results.words:
        return None
    first = next(iter(results.words.values()))
    return Table(
        title="words: error rate, %",
        note=f"Pooled over utterances, in lower case and without punctuation; {first.interval}. "
        f"{describe_closed_set(first)}",
        columns=(
            *text_columns("selection"),
            Column(name="WER"),
            make_interval_column(),
            *number_columns("substitutions", "deletions", "insertions", "words"),
        ),
        rows=tuple(_word_row(name, one, results) for name, one in results.words.items()),
    )


def _word_row(name: str, one: WordScores, results: Results) -> Row:
    counts = one.substitutions, one.deletions, one.insertions, one.words
    kind = "headline" if name == results.headline else ""
    return make_row(
        name,
        format_percent(one.wer),
        format_interval_cell(one.wer_interval),
        *map(str, counts),
        kind=kind,
    )


def describe_closed_set(scores: WordScores) -> str:
    """Whether the sentences were known from training, in a sentence.

    Args:
        scores: of tested utterances.
    """
    if not scores.closed:
        return "No tested sentence was spoken in training."
    return (
        f"Closed set: {scores.sentences} sentences are all that is said here, and in "
        f"{scores.closed} cases a fold's training side holds a sentence that it tests; this rate "
        "says little of other sentences (protocol.disjoint=text with protocol.disjoint_groups=2 splits "
        "them)."
    )


def build_transcript_table(results: Results) -> Table | None:
    """What was heard of the utterances with most errors, at the headline's epochs."""
    heard = [one for one in results.predictions if one.text is not None and one.transcripts]
    ranked = sorted(heard, key=lambda one: (-_count_errors(one, results.headline), one.id))[
        :MAX_TRANSCRIPTS
    ]
    if not ranked:
        return None
    return Table(
        title=f"words: the transcripts with most errors, {results.headline}",
        columns=(*text_columns("utterance", "said", "heard"), *number_columns("errors")),
        rows=tuple(
            make_row(
                one.id,
                one.text or "",
                one.transcripts[results.headline] or "(nothing)",
                str(_count_errors(one, results.headline)),
            )
            for one in ranked
        ),
    )


def _count_errors(one: Prediction, selection: str) -> int:
    counts = count_word_errors([normalize_text(one.text or "")], [one.transcripts[selection]])
    return int(counts[0, :3].sum())
