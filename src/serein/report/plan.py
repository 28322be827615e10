"""The plan of a run in the terminal, readable in 80 columns."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from serein.records import SUBSETS
from serein.report.checks import format_examples
from serein.report.progress import format_clock
from serein.report.table import Row, Table, make_row, number_columns, text_columns
from serein.report.terminal import draw_table, make_line
from serein.results.plan import FoldCounts, PlannedRun, SubsetCounts, TimeEstimate

MAX_FOLDS = 10
"""Folds of which every subset has a row; more are summed up as ranges."""
MAX_WIDTH = 80
COLUMN_GAP = 2
BUSY_SHARE = 0.8
"""Share of a processor below which the measured steps were slowed down by other programs."""


def render_plan(planned: PlannedRun) -> RenderableType:
    """Render a plan for a `rich` console: ``console.print(render_plan(planned))``."""
    head, *rest = planned.head
    parts: list[RenderableType] = [make_line(head, "bold")]
    if planned.left_out:
        parts += [Text(), draw_table(_build_left_out_table(planned))]
    else:
        parts += [make_line(line) for line in rest] or [make_line("Nothing is left out.")]
    for table in build_fold_tables(planned):
        parts += [Text(), draw_table(table)]
    parts += [make_line(line) for line in _describe_other_tasks(planned)]
    parts += [Text(), *(make_line(line, style) for line, style in _describe_checks(planned))]
    parts += [Text(), *(make_line(line) for line in describe_time(planned))]
    return Group(*parts)


def _build_left_out_table(planned: PlannedRun) -> Table:
    rows = [make_row(one.description, f"{one.count:,}") for one in planned.left_out]
    total = sum(one.count for one in planned.left_out)
    if len(rows) > 1:
        rows.append(make_row("all", f"{total:,}"))
    return Table(
        title="Left out",
        columns=(*text_columns("why"), *number_columns("utterances")),
        rows=tuple(rows),
    )


def build_fold_tables(planned: PlannedRun) -> list[Table]:
    """Build the table of folds; of many classes several, of which each fits in 80 columns."""
    task = next(iter(planned.classes), "")
    names = planned.classes.get(task) or ["values"] * bool(task)
    is_short = len(planned.folds) <= MAX_FOLDS
    rows = _list_fold_rows(planned) if is_short else _list_ranges(planned)
    labels = ["fold", "subset"] if is_short else ["subset"]
    cells = [
        [
            *heads,
            _format_range([one.utterances for one in counts]),
            _format_range([one.speakers for one in counts]),
            *(_format_range([one.classes[task][name] for one in counts]) for name in names),
        ]
        for heads, counts in rows
    ]
    heading = f"Folds: utterances, speakers, utterances of each {task}" if task else "Utterances"
    note = "" if is_short else f"Ranges over {len(planned.folds)} folds; --json has each of them."
    columns = [*labels, "all", "speakers", *names]
    widths = [
        max(len(name), *(len(row[index]) for row in cells)) + COLUMN_GAP
        for index, name in enumerate(columns)
    ]
    fixed = len(labels) + 2
    tables: list[Table] = []
    for part in _pack_columns(widths, fixed):
        taken = [*range(fixed), *part] if not tables else [*range(len(labels)), *part]
        tables.append(
            Table(
                title=heading if not tables else f"{heading}, continued",
                note="" if tables else note,
                columns=(
                    *text_columns(*labels),
                    *number_columns(*(columns[index] for index in taken[len(labels) :])),
                ),
                rows=tuple(Row(cells=tuple(row[index] for index in taken)) for row in cells),
            )
        )
    return tables


def _pack_columns(widths: Sequence[int], fixed: int) -> list[list[int]]:
    """Divide the columns after the fixed ones among tables that fit in the width."""
    parts: list[list[int]] = [[]]
    room = MAX_WIDTH - sum(widths[:fixed])
    for index in range(fixed, len(widths)):
        if parts[-1] and widths[index] > room:
            parts.append([])
            room = MAX_WIDTH - sum(widths[:2])
        parts[-1].append(index)
        room -= widths[index]
    return parts


def _list_fold_rows(planned: PlannedRun) -> list[tuple[list[str], list[SubsetCounts]]]:
    """Return a row for each subset of each fold: its names and its counts."""
    rows = []
    for fold in planned.folds:
        name = fold.name
        for subset, counts in _list_subsets(fold):
            rows.append(([name, subset], [counts]))
            name = ""
    return rows


def _list_ranges(planned: PlannedRun) -> list[tuple[list[str], list[SubsetCounts]]]:
    """Return a row for each subset, with its counts in all folds."""
    rows: dict[str, list[SubsetCounts]] = {}
    for fold in planned.folds:
        for subset, counts in _list_subsets(fold):
            rows.setdefault(subset, []).append(counts)
    return [([subset], counts) for subset, counts in rows.items()]


def _list_subsets(fold: FoldCounts) -> Iterator[tuple[str, SubsetCounts]]:
    for subset in SUBSETS:
        counts: SubsetCounts = getattr(fold, subset)
        if counts.utterances:
            yield subset, counts


def _format_range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}-{high}"


def _describe_other_tasks(planned: PlannedRun) -> Iterator[str]:
    """Yield the classes of the other tasks among all tested utterances."""
    for task in list(planned.classes)[1:]:
        counts: dict[str, int] = {}
        for fold in planned.folds:
            for name, count in fold.test.classes[task].items():
                counts[name] = counts.get(name, 0) + count
        listing = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        if len(counts) > MAX_FOLDS:
            listing = f"{len(counts)} classes"
        yield f"{task}, over all test subsets: {listing}"


def _describe_checks(planned: PlannedRun) -> Iterator[tuple[str, str]]:
    """Yield a line and its style for the protocol, each finding, and each warning."""
    validation = planned.protocol["validation"]
    yield f"Protocol: {planned.protocol['name']}; validation: {validation}", ""
    if planned.protocol["caution"]:
        yield f"CAUTION: {planned.protocol['caution']}", "bold"
    clean = [finding.kind for finding in planned.leakage if finding.verdict == "clean"]
    if clean:
        yield f"Leakage check, clean: {', '.join(dict.fromkeys(clean))}", ""
    for finding in planned.leakage:
        if finding.verdict != "clean":
            examples = f", such as {format_examples(finding.examples)}" if finding.examples else ""
            style = "bold red" if finding.verdict == "error" else "yellow"
            yield f"{finding.verdict}: {finding.kind}: {finding.description}{examples}", style
    for line in planned.not_checked:
        yield f"not checked: {line}", "yellow"
    for line in (*planned.dropped_settings, *planned.warnings):
        yield f"Warning: {line}", "yellow"


def describe_time(planned: PlannedRun) -> Iterator[str]:
    """Yield device and precision, and how long the run will take."""
    seeds = len(planned.seeds)
    trainings = f"{len(planned.folds)} folds" if len(planned.folds) > 1 else "1 training"
    repeats = f", {seeds} seeds" if seeds > 1 else ""
    yield (
        f"Runs on {planned.device} in {planned.precision}, {trainings} of {planned.epochs} "
        f"epochs{repeats}; {planned.machine}"
    )
    if planned.time:
        yield from _describe_estimate(planned.time)
    for note in planned.time_notes:
        yield f"Time: {note}."


def _describe_estimate(time: TimeEstimate) -> Iterator[str]:
    text = f"Time: {format_duration(time.elapsed_seconds)}"
    if time.jobs > 1:
        text += (
            f" with {time.jobs} folds at a time; one by one {format_duration(time.total_seconds)}"
        )
    if time.features_seconds >= 1:
        text += f"; of these {format_duration(time.features_seconds)} for features, once"
    yield f"{text}."
    if time.processor_share < BUSY_SHARE:
        idle = format_duration(time.elapsed_seconds * time.processor_share)
        yield (
            f"Time: other programs were running, and the measured steps had "
            f"{100 * time.processor_share:.0f} % of a processor; alone, about {idle}."
        )
    measured = f"{time.measured_steps} measured" if time.measured_steps else "a part was measured"
    yield (
        f"One training step takes {time.step_seconds:.3g} s ({time.training_steps:,} in all, "
        f"{measured}), one evaluated batch {time.evaluation_seconds:.3g} s "
        f"({time.evaluation_batches:,} in all)."
    )


def format_duration(seconds: float) -> str:
    """Format a duration in hours, or in minutes and seconds.

    >>> format_duration(95), format_duration(9000), format_duration(400_000)
    ('1:35 minutes', '2.5 hours', '111 hours (4.6 days)')
    """
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours:.0f} hours ({hours / 24:.1f} days)"
    return f"{hours:.1f} hours" if hours >= 1 else f"{format_clock(seconds)} minutes"
