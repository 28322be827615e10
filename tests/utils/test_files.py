"""Atomic writing, and temporary files of killed processes."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serein.errors import StorageError
from serein.utils import files
from serein.utils.files import replace_atomically, write_bytes, write_text

WRITE_HALF = """
import sys
from pathlib import Path
from serein.utils.files import replace_atomically
with replace_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(flush=True)
    sys.stdin.read()
"""
"""Writes half of a file, prints a line, and ends when its input ends."""


def test_write_replaces_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "one ä")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "one ä".encode()
    write_bytes(tmp_path / "new" / "folder" / "a.txt", b"two")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == b"two"
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError()])
def test_a_failed_write_keeps_the_previous_content(tmp_path: Path, error: Exception) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    expected = StorageError if isinstance(error, OSError) else ValueError

    def fail() -> None:
        with replace_atomically(file) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(expected) as caught:
        fail()
    if expected is StorageError:
        assert str(caught.value).startswith(f"could not write {file}: No space left on device; ")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_readers_see_the_old_or_the_new_content(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replace_atomically(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.parent == file.parent
        reader = file.open()
    with reader:
        assert reader.read() == "old"  # an open file stays complete
    assert file.read_text() == "new"
    assert not temporary.exists()


def test_a_failed_rename_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "a", "a folder stands there")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "file" / "b", "its folder is a file")


def test_a_file_has_permissions_by_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def start_writer(file: Path) -> "subprocess.Popen[bytes]":
    """Start a process that has written half of a file."""
    command = [sys.executable, "-c", WRITE_HALF, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def kill_writer(file: Path) -> None:
    """Start a process and kill it in the middle of writing a file."""
    with start_writer(file) as process:
        process.send_signal(signal.SIGKILL)


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    file, other = tmp_path / "a[0].pt", tmp_path / "a[0].pt.old"
    for one in (file, other):
        kill_writer(one)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(file, "whole")
    assert file.read_text() == "whole"
    (left,) = {*tmp_path.iterdir()} - {file}
    assert left.name.startswith(f".{other.name}.")


def test_temporary_files_of_running_processes_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    with start_writer(file) as process:
        write_text(file, "whole")
        assert len(list(tmp_path.iterdir())) == 2
        assert file.read_text() == "whole"
        process.communicate(b"")
        assert process.returncode == 0
    assert file.read_text() == "half"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_in_one_process_are_independent(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with replace_atomically(file) as temporary:
        temporary.write_text("first")
        write_text(file, "second")
        assert file.read_text() == "second"
    assert file.read_text() == "first"


def test_temporary_files_of_other_machines_and_users_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pt"
    kill_writer(file)
    monkeypatch.setattr(files, "_host_id", lambda: 1)
    write_text(file, "whole")
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()

    def refused(process: int, sent: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    write_text(file, "whole")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_temporary_file_that_cannot_be_removed_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pt"
    kill_writer(file)
    (left,) = tmp_path.iterdir()
    unlink = Path.unlink

    def guarded(path: Path, missing_ok: bool = False) -> None:
        if path == left:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", guarded)
    write_text(file, "whole")
    assert file.read_text() == "whole"
    assert left.exists()


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / ("a" * 255)
    write_text(file, "whole")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("number", ["", "x", "9" * 30])
def test_a_temporary_name_without_a_process_id_is_kept(tmp_path: Path, number: str) -> None:
    file = tmp_path / "a.pt"
    odd = tmp_path / f"{files._temporary_prefix(file)}{number}.half"
    odd.touch()
    write_text(file, "whole")
    assert odd.exists()
