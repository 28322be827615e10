"""Parts of a run, its lock and its plan, and rows of a table."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from serein.errors import ConfigError, StorageError
from serein.inference import tables
from serein.inference.recognition import Answer, Recognition
from serein.inference.tables import PartStore, Row, check_plan, lock_run

SCHEMA = tables.build_schema({"emotion": ("anger", "joy")})
PLAN = {"model": "small (0123)", "folder": "/speech", "thresholds": {"emotion": 0.5}}


def row(name: str, reason: str | None = None) -> Row:
    return {"file": name, "model": "0123", "reason": reason}


def list_files(store: PartStore) -> list[str]:
    return sorted(store.read_table()["file"].to_pylist())


def test_rows_are_read_back(tmp_path: Path) -> None:
    store = PartStore(tmp_path, SCHEMA)
    assert store.read_done() == {}
    assert store.read_table().schema.names == SCHEMA.names
    store.add([row("a"), row("b", "broken")])
    store.add([row("c")])
    again = PartStore(tmp_path, SCHEMA)
    assert again.read_done() == {"a": True, "b": False, "c": True}
    again.add([row("d")])
    assert list_files(PartStore(tmp_path, SCHEMA)) == ["a", "b", "c", "d"]


def test_base_replaces_all_parts(tmp_path: Path) -> None:
    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    store.add([row("b")])
    store.replace(store.read_table())
    assert [path.name for path in tmp_path.iterdir()] == ["base-000002.parquet"]
    store.add([row("c")])
    again = PartStore(tmp_path, SCHEMA)
    assert list_files(again) == ["a", "b", "c"]
    again.replace(again.read_table())
    assert list_files(PartStore(tmp_path, SCHEMA)) == ["a", "b", "c"]


def test_replaced_parts_that_were_not_removed_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    store.add([row("b")])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        store.replace(store.read_table())
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    again = PartStore(tmp_path, SCHEMA)
    assert list_files(again) == ["a", "b"]
    again.remove_leftovers()
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert list_files(PartStore(tmp_path, SCHEMA)) == ["a", "b"]


def test_incomplete_parts_are_removed(tmp_path: Path) -> None:
    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    (tmp_path / ".part-000001.parquet.x8").write_bytes(b"PAR1 and no more")
    (tmp_path / "notes.txt").write_text("the user's own")
    again = PartStore(tmp_path, SCHEMA)
    again.remove_leftovers()
    assert list_files(again) == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "part-000000.parquet"]


def test_damaged_part(tmp_path: Path) -> None:
    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    (tmp_path / "part-000000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"part-000000.parquet is damaged .*delete it"):
        store.read_table()


def test_full_disk_keeps_earlier_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.write_table", full)
        with pytest.raises(StorageError, match="No space left"):
            store.add([row("b")])
        with pytest.raises(StorageError, match="No space left"):
            store.replace(store.read_table())
    assert list_files(PartStore(tmp_path, SCHEMA)) == ["a"]


def test_lock_run_excludes_other_processes(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with (
        lock_run(tmp_path / "run", output),
        pytest.raises(StorageError, match=r"another process is writing .*out.parquet"),
        lock_run(tmp_path / "run", output),
    ):
        pass
    with lock_run(tmp_path / "run", output):
        assert (tmp_path / "run/lock").exists()


def test_run_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="choose an output"),
        lock_run(tmp_path / "file/run", tmp_path / "x"),
    ):
        pass


def test_other_plan_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    check_plan(tmp_path, output, PLAN)
    check_plan(tmp_path, output, json.loads(json.dumps(PLAN)))
    with pytest.raises(ConfigError, match=r"the model small \(0123\); now it is small \(4567\)"):
        check_plan(tmp_path, output, PLAN | {"model": "small (4567)"})
    with pytest.raises(ConfigError, match="Choose another output, or remove"):
        check_plan(tmp_path, output, PLAN | {"thresholds": {"emotion": 0.6}})
    with pytest.raises(ConfigError, match="the window None; now it is 4"):
        check_plan(tmp_path, output, PLAN | {"window": 4})
    with pytest.raises(ConfigError, match="the folder /speech; now it is None"):
        check_plan(tmp_path, output, {"model": PLAN["model"], "thresholds": PLAN["thresholds"]})


def test_damaged_plan_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]"):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(ConfigError, match="damaged"):
            check_plan(tmp_path, tmp_path / "out.csv", PLAN)


def test_output_without_a_run_is_not_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("precious")
    with (
        pytest.raises(ConfigError, match="Remove it, or choose another"),
        lock_run(tmp_path / "run", output),
    ):
        pass
    assert output.read_text() == "precious"
    assert not (tmp_path / "run").exists()


def test_parts_have_the_schema(tmp_path: Path) -> None:
    store = PartStore(tmp_path, SCHEMA)
    store.add([row("a")])
    assert isinstance(store.read_table(), pa.Table)
    assert store.read_table().schema.equals(SCHEMA)


def test_rows_have_columns_for_values() -> None:
    columns = tables.build_schema({"arousal": (), "gender": ("female", "male")})
    assert str(columns.field("arousal").type) == "float"
    assert "arousal_confidence" not in columns.names
    answer = Answer(label="male", confidence=0.75, probabilities={"female": 0.25, "male": 0.75})
    recognition = Recognition(
        source="a.wav",
        model="m",
        start=0.0,
        end=1.5,
        windows=[(0.0, 1.5)],
        tasks={"gender": answer},
        attention={},
        values={"arousal": 3.5},
    )
    table = pa.Table.from_pylist(
        tables.build_rows("a.wav", recognition, {"model": "m"}), schema=columns
    )
    assert table.column("arousal").to_pylist() == [3.5]
    assert table.column("gender").to_pylist() == ["male"]


def test_run_without_a_precision_is_continued(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    check_plan(tmp_path, output, {"model": "a"})
    check_plan(tmp_path, output, {"model": "a", "precision": "bf16"})
    other = tmp_path / "other"
    other.mkdir()
    check_plan(other, output, {"model": "a", "precision": "bf16"})
    with pytest.raises(ConfigError, match="started with the precision bf16; now it is fp32"):
        check_plan(other, output, {"model": "a", "precision": "fp32"})


def test_output_in_a_folder_that_may_not_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with (
        pytest.raises(StorageError, match=r"cannot be written: Permission denied; choose"),
        lock_run(tmp_path / "run", tmp_path / "out.csv"),
    ):
        pass
