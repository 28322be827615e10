"""Tables of scores: selections, folds, classes, groups of utterances, seeds and transcripts."""

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
from serein.results.evaluation import (
    NUISANCE,
    FoldResult,
    Prediction,
    Results,
    get_model_name,
)
from serein.results.inference import WordScores

ONLY_IF_SEVERAL = ("corpus", "language")
"""Attributes that get a table only if the run has several values."""
MAX_TRANSCRIPTS = 12
"""Transcripts that a report prints."""
NO_CLASS = "undefined: no utterance of this class was tested"
NO_CLASS_INTERVAL = "no interval: fewer than two speakers, or the same recall without each"
NO_EPOCH = "this selection has no epoch"


def build_selection_table(results: Results, task: str) -> Table:
    """Build the table of every selection and baseline: pooled scores, intervals, means over folds.

    A classification task has one row per selection. A regression task, whose scores are more and
    longer, has one row per selection and score.
    """
    rows = audit.compare_selections(results, task)
    scorer = summary.get_task_scorer(results, task)
    if not results.classes[task]:
        return _build_tall_table(results, task, scorer, rows)
    has_means = _has_fold_means(scorer, rows)
    mean_columns = number_columns(*(f"{metric.title} folds" for metric in scorer.metrics))
    return Table(
        title=f"{task}: scores{summary.format_title_unit(results, task)}",
        note=" ".join(_selection_notes(results, task, rows)),
        columns=(
            *text_columns("selection"),
            *_score_columns(scorer),
            *(mean_columns if has_means else ()),
        ),
        rows=tuple(_selection_row(scorer, row, means=has_means) for row in rows),
    )


def _build_tall_table(
    results: Results, task: str, scorer: Scorer, rows: list[audit.ScoreRow]
) -> Table:
    has_means = _has_fold_means(scorer, rows)
    columns = (
        *text_columns("selection", "score"),
        *number_columns("value"),
        make_interval_column(),
        *number_columns("folds") * has_means,
    )
    tall_rows = []
    for row in rows:
        for metric in scorer.metrics:
            own = _selection_row(replace(scorer, metrics=(metric,)), row, means=has_means)
            name, *values = own.cells
            tall_rows.append(make_row(name, metric.title, *values, kind=row.kind))
    return Table(
        title=f"{task}: scores",
        note=" ".join(_selection_notes(results, task, rows)),
        columns=columns,
        rows=tuple(tall_rows),
    )


def _has_fold_means(scorer: Scorer, rows: list[audit.ScoreRow]) -> bool:
    return any(row.fold_means.get(scorer.main.name) is not None for row in rows)


def _score_columns(scorer: Scorer, *, intervals: bool = True) -> Iterator[Column]:
    """Yield the column of each metric, and that of its interval."""
    for metric in scorer.metrics:
        yield Column(name=metric.title)
        if intervals:
            yield make_interval_column()


def _selection_row(scorer: Scorer, row: audit.ScoreRow, *, means: bool) -> Row:
    is_baseline = row.kind == "baseline"
    cells, fold_means = [], []
    for metric in scorer.metrics:
        interval = format_interval_cell(row.intervals.get(metric.name), metric)
        mean = summary.format_score(metric, row.fold_means.get(metric.name))
        cells += [
            summary.format_score(metric, row.scores.get(metric.name)),
            "" if is_baseline else interval,
        ]
        fold_means.append("" if is_baseline else mean)
    name = f"{row.name}{audit.KIND_MARKS.get(row.kind, '')}"
    return make_row(name, *cells, *fold_means * means, kind=row.kind)


def _selection_notes(results: Results, task: str, rows: list[audit.ScoreRow]) -> Iterator[str]:
    scorer = summary.get_task_scorer(results, task)
    titles = [f"{metric.title} folds" for metric in scorer.metrics if results.classes[task]]
    means = f" ({', '.join(titles) or 'folds'}: means over folds)" * _has_fold_means(scorer, rows)
    count = results.scores_by_task(results.headline)[task].utterances
    yield f"All {count} predictions together{means}."
    if task in results.held_out_tasks:
        yield f"Scored on {summary.HELD_OUT}, not on the test subset."
    dependent = [row for row in rows if row.selected_by]
    if dependent:
        names = ", ".join(row.name for row in dependent)
        yield f"{names}: epoch selected by {dependent[0].selected_by}."
    baseline = results.baselines.get(NUISANCE, {}).get(task)
    if baseline:
        yield f"{NUISANCE}: a random forest on {audit.NUISANCE_NUMBERS}, in the same folds."
        if not any(score is not None for score in baseline.values()):
            yield "It was not computed: it needs scikit-learn, pip install 'serein[svm]'."
    yield f"Intervals: {summary.describe_intervals(results, task) or 'none was computed'}."


