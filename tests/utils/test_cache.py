"""The cache folder: its content, its size, and its limit."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serein.errors import ConfigError
from serein.features import rawframes
from serein.records import Corpus
from serein.training.dataset import extract_frames
from serein.utils import cache
from serein.utils.files import cache_folder

DAY = 86_400


def set_age(path: Path, days: float) -> None:
    used_at = time.time() - days * DAY
    os.utime(path, (used_at, used_at))


def write_entry(folder: Path, name: str, size: int, age_days: float) -> Path:
    entry = folder / name
    entry.mkdir(parents=True)
    (entry / "frames.npy").write_bytes(b"x" * size)
    (folder / f"{name}.lock").touch()
    set_age(entry, age_days)
    return entry


@pytest.fixture
def filled() -> Path:
    """Three features of 1000 bytes, the oldest first, and small files of every other kind."""
    folder = cache_folder()
    for number, age in enumerate((40, 20, 1)):
        write_entry(folder, f"{number:032x}", 1000, age)
    write_entry(folder, f".{5:032x}.tmp", 10, 0)
    write_entry(folder, f".{6:032x}.old", 10, 3)
    (folder / f"{7:032x}.json").write_text("[]")
    (folder / "nuisance-1.npz").write_bytes(b"12345")
    (folder / "hashes-ab.npy").write_bytes(b"1")
    return folder


def names(entries: list[cache.CacheEntry]) -> list[str]:
    return [entry.path.name for entry in entries]


def test_entries_have_kinds_and_sizes(filled: Path) -> None:
    entries = cache.list_entries()
    kinds = {entry.path.name: entry.kind for entry in entries}
    assert kinds[f"{1:032x}"] == "features"
    assert kinds[f"{7:032x}.json"] == "transcripts"
    assert kinds["nuisance-1.npz"] == "nuisance baseline"
    assert kinds["hashes-ab.npy"] == "hashes of files"
    assert kinds[f".{5:032x}.tmp"] == "unfinished"
    assert sum(entry.size for entry in entries) == 3000 + 20 + 2 + 5 + 1
    assert names(entries)[:2] == [f"{0:032x}", f"{1:032x}"]


def test_clear_keeps_the_most_recently_used(filled: Path) -> None:
    removed = cache.clear(keep_bytes=1500)
    assert names(removed) == [f"{0:032x}", f"{1:032x}"]
    assert not (filled / f"{0:032x}.lock").exists()
    assert (filled / f"{2:032x}").is_dir()


def test_clear_of_old_entries_and_of_everything(filled: Path) -> None:
    assert names(cache.clear(older_than_seconds=30 * DAY)) == [f"{0:032x}"]
    cache.clear()
    assert names(cache.list_entries()) == [f".{5:032x}.tmp"], "an entry that is being written stays"


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert cache.list_entries(tmp_path / "none") == []
    assert cache.clear(folder=tmp_path) == []


@pytest.mark.parametrize("text", ["", "five", "5 PB", "-1GB"])
def test_faulty_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--keep is .*expected a size such as 5GB"):
        cache.parse_size(text, "--keep")


def test_features_are_kept_below_the_limit(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    front_end = rawframes.FrontEnd(rawframes.Config())
    hashes = {u.id: u.id for u in corpus.utterances}
    first, second = corpus.utterances[:2], corpus.utterances[2:4]
    extract_frames(first, front_end, hashes)
    (entry,) = cache.list_entries()
    set_age(entry.path, 1)
    extract_frames(first, front_end, hashes)
    (used,) = cache.list_entries()
    assert used.used_at > time.time() - DAY / 2, "a use counts"
    set_age(entry.path, 1)
    monkeypatch.setenv("SEREIN_CACHE_LIMIT", f"{1.5 * entry.size / 1000:.3f}KB")
    frames = extract_frames(second, front_end, hashes)
    assert entry.path.name not in names(cache.list_entries())
    assert np.isfinite(frames[second[0].id]).all()
    monkeypatch.setenv("SEREIN_CACHE_LIMIT", "much")
    with pytest.raises(ConfigError, match="SEREIN_CACHE_LIMIT is 'much'"):
        extract_frames(first, front_end, hashes)


def test_the_command(filled: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    status, printed, _ = run("cache")
    assert status == 0
    assert f"{filled}: 3.0 kB" in printed
    assert "features" in printed
    assert "limit: none (SEREIN_CACHE_LIMIT=5GB sets one" in printed
    status, printed, _ = run("cache", "clear", "--keep", "1500B")
    assert (status, "removed 2 entries, 2.0 kB; 1.0 kB left" in printed) == (0, True), printed
    status, _, errors = run("cache", "clear", "--keep", "much")
    assert (status, "--keep is 'much'" in errors) == (2, True)
