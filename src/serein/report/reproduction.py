"""Reports of a reproduction: every table of a paper beside our runs, in all formats."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein.report import html, latex, markdown, summary, terminal
from serein.report.document import Section
from serein.report.published import (
    DEVELOPMENT,
    METRIC_TITLES,
    NOT_REPORTED,
    TEST,
    build_matrix_table,
    format_printed,
    reorder_matrix,
)
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    make_row,
    split_columns,
    text_columns,
)
from serein.results.reproduction import (
    FINISHED,
    HELD,
    NOT_HELD,
    UNDECIDED,
    JudgedClaim,
    OwnResult,
    OwnScore,
    ReproducedRow,
    Reproduction,
)
from serein.utils.files import write_texts

FILE_NAMES = ("reproduction.html", "reproduction.md", "reproduction.tex")
PAPER_VARIANT = "paper"
OPTIMISTIC = "optimistic"
"""In the meaning of a selection that used the test subset."""
VERDICT_KINDS = {HELD: "clean", NOT_HELD: "error", UNDECIDED: ""}
SUBSET_TITLES = {DEVELOPMENT: "dev"}
"""Short names of subsets in narrow columns."""
NO_FIGURE = "not printed by the paper, or not measured here"
MATRICES_HEADING = "Confusion matrices"
CLAIMS_HEADING = "Statements of the paper"
RUNS_HEADING = "Runs"
LAYOUTS = {
    MATRICES_HEADING: "beside",
    CLAIMS_HEADING: "sentences-first",
    RUNS_HEADING: "narrow-words",
}
"""Style class of a section's tables on the page."""
CHOICES_HEADING = "What the recipes say of the paper and of our choices"
SAME_STATEMENT = "\u2033"
"""In place of the text of the statement above."""
CLAIM_NOTE = (
    "A statement held if the difference has the stated sign and the corrected p is below 0.05; it "
    "did not hold if the opposite is true. Work that the paper cites is compared with the 95 % "
    "interval of our score. Differences are in points, first minus second."
)

ScoreKey = tuple[str, str, str]
"""Task, metric and subset of a column."""


def format_title(reproduction: Reproduction) -> str:
    """Return paper and tables, and which corpora stand in for others."""
    title = f"{reproduction.citation}: reproduction"
    places = [f"{ours} in place of {theirs}" for theirs, ours in reproduction.stand_ins.items()]
    return f"{title} on {', '.join(places)}" if places else title


def describe_caution(reproduction: Reproduction) -> str:
    """Return what a reader must know before the figures; may be empty."""
    places = [f"{ours} in place of {theirs}" for theirs, ours in reproduction.stand_ins.items()]
    if not places:
        return ""
    return f"our runs are on {', '.join(places)}: figures of different corpora cannot be compared"


def describe_reproduction(reproduction: Reproduction) -> str:
    """Return the paper, its tables, and how many rows have figures."""
    own = [result for row in reproduction.rows for result in row.own]
    count = sum(result.state == FINISHED for result in own)
    others = [name for name in reproduction.variants if name != PAPER_VARIANT]
    variants = f", variants: {', '.join(reproduction.variants)}" if others else ""
    return (
        f"{reproduction.title} ({reproduction.venue} {reproduction.citation.split()[-1]}): "
        f"{', '.join(reproduction.tables)}{variants}; figures for {count} of {len(own)} rows"
    )


def describe_verdicts(reproduction: Reproduction) -> str:
    """Return in a sentence how many statements held; empty without statements."""
    if not reproduction.claims:
        return ""
    counts = {
        verdict: sum(claim.verdict == verdict for claim in reproduction.claims)
        for verdict in VERDICT_KINDS
    }
    parts = [f"{count} {verdict}" for verdict, count in counts.items()]
    return f"Statements of the paper, by our runs: {', '.join(parts)}."