def format_interval_cell(interval: Interval, metric: Metric = WA) -> str:
    """Format an interval for a cell."""
    return summary.format_interval(interval, metric) or UNDEFINED


def build_fold_table(results: Results, task: str) -> Table | None:
    """Build the table of each fold's scores by selection; None if no fold has scores."""
    folds = [fold for fold in results.folds if any(task in own for own in fold.scores.values())]
    if not folds:
        return None
    validation = speakers.find_validation_speakers(results)
    tested = {
        group.name: group.utterances
        for group in speakers.compute_group_scores(results, task, "fold")
    }
    is_speaker = speakers.has_speaker_folds(results) and task not in results.held_out_tasks
    score_columns = [
        column for name in results.selections for column in _fold_columns(results, name, task)
    ]
    return Table(
        title=f"{task}: folds{summary.format_title_unit(results, task)}",
        note=_describe_folds(results, task, is_speaker=is_speaker),
        columns=(
            *text_columns("speaker" if is_speaker else "fold"),
            *number_columns("utterances"),
            *(text_columns("validated by") if validation else ()),
            *score_columns,
        ),
        rows=tuple(
            make_row(
                fold.name,
                str(tested.get(fold.name, 0)),
                *([validation.get(fold.name, "")] if validation else []),
                *_fold_cells(results, fold, task),
            )
            for fold in folds
        ),
    )


def _fold_columns(results: Results, selection: str, task: str) -> list[Column]:
    group = audit.format_selection(results, selection, task)
    choice = "C" if summary.is_fitted(results) else "epoch"
    metrics = summary.get_task_scorer(results, task).metrics
    choices = [Column(name=choice, group=group, undefined_reason=NO_EPOCH)]
    return [
        *choices * _has_choice(results),
        *(Column(name=metric.title, group=group) for metric in metrics),
    ]


def _has_choice(results: Results) -> bool:
    """Return whether each fold has a selected epoch or C, as models that are used as they are."""
    return not (summary.is_external(results) and summary.is_fitted(results))


def _fold_cells(results: Results, fold: FoldResult, task: str) -> Iterator[str]:
    for selection in results.selections:
        scores = fold.scores.get(selection, {}).get(task, {})
        c = fold.selected_c.get(task)
        if _has_choice(results):
            yield str(fold.epochs.get(selection, UNDEFINED)) if c is None else f"{c:.3g}"
        for metric in summary.get_task_scorer(results, task).metrics:
            yield summary.format_score(metric, scores.get(metric.name))


def _describe_folds(results: Results, task: str, *, is_speaker: bool) -> str:
    subset = f"Test subset of each fold{', one speaker each' * is_speaker}"
    if task in results.held_out_tasks:
        subset = f"In each fold, {summary.HELD_OUT}"
    if not _has_choice(results):
        return f"{subset}."
    if summary.is_fitted(results):
        return f"{subset}, and the C of its estimator."
    other = audit.get_selecting_task(results, task)
    if other is None:
        return f"{subset}, and the epoch of each selection."
    metric = summary.get_task_scorer(results, other).main
    return f"{subset}, and the epoch of each selection by the {metric.title} of {other}."


def build_class_table(results: Results, task: str) -> Table:
    """Build the table of each class: recall, its interval, and the most frequent wrong class."""
    scores = results.scores[results.headline][task]
    intervals, method = speakers.compute_recall_intervals(results, task)
    confusions = summary.find_common_confusions(results, task)
    return Table(
        title=f"{task}: classes, {results.headline}, %",
        note=f"Intervals: {method}.",
        columns=(
            *text_columns("class"),
            *number_columns("utterances"),
            Column(name="recall", has_bar=True, undefined_reason=NO_CLASS),
            Column(name="interval", undefined_reason=NO_CLASS_INTERVAL),
            *text_columns("most often confused with"),
        ),
        rows=tuple(
            make_row(
                name,
                str(sum(counts)),
                format_percent(scores.recalls.get(name)),
                format_interval_cell(intervals[name]),
                confusions.get(name, ""),
            )
            for name, counts in zip(results.classes[task], scores.confusion, strict=True)
        ),
    )


