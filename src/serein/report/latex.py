r"""A report's tables as LaTeX, to be ``\input`` into a paper; needs the package booktabs."""

from collections.abc import Iterable, Iterator, Sequence

from serein.report import document, summary
from serein.report.paper import Published
from serein.report.table import Column, Table
from serein.results import Results

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row, these would be arguments of the \\ before it.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
LONG = 40
"""A column with a longer cell is broken into lines."""
HALF = 60
"""Characters that fill about half a line."""


def render(results: Results, published: Sequence[Published] = ()) -> str:
    """Every table of the report, each a float with a caption; ends with a newline."""
    found = [one for part in document.sections(results, published) for one in part.tables]
    caution = summary.caution(results)
    return write(f"{summary.title(results)}: {summary.protocol(results)}", found, caution)


def write(title: str, tables: Iterable[Table], caution: str = "") -> str:
    """Tables below a comment; a caution stands in every caption, as tables travel alone."""
    head = f"% {' '.join(title.split())}\n% \\usepackage{{booktabs}}"
    return "\n\n".join([head, *(table(one, caution) for one in tables)]) + "\n"


def table(shown: Table, caution: str = "") -> str:
    """One table as a float."""
    words = [f"{shown.title}.", shown.note, f"CAUTION: {caution}" if caution else ""]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(' '.join(word for word in words if word))}}}",
        rf"\begin{{tabular}}{{{_columns(shown)}}}",
        r"\toprule",
        *_heads(shown),
        r"\midrule",
        *(_line(map(escape, row.cells)) for row in shown.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _columns(shown: Table) -> str:
    cells = zip(*(row.cells for row in shown.rows), strict=True) if shown.rows else []
    longest = [max(map(len, column)) for column in cells] or [0] * len(shown.columns)
    return "".join(map(_column, shown.columns, longest))


def _column(column: Column, longest: int) -> str:
    if longest > LONG:
        return rf"p{{{0.5 if longest > HALF else 0.35}\linewidth}}"
    return "l" if column.words else "r"


def _heads(shown: Table) -> Iterator[str]:
    if any(column.group for column in shown.columns):
        spans = [
            rf"\multicolumn{{{len(columns)}}}{{c}}{{{escape(group)}}}" if group else ""
            for group, columns in shown.groups
        ]
        yield _line(spans)
        yield "".join(_rules(shown))
    yield _line(escape(column.name) for column in shown.columns)


def _rules(shown: Table) -> Iterator[str]:
    place = 1
    for group, columns in shown.groups:
        if group:
            yield rf"\cmidrule(lr){{{place}-{place + len(columns) - 1}}}"
        place += len(columns)


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def escape(words: str) -> str:
    r"""Words that LaTeX sets as they are.

    >>> print(escape("a_b&c% [x]"))
    a\_b\&c\% {[}x{]}
    """
    return "".join(SPECIAL.get(character, character) for character in " ".join(words.split()))
