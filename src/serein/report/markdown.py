"""Reports as Markdown, for a README, an issue or a pull request."""

import re
from collections.abc import Iterable

from serein.report import document, summary
from serein.report.document import Section
from serein.report.table import Table
from serein.results.evaluation import Results


def render_markdown(results: Results) -> str:
    """Render a report as headings, sentences and tables; ends with a newline."""
    protocol = Section(title="", paragraphs=(summary.describe_protocol(results),))
    sections = [protocol, *document.build_sections(results)]
    return render_markdown_sections(summary.format_title(results), sections)


def render_markdown_sections(title: str, sections: Iterable[Section]) -> str:
    """Render a title and sections."""
    blocks = [f"# {escape_markdown(title)}"]
    for section in sections:
        blocks += [f"## {escape_markdown(section.title)}"] * bool(section.title)
        blocks += map(escape_markdown, section.paragraphs)
        blocks += [_markdown_code(section.code)] * bool(section.code)
        blocks += map(render_markdown_table, section.tables)
        blocks += _markdown_list(section)
    return "\n\n".join(blocks) + "\n"


def _markdown_list(section: Section) -> list[str]:
    if not section.items:
        return []
    heading = [f"**{escape_markdown(section.items_heading)}**"] * bool(section.items_heading)
    return [*heading, "\n".join(f"- {escape_markdown(item)}" for item in section.items)]


def render_markdown_table(table: Table) -> str:
    """Render a table with its title above and its note below."""
    heads = _markdown_line(escape_markdown(column.heading) for column in table.columns)
    rule = _markdown_line(":---" if column.is_text else "---:" for column in table.columns)
    lines = [_markdown_line(map(escape_markdown, row.cells)) for row in table.rows]
    parts = [f"**{escape_markdown(table.title)}**", "\n".join([heads, rule, *lines])]
    return "\n\n".join([*parts, escape_markdown(table.note)] if table.note else parts)


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_code(text: str) -> str:
    # The fence must be longer than any run of backticks in the code.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def escape_markdown(text: str) -> str:
    r"""Escape text for a paragraph or a table cell.

    >>> print(escape_markdown("a_b|c <i> [78.0, 85.0] [x](y)"))
    a\_b\|c &lt;i&gt; [78.0, 85.0] \[x]\(y)
    """
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_|~#$])", r"\\\1", text)
    return re.sub(r"\[(?!-?\d)", r"\\[", text).replace("](", r"]\(")
