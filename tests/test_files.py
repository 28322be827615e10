import errno
import os
import stat
from pathlib import Path

import pytest

from serein.errors import StorageError
from serein.files import replacing, write_bytes, write_text


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
        with replacing(file) as temporary:
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
    with replacing(file) as temporary:
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
