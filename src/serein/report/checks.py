"""The tables of what stands behind the scores: leaks, labels, confidence, circumstances."""

from collections.abc import Iterator

from serein.report import summary
from serein.report.summary import format_decimal, format_percent
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    make_row,
    number_columns,
    text_columns,
)
from serein.results.evaluation import CalibrationScores, LabelMapping, Results

MAX_EXAMPLES = 3
"""More examples than these of one finding are counted, not shown."""


def build_leakage_table(results: Results) -> Table | None:
    """What the leakage check found; None where it did not run."""
    if not results.leakage:
        return None
    return Table(
        title="Leakage: what was looked for",
        note="Done before anything was trained. Clean: looked for and not found; warning: found, "
        "and trained nevertheless; allowed: would have stopped the run, had its user not allowed "
        "it; error: stops a run.",
        columns=(
            *text_columns("check", "verdict"),
            *number_columns("found"),
            *text_columns("in words", "examples"),
        ),
        rows=tuple(
            make_row(
                found.kind,
                found.verdict,
                str(found.count),
                found.description,
                _format_examples(found.examples),
                kind=found.verdict,
            )
            for found in results.leakage
        ),
    )


def _format_examples(examples: tuple[str, ...]) -> str:
    more = len(examples) - MAX_EXAMPLES
    shown = ", ".join(examples[:MAX_EXAMPLES])
    return f"{shown} and {more} more" if more > 0 else shown


def describe_leakage(results: Results) -> str | None:
    """The leakage check in one sentence; None where it did not run."""
    if not results.leakage:
        return None
    kinds: dict[str, list[str]] = {}
    for found in results.leakage:
        kinds.setdefault(found.verdict, []).append(found.kind)
    told = [f"{verdict}: {', '.join(dict.fromkeys(names))}" for verdict, names in kinds.items()]
    return f"Leakage check: {'; '.join(told)}."


def build_label_tables(results: Results) -> list[Table]:
    """What became of each task's labels."""
    return [_build_label_table(task, mapping) for task, mapping in results.mapping.items()]


def _build_label_table(task: str, mapping: LabelMapping) -> Table:
    rows = [_label_row(name, counts) for name, counts in mapping.mapped.items()]
    if mapping.dropped:
        rows.append(_label_row("(dropped)", mapping.dropped, kind="baseline"))
    rows += [
        _label_row(f"(not in the main corpus: {corpus})", counts, kind="baseline")
        for corpus, counts in mapping.foreign.items()
    ]
    if mapping.missing:
        rows.append(make_row("(no label)", "", str(mapping.missing), kind="baseline"))
    return Table(
        title=f"{task}: labels",
        note=f"Scheme: {mapping.scheme}. For each class the corpus's own words, and how often each "
        "occurred.",
        columns=(*text_columns("class", "in the corpus"), *number_columns("utterances")),
        rows=tuple(rows),
    )


def _label_row(name: str, counts: dict[str, int], kind: str = "") -> Row:
    told = ", ".join(f"{word} ({count})" for word, count in counts.items())
    return make_row(name, told, str(sum(counts.values())), kind=kind)


def build_calibration_table(results: Results) -> Table | None:
    """Calibration error and Brier score of each task; None where nobody measured them."""
    rows = [
        line for task in _list_calibrated_tasks(results) for line in _confidence_rows(results, task)
    ]
    if not rows:
        return None
    reason = "undefined: nothing was scored"
    return Table(
        title=f"Confidence, {results.headline}",
        note="ECE: expected calibration error, the mean gap between confidence and accuracy, 0 to "
        "1. Brier: mean squared distance from the truth, 0 to 2. Less is better.",
        columns=(
            *text_columns("task", "probabilities"),
            *number_columns("ECE", "Brier", undefined_reason=reason),
        ),
        rows=tuple(rows),
    )


def _list_calibrated_tasks(results: Results) -> list[str]:
    return [task for task in summary.list_scored_tasks(results) if task in results.calibration]