def build_sections(reproduction: Reproduction) -> list[Section]:
    """Build all sections that have content."""
    sections = [
        Section(title="Warnings", items=tuple(reproduction.warnings)),
        *(_table_section(reproduction, table) for table in reproduction.tables),
        Section(title=MATRICES_HEADING, tables=tuple(build_matrix_tables(reproduction))),
        Section(title=CLAIMS_HEADING, tables=_claim_tables(reproduction)),
        Section(title="Doubts about the printed figures", items=tuple(reproduction.doubts)),
        Section(
            title="What differs from the paper",
            tables=_change_tables(reproduction),
            items=tuple(_list_choices(reproduction)),
            items_heading=CHOICES_HEADING,
        ),
        Section(title=RUNS_HEADING, tables=(_run_table(reproduction),)),
        Section(title="Reproduce", code=reproduction.command),
    ]
    return [s for s in sections if s.paragraphs or s.tables or s.items or s.code]


def _table_section(reproduction: Reproduction, name: str, *, intervals: bool = True) -> Section:
    rows = [row for row in reproduction.rows if row.table == name]
    if not rows:
        return Section(title=name)
    return Section(
        title=name,
        tables=(build_score_table(reproduction, name, rows, intervals=intervals),),
        items=tuple(_list_reasons(reproduction, rows)),
        items_heading="Rows without figures of ours",
    )


def _list_reasons(reproduction: Reproduction, rows: Sequence[ReproducedRow]) -> Iterator[str]:
    """Yield the reasons of rows without figures, each once with the names of its rows."""
    missing: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        for own in row.own:
            if own.state != FINISHED:
                missing.setdefault((own.state, own.reason), []).append((row.system, own.variant))
    for (state, reason), pairs in missing.items():
        systems, variants = (dict.fromkeys(names) for names in zip(*pairs, strict=True))
        is_every = list(variants) == list(reproduction.variants)
        mark = "" if is_every else f", {', '.join(variants)}"
        yield f"{', '.join(systems)}{mark} ({state}): {reason}"


def build_score_table(
    reproduction: Reproduction, name: str, rows: Sequence[ReproducedRow], *, intervals: bool = True
) -> Table:
    """Build a table of the paper with our figures below each printed row.

    Args:
        reproduction: the reproduction.
        name: of the table.
        rows: of the table.
        intervals: whether our figures have their intervals, for which a terminal has no room.
    """
    keys = _list_keys(rows)
    subsets = list(dict.fromkeys(subset for _, _, subset in keys))
    corpora = "; ".join(dict.fromkeys(row.corpus for row in rows if row.recipe))
    return Table(
        title=f"{name}: printed and own figures, %",
        note=" ".join(_describe_columns(rows, subsets, corpora, intervals=intervals)),
        columns=(
            *text_columns("system", "figures"),
            *(_build_column(key, several_subsets=len(subsets) > 1) for key in keys),
        ),
        rows=tuple(
            line
            for row in rows
            for line in _row_lines(reproduction, row, keys, intervals=intervals)
        ),
    )


def _describe_columns(
    rows: Sequence[ReproducedRow], subsets: Sequence[str], corpora: str, *, intervals: bool
) -> Iterator[str]:
    if corpora:
        yield f"Printed for {corpora}."
    own = [result for row in rows for result in row.own if result.state == FINISHED]
    if any(len(result.seeds) > 1 for result in own):
        yield "Ours: mean ± standard deviation over seeds."
    elif own and intervals:
        yield "In brackets: 95 % intervals, of one training seed."
    if DEVELOPMENT in subsets:
        yield (
            "Development figures (dev) are of the subset on which settings or epochs were "
            "selected; ours are means over the folds' validation subsets."
        )
    if any(row.significant for row in rows):
        yield "A star is the paper's mark of a significant improvement."


def _list_keys(rows: Sequence[ReproducedRow]) -> list[ScoreKey]:
    """List the printed tasks, metrics and subsets, development before test."""
    found = dict.fromkeys(
        (task, metric, subset)
        for row in rows
        for subset, tasks in row.printed.items()
        for task, scores in tasks.items()
        for metric in scores
    )
    tasks = list(dict.fromkeys(task for task, _, _ in found))
    metrics = list(METRIC_TITLES)
    return sorted(
        found, key=lambda key: (tasks.index(key[0]), metrics.index(key[1]), key[2] == TEST)
    )


def _build_column(key: ScoreKey, *, several_subsets: bool) -> Column:
    task, metric, subset = key
    title = METRIC_TITLES[metric]
    if several_subsets:
        name = SUBSET_TITLES.get(subset, subset)
        return Column(name=name, group=f"{task} {title}", undefined_reason=NO_FIGURE)
    return Column(name=title, group=task, undefined_reason=NO_FIGURE)


