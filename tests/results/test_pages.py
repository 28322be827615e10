"""The tables of runs in ``results/*.md`` quote the scores and the commands of their data files."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "results"
ROW = re.compile(
    r"^\| \[[^\]]+\]\((?P<report>[^)]+)\)[^|]*"
    r"\| \[(?:data|\d seeds)\]\((?P<data>[^)]+\.json\.gz)\)[^|]*\| (?P<score>[^|]*) \|"
)


def list_rows() -> Iterator[tuple[str, str, str]]:
    """Yield the report, the data file and the quoted score of every row of the pages."""
    for page in sorted(RESULTS.glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := ROW.match(line):
                yield match["report"], match["data"], match["score"].strip()


ROWS = list(list_rows())
ABSOLUTE = re.compile(r"(?<![\w.~])/(?:home|mnt|root|tmp|Users|var|work)/")
"""Beginning of a path of one machine."""


def quote_scores(table: dict[str, Any]) -> str:
    """Return the scores of a results file as the pages quote them, in percent."""
    selection = table["headline"]
    by_task = table["scores"].get(selection, {})
    tasks = [task for task, names in table["classes"].items() if names and task in by_task]
    if {"arousal", "valence", "dominance"} <= set(tasks):
        values = [by_task[task]["ua"] for task in ("arousal", "valence", "dominance")]
        return "UA " + " / ".join(f"{100 * value:.1f}" for value in values)
    runs = [run["scores"][selection] for run in table.get("repeats", [])] or [by_task]
    wa, ua = (100 * fmean(run[tasks[0]][name] for run in runs) for name in ("wa", "ua"))
    return f"WA {wa:.1f}, UA {ua:.1f}"


def test_the_pages_name_every_data_file_with_predictions() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in RESULTS.glob("*.md"))
    named = {*re.findall(r"\(([^)]+\.json\.gz)\)", pages)}
    committed = {path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*.json.gz")}
    assert len(ROWS) > 60
    assert named == committed


@pytest.mark.parametrize(("report", "data", "score"), ROWS, ids=[data for _, data, _ in ROWS])
def test_a_row_quotes_the_score_of_its_data_file(report: str, data: str, score: str) -> None:
    assert (RESULTS / report).is_file()
    table = json.loads(gzip.decompress((RESULTS / data).read_bytes()))
    assert quote_scores(table) == score


def test_no_result_has_a_path_of_one_machine() -> None:
    texts = {
        path: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in RESULTS.rglob("*")
        if path.suffix in {".gz", ".json", ".md"}
    }
    assert len(texts) > 150
    assert [path.name for path, text in texts.items() if ABSOLUTE.search(text.decode())] == []