def _confidence_rows(results: Results, task: str) -> Iterator[Row]:
    own = results.calibration[task]
    yield _confidence_row(task, "as the model says", own.raw)
    if own.calibrated:
        yield _confidence_row(task, "with each fold's temperature", own.calibrated)


def _confidence_row(task: str, name: str, confidence: CalibrationScores) -> Row:
    return make_row(
        task, name, *(format_decimal(value) for value in (confidence.ece, confidence.brier))
    )


def describe_confidence(results: Results) -> str | None:
    """How far the leading task's confidence can be believed, in a sentence; None if unknown."""
    task = next(iter(_list_calibrated_tasks(results)), None)
    if task is None:
        return None
    own = results.calibration[task]
    words = f"ECE {format_decimal(own.raw.ece)}, Brier {format_decimal(own.raw.brier)}"
    if own.calibrated:
        after = f"{format_decimal(own.calibrated.ece)} and {format_decimal(own.calibrated.brier)}"
        words += f"; with a temperature fitted on validation, {after}"
    return f"Confidence of {task}: {words}."


def build_threshold_table(results: Results, task: str) -> Table | None:
    """What refusing the least confident utterances is worth; None where nobody measured it."""
    own = results.calibration.get(task)
    if own is None or not own.thresholds:
        return None
    return Table(
        title=f"{task}: refusing the least confident utterances, %",
        note="What is left when only utterances at or above a confidence are answered.",
        columns=(*text_columns("answered"), *number_columns("lowest confidence", "WA", "UA")),
        rows=tuple(
            make_row(
                format_percent(share),
                format_percent(lowest),
                format_percent(wa),
                format_percent(ua),
            )
            for lowest, share, wa, ua in own.thresholds
        ),
    )


def build_temperature_table(results: Results) -> Table | None:
    """Each fold's temperatures; None where none was fitted."""
    folds = [fold for fold in results.folds if fold.temperatures]
    tasks = [task for task in results.classes if any(task in fold.temperatures for fold in folds)]
    if not tasks:
        return None
    reason = "no temperature: the fold has no labelled validation side, or nothing fits it"
    return Table(
        title="Temperatures",
        note="What logits are divided by, fitted on each fold's validation side; above 1 the model "
        "was too sure of itself.",
        columns=(
            *text_columns("fold"),
            *(Column(name=task, undefined_reason=reason) for task in tasks),
        ),
        rows=tuple(
            make_row(
                fold.name, *(_format_temperature(fold.temperatures.get(task)) for task in tasks)
            )
            for fold in results.folds
        ),
    )


def _format_temperature(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def build_provenance_table(results: Results) -> Table:
    """What the run was made of."""
    split = {key: value for key, value in results.protocol.items() if key != "folds"}
    rows = [
        ("run", results.name),
        ("ended", results.created),
        ("training time, all processes", summary.format_duration(results.seconds)),
        *((f"corpus: {name}", value) for name, value in summary.flatten(results.corpus)),
        *((f"protocol: {name}", value) for name, value in summary.flatten(split)),
        *summary.flatten(results.environment),
    ]
    if len(results.repeats) > 1:
        rows.append(("seeds", ", ".join(f"{one.seed} ({one.run})" for one in results.repeats)))
    return Table(
        title="Circumstances of the run",
        note="Seed, threads and versions are part of what makes it repeatable.",
        columns=text_columns("what", "value"),
        rows=tuple(make_row(*pair) for pair in rows if pair[1]),
    )


def build_settings_table(results: Results) -> Table | None:
    """Every setting of the recipe; None where there is no recipe."""
    rows = tuple(make_row(name, value) for name, value in summary.flatten(results.recipe))
    if not rows:
        return None
    return Table(
        title="Settings of the recipe",
        note="As --set name=value takes them.",
        columns=text_columns("setting", "value"),
        rows=rows,
    )
