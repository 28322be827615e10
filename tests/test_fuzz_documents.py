"""For any content of a document, its reader returns a record or raises a SereinError."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import fuzz_documents
import pytest
from builders.odd_values import TRAP, odd_document, odd_json, odd_lines, odd_table, odd_value

from serein import bundle, config, recipes
from serein.config import MAX_DEPTH, is_shallow
from serein.corpora import table
from serein.errors import BundleError, ConfigError, CorpusError
from serein.results import io
from serein.results.evaluation import Results
from serein.results.studies import Search, Sweep

KINDS = [
    *(
        "bundle",
        "bundle, deep",
        "bundle, header",
        "bundle, recogniser",
        "recipe",
        "results",
        "results, packed",
    ),
    *("search", "sweep", "CSV", "JSON Lines", "Parquet", "protocol", "protocol, CSV"),
    *("places", "audformat", "part", "plan"),
]


def run_fuzzer(folder: Path, count: int, seed: int, *names: str) -> dict[str, Any]:
    words = [sys.executable, fuzz_documents.__file__, str(folder), str(count), str(seed), *names]
    done = subprocess.run(words, capture_output=True, text=True)
    log = folder / "log"
    assert done.returncode == 0, f"{log.read_text()} ended it: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_outcomes(found: dict[str, Any], count: int) -> None:
    assert found["faults"] == []
    assert found["harm"] == []
    assert list(found["outcomes"]) == KINDS
    for name, outcomes in found["outcomes"].items():
        assert sum(outcomes.values()) == count
        assert outcomes["refused"] > count / 2, name


def test_mutated_documents_are_read_or_refused(tmp_path: Path) -> None:
    check_outcomes(run_fuzzer(tmp_path, 20, 0), 20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_mutated_documents_are_read_or_refused(tmp_path: Path) -> None:
    check_outcomes(run_fuzzer(tmp_path, 1000, 1), 1000)


def test_cases_are_reproducible(tmp_path: Path) -> None:
    for name, kind in fuzz_documents.kinds(tmp_path).items():
        some = [fuzz_documents.content(kind, number, 5) for number in range(6)]
        assert some == [fuzz_documents.content(kind, number, 5) for number in range(6)], name
        assert len(set(some)) == 6


def test_other_exceptions_are_faults(tmp_path: Path) -> None:
    kind = fuzz_documents.kinds(tmp_path)["recipe"]
    path = tmp_path / kind.name
    path.write_bytes(kind.valid)
    assert fuzz_documents._outcome(kind, path) == ""
    path.write_text("x")
    assert fuzz_documents._outcome(kind, path).startswith("!")
    foreign = kind._replace(read=lambda path: dict[str, int]()["a"])
    assert fuzz_documents._outcome(foreign, path) == "KeyError: 'a'"


def test_forbidden_events_are_recorded(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import subprocess
from fuzz_documents import AuditWatch
watch = AuditWatch()
subprocess.run(["true"])
watch.is_active = True
subprocess.run(["true"])
print(watch.events)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "subprocess.Popen" in done.stdout, done.stderr


def test_odd_documents_are_reproducible_and_different() -> None:
    document = {"a": [1, {"b": "c"}], "d": None}
    before = json.dumps(document)
    found = [odd_document(document, Random(seed)) for seed in range(50)]
    assert json.dumps(document) == before
    assert sum(one != document for one in found) > 40
    assert repr(found) == repr([odd_document(document, Random(seed)) for seed in range(50)])
    assert any(TRAP in repr(odd_value(Random(seed))) for seed in range(300))
    for odd in (odd_lines, odd_table):
        assert len({odd("a = 1\nb = 2\n", Random(seed)) for seed in range(20)}) > 10
    assert len({odd_json(document, Random(seed)) for seed in range(50)}) > 30


# Faults that were found by fuzzing


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1])
def test_documents_may_be_nested_up_to_the_limit(depth: int) -> None:
    assert is_shallow(json.loads("[" * depth + "]" * depth))
    assert is_shallow(json.loads('{"a":' * depth + "1" + "}" * depth))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 900])
def test_deeply_nested_documents_are_not_shallow(depth: int) -> None:
    assert not is_shallow(json.loads("[" * depth + "]" * depth))
    assert not is_shallow(json.loads('{"a":' * depth + "1" + "}" * depth))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" + ".a" * 3000 + " = 1", "nested more than 32 deep"),
        ("a = " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("a = " + "[" * 3000 + "]" * 3000, "is not valid TOML"),
        ("a = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
    ],
)
def test_deeply_nested_recipe_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        recipes.load(str(path))
    found = config.parse_value(text.partition(" = ")[2])
    assert isinstance(found, int | str | list)


@pytest.mark.parametrize("depth", [40, 900, 3000, 100_000])
def test_deeply_nested_results_are_an_error(depth: int, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(
        '{"format": 2, "folds": ' + "[" * depth + "]" * depth + "}"
    )
    readers: tuple[Any, ...] = (Results, Search, Sweep)
    for record_type in readers:
        for name in (io.SEARCH_FILE, io.SWEEP_FILE):
            (tmp_path / name).write_bytes((tmp_path / "results.json").read_bytes())
        with pytest.raises(ConfigError, match=r"nested more than 32 deep|is not JSON"):
            io.load_record(record_type, tmp_path)


def test_format_with_thousands_of_digits_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"format": ' + "4" * 5000 + ', "name": "a"}')
    with pytest.raises(ConfigError, match="is not JSON: Exceeds the limit"):
        io.load_results(path)


def test_archive_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "MAX_BYTES", 2**16)
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(b" " * 2**20))
    with pytest.raises(ConfigError, match="unpacks to more than 65,536 bytes"):
        io.load_results(path)


def test_deeply_nested_table_is_an_error(tmp_path: Path) -> None:
    for depth in (900, 3000, 100_000):
        path = tmp_path / "deep.jsonl"
        path.write_text('{"file": "a.wav", "b": ' + "[" * depth + "]" * depth + "}\n")
        with pytest.raises(CorpusError):
            table.read(path)


def test_bundle_with_a_huge_declared_size_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    for header in (
        {"a": {"dtype": "F32", "shape": [25 * 10**9], "data_offsets": [0, 10**11]}},
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}},
    ):
        text = json.dumps({"__metadata__": {"serein": "{}", "sha256": ""}} | header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        with pytest.raises(BundleError, match="is not a serein model, or is cut short"):
            bundle.load(path)
