"""Results on disk, and their report in the terminal."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.example_results import example_results
from builders.report_reader import render_text, with_undefined_scores
from rich.console import Console

from serein.errors import ConfigError
from serein.report import terminal
from serein.results import io as store
from serein.results.evaluation import Epoch, Results


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results()


def test_round_trip(results: Results, tmp_path: Path) -> None:
    store.save_record(results, tmp_path / "run")
    assert store.load_results(tmp_path / "run") == results
    assert store.load_results(tmp_path / "run" / "results.json") == results
    store.save_record(with_undefined_scores(results), tmp_path / "other.json")
    other = store.load_record(Results, tmp_path / "other.json")
    assert other == with_undefined_scores(results)


def test_stored_numbers_have_all_digits_and_no_nan(results: Results, tmp_path: Path) -> None:
    epoch = Epoch(epoch=1, loss=float("nan"), seconds=1 / 3, scores={"test": {"emotion": {}}})
    diverged = replace(results, folds=[replace(results.folds[0], history=[epoch])])
    store.save_record(diverged, tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["folds"][0]["history"][0]["seconds"] == 1 / 3
    again = store.load_record(Results, tmp_path).folds[0].history[0]
    assert np.isnan(again.loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 5}, "has format 5; this serein reads 1 to 4; upgrade serein"),
        ({"format": "1"}, "has format '1'; this serein reads 1 to 4"),
        ({"seconds": "long"}, "holds no results: seconds: Input should be a valid number"),
        ({"scores": None, "folds": "none"}, "holds no results: .*more"),
    ],
)
def test_invalid_results_are_an_error(
    results: Results, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**store.to_builtin(results), **change}))
    with pytest.raises(ConfigError, match=message) as refusal:
        store.load_results(tmp_path)
    assert "\n" not in str(refusal.value)


def test_compressed_results_are_equal(results: Results, tmp_path: Path) -> None:
    store.save_record(results, tmp_path / "a.json")
    store.save_record(results, tmp_path / "a.json.gz")
    plain, packed = (tmp_path / name for name in ("a.json", "a.json.gz"))
    assert packed.stat().st_size < plain.stat().st_size / 2
    assert store.to_builtin(store.load_results(packed)) == store.to_builtin(
        store.load_results(plain)
    )
    first = packed.read_bytes()
    store.save_record(results, packed)
    assert packed.read_bytes() == first
    for broken in (first[:-20], b"{}", first[:30] + b"x" + first[31:]):
        packed.write_bytes(broken)
        with pytest.raises(ConfigError, match="is not JSON"):
            store.load_results(packed)


def test_unreadable_results_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*give a run folder"):
        store.load_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        store.load_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ConfigError, match="has format None"):
        store.load_results(tmp_path)


@pytest.mark.parametrize("width", [80, 100])
def test_terminal_report_contains_the_scores(results: Results, width: int) -> None:
    words = render_text(results, width)
    lines = words.splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in words
    assert lines[0] == "li2019-emodb on emodb"
    assert lines[1].startswith("leave-one-speaker-out, 10 folds, 535 utterances tested")
    scores = results.scores["validation"]["emotion"]
    assert scores.wa_interval is not None
    low, high = scores.wa_interval
    quoted = f"emotion: WA {100 * (scores.wa or 0):.1f} % [{100 * low:.1f}, {100 * high:.1f}], UA "
    assert quoted in words
    assert "Quoted: validation (the epoch with the best UA" in words
    assert "optimistic: selected on the test subset" in " ".join(words.split())
    assert "Warning: 3 utterances are shorter than 1 s" in words
    for row in ("validation (quoted)", "last", "best (optimistic)", "majority", "chance"):
        assert any(line.startswith(row) for line in lines), row


def test_terminal_report_has_no_markup_and_no_escape_codes(results: Results) -> None:
    rude = replace(results, corpus={"name": "[red]\x1b[2Jx"}, warnings=["[/bold] \x07"])
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=80, color_system=None).print(
        terminal.render_terminal(rude)
    )
    assert "[red]?[2Jx" in file.getvalue()
    assert "[/bold] ?" in file.getvalue()


def test_report_imports_no_heavy_packages() -> None:
    code = (
        "import sys, serein.report.html, serein.report.terminal, serein.results.io;"
        "heavy = {'torch', 'typer', 'plotly', 'jinja2', 'pydantic', 'pandas'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