def build_confusion_table(results: Results, task: str) -> Table:
    """Build the confusion matrix as counts and percent of each row."""
    classes = results.classes[task]
    confusion = results.scores[results.headline][task].confusion
    return Table(
        title=f"{task}: confusion matrix, {results.headline}",
        note="Counts, and in brackets percent of the row; a row is a true class, a column a "
        "predicted class.",
        columns=(*text_columns("truth"), *number_columns(*classes)),
        rows=tuple(
            make_row(name, *(_format_count(count, sum(counts)) for count in counts))
            for name, counts in zip(classes, confusion, strict=True)
        ),
    )


def _format_count(count: int, total: int) -> str:
    return f"{count} ({format_percent(count / total)})" if total else str(count)


def build_group_table(results: Results, task: str, attribute: str) -> Table | None:
    """Build the table of each speaker, gender, corpus or language; None if there is none."""
    groups = speakers.compute_group_scores(results, task, attribute)
    if len(groups) < (2 if attribute in ONLY_IF_SEVERAL else 1):
        return None
    intervals, method = speakers.compute_group_intervals(results, task, attribute)
    classes, scorer = results.classes[task], summary.get_task_scorer(results, task)
    has_intervals = any(set(own.values()) != {None} for own in intervals.values())
    note = f"Intervals: {method}."
    if classes and attribute != "gender":
        note += f" UA over the classes of the {attribute}."
    columns = [
        replace(column, has_bar=scorer.main.is_percent and column.name == scorer.main.title)
        for column in _score_columns(scorer, intervals=has_intervals)
    ]
    unit = summary.format_title_unit(results, task)
    return Table(
        title=f"{task}: each {attribute}, {results.headline}{unit}",
        note=note,
        columns=(*text_columns(attribute), *number_columns("utterances"), *columns),
        rows=tuple(
            make_row(
                group.name,
                str(group.utterances),
                *_group_cells(scorer, group, intervals[group.name] if has_intervals else {}),
            )
            for group in groups
        ),
    )


def _group_cells(
    scorer: Scorer, group: speakers.GroupScores, intervals: dict[str, Interval]
) -> Iterator[str]:
    for metric in scorer.metrics:
        yield summary.format_score(metric, group.scores[metric.name])
        if intervals:
            yield format_interval_cell(intervals[metric.name], metric)


def list_group_attributes(task: str) -> list[str]:
    """Return the attributes by which the scores of a task are grouped."""
    return ["speaker"] + ["gender"] * (task != "gender") + list(ONLY_IF_SEVERAL)


def build_seed_table(results: Results, task: str) -> Table | None:
    """Build the table of each seed's scores, their mean and deviation; None for one seed."""
    if len(results.repeats) < 2:
        return None
    metrics = summary.get_task_scorer(results, task).metrics
    pairs = [(selection, metric) for selection in results.selections for metric in metrics]
    by_seed = [
        [
            repeat.scores.get(selection, {}).get(task, {}).get(metric.name)
            for selection, metric in pairs
        ]
        for repeat in results.repeats
    ]
    by_score = list(zip(*by_seed, strict=True))

    def format_cells(scores: Iterable[float | None]) -> list[str]:
        return [
            summary.format_score(metric, score)
            for (_, metric), score in zip(pairs, scores, strict=True)
        ]

    seed_rows = [
        make_row(f"{repeat.seed}{_get_seed_mark(results, repeat.seed)}", *format_cells(scores))
        for repeat, scores in zip(results.repeats, by_seed, strict=True)
    ]
    points = ", in points" if results.classes[task] else ""
    return Table(
        title=f"{task}: seeds{summary.format_title_unit(results, task)}",
        note="The same evaluation with other initial weights, order of utterances and dropout; the "
        f"standard deviation is that of a sample (n - 1){points}.",
        columns=(
            *text_columns("seed"),
            *(
                Column(name=metric.title, group=audit.format_selection(results, selection, task))
                for selection, metric in pairs
            ),
        ),
        rows=(
            *seed_rows,
            make_row("mean", *format_cells(map(_mean_score, by_score))),
            make_row("standard deviation", *format_cells(map(_score_deviation, by_score))),
        ),
    )


def _get_seed_mark(results: Results, seed: int) -> str:
    return audit.KIND_MARKS["headline"] if results.environment.get("seed") == seed else ""


