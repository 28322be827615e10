import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.corpus_layouts import write_emodb
from builders.csv_tables import write_recordings
from hypothesis import settings

from serein import cli
from serein.records import Corpus
from serein.synthetic import SyntheticConfig, generate

# No deadlines: a busy machine must not fail a test. Derandomized: a commit passes or fails
# everywhere; `--hypothesis-profile=search` tries more examples.
settings.register_profile("search", deadline=None, max_examples=1000)
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use one thread, and folders for cache and configuration that are not the user's."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SEREIN_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own folders for cache and configuration."""
    folder = tmp_path_factory.mktemp("serein")
    monkeypatch.setenv("SEREIN_CACHE", str(folder / "cache"))
    monkeypatch.setenv("SEREIN_CONFIG", str(folder / "config"))


EMOTIONS = ("anger", "neutral", "sadness")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus on disk: four speakers, three emotions, two sentences."""
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, SyntheticConfig(speakers=4, emotions=EMOTIONS, sentences=2, words=2))
    return folder


@pytest.fixture(scope="session")
def corpus(root: Path) -> Corpus:
    from serein.corpora import synthetic

    return Corpus(name="spoken", utterances=tuple(synthetic.read(root)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three recordings, for tables."""
    write_recordings(tmp_path, "a.wav", "sub/b.wav", "c.wav")
    return tmp_path


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder; return its status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["serein", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 0
        return status, *capsys.readouterr()

    return command


@pytest.fixture(scope="session")
def berlin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic EMO-DB."""
    root = tmp_path_factory.mktemp("berlin")
    write_emodb(root, words=1)
    return root


@pytest.fixture
def names(berlin: Path, tmp_path: Path) -> Path:
    """Empty files with the names of EMO-DB."""
    root = tmp_path / "EMO-DB"
    (root / "wav").mkdir(parents=True)
    for file in (berlin / "wav").iterdir():
        (root / "wav" / file.name).touch()
    shutil.copy(berlin / "erkennung.txt", root)
    return root


# The page in a browser; test files override the service's options and the microphone's audio.


@pytest.fixture(scope="module")
def serve_options() -> list[str]:
    """Options of ``serein serve`` besides a small model."""
    return []


@pytest.fixture(scope="module")
def microphone() -> Path | None:
    """A WAV file with the microphone's audio; None is no microphone."""
    return None


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, serve_options: list[str]) -> Iterator[Any]:
    """A service in its own process."""
    from builders.service_client import SmallModelServer

    with SmallModelServer(tmp_path_factory.mktemp("served"), *serve_options) as server:
        yield server
        assert server.end() == 0


@pytest.fixture(scope="module")
def chromium(microphone: Path | None) -> Iterator[Any]:
    """A browser; without one, tests that use it are skipped."""
    from builders.browser import open_browser

    try:
        with open_browser(microphone) as browser:
            yield browser
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(chromium: Any, live: Any) -> Iterator[Any]:
    """The service's page, newly opened."""
    from builders.browser import open_page

    with open_page(chromium, live.url) as page_:
        yield page_
