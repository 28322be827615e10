"""A report as sections of words and tables, for every form that has no figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serein.report import audit, checks, figures, speakers, summary, tables
from serein.report import tables as seeds
from serein.report import tables as transcripts
from serein.report.table import Table
from serein.results.evaluation import Results


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
    paragraphs: tuple[str, ...] = ()
    code: str = ""
    tables: tuple[Table, ...] = ()


def build_sections(results: Results) -> list[Section]:
    """The whole report, without what has no data."""
    every = [
        _headline_section(results),
        *_score_sections(results),
        *_check_sections(results),
        Section(
            title="Reproduce",
            code=results.command,
            tables=(checks.build_provenance_table(results),),
        ),
    ]
    return [section for section in every if section.paragraphs or section.tables]


def _headline_section(results: Results) -> Section:
    return Section(title="Headline", paragraphs=tuple(describe_headline(results)))


def describe_headline(results: Results) -> Iterator[str]:
    """What is quoted, and what must be known to believe it, line by line."""
    caution = summary.get_caution(results)
    if caution:
        yield f"CAUTION: {caution}"
    meaning = results.selections.get(results.headline, "")
    yield f"Quoted: {results.headline} ({meaning})" if meaning else f"Quoted: {results.headline}"
    for task in summary.list_scored_tasks(results):
        yield summary.describe_scores(results, task)
    yield from describe_highlights(results)
    yield from (f"Warning: {warning}" for warning in summary.list_warnings(results))


def describe_highlights(results: Results) -> list[str]:
    """What stands below the scores: seeds, best and worst, confidence, leaks; a sentence each."""
    lead = summary.get_leading_task(results)
    found = (
        seeds.describe_seeds(results, lead),
        *(
            speakers.describe_extremes(results, lead, kind)
            for kind in tables.list_group_attributes(lead)
        ),
        checks.describe_confidence(results),
        checks.describe_leakage(results),
    )
    return [sentence for sentence in found if sentence]


def _score_sections(results: Results) -> Iterator[Section]:
    every = summary.list_scored_tasks(results)
    fooled = audit.build_optimistic_table(results)
    yield Section(title="How you could have been fooled", tables=_drop_missing([fooled]))
    meanings = [f"{name}: {words}." for name, words in results.selections.items()]
    gap = audit.describe_selection_gap(results)
    yield Section(
        title=audit.get_audit_heading(results),
        paragraphs=(*meanings, *([gap] if gap else [])) if every else (),
        tables=(
            *(tables.build_selection_table(results, task) for task in every),
            *_drop_missing(tables.build_fold_table(results, task) for task in every),
        ),
    )
    yield Section(
        title="The paper's figures", tables=_drop_missing([audit.build_published_table(results)])
    )
    yield Section(title="Classes", tables=tuple(_class_tables(results)))
    yield Section(
        title="Words",
        tables=_drop_missing(
            [transcripts.build_word_table(results), transcripts.build_transcript_table(results)]
        ),
    )
    yield Section(
        title="Speakers",
        tables=_drop_missing(
            tables.build_group_table(results, task, kind)
            for task in every
            for kind in tables.list_group_attributes(task)
        ),
    )
    yield Section(
        title="Seeds", tables=_drop_missing(seeds.build_seed_table(results, task) for task in every)
    )


def _class_tables(results: Results) -> Iterator[Table]:
    for task in summary.list_classification_tasks(results):
        yield tables.build_class_table(results, task)
        if len(results.classes[task]) <= figures.MAX_LABELLED_CLASSES:
            yield tables.build_confusion_table(results, task)


def _check_sections(results: Results) -> Iterator[Section]:
    yield Section(
        title="Confidence",
        tables=_drop_missing(
            [
                checks.build_calibration_table(results),
                checks.build_temperature_table(results),
                *(
                    checks.build_threshold_table(results, task)
                    for task in summary.list_scored_tasks(results)
                ),
            ]
        ),
    )
    yield Section(
        title="Leakage check", tables=_drop_missing([checks.build_leakage_table(results)])
    )
    yield Section(title="Labels", tables=tuple(checks.build_label_tables(results)))


def _drop_missing(found: Iterable[Table | None]) -> tuple[Table, ...]:
    return tuple(table for table in found if table is not None)
