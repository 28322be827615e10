import hashlib
import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from builders.corpus_layouts import write_emodb, write_librispeech

from serein import cli, corpora
from serein.download import fetch as copies
from serein.download import integrity
from serein.download.fetch import Archive, fetch, find_archive, load_archives, unpack_archive
from serein.errors import CorpusError, StorageError, UnknownName


@dataclass
class Home:
    """An HTTP server in a thread.

    Attributes:
        files: what it has, by name.
        ranges: whether it understands them.
        cut: after how many bytes it hangs up.
        asked: the range of each request, and how many bytes were sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None
    asked: list[tuple[str | None, int]] = field(default_factory=list)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        content = self.files.get(handler.path.rpartition("/")[2])
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        status = 404 if content is None else 416 if start >= len(content) else 206 if start else 200
        body = content[start:] if content and status < 400 else b""
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        sent = body[: self.cut]
        handler.wfile.write(sent)
        self.asked.append((wanted, len(sent)))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = Home()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            home.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    home.address = f"http://127.0.0.1:{server.server_port}/some/where/"
    monkeypatch.setenv("SEREIN_MIRROR", home.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield home
    server.shutdown()
    thread.join()
    server.server_close()


def make_tar(folder: Path, inside: str) -> bytes:
    """Return a folder as the bytes of a .tar.gz file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as pack:
        pack.add(folder, inside)
    return buffer.getvalue()


@pytest.fixture
def wanted(home: Home, tmp_path: Path) -> Archive:
    """A small part of LibriSpeech on the server, with its hash."""
    write_librispeech(tmp_path / "made", parts=["dev-clean"], words=1)
    content = home.files["dev-clean.tar.gz"] = make_tar(tmp_path / "made", "LibriSpeech")
    return replace(
        find_archive("librispeech", "dev-clean"), hash=f"md5:{hashlib.md5(content).hexdigest()}"
    )


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "data" / "LibriSpeech"


def left(to: Path) -> list[str]:
    return sorted(file.name for file in to.parent.iterdir()) if to.parent.is_dir() else []


def test_part_is_fetched_checked_and_registered(home: Home, wanted: Archive, to: Path) -> None:
    told: list[tuple[int, int | None]] = []
    found = fetch(wanted, to, progress=lambda here, total: told.append((here, total)))
    assert (found.utterances, found.speakers) == (6, 2)
    assert sorted(file.name for file in to.iterdir()) == ["SPEAKERS.TXT", "dev-clean"]
    assert left(to) == ["LibriSpeech"], "the archive is gone"
    assert corpora.saved_paths() == {"librispeech": to}
    size = len(home.files["dev-clean.tar.gz"])
    assert told[-1] == (size, size)
    assert home.asked == [(None, size)]


def test_second_part_is_added_to_the_first(
    home: Home, wanted: Archive, to: Path, tmp_path: Path
) -> None:
    fetch(wanted, to)
    write_librispeech(tmp_path / "more", parts=["x", "test-clean"], words=1)
    (tmp_path / "more" / "x").rename(tmp_path / "x")
    home.files["test-clean.tar.gz"] = make_tar(tmp_path / "more", "LibriSpeech")
    found = fetch(replace(find_archive("librispeech", "test-clean"), hash=None), to)
    assert found.utterances == 6
    assert len(corpora.load("librispeech").utterances) == 12
    with pytest.raises(CorpusError, match="already has dev-clean/; check it with `serein corpora"):
        fetch(wanted, to)
    assert len(home.asked) == 2


def test_interrupted_download_is_resumed(home: Home, wanted: Archive, to: Path) -> None:
    size = len(home.files["dev-clean.tar.gz"])
    home.cut = 1000
    with pytest.raises(CorpusError, match=f"ended after 1000 of {size} bytes.* again to resume"):
        fetch(wanted, to)
    assert left(to) == ["librispeech-dev-clean.tar.gz.part"]
    assert corpora.saved_paths() == {}
    home.cut = 500
    with pytest.raises(CorpusError, match=f"1500 of {size} bytes"):
        fetch(wanted, to)
    home.cut = None
    told: list[tuple[int, int | None]] = []
    fetch(wanted, to, progress=lambda *both: told.append(both))
    assert home.asked == [(None, 1000), ("bytes=1000-", 500), ("bytes=1500-", size - 1500)]
    assert told[0] > (1500, size)
    assert left(to) == ["LibriSpeech"]


