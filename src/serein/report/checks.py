"""Tables of what the scores depend on: leakage, labels, confidence, provenance and settings."""

from collections.abc import Iterator

from serein.report import summary
from serein.report.summary import format_decimal, format_percent
from serein.report.table import (
    NO_SCORE,
    UNDEFINED,
    Column,
    Row,
    Table,
    make_row,
    number_columns,
    text_columns,
)
from serein.results.evaluation import (
    MODEL,
    MODEL_SETTINGS,
    CalibrationScores,
    LabelMapping,
    Results,
    get_model_name,
    remove_model_folders,
)

RANKING_NOTE = (
    " AUROC: probability that a correct answer is more confident than a wrong one, 0.5 by chance. "
    "AURC: mean error rate of the most confident answers over all coverages, lower is better."
)
MAX_EXAMPLES = 3
"""Examples of a finding that are printed; more are counted."""


def build_leakage_table(results: Results) -> Table | None:
    """Build the table of the leakage check; None if it did not run."""
    if not results.leakage:
        return None
    return Table(
        title="Leakage check",
        note="Done before training. Clean: checked and not found; warning: found, but does not "
        "stop the run; allowed: would have stopped the run, but the user allowed it; error: stops "
        "the run.",
        columns=(
            *text_columns("check", "verdict"),
            *number_columns("found"),
            *text_columns("description", "examples"),
        ),
        rows=tuple(
            make_row(
                finding.kind,
                finding.verdict,
                str(finding.count),
                finding.description,
                format_examples(finding.examples),
                kind=finding.verdict,
            )
            for finding in results.leakage
        ),
    )


def format_examples(examples: tuple[str, ...]) -> str:
    """List the first examples of a finding, and count the others.

    >>> format_examples(("a", "b", "c", "d"))
    'a, b, c and 1 more'
    """
    more = len(examples) - MAX_EXAMPLES
    shown = ", ".join(examples[:MAX_EXAMPLES])
    return f"{shown} and {more} more" if more > 0 else shown


def describe_leakage(results: Results) -> str | None:
    """Summarise the leakage check in one sentence; None if it did not run."""
    if not results.leakage:
        return None
    kinds: dict[str, list[str]] = {}
    for finding in results.leakage:
        kinds.setdefault(finding.verdict, []).append(finding.kind)
    clauses = [f"{verdict}: {', '.join(dict.fromkeys(names))}" for verdict, names in kinds.items()]
    return f"Leakage check: {'; '.join(clauses)}."


def build_label_tables(results: Results) -> list[Table]:
    """Build a table of the label mapping of each task."""
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
        note=f"Scheme: {mapping.scheme}. For each class the labels of the corpus, and how often "
        "each occurred.",
        columns=(*text_columns("class", "in the corpus"), *number_columns("utterances")),
        rows=tuple(rows),
    )


def _label_row(name: str, counts: dict[str, int], kind: str = "") -> Row:
    labels = ", ".join(f"{label} ({count})" for label, count in counts.items())
    return make_row(name, labels, str(sum(counts.values())), kind=kind)


def build_calibration_table(results: Results) -> Table | None:
    """Build the table of calibration error and Brier score; None if no task has them."""
    tasks = _list_calibrated_tasks(results)
    has_ranking = any(results.calibration[task].raw.aurc is not None for task in tasks)
    rows = [row for task in tasks for row in _confidence_rows(results, task, ranking=has_ranking)]
    if not rows:
        return None
    return Table(
        title=f"Confidence, {results.headline}",
        note="ECE: expected calibration error, the mean gap between confidence and accuracy, 0 to "
        "1. Brier: mean squared distance of the probabilities from the labels, 0 to 2. Lower is "
        f"better.{RANKING_NOTE * has_ranking}",
        columns=(
            *text_columns("task", "probabilities"),
            *number_columns(
                "ECE", "Brier", *["AUROC", "AURC"] * has_ranking, undefined_reason=NO_SCORE
            ),
        ),
        rows=tuple(rows),
    )


def _list_calibrated_tasks(results: Results) -> list[str]:
    return [task for task in summary.list_scored_tasks(results) if task in results.calibration]


