"""Run every example of the README and the docs; a training takes one epoch on 1 s of each file.

A block that cannot run here has a comment before it: ``<!-- not run: REASON -->``. The options of
its commands are checked by test_docs_site.py. A block that begins with ``# PATH``, such as
``# my_lab/task.py``, is a file, which is written and not run.
"""

import re
import runpy
import shlex
import sys
from glob import glob
from pathlib import Path

import pytest
import soundfile
from builders.corpus_layouts import write_emodb
from builders.docs_files import write_shown_files

from serein import cli
from serein.synthetic import SyntheticConfig, generate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = ROOT / "docs" / "learn"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ serein (.*?)(?: +# *(.*))?$", re.MULTILINE)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpora and recordings that the examples use."""
    folder = tmp_path_factory.mktemp("docs")
    write_emodb(folder / "EMO-DB", words=1)
    utterances = generate(
        folder, SyntheticConfig(speakers=4, emotions=("anger", "neutral"), sentences=1)
    )
    (folder / "other.csv").write_text((folder / "labels.csv").read_text())
    (folder / "clips").mkdir()
    samples, rate = soundfile.read(utterances[0].path)
    for name in ("speech.wav", "call.mp3", "clips/001.wav"):
        soundfile.write(folder / name, samples, rate)
    return folder


def read_examples(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(
    page: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if page.parent == TUTORIALS:  # they begin with nothing
        monkeypatch.chdir(tmp_path_factory.mktemp("learn"))
    else:
        monkeypatch.chdir(request.getfixturevalue("example_folder"))
    if page.name == "ssl.md":
        pytest.importorskip("transformers", reason="needs transformers: pip install 'serein[ssl]'")
    files = write_shown_files(page, Path.cwd())
    if files:
        monkeypatch.syspath_prepend(str(Path.cwd()))
    for kind, text in read_examples(page):
        if text in files:
            continue
        if kind == "python":
            script = tmp_path_factory.mktemp("example") / "example.py"
            script.write_text(text)
            runpy.run_path(str(script))
            continue
        for line, remark in COMMAND.findall(text):
            expected = int(remark.removeprefix("status ")) if remark.startswith("status ") else 0
            words = [one for word in shlex.split(line) for one in glob(word) or [word]]
            assert run_command(words, monkeypatch) == expected, line


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command of serein in this process, its training shortened; return the exit status."""
    is_training = not {"--model", "--predictions"} & {*words}
    if words[0] in ("evaluate", "train", "search", "sweep") and is_training:
        shorter = [] if "--init" in words else ["--set", "features.seconds=1.0"]
        words = [*words, "--set", "training.epochs=1", *shorter]
    monkeypatch.setattr(sys, "argv", ["serein", *words])
    monkeypatch.setattr("serein.cli.recognize.count_cores", lambda: 1)
    monkeypatch.setattr(cli.train, "count_cores", lambda: 1)
    monkeypatch.setattr("serein.cli.common.count_cores", lambda: 1)
    monkeypatch.setattr("serein.service.app.serve", lambda *_, **__: None)
    try:
        cli.main()
    except SystemExit as exit_request:
        return int(exit_request.code or 0)
    return 0


def test_links_exist() -> None:
    others = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    for page in [*PAGES, *others, *sorted((ROOT / "results").rglob("*.md"))]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_readme_names_two_make_targets_that_exist() -> None:
    targets = re.findall(r"^\$ make (\w[\w-]*)", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["quickstart", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)


def test_files_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`([a-z0-9_]+/[a-z0-9_]+\.py)`", text)) - {"my_lab/podcast.py"}
    folder = ""
    for line in text.split("```text\n")[1].split("```")[0].splitlines():
        folder = next(iter(re.findall(r"^(\w+/)", line)), folder if line[0] == " " else "")
        files.update(folder + name for name in re.findall(r"\b[a-z0-9_]+\.py\b", line))
    assert len(files) > 40
    folders = ROOT / "src" / "serein", ROOT
    assert [f for f in sorted(files) if not any((one / f).is_file() for one in folders)] == []
