"""Tests of the plan of a run: what it uses, leaves out and leaks, and how long it takes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders.corpus_layouts import write_librispeech
from builders.small_systems import QUICK
from rich.console import Console

from serein import recipes
from serein.errors import ConfigError, ProtocolError
from serein.evaluation import dry_run
from serein.evaluation.dry_run import find_leak_errors, plan_run
from serein.evaluation.plan import build_plan, describe_plan
from serein.evaluation.step_timing import estimate_time
from serein.evaluation.train import train
from serein.records import Corpus, LeftOut
from serein.report.plan import build_fold_tables, format_duration, render_plan
from serein.results import io
from serein.results.plan import PlannedRun

SPEAKERS = ("protocol.name=leave-one-speaker-out", "tasks.emotion.scheme=own")
SETTINGS = (*QUICK, *SPEAKERS)
ASR_SETTINGS = (
    *("features.bands=12", "features.seconds=4.0", "training.epochs=3", "training.batch=2"),
    *("model.encoder_hidden=8", "model.encoder_layers=1", "model.decoder_hidden=8"),
    *("model.decoder_words=8", "model.decoder_attention=8", "text.min_count=1"),
)


def print_plan(planned: PlannedRun, width: int = 80) -> str:
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render_plan(planned))
    return capture.get()


@pytest.fixture(scope="module")
def planned(corpus: Corpus) -> PlannedRun:
    settings = (*SETTINGS, "protocol.only.emotion=anger,sadness", "training.balance=class")
    return plan_run("li2019", corpus, settings=settings, seed=3, seeds=2, measure_time=False)


def test_plan_agrees_with_the_evaluation(planned: PlannedRun, corpus: Corpus) -> None:
    recipe = recipes.load("li2019", [*SETTINGS, "protocol.only.emotion=anger,sadness"])
    plan = build_plan(recipe, corpus, seed=3, device="cpu", runs=Path("runs"))
    assert planned.protocol["hash"] == plan.protocol.hash
    assert planned.corpus == {"name": "spoken", "utterances": 16, "total": 24}
    assert planned.left_out == list(plan.left_out)
    assert planned.leakage == list(plan.leakage)
    assert planned.head == describe_plan(plan)
    assert [fold.name for fold in planned.folds] == [fold.name for fold in plan.protocol.folds]


def test_classes_of_every_subset_are_counted(planned: PlannedRun) -> None:
    assert len(planned.folds) == 4
    for fold in planned.folds:
        assert fold.train.classes == {
            "emotion": {"anger": 4, "sadness": 4},
            "gender": fold.train.classes["gender"],
        }
        assert (fold.train.utterances, fold.train.speakers) == (8, 2)
        assert (fold.validation.utterances, fold.test.utterances) == (4, 4)
        assert sum(fold.test.classes["gender"].values()) == 4
    assert planned.left_out == [
        LeftOut(reason="only", count=8, description="of another emotion than anger or sadness")
    ]


def test_plan_trains_and_writes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    plan_run("li2019", corpus, settings=SETTINGS, measure_time=False)
    assert list(tmp_path.iterdir()) == []


def test_plan_is_saved_as_json(planned: PlannedRun, tmp_path: Path) -> None:
    io.save_record(planned, tmp_path / "plan.json")
    table = json.loads((tmp_path / "plan.json").read_text())
    assert table["folds"][0]["train"]["classes"]["emotion"] == {"anger": 4, "sadness": 4}
    assert table["seeds"] == [3, 4]
    assert table["time"] is None


def test_plan_is_legible_in_80_columns(planned: PlannedRun) -> None:
    text = print_plan(planned)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("li2019 on spoken: 16 of 24 utterances, emotion in 2 classes")
    assert any(
        line.split() == ["fold", "subset", "all", "speakers", "anger", "sadness"] for line in lines
    )
    assert "of another emotion than anger or sadness" in text
    assert "clean: speaker, duplicate" in " ".join(text.split())
    assert "Time: not measured: --no-timing." in text
    assert "2 seeds" in text


def test_many_folds_are_ranges(planned: PlannedRun) -> None:
    folds = [replace(fold, name=f"{number:02}") for number in range(6) for fold in planned.folds]
    folds[0] = replace(folds[0], train=replace(folds[0].train, utterances=7))
    (table,) = build_fold_tables(replace(planned, folds=folds))
    assert [row.cells[:3] for row in table.rows] == [
        ("train", "7-8", "2"),
        ("validation", "4", "1"),
        ("test", "4", "1"),
    ]
    assert "24 folds" in table.note


def test_many_classes_are_divided_among_tables(planned: PlannedRun) -> None:
    names = [f"emotion{number}" for number in range(20)]
    counts = {"emotion": dict.fromkeys(names, 1234), "gender": {"female": 1}}

    def widen(fold):  # type: ignore[no-untyped-def]
        subsets = {
            name: replace(getattr(fold, name), classes=counts)
            for name in ("train", "validation", "test")
        }
        return replace(fold, **subsets)

    wide = replace(
        planned, folds=list(map(widen, planned.folds)), classes={"emotion": names, "gender": []}
    )
    assert len(build_fold_tables(wide)) > 1
    text = print_plan(wide)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in names)
    assert "…" not in text


def test_leaks_are_listed_and_raise_no_error(corpus: Corpus) -> None:
    shared = tuple(replace(u, dialogue="d", session="1") for u in corpus.utterances)
    planned = plan_run(
        "li2019", replace(corpus, utterances=shared), settings=SETTINGS, measure_time=False
    )
    assert [finding.kind for finding in find_leak_errors(planned)] == ["partner"]
    assert "error: partner: " in print_plan(planned)
    allowed = plan_run(
        "li2019",
        replace(corpus, utterances=shared),
        settings=[*SETTINGS, "protocol.allow=partner"],
        measure_time=False,
    )
    assert find_leak_errors(allowed) == []
    assert "partner leak allowed" in str(allowed.protocol["caution"])


def test_recordings_that_were_never_hashed_are_not_read(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "MAX_HASHED_BYTES", 0)
    planned = plan_run("li2019", corpus, settings=SETTINGS, measure_time=False)
    assert "duplicate" not in [finding.kind for finding in planned.leakage]
    (note,) = planned.not_checked
    assert "24 files" in note
    assert "--compare-recordings" in note
    whole = plan_run(
        "li2019", corpus, settings=SETTINGS, measure_time=False, compare_recordings=True
    )
    assert "duplicate" in [finding.kind for finding in whole.leakage]
    assert whole.not_checked == []


def test_samples_of_many_recordings_are_not_read(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "MAX_READ_RECORDINGS", 10)
    planned = plan_run("li2019", corpus, settings=SETTINGS, measure_time=False)
    assert "duplicate" in [finding.kind for finding in planned.leakage]
    assert "only the bytes" in planned.not_checked[0]


def test_settings_that_a_new_name_drops_are_listed(corpus: Corpus) -> None:
    settings = [*QUICK, "protocol.name=leave-one-speaker-out", "tasks.emotion.scheme=own"]
    planned = plan_run("feng2020-audio", corpus, settings=settings[-2:], measure_time=False)
    assert any("max_duration=20" in line for line in planned.dropped_settings)
    assert "max_duration=20" in print_plan(planned)


def test_missing_initial_model_is_said(corpus: Corpus) -> None:
    spoken = replace(
        corpus, utterances=tuple(replace(u, text="some words") for u in corpus.utterances)
    )
    settings = [*SPEAKERS, "training.init=gone.safetensors"]
    planned = plan_run("feng2020", spoken, settings=settings, measure_time=False)
    assert planned.not_checked[0].startswith("training.init = gone.safetensors does not exist")
    assert planned.recipe["training"]["init"] == "gone.safetensors"


def test_fault_of_settings_or_corpus_is_one_error(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="seeds is 0"):
        plan_run("li2019", corpus, settings=SETTINGS, seeds=0)
    with pytest.raises(ProtocolError, match="leaves no utterance"):
        plan_run("li2019", corpus, settings=[*SETTINGS, "protocol.only.speaker=x"])


def test_time_of_all_steps_is_estimated(corpus: Corpus) -> None:
    settings = [*SETTINGS, "training.epochs=5", "training.batch=5"]
    planned = plan_run("li2019", corpus, settings=settings, seeds=2, jobs=2)
    time = planned.time
    assert time is not None
    # Four folds of 12 training, 6 validation and 6 test utterances.
    assert time.training_steps == 2 * 5 * 4 * 3
    assert time.evaluation_batches == 2 * 5 * 4 * (2 + 2)
    assert time.measured_steps >= 1
    assert time.step_seconds > 0
    assert time.evaluation_seconds > 0
    training = 120 * time.step_seconds + 160 * time.evaluation_seconds
    assert time.total_seconds == pytest.approx(time.features_seconds + training)
    assert time.elapsed_seconds == pytest.approx(time.features_seconds + training / 2)
    assert 0 < time.processor_share <= 1
    assert "(120 in all," in " ".join(print_plan(planned).split())


def test_cached_features_take_no_time(corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipes.load("li2019", [*SETTINGS, "training.epochs=1"])
    plan = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    assert estimate_time(plan).features_seconds > 0
    plan.load_frames()
    assert estimate_time(plan).features_seconds == 0


def test_estimator_is_not_measured(corpus: Corpus) -> None:
    settings = ["model.name=svm", "tasks.gender=remove", *SPEAKERS]
    planned = plan_run("li2019", corpus, settings=settings)
    assert planned.time is None
    assert planned.time_notes == ["not measured: svm is fitted at once, without epochs"]


def test_recognizer_is_planned_as_one_training(tmp_path: Path) -> None:
    write_librispeech(tmp_path, parts=("train-clean-100", "dev-clean", "test-clean"))
    planned = plan_run("feng2020-asr", f"librispeech={tmp_path}", settings=ASR_SETTINGS)
    (fold,) = planned.folds
    assert (fold.train.utterances, fold.validation.utterances, fold.test.utterances) == (6, 0, 0)
    assert planned.corpus["total"] == 18
    assert planned.time is not None
    assert (planned.time.training_steps, planned.time.evaluation_batches) == (9, 0)
    text = " ".join(print_plan(planned).split())
    assert "one training on the training subset of parts: part train-clean-100" in text
    assert "6 in the test subset" not in text.split("Left out")[0]


def test_joint_system_is_timed_with_words(corpus: Corpus, tmp_path: Path) -> None:
    write_librispeech(tmp_path / "libri", parts=("train-clean-100",))
    asr = tmp_path / "asr.safetensors"
    train("feng2020-asr", f"librispeech={tmp_path / 'libri'}", asr, settings=ASR_SETTINGS)
    spoken = replace(
        corpus, utterances=tuple(replace(u, text="some words") for u in corpus.utterances)
    )
    planned = plan_run(
        "feng2020",
        spoken,
        settings=[*ASR_SETTINGS, *SPEAKERS, f"training.init={asr}", "model.hidden=4"],
    )
    assert planned.time is not None
    assert planned.not_checked == []
    assert any("untrained network" in note for note in planned.time_notes)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "0:59 minutes"), (3600, "1.0 hours"), (200_000, "56 hours (2.3 days)")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_evaluation_prints_the_head_first(
    run: Callable[..., tuple[int, str, str]], root: Path
) -> None:
    settings = [*SETTINGS, "training.epochs=1", "protocol.only.emotion=anger,sadness"]
    options = [word for setting in settings for word in ("--set", setting)]
    status, _, err = run("evaluate", "li2019", "--corpus", f"synthetic={root}", *options)
    assert status == 0
    lines = err.splitlines()
    assert lines[0].startswith("li2019 on synthetic: 16 of 24 utterances, emotion in 2 classes")
    assert "4 folds x 1 epoch, in runs" in lines[0]
    assert lines[1] == "left out: 8 of another emotion than anger or sadness"
