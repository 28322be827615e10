"""Several runs against each other: in the terminal, as Markdown, and as an HTML page."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein import store
from serein.comparisons import Comparison, Contest
from serein.files import write_text
from serein.metrics.measures import UA, score_named
from serein.report import markdown, page, summary, terminal
from serein.report.document import Section
from serein.report.table import NO_INTERVAL, UNDEFINED, Column, Row, Table, numbers, row, words

TITLE = "Comparison"
NO_TEST = "this test was not made"
TESTS = {"mcnemar": "McNemar", "permutation": "permutation", "z": "z-test"}
OF_CLASSES = (
    " The test of two proportions is one-tailed (the first is better) and takes utterances as "
    "independent, as McNemar's does. Effect: Cohen's h of the two WA; 0.2 is small, 0.5 medium, "
    "0.8 large."
)
SMALLEST = 0.001
"""A smaller p is not told apart from this one."""


def tables(comparison: Comparison) -> list[Table]:
    """The runs; then for each task and selection the scores, and the tests of their differences."""
    runs = [_runs(comparison)] if comparison.runs else []
    return [*runs, *contests(comparison.contests)]


def contests(every: list[Contest]) -> list[Table]:
    """For each task and selection the scores, and the tests of their differences."""
    found = []
    for task, selection in dict.fromkeys((one.task, one.selection) for one in every):
        own = [c for c in every if (c.task, c.selection) == (task, selection)]
        found += [_scores(task, selection, own), _tests(task, selection, own)]
    return found


def _runs(comparison: Comparison) -> Table:
    every = dict.fromkeys(key for run in comparison.runs for key in run)
    heads = [head for head in every if any(_told(run.get(head)) for run in comparison.runs)]
    return Table(
        title="Runs",
        columns=words(*heads),
        rows=tuple(row(*(_told(run.get(head)) for head in heads)) for run in comparison.runs),
    )


def _told(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _scores(task: str, selection: str, contests: list[Contest]) -> Table:
    ways = "; ".join(dict.fromkeys(one.interval for one in contests if one.interval))
    kinds, main = list(map(score_named, contests[0].scores)), score_named(contests[0].main)
    over = "the mean over seeds" if main.percent else "over the answers of all seeds"
    return Table(
        title=f"{task}, {selection}: scores{', %' * main.percent}",
        note=f"Over the utterances that both tested, {over}; the difference is the {main.title} "
        f"of the first less that of the second{', in points' * main.percent}. Intervals: "
        f"{ways or 'none was made'}.",
        columns=(
            *words("first", "second"),
            *numbers("utterances"),
            *(Column(name=side, group=one.title) for one in kinds for side in "12"),
            *numbers("difference"),
            Column(name="interval", undefined=NO_INTERVAL),
        ),
        rows=tuple(_pair(one) for one in contests),
    )


def _pair(one: Contest) -> Row:
    main = score_named(one.main)
    difference = (100 if main.percent else 1) * one.difference
    return row(
        one.first,
        one.second,
        str(one.utterances),
        *(
            summary.cell(score_named(name), score)
            for name, pair in one.scores.items()
            for score in pair
        ),
        summary.signed(main, difference),
        summary.bounds(one.difference_interval, main) or UNDEFINED,
    )


def _tests(task: str, selection: str, contests: list[Contest]) -> Table:
    made = [test for test in TESTS if any(getattr(one, test) is not None for one in contests)]
    swapped = "; ".join(dict.fromkeys(one.swapped for one in contests))
    of_classes = contests[0].main == UA.name
    effects = numbers("effect", undefined="undefined: a score is") if of_classes else ()
    return Table(
        title=f"{task}, {selection}: tests",
        note="p of each test, and in brackets after Holm's correction over all contests. The "
        f"permutation swaps {swapped}.{OF_CLASSES * of_classes}",
        columns=(
            *words("first", "second"),
            *numbers(*(TESTS[test] for test in made), undefined=NO_TEST),
            *effects,
        ),
        rows=tuple(
            row(
                one.first,
                one.second,
                *(_test(one, test) for test in made),
                *(_effect(one) for _ in effects),
            )
            for one in contests
        ),
    )


def _effect(one: Contest) -> str:
    return UNDEFINED if one.effect is None else f"{round(one.effect, 2) + 0.0:+.2f}"


def _test(one: Contest, test: str) -> str:
    p, adjusted = getattr(one, test), one.adjusted.get(test)
    return chance(p) if p is None or adjusted is None else f"{chance(p)} ({chance(adjusted)})"


def chance(p: float | None) -> str:
    """A probability as papers print it.

    >>> chance(0.0421), chance(0.00004), chance(None)
    ('0.042', '< 0.001', 'n/a')
    """
    if p is None:
        return UNDEFINED
    return f"< {SMALLEST}" if p < SMALLEST else f"{p:.3f}"


def render(comparison: Comparison) -> RenderableType:
    """The comparison for a `rich` console."""
    return Group(*_parts(comparison))


def _parts(comparison: Comparison) -> Iterator[RenderableType]:
    for warning in comparison.warnings:
        yield terminal.line(f"Warning: {warning}", "yellow")
    for table in tables(comparison):
        yield terminal.draw(table)
        yield Text()


def as_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown; ends with a newline."""
    warnings = tuple(f"Warning: {warning}" for warning in comparison.warnings)
    code = comparison.command
    shown = Section(title="", words=warnings, tables=tuple(tables(comparison)))
    return markdown.write(TITLE, [shown, Section(title="Reproduce", code=code)])


def html(comparison: Comparison) -> str:
    """The comparison as a page that opens offline."""
    return page.fill(
        "comparison.html",
        comparison=comparison,
        tables=tables(comparison),
        title=TITLE,
        source="comparison.json",
    )


def write(comparison: Comparison, path: Path) -> tuple[Path, ...]:
    """Write ``comparison.json``, ``.html`` and ``.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    texts = {
        "comparison.json": store.text_of(comparison),
        "comparison.html": html(comparison),
        "comparison.md": as_markdown(comparison),
    }
    for name, text in texts.items():
        write_text(path / name, text)
    return tuple(path / name for name in texts)
