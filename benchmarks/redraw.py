"""Write the reports of results/ again from their data files: `python -m benchmarks.redraw`.

Reports of runs, searches and sweeps are those of `serein report`, comparisons those of
`serein compare`. Scores and intervals are computed from the predictions; a sweep has none, so that
its intervals stay as they are.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from serein.evaluation.compare import compare
from serein.report.comparison import render_markdown as render_comparison
from serein.report.markdown import render_markdown
from serein.report.search import render_search_markdown
from serein.report.sweep import render_sweep_markdown
from serein.results import io
from serein.results.studies import Search, Sweep
from serein.utils.files import write_text

RESULTS = Path(__file__).parents[1] / "results"
DATA_SUFFIX = ".json.gz"


def main() -> None:
    """Write all reports, and print their paths."""
    for path in write_reports(RESULTS):
        print(path.relative_to(RESULTS.parent), flush=True)


def write_reports(folder: Path) -> Iterator[Path]:
    """Write the reports of a folder of published results, and yield their paths."""
    files: dict[tuple[str, bool], Path] = {}
    for file in sorted(folder.glob(f"*/*{DATA_SUFFIX}")):
        results = io.load_results(file)
        name = results.repeats[0].run if results.repeats else results.name
        files[name, bool(results.repeats)] = file
        report = file.with_name(file.name.replace(DATA_SUFFIX, ".md"))
        if report.is_file():
            yield _write(report, render_markdown(results))
    for file in sorted(folder.glob("*/sweep-*.json")):
        yield _write(file.with_suffix(".md"), render_sweep_markdown(io.load_record(Sweep, file)))
    for file in sorted(folder.glob("*/search*.json")):
        yield _write(file.with_suffix(".md"), render_search_markdown(io.load_record(Search, file)))
    for report in sorted(folder.glob("*/comparison-*.md")):
        yield _write(report, _compare_again(report, files))


def _compare_again(report: Path, files: dict[tuple[str, bool], Path]) -> str:
    """Compare the runs of a report again; its command stays the one that was typed.

    Args:
        report: the earlier report, whose first table has seeds and name of each run.
        files: by name of the (first) run, and whether it has several seeds.
    """
    text = report.read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| ([\d, ]+) \| ([^|]*-[0-9a-f]{8}) \|$", text, flags=re.MULTILINE)
    if not rows:
        raise ValueError(f"{report} has no table of runs")
    command = text.rstrip().removesuffix("```").rpartition("```")[2].strip()
    comparison = compare([files[run, "," in seeds] for seeds, run in rows])
    return render_comparison(replace(comparison, command=command))


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


if __name__ == "__main__":
    main()
