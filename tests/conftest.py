from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tables import recordings

from serein.records import Corpus
from serein.synthetic import Settings, generate


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, and no test reads or writes the user's own folders."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SEREIN_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one left."""
    folder = tmp_path_factory.mktemp("serein")
    monkeypatch.setenv("SEREIN_CACHE", str(folder / "cache"))
    monkeypatch.setenv("SEREIN_CONFIG", str(folder / "config"))


EMOTIONS = ("anger", "neutral", "sadness")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus on disk: four speakers, three emotions, two sentences."""
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, Settings(speakers=4, emotions=EMOTIONS, sentences=2, words=2))
    return folder


@pytest.fixture(scope="session")
def corpus(root: Path) -> Corpus:
    from serein.corpora import synthetic

    return Corpus(name="spoken", utterances=tuple(synthetic.read(root)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings, for tables to name."""
    recordings(tmp_path, "a.wav", "sub/b.wav", "c.wav")
    return tmp_path