def describe_seeds(results: Results, task: str) -> str | None:
    """Return mean and deviation of the quoted scores over seeds; None for one seed."""
    clauses = []
    for metric in summary.get_task_scorer(results, task).metrics:
        moments = format_seed_moments(results, task, metric)
        if moments:
            mean, deviation = moments
            unit = summary.format_unit(metric)
            clauses.append(f"{metric.title} {mean}{unit} (standard deviation {deviation})")
    if not clauses:
        return None
    seeds = ", ".join(str(repeat.seed) for repeat in results.repeats)
    quoted = results.environment.get("seed")
    mark = f"; quoted is seed {quoted}" if quoted is not None else ""
    count = len(results.repeats)
    return f"Mean of {task} over {count} seeds ({seeds}): {', '.join(clauses)}{mark}."


def format_seed_moments(results: Results, task: str, metric: Metric) -> tuple[str, str] | None:
    """Format mean and deviation of a quoted score over seeds.

    None for one seed, and if the score of a seed is undefined.
    """
    by_task = [repeat.scores.get(results.headline, {}).get(task, {}) for repeat in results.repeats]
    scores = [own.get(metric.name) for own in by_task]
    mean, deviation = _mean_score(scores), _score_deviation(scores)
    if deviation is None:
        return None
    return summary.format_score(metric, mean), summary.format_score(metric, deviation)


def _mean_score(scores: Iterable[float | None]) -> float | None:
    values = _get_complete_scores(scores)
    return fmean(values) if values else None


def _score_deviation(scores: Iterable[float | None]) -> float | None:
    values = _get_complete_scores(scores)
    return stdev(values) if len(values) > 1 else None


def _get_complete_scores(scores: Iterable[float | None]) -> list[float]:
    """Return the scores, or none if one is undefined: the others would have another mean."""
    scores = list(scores)
    values = [score for score in scores if score is not None]
    return values if len(values) == len(scores) else []


def build_word_table(results: Results) -> Table | None:
    """Build the table of word error rates by selection; None without transcripts."""
    if not results.words:
        return None
    first = next(iter(results.words.values()))
    source = results.recipe.get("text", {}).get("transcripts_from")
    reader = get_model_name(str(source))
    read = f"Of the transcripts that the system read in tests, by {reader}. " if source else ""
    return Table(
        title="words: error rate, %",
        note=f"{read}Pooled over utterances, in lower case and without punctuation; "
        f"{first.interval}. "
        f"{describe_closed_set(first)}",
        columns=(
            *text_columns("selection"),
            Column(name="WER"),
            make_interval_column(),
            *number_columns("substitutions", "deletions", "insertions", "words"),
        ),
        rows=tuple(
            make_row(
                selection,
                format_percent(scores.wer),
                format_interval_cell(scores.wer_interval),
                *map(
                    str, (scores.substitutions, scores.deletions, scores.insertions, scores.words)
                ),
                kind="headline" if selection == results.headline else "",
            )
            for selection, scores in results.words.items()
        ),
    )


def describe_closed_set(scores: WordScores) -> str:
    """Return in a sentence whether test sentences are also in the training subsets.

    Args:
        scores: of test utterances.
    """
    if scores.closed is None:
        return "Whether the recogniser was trained on the test sentences was not checked."
    if not scores.closed:
        return "No test sentence is in a training subset."
    return (
        f"Closed set: there are {scores.sentences} sentences in all, and {scores.closed} times a "
        "test sentence of a fold is in its training subset, too. This rate says little about other "
        "sentences (protocol.disjoint=text with protocol.disjoint_groups=2 separates them)."
    )


def build_transcript_table(results: Results) -> Table | None:
    """Build the table of the quoted transcripts with most errors; None without transcripts."""
    selection = results.headline
    items = [item for item in results.predictions if item.text is not None and item.transcripts]
    worst = sorted(items, key=lambda item: (-_count_errors(item, selection), item.id))
    if not worst:
        return None
    return Table(
        title=f"words: the transcripts with most errors, {selection}",
        columns=(*text_columns("utterance", "reference", "recognised"), *number_columns("errors")),
        rows=tuple(
            make_row(
                item.id,
                item.text or "",
                item.transcripts[selection] or "(nothing)",
                str(_count_errors(item, selection)),
            )
            for item in worst[:MAX_TRANSCRIPTS]
        ),
    )


def _count_errors(item: Prediction, selection: str) -> int:
    counts = count_word_errors([normalize_text(item.text or "")], [item.transcripts[selection]])
    return int(counts[0, :3].sum())
