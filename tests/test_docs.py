"""Every example of README and docs is run; where it trains, one epoch on a second of each file."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import soundfile

from serein import cli
from serein.synthetic import SyntheticConfig, generate, write_emodb

HOUSE = Path(__file__).parent.parent
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples take for granted."""
    folder = tmp_path_factory.mktemp("docs")
    write_emodb(folder / "EMO-DB", words=1)
    made = generate(folder, SyntheticConfig(speakers=4, emotions=("anger", "neutral"), sentences=1))
    (folder / "other.csv").write_text((folder / "labels.csv").read_text())
    (folder / "clips").mkdir()
    samples, rate = soundfile.read(made[0].path)
    for name in ("speech.wav", "call.mp3", "clips/001.wav"):
        soundfile.write(folder / name, samples, rate)
    return folder


def examples(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(
    page: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(place)
    if page.name == "ssl.md":
        pytest.importorskip("transformers", reason="needs transformers: pip install 'serein[ssl]'")
    for kind, text in examples(page):
        if kind == "python":
            script = tmp_path_factory.mktemp("example") / "example.py"
            script.write_text(text)
            runpy.run_path(str(script))
            continue
        for line in re.findall(r"^\$ serein (.*?)(?: #.*)?$", text, re.MULTILINE):
            assert status(shlex.split(line), monkeypatch) == 0, line


def status(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    if words[0] in ("evaluate", "train", "search", "sweep") and "--model" not in words:
        short = [] if "--init" in words else ["--set", "features.seconds=1.0"]
        words = [*words, "--set", "training.epochs=1", *short]
    monkeypatch.setattr(sys, "argv", ["serein", *words])
    monkeypatch.setattr("serein.cli.recognize.count_cores", lambda: 1)
    monkeypatch.setattr(cli.train, "count_cores", lambda: 1)
    monkeypatch.setattr("serein.cli.common.count_cores", lambda: 1)
    monkeypatch.setattr("serein.service.app.serve", lambda *_, **__: None)
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_links_lead_somewhere() -> None:
    others = [HOUSE / "CHANGELOG.md", HOUSE / "CONTRIBUTING.md"]
    for page in [*PAGES, *others, *sorted((HOUSE / "results").rglob("*.md"))]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^\$ make (\w[\w-]*)", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (HOUSE / "Makefile").read_text()
    assert targets == ["quickstart", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)