def _row_lines(
    reproduction: Reproduction,
    row: ReproducedRow,
    keys: Sequence[ScoreKey],
    *,
    intervals: bool,
) -> Iterator[Row]:
    """Yield the printed row, then ours."""
    yield make_row(
        row.system,
        "printed" if row.recipe else "printed, cited",
        *(_format_printed(row, key) for key in keys),
        kind="" if row.recipe else "baseline",
    )
    for own in row.own:
        variant = f", {own.variant}" if len(reproduction.variants) > 1 else ""
        if own.state != FINISHED:
            yield make_row(row.system, f"ours{variant}: {own.state}", *(UNDEFINED for _ in keys))
            continue
        for name, meaning in own.selections.items() or [(own.headline, "")]:
            is_optimistic = OPTIMISTIC in meaning
            if name != own.headline and not is_optimistic:
                continue
            mark = f" ({name}{', optimistic' * is_optimistic})"
            yield make_row(
                row.system,
                f"ours{variant}{mark}",
                *(_format_own(own, name, key, intervals=intervals) for key in keys),
                kind="headline" if name == own.headline else "optimistic",
            )


def _format_printed(row: ReproducedRow, key: ScoreKey) -> str:
    task, metric, subset = key
    score = row.printed.get(subset, {}).get(task, {}).get(metric)
    star = "*" if score is not None and task in row.significant.get(subset, []) else ""
    return f"{format_printed(score)}{star}"


def _format_own(own: OwnResult, selection: str, key: ScoreKey, *, intervals: bool) -> str:
    task, metric, subset = key
    if subset == DEVELOPMENT and selection != own.headline:
        return ""
    score = own.scores.get(selection, {}).get(subset, {}).get(task, {}).get(metric)
    if score is None:
        return UNDEFINED
    return format_own_score(score if intervals else replace(score, interval=None))


def format_own_score(score: OwnScore) -> str:
    """Format a figure of ours in percent, with its interval or deviation.

    >>> format_own_score(OwnScore(value=0.591, interval=(0.55, 0.623)))
    '59.1 [55.0, 62.3]'
    >>> format_own_score(OwnScore(value=0.591, deviation=0.012))
    '59.1 ± 1.2'
    """
    value = summary.format_percent(score.value)
    if score.deviation is not None:
        return f"{value} ± {summary.format_percent(score.deviation)}"
    return f"{value} {summary.format_interval(score.interval)}".strip()


def build_matrix_tables(reproduction: Reproduction) -> list[Table]:
    """Build each printed confusion matrix, followed by ours of the same system."""
    tables = []
    for matrix in reproduction.matrices:
        name = f"{matrix.table}, {matrix.system}"
        tables.append(
            build_matrix_table(f"{name}: printed", matrix.classes, matrix.entries, matrix.note)
        )
        for variant, own in matrix.own.items():
            mark = f", {variant}" if len(reproduction.variants) > 1 else ""
            ordered = reorder_matrix(own.classes, own.counts, matrix.classes)
            tables.append(build_matrix_table(f"{name}: ours{mark}", *ordered))
    return tables


def _claim_tables(reproduction: Reproduction) -> tuple[Table, ...]:
    claims = reproduction.claims
    if not claims:
        return ()
    units = "; ".join(dict.fromkeys(claim.unit for claim in claims if claim.unit))
    methods = "; ".join(dict.fromkeys(claim.method for claim in claims if claim.method))
    has_variants = len(reproduction.variants) > 1
    tested = (
        f"p of the paired permutation test{f', which swaps {units}' if units else ''}; in brackets "
        "after Holm's correction over all statements. "
    )
    return (
        Table(
            title="Statements of the paper, and our test of each",
            note=f"{tested}{CLAIM_NOTE} Intervals: {methods or 'none was computed'}.",
            columns=(
                *text_columns("statement", "verdict"),
                *(text_columns("variant") if has_variants else ()),
                *text_columns("measure"),
                *(
                    Column(name=place, group=whose, undefined_reason=NO_FIGURE)
                    for whose in ("printed, %", "ours, %")
                    for place in ("first", "second")
                ),
                Column(name="difference", undefined_reason=NO_FIGURE),
                Column(name="p", undefined_reason="this test was not done"),
                *text_columns("why"),
            ),
            rows=tuple(_claim_rows(claims, has_variants=has_variants)),
        ),
    )


