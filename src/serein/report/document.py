"""A report as sections of words and tables, for every form that has no figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serein.report import (
    audit,
    checks,
    flattery,
    paper,
    plots,
    seeds,
    speakers,
    summary,
    tables,
    transcripts,
)
from serein.report.table import Table
from serein.results import Results


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading and what stands below it.

    Attributes:
        title: the heading.
        words: paragraphs.
        code: what was typed; empty where nothing.
        tables: below the words.
    """

    title: str
    words: tuple[str, ...] = ()
    code: str = ""
    tables: tuple[Table, ...] = ()


def sections(results: Results) -> list[Section]:
    """The whole report, without what has no data."""
    every = [
        _headline(results),
        *_scores(results),
        *_checks(results),
        Section(title="Reproduce", code=results.command, tables=(checks.facts(results),)),
    ]
    return [section for section in every if section.words or section.tables]


def _headline(results: Results) -> Section:
    return Section(title="Headline", words=tuple(headline(results)))


def headline(results: Results) -> Iterator[str]:
    """What is quoted, and what must be known to believe it, line by line."""
    caution = summary.caution(results)
    if caution:
        yield f"CAUTION: {caution}"
    meaning = results.selections.get(results.headline, "")
    yield f"Quoted: {results.headline} ({meaning})" if meaning else f"Quoted: {results.headline}"
    for task in summary.tasks(results):
        yield summary.scored(results, task)
    yield from told(results)
    yield from (f"Warning: {warning}" for warning in summary.warnings(results))


def told(results: Results) -> list[str]:
    """What stands below the scores: seeds, best and worst, confidence, leaks; a sentence each."""
    lead = summary.leading(results)
    found = (
        seeds.spread(results, lead),
        *(speakers.extremes(results, lead, kind) for kind in tables.kinds(lead)),
        checks.confidence(results),
        checks.leaks(results),
    )
    return [sentence for sentence in found if sentence]


def _scores(results: Results) -> Iterator[Section]:
    every = summary.tasks(results)
    fooled = flattery.table(results)
    yield Section(title="How you could have been fooled", tables=_there([fooled]))
    meanings = [f"{name}: {words}." for name, words in results.selections.items()]
    gap = audit.gap(results)
    yield Section(
        title=audit.heading(results),
        words=(*meanings, *([gap] if gap else [])) if every else (),
        tables=(
            *(tables.selections(results, task) for task in every),
            *_there(tables.folds(results, task) for task in every),
        ),
    )
    yield Section(title="The paper's figures", tables=_there([paper.table(results)]))
    yield Section(title="Classes", tables=tuple(_classes(results)))
    yield Section(
        title="Words", tables=_there([transcripts.table(results), transcripts.worst(results)])
    )
    yield Section(
        title="Speakers",
        tables=_there(
            tables.parts(results, task, kind) for task in every for kind in tables.kinds(task)
        ),
    )
    yield Section(title="Seeds", tables=_there(seeds.table(results, task) for task in every))


def _classes(results: Results) -> Iterator[Table]:
    for task in summary.of_classes(results):
        yield tables.classes(results, task)
        if len(results.classes[task]) <= plots.LEGIBLE:
            yield tables.confusion(results, task)


def _checks(results: Results) -> Iterator[Section]:
    yield Section(
        title="Confidence",
        tables=_there(
            [
                checks.calibration(results),
                checks.temperatures(results),
                *(checks.thresholds(results, task) for task in summary.tasks(results)),
            ]
        ),
    )
    yield Section(title="Leakage check", tables=_there([checks.leakage(results)]))
    yield Section(title="Labels", tables=tuple(checks.labels(results)))


def _there(found: Iterable[Table | None]) -> tuple[Table, ...]:
    return tuple(table for table in found if table is not None)
