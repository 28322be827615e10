"""The sections of a report, for formats without figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serein.report import (
    audit,
    checks,
    figures,
    forced,
    published,
    speakers,
    summary,
    tables,
    votes,
)
from serein.report.table import Table
from serein.results.evaluation import Results

OPTIMISTIC_HEADING = "Optimistic evaluations"
PUBLISHED_HEADING = "Published results"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading with paragraphs, code, tables and a list.

    Attributes:
        title: the heading.
        paragraphs: below the heading.
        code: a command below the paragraphs; may be empty.
        tables: below the code.
        items: a list of sentences below the tables; may be empty.
        items_heading: above the list.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    code: str = ""
    tables: tuple[Table, ...] = ()
    items: tuple[str, ...] = ()
    items_heading: str = ""


def build_sections(results: Results) -> list[Section]:
    """Build all sections that the results have data for."""
    sections = [
        Section(title="Headline", paragraphs=tuple(describe_headline(results))),
        *_score_sections(results),
        *_check_sections(results),
        Section(
            title="Reproduce",
            code=results.command,
            tables=(checks.build_provenance_table(results),),
        ),
    ]
    return [section for section in sections if section.paragraphs or section.tables]


def _published_section(results: Results) -> Section:
    tables_of_tasks = published.build_published_tables(results)
    matrices = published.build_matrix_tables(results) if tables_of_tasks else []
    return Section(
        title=PUBLISHED_HEADING,
        tables=(*tables_of_tasks, *matrices),
        items=published.list_doubts(results),
        items_heading=published.DOUBTS_HEADING,
    )


def describe_headline(results: Results) -> Iterator[str]:
    """Yield the caution, the quoted scores, the highlights and the warnings, line by line."""
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
    """Return sentences on seeds, raters' votes, best and worst groups, confidence and leakage."""
    task = summary.get_first_task(results)
    sentences = (
        *forced.describe_answers(results),
        audit.describe_nuisance(results),
        tables.describe_seeds(results, task),
        *(votes.describe_vote_scores(results, name) for name in results.classes),
        *(
            speakers.describe_extremes(results, task, attribute)
            for attribute in tables.list_group_attributes(task)
        ),
        checks.describe_confidence(results),
        checks.describe_leakage(results),
    )
    return [sentence for sentence in sentences if sentence]


def _score_sections(results: Results) -> Iterator[Section]:
    tasks = summary.list_scored_tasks(results)
    yield Section(
        title=OPTIMISTIC_HEADING, tables=_drop_missing([audit.build_optimistic_table(results)])
    )
    meanings = [f"{name}: {meaning}." for name, meaning in results.selections.items()]
    gap = audit.describe_selection_gap(results)
    yield Section(
        title=audit.get_audit_heading(results),
        paragraphs=(*meanings, *([gap] if gap else [])) if tasks else (),
        tables=(
            *(tables.build_selection_table(results, task) for task in tasks),
            *_drop_missing(tables.build_fold_table(results, task) for task in tasks),
        ),
    )
    yield _published_section(results)
    yield Section(title="Classes", tables=tuple(_class_tables(results)))
    yield Section(title=votes.VOTES_HEADING, tables=tuple(votes.build_vote_tables(results)))
    yield Section(
        title="Words",
        tables=_drop_missing(
            [tables.build_word_table(results), tables.build_transcript_table(results)]
        ),
    )
    yield Section(
        title="Speakers",
        tables=_drop_missing(
            tables.build_group_table(results, task, attribute)
            for task in tasks
            for attribute in tables.list_group_attributes(task)
        ),
    )
    yield Section(
        title="Seeds",
        tables=_drop_missing(tables.build_seed_table(results, task) for task in tasks),
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


def _drop_missing(tables_or_none: Iterable[Table | None]) -> tuple[Table, ...]:
    return tuple(table for table in tables_or_none if table is not None)
