"""Tests of saving and loading result records, also of earlier formats."""

import gzip
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.example_results import example_results

from serein.config import RENAMED_SETTINGS
from serein.errors import ConfigError
from serein.records import Finding
from serein.results import io
from serein.results.evaluation import (
    AttentionTrace,
    Calibration,
    CalibrationScores,
    ConfidentError,
    OptimisticVariant,
    Results,
)
from serein.results.inference import RecognizedWord, Transcription, Transcriptions
from serein.results.studies import PairedTest, Search, Sweep, SweepPoint, SweepSeed, Trend, Trial

COMMITTED = sorted((Path(__file__).parents[2] / "results").rglob("*.json.gz"))


@pytest.fixture(scope="module")
def results() -> Results:
    """Results with every field that was renamed in format 3."""
    plain = example_results(utterances=20, epochs=2)
    scores = CalibrationScores(ece=0.1, brier=0.2, bins=[(20, 0.5, 0.5)])
    return replace(
        plain,
        recipe={**plain.recipe, "protocol": {"name": "by-label", "auxiliary_share": 0.5}},
        predictions=[replace(p, transcripts={"last": "eins zwei"}) for p in plain.predictions],
        held_out=[replace(p, transcripts={"last": "drei"}) for p in plain.predictions[:2]],
        folds=[replace(fold, selected_c={"emotion": 0.25}) for fold in plain.folds],
        calibration={"emotion": Calibration(raw=scores, calibrated=scores, thresholds=[])},
        leakage=[Finding(kind="speaker", verdict="clean", count=0, description="no speaker")],
        confident_errors=[
            ConfidentError(
                id="a",
                fold="b",
                task="emotion",
                truth="anger",
                answer="fear",
                confidence=0.9,
                seconds=1.5,
                envelope=[(-0.5, 0.5)],
                attention={"emotion": AttentionTrace(times=[0.5, 1.0], weight=[0.25, 0.75])},
            )
        ],
        optimistic_variants=[
            OptimisticVariant(name="random-split", description="a split", run="r", scores={})
        ],
    )


@pytest.fixture
def paired_test() -> PairedTest:
    return PairedTest(
        task="emotion",
        selection="last",
        first="a",
        second="b",
        utterances=10,
        scores={"ua": (0.5, 0.25)},
        main="ua",
        difference=0.25,
        difference_interval=(0.125, 0.375),
        interval="bootstrap over speakers",
        mcnemar=0.5,
        permutation=0.5,
        permutation_unit="whole speakers (10)",
        z=0.5,
        adjusted={"z": 1.0},
        effect=0.125,
    )


@pytest.fixture
def sweep(paired_test: PairedTest) -> Sweep:
    seed = SweepSeed(seed=0, run="r", wa=0.5, ua=0.5)
    point = SweepPoint(
        value=0.5,
        split="by-label",
        training_utterances=12.0,
        wa=0.5,
        ua=0.5,
        wa_interval=None,
        ua_interval=(0.25, 0.75),
        seeds=[seed],
    )
    return Sweep(
        format=io.FORMAT,
        name="sweep",
        command="serein sweep",
        created="2026-11-21T02:46:44+00:00",
        recipe={"name": "li2019", "protocol": {"auxiliary_ratio": 1.0}},
        corpus={"name": "spoken"},
        protocol="by-label",
        task="emotion",
        selection="last",
        setting="protocol.auxiliary_share",
        utterances=10,
        points=[point],
        interval="bootstrap over speakers",
        paired_tests=[paired_test],
        trend=Trend(slope=0.1, interval=None, p=0.5, arrangements=2),
        warnings=[],
    )


@pytest.fixture
def search() -> Search:
    return Search(
        format=io.FORMAT,
        name="search",
        command="serein search",
        created="2026-11-21T02:46:44+00:00",
        recipe={"name": "li2019", "training": {"selection_window": 2}},
        corpus={"name": "spoken"},
        protocol={"name": "by-label", "folds": 3},
        task="emotion",
        space={"tasks.gender.weight": "0..1"},
        seed=3,
        trials=[Trial(number=0, settings={"tasks.gender.weight": 0.5}, state="running")],
        best=None,
        evaluation="",
        warnings=[],
    )