def _claim_rows(claims: Sequence[JudgedClaim], *, has_variants: bool) -> Iterator[Row]:
    """Yield a row for each measure of a statement, whose text is in the first of them."""
    previous = None
    for claim in claims:
        text = f"{claim.text} (section {claim.section}: {claim.first} against {claim.second})"
        same = previous == (claim.variant, text)
        previous = claim.variant, text
        yield _claim_row(claim, SAME_STATEMENT if same else text, has_variants=has_variants)


def _claim_row(claim: JudgedClaim, text: str, *, has_variants: bool) -> Row:
    return make_row(
        text,
        claim.verdict,
        *[claim.variant] * has_variants,
        _format_measure(claim.measure),
        *map(format_printed, claim.printed),
        *map(summary.format_percent, claim.own),
        _format_difference(claim),
        _format_p(claim),
        claim.reason,
        kind=VERDICT_KINDS[claim.verdict],
    )


def _format_measure(measure: str) -> str:
    """Format what a statement compares.

    >>> _format_measure("emotion.ua"), _format_measure("emotion.recall.anger")
    ('emotion UA', 'emotion recall of anger')
    """
    task, _, name = measure.partition(".")
    metric, _, label = name.partition(".")
    return f"{task} {METRIC_TITLES.get(metric, metric)}{f' of {label}' if label else ''}"


def _format_difference(claim: JudgedClaim) -> str:
    if claim.difference is None:
        return UNDEFINED
    interval = summary.format_interval(claim.interval)
    return f"{100 * claim.difference + 0.0:+.1f} {interval}".strip()


def _format_p(claim: JudgedClaim) -> str:
    p = summary.format_p_value(claim.p)
    return p if claim.adjusted is None else f"{p} ({summary.format_p_value(claim.adjusted)})"


def _change_tables(reproduction: Reproduction) -> tuple[Table, ...]:
    """Build the table of settings that differ from the paper's recipes, equal ones together."""
    changes: dict[tuple[str, str, str], list[str]] = {}
    for row in reproduction.rows:
        for own in row.own:
            for change in own.changed:
                changes.setdefault(change, []).append(_name_run(own))
    if not changes:
        return ()
    finished = [own for row in reproduction.rows for own in row.own if own.state == FINISHED]
    everything = dict.fromkeys(map(_name_run, finished))
    is_several = len(everything) > 1
    return (
        Table(
            title="Settings that differ from the recipes of the paper",
            note="Variants, --set, twins of the recipes for other corpora, and the files of speech "
            "recognisers.",
            columns=text_columns("setting", "the paper's recipe", "here", "of"),
            rows=tuple(
                make_row(
                    *change,
                    "all recipes"
                    if is_several and set(names) == set(everything)
                    else ", ".join(dict.fromkeys(names)),
                )
                for change, names in changes.items()
            ),
        ),
    )


def _name_run(own: OwnResult) -> str:
    return own.recipe if own.variant == PAPER_VARIANT else f"{own.recipe} ({own.variant})"


def _list_choices(reproduction: Reproduction) -> Iterator[str]:
    for name, description in reproduction.variants.items():
        if name != PAPER_VARIANT:
            yield f"Variant {name}: {description}."
    names: dict[str, list[str]] = {}
    for recipe, paragraphs in reproduction.choices.items():
        for paragraph in paragraphs:
            names.setdefault(paragraph, []).append(recipe)
    for paragraph, recipes in names.items():
        yield f"{', '.join(recipes)}: {paragraph}"


def _run_table(reproduction: Reproduction) -> Table:
    return Table(
        title="Runs",
        note="Utterances: printed by the paper, and tested here.",
        columns=(
            *text_columns("row", "recipe", "state", "corpus", "split", "selection"),
            *(
                Column(name=name, group="utterances", undefined_reason=NOT_REPORTED)
                for name in ("printed", "here")
            ),
            *text_columns("seeds", "run folders"),
        ),
        rows=tuple(
            _run_row(row, own) for row in reproduction.rows for own in row.own if row.recipe
        ),
    )


