"""The tables of what stands behind the scores: leaks, labels, confidence, circumstances."""

from collections.abc import Iterator

from serein.report import summary
from serein.report.summary import decimal, percent
from serein.report.table import UNDEFINED, Column, Row, Table, numbers, row, words
from serein.results import Confidence, Mapping, Results

EXAMPLES = 3
"""More examples than these of one finding are counted, not shown."""


def leakage(results: Results) -> Table | None:
    """What the leakage check found; None where it did not run."""
    if not results.leakage:
        return None
    return Table(
        title="Leakage: what was looked for",
        note="Done before anything was trained. Clean: looked for and not found; warning: found, "
        "and trained nevertheless; allowed: would have stopped the run, had its user not allowed "
        "it; error: stops a run.",
        columns=(*words("check", "verdict"), *numbers("found"), *words("in words", "examples")),
        rows=tuple(
            row(
                found.kind,
                found.verdict,
                str(found.count),
                found.words,
                _some(found.examples),
                kind=found.verdict,
            )
            for found in results.leakage
        ),
    )


def _some(examples: tuple[str, ...]) -> str:
    more = len(examples) - EXAMPLES
    shown = ", ".join(examples[:EXAMPLES])
    return f"{shown} and {more} more" if more > 0 else shown


def leaks(results: Results) -> str | None:
    """The leakage check in one sentence; None where it did not run."""
    if not results.leakage:
        return None
    kinds: dict[str, list[str]] = {}
    for found in results.leakage:
        kinds.setdefault(found.verdict, []).append(found.kind)
    told = [f"{verdict}: {', '.join(dict.fromkeys(names))}" for verdict, names in kinds.items()]
    return f"Leakage check: {'; '.join(told)}."


def labels(results: Results) -> list[Table]:
    """What became of each task's labels."""
    return [_labels(task, mapping) for task, mapping in results.mapping.items()]


def _labels(task: str, mapping: Mapping) -> Table:
    rows = [_mapped(name, counts) for name, counts in mapping.mapped.items()]
    if mapping.dropped:
        rows.append(_mapped("(dropped)", mapping.dropped, kind="baseline"))
    rows += [
        _mapped(f"(not in the main corpus: {corpus})", counts, kind="baseline")
        for corpus, counts in mapping.foreign.items()
    ]
    if mapping.missing:
        rows.append(row("(no label)", "", str(mapping.missing), kind="baseline"))
    return Table(
        title=f"{task}: labels",
        note=f"Scheme: {mapping.scheme}. For each class the corpus's own words, and how often each "
        "occurred.",
        columns=(*words("class", "in the corpus"), *numbers("utterances")),
        rows=tuple(rows),
    )


def _mapped(name: str, counts: dict[str, int], kind: str = "") -> Row:
    told = ", ".join(f"{word} ({count})" for word, count in counts.items())
    return row(name, told, str(sum(counts.values())), kind=kind)


def calibration(results: Results) -> Table | None:
    """Calibration error and Brier score of each task; None where nobody measured them."""
    rows = [line for task in _calibrated(results) for line in _confidences(results, task)]
    if not rows:
        return None
    reason = "undefined: nothing was scored"
    return Table(
        title=f"Confidence, {results.headline}",
        note="ECE: expected calibration error, the mean gap between confidence and accuracy, 0 to "
        "1. Brier: mean squared distance from the truth, 0 to 2. Less is better.",
        columns=(*words("task", "probabilities"), *numbers("ECE", "Brier", undefined=reason)),
        rows=tuple(rows),
    )


def _calibrated(results: Results) -> list[str]:
    return [task for task in summary.tasks(results) if task in results.calibration]


def _confidences(results: Results, task: str) -> Iterator[Row]:
    own = results.calibration[task]
    yield _confidence(task, "as the model says", own.raw)
    if own.tempered:
        yield _confidence(task, "with each fold's temperature", own.tempered)


def _confidence(task: str, name: str, confidence: Confidence) -> Row:
    return row(task, name, *(decimal(value) for value in (confidence.ece, confidence.brier)))


def confidence(results: Results) -> str | None:
    """How far the leading task's confidence can be believed, in a sentence; None if unknown."""
    task = next(iter(_calibrated(results)), None)
    if task is None:
        return None
    own = results.calibration[task]
    words = f"ECE {decimal(own.raw.ece)}, Brier {decimal(own.raw.brier)}"
    if own.tempered:
        after = f"{decimal(own.tempered.ece)} and {decimal(own.tempered.brier)}"
        words += f"; with a temperature fitted on validation, {after}"
    return f"Confidence of {task}: {words}."


def thresholds(results: Results, task: str) -> Table | None:
    """What refusing the least confident utterances is worth; None where nobody measured it."""
    own = results.calibration.get(task)
    if own is None or not own.thresholds:
        return None
    return Table(
        title=f"{task}: refusing the least confident utterances, %",
        note="What is left when only utterances at or above a confidence are answered.",
        columns=(*words("answered"), *numbers("lowest confidence", "WA", "UA")),
        rows=tuple(
            row(percent(share), percent(lowest), percent(wa), percent(ua))
            for lowest, share, wa, ua in own.thresholds
        ),
    )


def temperatures(results: Results) -> Table | None:
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
        columns=(*words("fold"), *(Column(name=task, undefined=reason) for task in tasks)),
        rows=tuple(
            row(fold.name, *(_two(fold.temperatures.get(task)) for task in tasks))
            for fold in results.folds
        ),
    )


def _two(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def facts(results: Results) -> Table:
    """What the run was made of."""
    split = {key: value for key, value in results.protocol.items() if key != "folds"}
    rows = [
        ("run", results.name),
        ("ended", results.created),
        ("training time, all processes", summary.duration(results.seconds)),
        *((f"corpus: {name}", value) for name, value in summary.flat(results.corpus)),
        *((f"protocol: {name}", value) for name, value in summary.flat(split)),
        *summary.flat(results.environment),
    ]
    if len(results.repeats) > 1:
        rows.append(("seeds", ", ".join(f"{one.seed} ({one.run})" for one in results.repeats)))
    return Table(
        title="Circumstances of the run",
        note="Seed, threads and versions are part of what makes it repeatable.",
        columns=words("what", "value"),
        rows=tuple(row(*pair) for pair in rows if pair[1]),
    )


def settings(results: Results) -> Table | None:
    """Every setting of the recipe; None where there is no recipe."""
    rows = tuple(row(name, value) for name, value in summary.flat(results.recipe))
    if not rows:
        return None
    return Table(
        title="Settings of the recipe",
        note="As --set name=value takes them.",
        columns=words("setting", "value"),
        rows=rows,
    )
