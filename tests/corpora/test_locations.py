"""Saved locations of corpora, and their listing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.csv_tables import write_csv
from builders.small_systems import QUICK

from serein import corpora, registry
from serein.corpora import emodb, table
from serein.errors import ConfigError, CorpusError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config() -> Path:
    return corpora.config_folder()


def test_register_saves_the_path(berlin: Path, folder: Path, config: Path) -> None:
    assert corpora.saved_paths() == {}
    assert len(corpora.register("emodb", berlin).utterances) == 535
    corpora.register("mine", write_csv(folder, "file\na.wav\n"))
    assert corpora.saved_paths() == {"emodb": berlin, "mine": folder / "labels.csv"}
    assert list(corpora.saved_paths()) == ["emodb", "mine"]
    assert len(corpora.load("emodb").utterances) == 535
    assert corpora.load("mine").name == "mine"
    assert [file.name for file in config.iterdir()] == ["corpora.json"]


def test_register_saves_partial(names: Path, folder: Path, config: Path) -> None:
    next((names / "wav").iterdir()).unlink()
    with pytest.raises(CorpusError, match="read what is there with --partial"):
        corpora.register("emodb", names)
    corpora.register("mine", write_csv(folder, "file\na.wav\n"))
    corpus = corpora.register("emodb", names, partial=True)
    assert corpus.notes == ("a partial copy: 534 of 535 utterances",)
    held = json.loads((config / "corpora.json").read_text())
    assert held["emodb"] == {"path": str(names), "partial": True}
    assert held["mine"] == str(folder / "labels.csv")
    assert corpora.saved_paths() == {"emodb": names, "mine": folder / "labels.csv"}
    assert corpora.load("emodb") == corpus
    for spec, partial in (("emodb", False), (f"emodb={names}", None)):
        with pytest.raises(CorpusError, match="534 recordings; EMO-DB has 535"):
            corpora.load(spec, partial=partial)


def test_load_many_joins_notes(names: Path, root: Path) -> None:
    next((names / "wav").iterdir()).unlink()
    specs = [f"emodb={names}", f"synthetic={root}"]
    assert corpora.as_corpus(specs, partial=True).notes == (
        "emodb: a partial copy: 534 of 535 utterances",
    )
    with pytest.raises(CorpusError, match="534 recordings"):
        corpora.as_corpus(specs)


def test_register_saves_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(folder, "file\na.wav\n")
    monkeypatch.chdir(folder)
    corpora.register("mine", Path("labels.csv"))
    assert corpora.saved_paths()["mine"] == folder / "labels.csv"


def test_register_does_not_save_a_wrong_path(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    with pytest.raises(CorpusError, match="0 recordings; EMO-DB has 535"):
        corpora.register("emodb", tmp_path)
    assert corpora.saved_paths() == {}


@pytest.mark.parametrize("content", ["{", "[1]", '{"emodb": 3}', '{"emodb": {}}', "\xff"])
def test_corrupt_locations_file_is_an_error(config: Path, content: str) -> None:
    config.mkdir()
    (config / "corpora.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"corpora\.json is not a table of corpora"):
        corpora.saved_paths()


def test_config_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEREIN_CONFIG")
    assert corpora.config_folder().name == "serein"
    monkeypatch.setenv("SEREIN_CONFIG", "~/elsewhere")
    assert corpora.config_folder() == Path.home() / "elsewhere"


def test_list_corpora_has_every_corpus(folder: Path) -> None:
    corpora.register("mine", write_csv(folder, "file\na.wav\n"))
    entries = {entry.name: entry for entry in corpora.list_corpora()}
    assert list(entries) == sorted({*registry.list_names("corpora"), "mine"})
    assert entries["emodb"].about == emodb.ABOUT
    assert entries["emodb"].path is None
    assert entries["mine"].path == folder / "labels.csv"
    assert entries["mine"].about == table.ABOUT


def test_list_corpora_with_a_missing_reader(config: Path) -> None:
    config.mkdir()
    (config / "corpora.json").write_text('{"no_lab.podcast": "/data"}')
    entry = next(entry for entry in corpora.list_corpora() if entry.name == "no_lab.podcast")
    assert "No module named 'no_lab'" in entry.about.title


# On the command line


@pytest.fixture
def few(names: Path, berlin: Path) -> Path:
    """An incomplete EMO-DB with audio: anger and fear of two speakers."""
    for file in (names / "wav").iterdir():
        if file.name[:2] in ("03", "08", "09") and file.name[5] in "WA":
            file.write_bytes((berlin / "wav" / file.name).read_bytes())
        else:
            file.unlink()
    return names


def test_partial_copy_can_be_added_split_and_evaluated(run: Run, few: Path, tmp_path: Path) -> None:
    count = len(list((few / "wav").iterdir()))
    note = f"a partial copy: {count} of 535 utterances"
    split = ["--corpus", f"emodb={few}", "--set", "protocol.validation=1"]
    status, _, err = run("protocols", *split)
    assert status == 1
    assert "--partial" in err
    status, out, err = run("protocols", *split, "--partial")
    assert (status, err) == (0, "")
    assert f"note: {note}" in out
    status, out, _ = run("corpora", "add", "emodb", few, "--partial")
    assert (status, out.splitlines()[1:]) == (0, [f"note: {note}"])
    small = [word for one in QUICK for word in ("--set", one)]
    status, _, err = run("evaluate", "li2019", "--corpus", "emodb", *small)
    assert status == 0, err
    (results,) = tmp_path.glob("runs/*/results.json")
    assert json.loads(results.read_text())["warnings"][0] == note
    model = tmp_path / "few.safetensors"
    words = ["--corpus", f"emodb={few}", "--partial"]
    status, _, err = run("train", "li2019", *words, "-o", model, *small)
    assert status == 0, err
    status, _, err = run("evaluate", "--model", model, *words, "--runs", tmp_path / "judged")
    assert status == 0, err
    (results,) = tmp_path.glob("judged/*/results.json")
    assert json.loads(results.read_text())["warnings"][0] == note
