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

HALF = """
import sys
from pathlib import Path
from serein.utils.files import replace_atomically
with replace_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(flush=True)
    sys.stdin.read()
"""
"""Writes half of a file, prints a line, and ends when its input ends."""


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "one ä")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "one ä".encode()
    write_bytes(tmp_path / "new" / "folder" / "a.txt", b"two")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == b"two"
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError()])
def test_what_stood_there_survives_a_failed_write(tmp_path: Path, error: Exception) -> None:
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


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replace_atomically(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.parent == file.parent
        reader = file.open()
    with reader:
        assert reader.read() == "old"  # who began to read goes on with a whole file
    assert file.read_text() == "new"
    assert not temporary.exists()


def test_a_failed_rename_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "a", "a folder stands there")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not write"):
        write_text(tmp_path / "file" / "b", "its folder is a file")


def test_a_file_has_the_rights_that_the_user_wants(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def halfway(file: Path) -> "subprocess.Popen[bytes]":
    """A process that has written half of a file."""
    command = [sys.executable, "-c", HALF, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def killed(file: Path) -> None:
    """Have a process die in the middle of a file."""
    with halfway(file) as process:
        process.send_signal(signal.SIGKILL)


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    file, other = tmp_path / "a[0].pt", tmp_path / "a[0].pt.old"
    for one in (file, other):
        killed(one)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(file, "whole")
    assert file.read_text() == "whole"
    (left,) = {*tmp_path.iterdir()} - {file}
    assert left.name.startswith(f".{other.name}.")


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    with halfway(file) as process:
        write_text(file, "whole")
        assert len(list(tmp_path.iterdir())) == 2
        assert file.read_text() == "whole"
        process.communicate(b"")
        assert process.returncode == 0
    assert file.read_text() == "half"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writings_of_one_process_leave_each_other(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with replace_atomically(file) as temporary:
        temporary.write_text("first")
        write_text(file, "second")
        assert file.read_text() == "second"
    assert file.read_text() == "first"


def test_what_another_machine_or_user_writes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pt"
    killed(file)
    monkeypatch.setattr(files, "_host_id", lambda: 1)
    write_text(file, "whole")
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()

    def refused(process: int, sent: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    write_text(file, "whole")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_may_not_be_removed_hinders_no_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pt"
    killed(file)
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


def test_the_longest_name_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / ("a" * 255)
    write_text(file, "whole")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("number", ["", "x", "9" * 30])
def test_a_name_without_a_process_is_no_temporary_of_ours(tmp_path: Path, number: str) -> None:
    file = tmp_path / "a.pt"
    odd = tmp_path / f"{files._temporary_prefix(file)}{number}.half"
    odd.touch()
    write_text(file, "whole")
    assert odd.exists()