def _confidence_rows(results: Results, task: str, *, ranking: bool) -> Iterator[Row]:
    calibration = results.calibration[task]
    is_saved = MODEL in results.selections
    name = "as the model gives them" if is_saved else "uncalibrated"
    yield _confidence_row(task, name, calibration.raw, ranking=ranking)
    if calibration.calibrated:
        fitted = calibration.calibrated
        yield _confidence_row(task, "with each fold's temperature", fitted, ranking=ranking)


def _confidence_row(task: str, name: str, scores: CalibrationScores, *, ranking: bool) -> Row:
    cells = [scores.ece, scores.brier, *[scores.auroc, scores.aurc] * ranking]
    return make_row(task, name, *map(format_decimal, cells))


def describe_confidence(results: Results) -> str | None:
    """Summarise the calibration of the first task in a sentence; None if it was not measured."""
    task = next(iter(_list_calibrated_tasks(results)), None)
    if task is None:
        return None
    raw, calibrated = results.calibration[task].raw, results.calibration[task].calibrated
    clauses = [f"ECE {format_decimal(raw.ece)}, Brier {format_decimal(raw.brier)}"]
    if raw.auroc is not None:
        clauses[0] += f", AUROC {format_decimal(raw.auroc)}"
    if calibrated:
        scores = f"{format_decimal(calibrated.ece)} and {format_decimal(calibrated.brier)}"
        clauses.append(f"with a temperature fitted on validation, {scores}")
    return f"Confidence of {task}: {'; '.join(clauses)}."


def build_threshold_table(results: Results, task: str) -> Table | None:
    """Build the table of scores at confidence thresholds; None if they were not measured."""
    calibration = results.calibration.get(task)
    if calibration is None or not calibration.thresholds:
        return None
    is_saved = MODEL in results.selections and calibration.calibrated is None
    return Table(
        title=f"{task}: rejecting the least confident predictions, %",
        note="Scores of the predictions at or above a confidence"
        + ", which was chosen on these predictions: a risk-coverage curve." * is_saved
        + "." * (not is_saved),
        columns=(*text_columns("kept"), *number_columns("lowest confidence", "WA", "UA")),
        rows=tuple(
            make_row(*map(format_percent, (share, lowest, wa, ua)))
            for lowest, share, wa, ua in calibration.thresholds
        ),
    )


def build_temperature_table(results: Results) -> Table | None:
    """Build the table of each fold's temperatures; None if none was fitted."""
    folds = [fold for fold in results.folds if fold.temperatures]
    tasks = [task for task in results.classes if any(task in fold.temperatures for fold in folds)]
    if not tasks:
        return None
    reason = "no temperature: the fold has no labelled validation subset, or the fit is undefined"
    return Table(
        title="Temperatures",
        note="Divisors of the logits, fitted on each fold's validation subset; above 1 the model "
        "was overconfident.",
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
    """Build the table of run, corpus, protocol and environment."""
    split = {key: value for key, value in results.protocol.items() if key != "folds"}
    rows = [
        ("run", results.name),
        ("ended", results.created),
        (
            "training time, all processes" if results.folds else "time of scoring",
            summary.format_duration(results.seconds),
        ),
        *((f"corpus: {name}", value) for name, value in summary.flatten(results.corpus)),
        *((f"protocol: {name}", value) for name, value in summary.flatten(split)),
        *summary.flatten(results.environment),
    ]
    if len(results.repeats) > 1:
        runs = (f"{repeat.seed} ({repeat.run})" for repeat in results.repeats)
        rows.append(("seeds", ", ".join(runs)))
    return Table(
        title="Provenance",
        note="A run is reproducible with the same seed, number of threads and versions.",
        columns=text_columns("item", "value"),
        rows=tuple(make_row(name, value) for name, value in rows if value),
    )


def _format_setting(name: str, value: str) -> str:
    """Format a setting; saved models and runs are printed without their folders."""
    if name in MODEL_SETTINGS:
        return get_model_name(value)
    return remove_model_folders(value) if name == "about.changed" else value


def build_settings_table(results: Results) -> Table | None:
    """Build the table of all settings of the recipe; None without a recipe."""
    rows = tuple(
        make_row(name, _format_setting(name, value))
        for name, value in summary.flatten(results.recipe)
    )
    if not rows:
        return None
    return Table(
        title="Settings of the recipe",
        note="As in --set name=value.",
        columns=text_columns("setting", "value"),
        rows=rows,
    )
