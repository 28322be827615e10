"""The nuisance baseline: numbers of a recording, folds, cache, and what a report says of it."""

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders.small_systems import QUICK
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import recall_score

from serein import corpora
from serein.evaluation import nuisance
from serein.evaluation.evaluate import evaluate
from serein.protocols import SplitConfig, split
from serein.records import Corpus, Utterance
from serein.report import audit, document, tables
from serein.results import io
from serein.results.evaluation import NUISANCE, Results

Run = Callable[..., tuple[int, str, str]]
ONE_EPOCH = (*QUICK, "training.epochs=1")
SPEAKERS = 4


def name_number(wave: np.ndarray, rate: float) -> dict[str, float]:
    return dict(zip(nuisance.NUMBERS, nuisance.compute_numbers(wave, rate).tolist(), strict=True))


def test_numbers_of_a_known_recording() -> None:
    rate = 8000
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    wave = np.concatenate([np.zeros(rate // 2), tone, np.zeros(rate // 4)]).astype(np.float32)
    found = name_number(wave, rate)
    assert found["duration"] == 1.75
    assert (found["silence before"], found["silence after"]) == (0.5, 0.25)
    assert found["level"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2) * np.sqrt(1 / 1.75)))
    assert found["peak"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    assert found["floor"] == -120
    assert found["offset"] == pytest.approx(0, abs=1e-6)
    assert found["zeros"] == pytest.approx(0.75 / 1.75, abs=0.15)  # the tone has zeros, too
    assert found["sampling rate"] == rate
    assert found["bandwidth"] == pytest.approx(1000, abs=600)  # its onset is a click


@pytest.mark.parametrize("wave", [np.zeros(4000), np.zeros(1), np.full(7, 0.25)])
def test_numbers_of_silence_and_of_few_samples_are_finite(wave: np.ndarray) -> None:
    found = name_number(wave.astype(np.float32), 16_000)
    assert np.isfinite(list(found.values())).all()
    if not wave.any():
        assert found["silence before"] == found["duration"]
        assert (found["zeros"], found["bandwidth"]) == (1, 0)


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Noise of four speakers, with silence before it that tells its class."""
    folder, members = tmp_path_factory.mktemp("padded"), []
    generator = np.random.default_rng(0)
    for number in range(24):
        emotion = ("anger", "neutral", "sadness")[number % 3]
        silence = np.zeros(1600 * (1 + number % 3), np.float32)
        noise = generator.normal(0, 0.05, 4800).astype(np.float32)
        path = folder / f"{number:02}.wav"
        soundfile.write(path, np.concatenate([silence, noise]), 16_000)
        speaker = f"s{number % SPEAKERS}"
        labels: dict[str, str | float] = {"emotion": emotion}
        gender = ("female", "male")[number % 2]
        members.append(
            Utterance(id=path.stem, path=path, speaker=speaker, labels=labels, gender=gender)
        )
    return Corpus(name="padded", utterances=tuple(members))


@pytest.fixture(scope="module")
def results(padded: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return evaluate("li2019", padded, settings=ONE_EPOCH, runs=tmp_path_factory.mktemp("r")).results


def test_baseline_is_the_forest_of_each_fold(padded: Corpus, results: Results) -> None:
    by_id = {u.id: u for u in padded.utterances}
    hashes = corpora.hash_contents(padded.utterances)
    row_of = dict(zip(by_id, nuisance.measure_recordings(padded.utterances, hashes), strict=True))
    truth, answers = [], []
    for fold in results.protocol["folds"]:
        forest = RandomForestClassifier(nuisance.TREES, class_weight="balanced", random_state=0)
        labels = [by_id[id_].labels["emotion"] for id_ in fold["train"]]
        forest.fit([row_of[id_] for id_ in fold["train"]], labels)
        answers += list(forest.predict([row_of[id_] for id_ in fold["test"]]))
        truth += [by_id[id_].labels["emotion"] for id_ in fold["test"]]
    wanted = recall_score(truth, answers, average="macro")
    assert results.baselines[NUISANCE]["emotion"]["ua"] == pytest.approx(wanted)
    assert wanted == 1
    assert list(results.baselines[NUISANCE]) == ["emotion"]


def test_high_baseline_and_worse_system_are_in_the_headline(results: Results) -> None:
    text = "\n".join(document.describe_headline(results))
    assert "the classes can be predicted from how the corpus was recorded and cut" in text
    assert "(duration, silence before and after, level, peak" in text
    assert "has a UA of 100.0 %" in text
    scores = results.scores[results.headline]["emotion"]
    assert (scores.ua or 0) < 1
    assert "the system is no better" in text
    low = {**results.baselines}
    low[NUISANCE] = {"emotion": {"wa": 0.3, "ua": 0.3}}
    better = replace(scores, ua=0.9)
    good = {**results.scores, results.headline: {**results.scores[results.headline]}}
    good[results.headline]["emotion"] = better
    assert audit.describe_nuisance(replace(results, baselines=low, scores=good)) is None


def test_old_results_have_no_nuisance_baseline(results: Results, tmp_path: Path) -> None:
    rest = {name: own for name, own in results.baselines.items() if name != NUISANCE}
    old = replace(results, baselines=rest)
    io.save_record(old, tmp_path)
    assert audit.describe_nuisance(io.load_results(tmp_path)) is None
    rows = tables.build_selection_table(old, "emotion").rows
    assert all(NUISANCE not in str(row) for row in rows)


def test_second_run_reads_no_audio_and_fits_nothing(
    padded: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = corpora.hash_contents(padded.utterances)
    first = nuisance.score_corpus(padded.utterances, hashes)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(nuisance, "_measure", fail)
    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier", fail)
    assert nuisance.score_corpus(padded.utterances, hashes) == first == 1


def test_without_scikit_learn_the_line_says_what_to_install(
    padded: Corpus, results: Results, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "sklearn":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    hashes = corpora.hash_contents(padded.utterances)
    labels = {u.id: u.labels["emotion"] for u in padded.utterances}
    protocol = split(
        padded.utterances, SplitConfig(name="leave-one-speaker-out", validation="none")
    )
    classes = {"emotion": ("anger", "neutral", "sadness")}
    found = nuisance.score_nuisance(padded, hashes, protocol, results.predictions, classes, labels)
    assert found == {NUISANCE: {"emotion": {"wa": None, "ua": None}}}
    without = replace(results, baselines={**results.baselines, **found})
    note = tables.build_selection_table(without, "emotion").note
    assert "it needs scikit-learn, pip install 'serein[svm]'" in note
    assert audit.describe_nuisance(without) is None


def test_corpora_check_prints_the_baseline(padded: Corpus, run: Run, tmp_path: Path) -> None:
    lines = ["file,speaker,emotion"]
    lines += [f"{u.path},{u.speaker},{u.labels['emotion']}" for u in padded.utterances]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    status, out, _ = run("corpora", "check", f"mine={tmp_path / 'labels.csv'}")
    assert status == 0
    assert "emotion with a UA of 100.0 %, tested on other speakers" in out
    one = nuisance.score_corpus(
        [u for u in padded.utterances if u.speaker == "s0"],
        corpora.hash_contents(padded.utterances),
    )
    assert one is None
