"""Reports of results: in the terminal, as an HTML page, as Markdown and as LaTeX.

A report depends on nothing but `serein.results.evaluation.Results`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serein.results.evaluation import Results


def write_report(results: "Results", path: Path) -> tuple[Path, ...]:
    """Write the HTML page, the Markdown and the LaTeX report to a run folder; return their paths.

    Args:
        results: of the run.
        path: the folder.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    from serein.report import html, latex, markdown
    from serein.utils.files import write_texts

    renderers = {
        ".html": html.render_html,
        ".md": markdown.render_markdown,
        ".tex": latex.render_latex,
    }
    name = Path(html.REPORT_NAME)
    pages = {str(name.with_suffix(suffix)): render(results) for suffix, render in renderers.items()}
    return write_texts(path, pages)