def test_download_restarts_if_the_server_has_no_ranges(
    home: Home, wanted: Archive, to: Path
) -> None:
    size = len(home.files["dev-clean.tar.gz"])
    home.ranges, home.cut = False, 1000
    with pytest.raises(CorpusError, match="again to resume"):
        fetch(wanted, to)
    home.cut = None
    fetch(wanted, to)
    assert home.asked == [(None, 1000), ("bytes=1000-", size)]
    assert len(corpora.load("librispeech").utterances) == 6


def test_partial_file_longer_than_the_archive_is_dropped(
    home: Home, wanted: Archive, to: Path
) -> None:
    size = len(home.files["dev-clean.tar.gz"])
    to.parent.mkdir()
    (to.parent / "librispeech-dev-clean.tar.gz.part").write_bytes(b"x" * (size + 1))
    fetch(wanted, to)
    assert home.asked == [(f"bytes={size + 1}-", 0), (None, size)]
    assert left(to) == ["LibriSpeech"]


@pytest.mark.parametrize("damage", ["changed", "truncated", "page"])
def test_archive_with_a_wrong_hash_is_removed(
    home: Home, wanted: Archive, to: Path, damage: str
) -> None:
    whole = home.files["dev-clean.tar.gz"]
    home.files["dev-clean.tar.gz"] = {
        "changed": whole[:-9] + b"?" + whole[-8:],
        "truncated": whole[:-1],
        "page": b"<html>we have moved</html>",
    }[damage]
    message = "is not the published archive, and was removed: MD5"
    with pytest.raises(CorpusError, match=message) as caught:
        fetch(wanted, to)
    words = str(caught.value)
    assert words.count("Fetch it again") == 1
    assert ".." not in words
    assert "Deleted" not in words
    assert left(to) == []
    assert corpora.saved_paths() == {}
    home.files["dev-clean.tar.gz"] = whole
    assert fetch(wanted, to).utterances == 6


def test_unavailable_archive_is_an_error(home: Home, wanted: Archive, to: Path) -> None:
    home.files.clear()
    with pytest.raises(CorpusError, match=r"/some/where/dev-clean\.tar\.gz cannot be fetched: 404"):
        fetch(wanted, to)
    with pytest.raises(CorpusError, match=r"http://127\.0\.0\.1:9/dev-clean.* broke: .*refused"):
        fetch(wanted, to, mirror="http://127.0.0.1:9")
    assert left(to) == []


