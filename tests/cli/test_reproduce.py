"""`serein reproduce`, and the report of its folder."""

import sys
from pathlib import Path

import pytest

from serein import cli
from serein.synthetic import SyntheticConfig, generate


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run a command in this process; return the exit status."""
    monkeypatch.setattr(sys, "argv", ["serein", *words])
    try:
        cli.main()
    except SystemExit as exit_request:
        return int(exit_request.code or 0)
    return 0


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    generate(tmp_path / "speech", SyntheticConfig(speakers=3, sentences=1, words=1))
    return f"mine={tmp_path / 'speech' / 'labels.csv'}"


def test_partial_reproduction_and_its_report(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "report"
    split = ("--set", "protocol.name=leave-one-speaker-out")
    command = ("reproduce", "li2019", "--corpus", corpus, "--table", "2", "--partial", *split)
    assert run(monkeypatch, *command, "--runs", str(tmp_path), "-o", str(folder)) == 0
    shown = capsys.readouterr().out
    assert "Li, Zhao, Kawahara 2019: reproduction on mine in place of IEMOCAP" in shown
    assert "ours: unfinished" in shown
    names = [f"reproduction.{suffix}" for suffix in ("html", "json", "md", "tex")]
    assert sorted(file.name for file in folder.iterdir()) == names
    page = (folder / "reproduction.html").read_text()
    (folder / "reproduction.html").unlink()
    assert run(monkeypatch, "report", str(folder)) == 0
    assert "ours: unfinished" in capsys.readouterr().out
    assert (folder / "reproduction.html").read_text() == page


def test_failed_row_gives_status_1(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("reproduce", "li2019", "--corpus", corpus, "--table", "5.5", "--runs", str(tmp_path))
    assert run(monkeypatch, *command, "--set", "model.nonsense=1") == 1
    assert "Full model (failed): unknown setting of model" in capsys.readouterr().out
    assert (tmp_path / "reproduction-li2019" / "reproduction.md").is_file()
    assert run(monkeypatch, "reproduce", "li2020", "--corpus", corpus) == 2
    assert "unknown paper 'li2020'" in capsys.readouterr().err
