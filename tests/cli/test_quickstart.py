"""`serein quickstart`."""

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from serein import recipes
from serein.cli import quickstart
from serein.records import Recipe
from serein.synthetic import SyntheticConfig


def test_quickstart_runs_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SyntheticConfig(speakers=3, emotions=("anger", "sadness"), sentences=1, words=1)
    monkeypatch.setattr(quickstart, "SYNTHETIC_CONFIG", small)
    load = recipes.load

    def short(name: str, settings: tuple[str, ...] = ()) -> Recipe:
        return load(name, [*settings, "training.epochs=1", "model.filters=8", "model.hidden=8"])

    monkeypatch.setattr(recipes, "load", short)
    text = io.StringIO()
    console = Console(file=text, width=120)
    silent = lambda plan: nullcontext(lambda fold, epoch: None)  # noqa: E731
    for _ in range(2):  # the second run finds the files of the first
        quickstart.run_quickstart(tmp_path, console, 1, silent)
    said = text.getvalue()
    assert "6 recordings" in said
    assert (tmp_path / "quickstart.safetensors").is_file()
    reports = list(tmp_path.glob("*/report.html"))
    assert len(reports) == 1
    assert "What to try next" in said
    assert said.count("with serein-base") == 2