def to_old_format(record: Any, version: int) -> dict[str, Any]:
    """Return a record as an earlier version wrote it."""
    table = {**io.to_builtin(record), "format": version}
    for name, names in io.RENAMED_FIELDS.items():
        present = io.RENAMED_RECORDS.get(name, name)
        if present not in table:
            continue
        old_names = {new: old for old, new in names.items()}
        value = table.pop(present)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        renamed = {key: {old_names.get(k, k): v for k, v in item.items()} for key, item in items}
        table[name] = renamed if isinstance(value, dict) else list(renamed.values())
    for old, new in io.RENAMED_RECORDS.items():
        if new in table:
            table[old] = table.pop(new)
    for name, settings in RENAMED_SETTINGS.items():
        old_settings = {new: old for old, new in settings.items()}
        if name in table["recipe"]:
            settings_table = table["recipe"][name].items()
            table["recipe"][name] = {old_settings.get(k, k): v for k, v in settings_table}
    return table


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["results", "search", "sweep"])
def test_old_formats_load_with_the_present_names(
    kind: str, version: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    record = request.getfixturevalue(kind)
    table = to_old_format(record, version)
    renamed = {*io.RENAMED_RECORDS.values(), "transcripts", "permutation_unit", "selected_c"}
    assert not renamed & {*keys(table)}
    (tmp_path / io.FILE_NAMES[type(record)]).write_text(json.dumps(table))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = io.load_record(type(record), tmp_path)
    assert loaded == record


def test_every_renamed_field_is_part_of_the_test(results: Results, sweep: Sweep) -> None:
    tables = io.to_builtin(results), io.to_builtin(sweep)
    for name, names in io.RENAMED_FIELDS.items():
        present = io.RENAMED_RECORDS.get(name, name)
        (value,) = (table[present] for table in tables if present in table)
        assert set(names.values()) <= {*keys(value)}


@pytest.mark.parametrize("file", COMMITTED[:: len(COMMITTED) // 4 or 1], ids=lambda file: file.name)
def test_committed_results_load(file: Path) -> None:
    table = json.loads(gzip.decompress(file.read_bytes()))
    loaded = io.load_results(file)
    assert loaded.format == io.FORMAT
    variants = table.get("optimistic_variants", table.get("flatteries", []))  # the former name
    assert len(loaded.optimistic_variants) == len(variants)
    confident = table.get("confident_errors", table.get("mistakes"))
    assert [error.id for error in loaded.confident_errors] == [error["id"] for error in confident]
    assert [finding.description for finding in loaded.leakage] == [
        finding.get("description", finding.get("words")) for finding in table["leakage"]
    ]
    assert not {*keys(loaded.recipe["protocol"])} & {*RENAMED_SETTINGS["protocol"]}


def test_a_record_is_saved_in_its_folder_or_in_a_file(
    search: Search, sweep: Sweep, tmp_path: Path
) -> None:
    io.save_record(search, tmp_path)
    io.save_record(sweep, tmp_path)
    io.save_record(search, tmp_path / "other.json.gz")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "other.json.gz",
        "search.json",
        "sweep.json",
    ]
    assert io.load_record(Search, tmp_path) == search
    assert io.load_record(Search, tmp_path / "other.json.gz") == search
    assert io.load_record(Sweep, tmp_path) == sweep
    with pytest.raises(ConfigError, match="holds no sweep"):
        io.load_record(Sweep, tmp_path / "search.json")


def test_transcriptions_are_saved_in_the_given_file(tmp_path: Path) -> None:
    words = [RecognizedWord(word="eins", time=0.5), RecognizedWord(word="</s>")]
    row = Transcription(id="a", text="eins", words=words, score=-0.5, seconds=1.5)
    transcriptions = Transcriptions(
        format=io.FORMAT,
        command="serein transcribe",
        created="2026-11-21T02:46:44+00:00",
        model="asr",
        card={},
        corpus={},
        scores=None,
        rows=[row],
    )
    io.save_record(transcriptions, tmp_path / "words.txt")
    assert io.load_record(Transcriptions, tmp_path / "words.txt") == transcriptions