def _run_row(row: ReproducedRow, own: OwnResult) -> Row:
    printed = row.utterances.get(TEST)
    folds = f", {own.folds} folds" if own.folds > 1 else ""
    meaning = own.selections.get(own.headline, "")
    return make_row(
        f"{row.table}, {row.system}",
        _name_run(own),
        own.state,
        own.corpus,
        f"{own.protocol}{folds}",
        f"{own.headline}: {meaning}" if meaning else own.headline,
        UNDEFINED if printed is None else str(printed),
        str(own.utterances) if own.utterances else UNDEFINED,
        ", ".join(map(str, own.seeds)),
        ", ".join(own.runs),
    )


def render_terminal(reproduction: Reproduction) -> RenderableType:
    """Render tables and statements for a `rich` console."""
    caution = describe_caution(reproduction)
    parts: list[RenderableType] = [
        terminal.make_line(format_title(reproduction), "bold"),
        terminal.make_line(describe_reproduction(reproduction)),
        *([terminal.make_line(f"CAUTION: {caution}", "bold red")] if caution else []),
        *(terminal.make_line(f"Warning: {w}", "yellow") for w in reproduction.warnings),
    ]
    for name in reproduction.tables:
        section = _table_section(reproduction, name, intervals=False)
        tables = [part for whole in section.tables for part in split_columns(whole)]
        parts += [part for table in tables for part in (Text(), terminal.draw_table(table))]
        parts += [terminal.make_line(item, "yellow") for item in section.items]
    parts += [Text(), *map(terminal.make_line, _describe_claims(reproduction))]
    return Group(*parts, terminal.make_line(describe_verdicts(reproduction), "bold"))


def _describe_claims(reproduction: Reproduction) -> Iterator[str]:
    """Yield each statement with its verdicts and the measures of each."""
    verdicts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for claim in reproduction.claims:
        mark = f"{claim.variant}: " if len(reproduction.variants) > 1 else ""
        by_verdict = verdicts.setdefault((mark, claim.text), {})
        by_verdict.setdefault(claim.verdict, []).append(_format_measure(claim.measure))
    for (mark, text), by_verdict in verdicts.items():
        parts = [f"{verdict}: {', '.join(names)}" for verdict, names in by_verdict.items()]
        yield f"{mark}{text} {'; '.join(parts)}."


def render_markdown(reproduction: Reproduction) -> str:
    """Render the reproduction as Markdown; ends with a newline."""
    return markdown.render_markdown_sections(
        format_title(reproduction), [_head_section(reproduction), *build_sections(reproduction)]
    )


def _head_section(reproduction: Reproduction) -> Section:
    caution = describe_caution(reproduction)
    lines = (
        describe_reproduction(reproduction),
        f"CAUTION: {caution}" if caution else "",
        describe_verdicts(reproduction),
    )
    return Section(title="", paragraphs=tuple(filter(None, lines)))


def render_latex(reproduction: Reproduction) -> str:
    """Render tables and lists as LaTeX; every caption has the caution."""
    return latex.render_latex_sections(
        format_title(reproduction), build_sections(reproduction), describe_caution(reproduction)
    )


def render_html(reproduction: Reproduction) -> str:
    """Render the reproduction as a page that opens offline."""
    sections = build_sections(reproduction)
    return html.render_template(
        "reproduction.html",
        title=format_title(reproduction),
        caution=describe_caution(reproduction),
        description=describe_reproduction(reproduction),
        verdicts=describe_verdicts(reproduction),
        warnings_of_runs=reproduction.warnings,
        sections=[section for section in sections if section.title != "Warnings"],
        layouts=LAYOUTS,
        created=reproduction.created,
        source="reproduction.json",
    )


def write_reproduction(reproduction: Reproduction, path: Path) -> tuple[Path, ...]:
    """Write the page, the Markdown and the LaTeX to a folder; return their paths.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    pages = (render_html(reproduction), render_markdown(reproduction), render_latex(reproduction))
    return write_texts(path, dict(zip(FILE_NAMES, pages, strict=True)))
