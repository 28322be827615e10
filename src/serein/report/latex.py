r"""Reports as LaTeX tables for ``\input`` in a paper; the first lines name the needed packages."""

from collections.abc import Iterable, Iterator, Sequence

from serein.report import document, summary
from serein.report.document import Section
from serein.report.table import Column, Table
from serein.results.evaluation import Results

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2033": r"''",
    # At the start of a row, these would be arguments of the preceding \\.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
WRAPPED_LENGTH = 40
"""A column with a longer cell has line breaks."""
WIDE_LENGTH = 60
"""A column with a longer cell takes half of the line."""
WRAPPED_SHARE = 0.6
"""Share of the line that all columns with line breaks take at most."""
LINE_LENGTH = 90
"""A table with more characters in a line is shrunk to the width of the text."""


def render_latex(results: Results) -> str:
    """Render every table of a report as a float with a caption; ends with a newline."""
    title = f"{summary.format_title(results)}: {summary.describe_protocol(results)}"
    caution = summary.get_caution(results)
    return render_latex_sections(title, document.build_sections(results), caution)


def render_latex_sections(title: str, sections: Iterable[Section], caution: str = "") -> str:
    """Render tables and lists below a comment.

    Every caption has the caution, since tables are used alone.
    """
    sections = list(sections)
    is_wide = any(_is_wide(table) for section in sections for table in section.tables)
    packages = ["booktabs", *["adjustbox"] * is_wide]
    blocks = [f"% {' '.join(title.split())}\n% \\usepackage{{{','.join(packages)}}}"]
    for section in sections:
        blocks += [render_latex_table(table, caution) for table in section.tables]
        blocks += [_latex_list(section)] * bool(section.items)
    return "\n\n".join(blocks) + "\n"


def _latex_list(section: Section) -> str:
    lines = [
        rf"\paragraph{{{escape_latex(section.items_heading or section.title)}}}",
        r"\begin{itemize}",
        *(rf"\item {escape_latex(item)}" for item in section.items),
        r"\end{itemize}",
    ]
    return "\n".join(lines)


def render_latex_table(table: Table, caution: str = "") -> str:
    """Render a table as a float."""
    sentences = [f"{table.title}.", table.note, f"CAUTION: {caution}" if caution else ""]
    is_wide = _is_wide(table)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join(filter(None, sentences)))}}}",
        *[r"\begin{adjustbox}{max width=\linewidth}"] * is_wide,
        rf"\begin{{tabular}}{{{_latex_column_spec(table)}}}",
        r"\toprule",
        *_latex_heads(table),
        r"\midrule",
        *(_latex_line(map(escape_latex, row.cells)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *[r"\end{adjustbox}"] * is_wide,
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_column_spec(table: Table) -> str:
    shares = _list_shares(_measure_columns(table))
    return "".join(map(_latex_column, table.columns, shares))


def _measure_columns(table: Table) -> list[int]:
    """Return the number of characters of the longest cell of each column."""
    cells = zip(*(row.cells for row in table.rows), strict=True) if table.rows else []
    return [max(map(len, column)) for column in cells] or [0] * len(table.columns)


def _list_shares(longest: Sequence[int]) -> list[float]:
    """Return the share of the line that each column with line breaks takes; 0 for others."""
    wanted = [
        0.5 if length > WIDE_LENGTH else 0.35 if length > WRAPPED_LENGTH else 0.0
        for length in longest
    ]
    scale = min(1.0, WRAPPED_SHARE / max(sum(wanted), WRAPPED_SHARE))
    return [round(scale * share, 2) for share in wanted]


def _is_wide(table: Table) -> bool:
    """Return whether a table probably does not fit in the width of the text."""
    longest = _measure_columns(table)
    names = [len(column.name) for column in table.columns]
    pairs = zip(longest, names, _list_shares(longest), strict=True)
    return sum(share * LINE_LENGTH or max(cell, name) + 2 for cell, name, share in pairs) > (
        LINE_LENGTH
    )


def _latex_column(column: Column, share: float) -> str:
    if share:
        return rf"p{{{share:g}\linewidth}}"
    return "l" if column.is_text else "r"


def _latex_heads(table: Table) -> Iterator[str]:
    if any(column.group for column in table.columns):
        spans = [
            rf"\multicolumn{{{len(columns)}}}{{c}}{{{escape_latex(group)}}}" if group else ""
            for group, columns in table.groups
        ]
        yield _latex_line(spans)
        yield "".join(_latex_rules(table))
    yield _latex_line(escape_latex(column.name) for column in table.columns)


def _latex_rules(table: Table) -> Iterator[str]:
    start = 1
    for group, columns in table.groups:
        if group:
            yield rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}"
        start += len(columns)


def _latex_line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def escape_latex(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> print(escape_latex("a_b&c% [x]"))
    a\_b\&c\% {[}x{]}
    """
    return "".join(LATEX_ESCAPES.get(character, character) for character in " ".join(text.split()))
