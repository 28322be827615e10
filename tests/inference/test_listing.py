"""Listing of the recordings below a folder."""

import os
from pathlib import Path

import pytest

from serein.inference.folder import AUDIO_SUFFIXES, Listing, ListingEntry, path_to_text


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def list_names(listing: Listing) -> list[str]:
    return [one.name for one in listing]


def test_files_come_sorted_and_before_folders(tmp_path: Path) -> None:
    touch(tmp_path, "z.wav", "b.flac", "a/2.mp3", "a/10.ogg", "a/b/x.opus", "c/y.m4a")
    expected = ["b.flac", "z.wav", "a/10.ogg", "a/2.mp3", "a/b/x.opus", "c/y.m4a"]
    listing = Listing(tmp_path)
    assert list_names(listing) == expected
    assert list_names(listing) == expected


def test_other_suffixes_and_hidden_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.WAV", "notes.txt", "wav", ".b.wav", ".cache/c.wav", "sub/d.parquet")
    listing = Listing(tmp_path)
    assert list_names(listing) == ["a.WAV"]
    assert listing.ignored == 5
    assert list_names(listing) == ["a.WAV"]
    assert listing.ignored == 5


def test_a_folder_named_like_a_recording_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x.wav/inner.wav", "empty.wav/readme")
    assert list_names(Listing(tmp_path)) == ["x.wav/inner.wav"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "top.wav", "z/a.wav", "z/deep/b.wav")
    (tmp_path / "z/deep/up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "z")
    (tmp_path / "self.wav").symlink_to("self.wav")
    touch(tmp_path.parent / f"{tmp_path.name}-other", "c.wav")
    (tmp_path / "other").symlink_to(tmp_path.parent / f"{tmp_path.name}-other")
    expected = ["self.wav", "top.wav", "z/a.wav", "z/deep/b.wav", "other/c.wav"]
    assert list_names(Listing(tmp_path)) == expected


def test_links_to_each_other_do_not_multiply(tmp_path: Path) -> None:
    for name in "abcdefgh":
        touch(tmp_path, f"{name}/{name}.wav")
        for other in "abcdefgh":
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert list_names(Listing(tmp_path)) == [f"{name}/{name}.wav" for name in "abcdefgh"]


def test_a_listing_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{folder}/x.wav" for folder in "abc"))
    listed: list[str] = []
    scan = os.scandir

    def recorded(path: str) -> object:
        listed.append(Path(path).name)
        return scan(path)

    monkeypatch.setattr(os, "scandir", recorded)
    found = iter(Listing(tmp_path))
    assert next(found).name == "a/x.wav"
    assert listed == [tmp_path.name, "a"]


def test_folder_that_cannot_be_listed_is_an_entry_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/x.wav", "b/y.wav")
    scan = os.scandir

    def refused(path: str) -> object:
        if path.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    first, second = Listing(tmp_path)
    assert first == ListingEntry(
        "a", f"{tmp_path}/a cannot be listed: Permission denied. Check its permissions."
    )
    assert second == ListingEntry("b/y.wav")


def test_path_to_text_escapes_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/M\xfcller.wav"
    with open(raw, "wb"):
        pass
    (found,) = Listing(tmp_path)
    assert path_to_text(found.name) == "M\\xfcller.wav"
    assert (tmp_path / found.name).exists()
    assert path_to_text("Müller.wav") == "Müller.wav"


def test_audio_suffixes_are_lower_case() -> None:
    assert all(ending == ending.lower() and ending.startswith(".") for ending in AUDIO_SUFFIXES)


def test_path_to_text_keeps_names_apart() -> None:
    names = ["M\udcfcller.wav", "M\\xfcller.wav", "M\\x5cxfcller.wav", "a\\b.wav", "a\udc5cb.wav"]
    texts = [path_to_text(name) for name in names[:4]]
    assert len(set(texts)) == 4
    assert texts[3] == "a\\b.wav"