def test_unwritable_folder_is_an_error(wanted: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not write in .*file: .*; free some space"):
        fetch(wanted, tmp_path / "file" / "LibriSpeech")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_disk_full_during_the_download(wanted: Archive, to: Path) -> None:
    to.parent.mkdir()
    (to.parent / "librispeech-dev-clean.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"could not write in .*data: No space left on device"):
        fetch(wanted, to)
    assert not to.exists()


def test_disk_full_while_unpacking_leaves_no_corpus(
    wanted: Archive, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, folder: Path) -> None:
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "unpack_archive", full)
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        fetch(wanted, to)
    assert left(to) == ["librispeech-dev-clean.tar.gz"], "what was fetched is kept"
    monkeypatch.setattr(copies, "unpack_archive", unpack_archive)
    assert fetch(wanted, to).utterances == 6


# EMO-DB, whose archive has no published hash


@pytest.fixture
def berlin(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small EMO-DB on the server, whose hashes replace the published ones."""
    root = tmp_path / "berlin"
    write_emodb(root, words=1)
    files = sorted((root / "wav").iterdir())
    (tmp_path / "hashes").mkdir()
    text = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  wav/{file.name}" for file in files]
    (tmp_path / "hashes" / "emodb.sha256").write_text("\n".join(text))
    monkeypatch.setattr(integrity, "HASHES_FOLDER", tmp_path / "hashes")
    home.files["download.zip"] = make_zip(root)
    return root


def make_zip(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for file in sorted(file for file in root.rglob("*") if file.is_file()):
            pack.write(file, file.relative_to(root))
    return buffer.getvalue()


def test_emodb_is_compared_file_by_file(home: Home, berlin: Path, tmp_path: Path) -> None:
    to = tmp_path / "data" / "EMO-DB"
    whole = home.files["download.zip"]
    for file in sorted((berlin / "wav").iterdir())[:2]:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    sorted((berlin / "wav").iterdir())[2].unlink()
    home.files["download.zip"] = make_zip(berlin)
    message = (
        f"^{re.escape(home.address)}.*2 changed .*, and 1 of 535 are missing; nothing was kept"
    )
    with pytest.raises(CorpusError, match=message):
        fetch(find_archive("emodb"), to)
    assert left(to) == []
    home.files["download.zip"] = whole[: len(whole) // 2]
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        fetch(find_archive("emodb"), to)
    assert left(to) == []
    home.files["download.zip"] = whole
    found = fetch(find_archive("emodb"), to)
    assert (found.intact_count, found.speakers) == (535, 10)
    assert corpora.saved_paths() == {"emodb": to}
    assert (to / "erkennung.txt").is_file()


def test_archive_with_extra_recordings_is_an_error(
    home: Home, berlin: Path, tmp_path: Path
) -> None:
    file = sorted((berlin / "wav").iterdir())[0]
    (berlin / "wav" / f"{file.stem[:-1]}z.wav").write_bytes(file.read_bytes())
    home.files["download.zip"] = make_zip(berlin)
    to = tmp_path / "data" / "EMO-DB"
    message = r"is not the published corpus: .*536 recordings; EMO-DB has 535 .*; nothing was kept"
    with pytest.raises(CorpusError, match=message):
        fetch(find_archive("emodb"), to)
    assert left(to) == []
    assert corpora.saved_paths() == {}


def test_command_prints_licence_and_source_first(
    home: Home,
    berlin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["serein", "corpora", "fetch", "emodb"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == [
        "Berlin Database of Emotional Speech (EMO-DB)",
        "licence: CC0",
        f"from: {home.address}download.zip",
        f"535 utterances of 10 speakers in {tmp_path / 'emodb'}",
    ]
    assert sorted(file.name for file in berlin.iterdir()) == sorted(
        file.name for file in (tmp_path / "emodb").iterdir()
    )


# Archives


def test_every_archive_has_a_url() -> None:
    assert {one.corpus for one in load_archives()} == {"emodb", "librispeech", "ravdess"}
    assert len(load_archives()) == 9
    for one in load_archives():
        assert one.url.startswith("https://" if one.hash else "http://emodb.")
        assert one.url.endswith((".zip", ".tar.gz"))
        assert one.hash is None or len(one.hash) == len("md5:") + 32
        assert find_archive(one.corpus, one.part) == one
    assert find_archive("ravdess").part == "speech"


def test_unknown_archive_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"'iemocap'.*emodb, librispeech, ravdess.*its owners"):
        find_archive("iemocap")
    with pytest.raises(UnknownName, match=r"'dev-clear'; did you mean 'dev-clean'"):
        find_archive("librispeech", "dev-clear")
    with pytest.raises(
        UnknownName, match="Name a part: `serein corpora fetch librispeech dev-clean"
    ):
        find_archive("librispeech")


def evil_zip(name: str, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        pack.writestr(member, "/etc")
    return buffer.getvalue()


def evil_tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as pack:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "../../outside"
        pack.addfile(member)
    return buffer.getvalue()


EVIL = {
    "zip, above": evil_zip("../outside"),
    "zip, absolute": evil_zip("/outside"),
    "zip, above again": evil_zip("a/../../outside"),
    "zip, Windows": evil_zip("..\\outside"),
    "zip, drive": evil_zip("C:\\outside"),
    "zip, link": evil_zip("link", 0o120777),
    "tar, above": evil_tar("../outside"),
    "tar, symbolic link": evil_tar("link", tarfile.SYMTYPE),
    "tar, hard link": evil_tar("link", tarfile.LNKTYPE),
    "tar, pipe": evil_tar("pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", EVIL)
def test_archive_that_would_write_elsewhere_is_an_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(EVIL[kind])
    (tmp_path / "in").mkdir()
    with pytest.raises(CorpusError, match=r"would write elsewhere .*do not trust it"):
        unpack_archive(tmp_path / "file", tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b\x08 rubbish", b"PK\x03\x04"])
def test_file_that_is_not_an_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        unpack_archive(tmp_path / "file", tmp_path / "in")
