"""What a run found, for people: in the terminal, as one HTML page, as Markdown and LaTeX.

Everything is drawn from `serein.results.evaluation.Results` alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serein.results.evaluation import Results


def write_report(results: "Results", path: Path) -> tuple[Path, ...]:
    """Write the page, and the same as Markdown and as LaTeX, to a run folder; give their paths.

    Args:
        results: of the run.
        path: the folder.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    from serein.report import html, latex, markdown
    from serein.utils.files import write_text

    makers = {
        ".html": html.render_html,
        ".md": markdown.render_markdown,
        ".tex": latex.render_latex,
    }
    paths = [(path / html.REPORT_NAME).with_suffix(suffix) for suffix in makers]
    for file, make in zip(paths, makers.values(), strict=True):
        write_text(file, make(results))
    return tuple(paths)
