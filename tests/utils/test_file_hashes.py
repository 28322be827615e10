"""The cache of file hashes: which changes of a file it detects."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serein.errors import CorpusError
from serein.utils import file_hashes
from serein.utils.files import cache_folder

Read = list[str]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 100)
    return [str(tmp_path / name) for name in "abc"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Record the names of the files that are read."""
    names: Read = []
    hash_file = file_hashes._hash_file

    def record(file: str) -> bytes:
        names.append(Path(file).name)
        return hash_file(file)

    monkeypatch.setattr(file_hashes, "_hash_file", record)
    return names


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file count as written long ago."""
    monkeypatch.setattr(file_hashes, "MIN_AGE_NS", -(10**18))


@pytest.mark.usefixtures("later")
def test_unchanged_files_are_read_once(files: list[str], read: Read) -> None:
    first = file_hashes.hash_files(files)
    assert read == ["a", "b", "c"]
    assert file_hashes.hash_files(files) == first
    assert read == ["a", "b", "c"]
    assert len({len(digest) for digest in first}) == 1
    assert len(set(first)) == 3


def swapped(file: Path) -> None:
    """Another file of the same size and time of writing."""
    stamp = file.stat()
    file.with_name("new").write_bytes(b"x" * 100)
    os.utime(file.with_name("new"), ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    file.with_name("new").replace(file)


def backdated(file: Path) -> None:
    """Other bytes in the same file, and its time of writing set back."""
    stamp = file.stat()
    time.sleep(0.02)
    file.write_bytes(b"x" * 100)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def longer(file: Path) -> None:
    file.write_bytes(b"x" * 101)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [swapped, backdated, longer])
def test_changed_files_are_read_again(
    files: list[str], read: Read, change: Callable[[Path], None]
) -> None:
    first = file_hashes.hash_files(files)
    change(Path(files[1]))
    second = file_hashes.hash_files(files)
    assert read == ["a", "b", "c", "b"]
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, True]
    assert file_hashes.hash_files(files) == second
    assert read == ["a", "b", "c", "b"]


def test_recently_changed_files_are_not_cached(files: list[str], read: Read) -> None:
    first = file_hashes.hash_files(files)
    assert file_hashes.hash_files(files) == first
    assert read == ["a", "b", "c"] * 2
    assert not list(cache_folder().glob("hashes-*"))


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("content", [b"", b"no array", bytes(500)])
def test_a_damaged_cache_is_ignored(files: list[str], read: Read, content: bytes) -> None:
    first = file_hashes.hash_files(files)
    (memory,) = cache_folder().glob("hashes-*")
    memory.write_bytes(content)
    assert file_hashes.hash_files(files) == first
    assert read == ["a", "b", "c"] * 2


@pytest.mark.usefixtures("later")
def test_a_cache_that_cannot_be_written_is_ignored(
    files: list[str], read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEREIN_CACHE", str(tmp_path / "file" / "cache"))
    assert file_hashes.hash_files(files) == file_hashes.hash_files(files)
    assert read == ["a", "b", "c"] * 2


def test_hash_files_of_an_empty_list() -> None:
    assert file_hashes.hash_files([]) == []


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("known", [True, False])
def test_a_missing_file_is_an_error_with_its_name(files: list[str], known: bool) -> None:
    if known:
        file_hashes.hash_files(files)
    Path(files[2]).unlink()
    with pytest.raises(CorpusError, match=r"c cannot be read: No such file .*; restore it"):
        file_hashes.hash_files(files)
    Path(files[2]).mkdir()
    with pytest.raises(CorpusError, match=r"c cannot be read: Is a directory; restore it"):
        file_hashes.hash_files(files)


@pytest.mark.usefixtures("later")
def test_other_values_are_cached_apart_from_hashes(files: list[str], read: Read) -> None:
    row_dtype = np.dtype([("stamp", "<i8", 4), ("size", "<f8")])
    computed: list[str] = []

    def measure(file: str) -> float:
        computed.append(Path(file).name)
        return float(Path(file).stat().st_size)

    for _ in range(2):
        sizes = file_hashes.cache_file_values(files, "sizes", row_dtype, measure)
        assert sizes.tolist() == [100.0, 100.0, 100.0]
    assert computed == ["a", "b", "c"]
    assert not file_hashes.has_cached_hashes(files)
    file_hashes.hash_files(files)
    assert file_hashes.has_cached_hashes(files)
    Path(files[1]).write_bytes(b"longer" * 100)
    assert not file_hashes.has_cached_hashes(files)
    sizes = file_hashes.cache_file_values(files, "sizes", row_dtype, measure)
    assert sizes.tolist() == [100.0, 600.0, 100.0]
    assert computed == ["a", "b", "c", "b"]
    assert read == ["a", "b", "c"]
