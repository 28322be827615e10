r"""Reports as LaTeX tables for ``\input`` in a paper; needs the package booktabs."""

from collections.abc import Iterable, Iterator

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
    # At the start of a row, these would be arguments of the preceding \\.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
WRAPPED_LENGTH = 40
"""A column with a longer cell has line breaks."""
WIDE_LENGTH = 60
"""A column with a longer cell takes half of the line."""


def render_latex(results: Results) -> str:
    """Render every table of a report as a float with a caption; ends with a newline."""
    title = f"{summary.format_title(results)}: {summary.describe_protocol(results)}"
    caution = summary.get_caution(results)
    return render_latex_sections(title, document.build_sections(results), caution)


def render_latex_sections(title: str, sections: Iterable[Section], caution: str = "") -> str:
    """Render tables and lists below a comment.

    Every caption has the caution, since tables are used alone.
    """
    blocks = [f"% {' '.join(title.split())}\n% \\usepackage{{booktabs}}"]
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
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join(filter(None, sentences)))}}}",
        rf"\begin{{tabular}}{{{_latex_column_spec(table)}}}",
        r"\toprule",
        *_latex_heads(table),
        r"\midrule",
        *(_latex_line(map(escape_latex, row.cells)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_column_spec(table: Table) -> str:
    cells = zip(*(row.cells for row in table.rows), strict=True) if table.rows else []
    longest = [max(map(len, column)) for column in cells] or [0] * len(table.columns)
    return "".join(map(_latex_column, table.columns, longest))


def _latex_column(column: Column, longest: int) -> str:
    if longest > WRAPPED_LENGTH:
        return rf"p{{{0.5 if longest > WIDE_LENGTH else 0.35}\linewidth}}"
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
