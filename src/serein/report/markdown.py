"""A report as Markdown, for a README, an issue or a pull request."""

import re
from collections.abc import Iterable

from serein.report import document, summary
from serein.report.document import Section
from serein.report.table import Table
from serein.results import Results


def render(results: Results) -> str:
    """The report: headings, sentences and tables; ends with a newline."""
    protocol = Section(title="", words=(summary.protocol(results),))
    sections = [protocol, *document.sections(results)]
    return write(summary.title(results), sections)


def write(title: str, sections: Iterable[Section]) -> str:
    """A title and sections as Markdown."""
    blocks = [f"# {escape(title)}"]
    for section in sections:
        blocks += [f"## {escape(section.title)}"] * bool(section.title)
        blocks += map(escape, section.words)
        blocks += [_code(section.code)] * bool(section.code)
        blocks += map(table, section.tables)
    return "\n\n".join(blocks) + "\n"


def table(shown: Table) -> str:
    """One table, its title bold above it and its note below it."""
    heads = _line(escape(column.heading) for column in shown.columns)
    rule = _line(":---" if column.words else "---:" for column in shown.columns)
    lines = [_line(map(escape, row.cells)) for row in shown.rows]
    parts = [f"**{escape(shown.title)}**", "\n".join([heads, rule, *lines])]
    return "\n\n".join([*parts, escape(shown.note)] if shown.note else parts)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    # The fence is longer than any run of backticks inside.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def escape(words: str) -> str:
    r"""Words that Markdown shows as they are, also in a cell.

    >>> print(escape("a_b|c <i> [78.0, 85.0] [x](y)"))
    a\_b\|c &lt;i&gt; [78.0, 85.0] \[x]\(y)
    """
    words = " ".join(words.split())
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = re.sub(r"([\\`*_|~#$])", r"\\\1", words)
    return re.sub(r"\[(?!-?\d)", r"\\[", words).replace("](", r"]\(")
