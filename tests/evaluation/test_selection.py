"""Tests of the selection of epochs, of kept weights, and of confident errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK, random_frames, random_subset, small_system

from serein.errors import ConfigError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.train import train
from serein.recipes import load
from serein.records import Corpus
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training import dataset
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.loop import fit
from serein.training.predict import predict_subset


def training_run_of(*scores: float | None) -> TrainingRun:
    return TrainingRun(
        [
            Epoch(epoch=n, loss=1, seconds=1, scores={"validation": {"emotion": {"ua": ua}}})
            for n, ua in enumerate(scores, 1)
        ]
    )


@pytest.mark.parametrize(
    ("window", "expected"),
    [(1, 2), (2, 5), (3, 6), (100, 6)],
)
def test_selection_window_averages_epochs(window: int, expected: int) -> None:
    #                 1    2    3    4    5    6
    scores = training_run_of(0.1, 0.9, 0.2, 0.7, 0.8, 0.7)
    means = [np.mean([0.1, 0.9, 0.2, 0.7, 0.8, 0.7][max(0, n - window) : n]) for n in range(1, 7)]
    assert scores.best_epoch("validation", ["emotion"], window=window) == expected
    assert int(np.argmax(means)) + 1 == expected


def test_later_epochs_do_not_change_earlier_selections() -> None:
    scores = [0.3, 0.5, 0.2, 0.6, 0.6, 0.1, None]
    chosen = [
        training_run_of(*scores[:n]).best_epoch("validation", ["emotion"], window=3)
        for n in range(1, len(scores))
    ]
    # Keeping the weights whenever the newest epoch is the best so far keeps the right ones.
    last_kept = max(n for n, best in enumerate(chosen, 1) if best == n)
    assert last_kept == chosen[-1]


@pytest.mark.parametrize("expected", [1, 3, 4])
def test_weights_of_the_selected_epoch_are_kept(expected: int, tmp_path: Path) -> None:
    side = random_subset([9, 12, 7, 10])
    system, settings = small_system(), TrainingConfig(epochs=4, batch=2)
    state = tmp_path / "state.pt"
    found = fit(
        system,
        side,
        {"test": side},
        settings,
        checkpoint=state,
        keep_weights=lambda training_run_of: len(training_run_of.epochs) == expected,
    )
    kept = small_system(seed=5)
    kept.load_state_dict(found.weights)
    answers = predict_subset(kept, side, 2)["emotion"]
    torch.testing.assert_close(answers, found.predictions[expected - 1]["test"]["emotion"])
    again = fit(small_system(), side, {"test": side}, settings, checkpoint=state)
    assert all(torch.equal(again.weights[name], x) for name, x in found.weights.items())


def test_no_weights_are_kept_by_default() -> None:
    side = random_subset([9, 12, 7, 10])
    assert fit(small_system(), side, {}, TrainingConfig(epochs=1)).weights == {}


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate("li2019", corpus, settings=QUICK, runs=tmp_path_factory.mktemp("runs"))


def test_confident_errors_are_sorted_by_confidence(run: Run, corpus: Corpus) -> None:
    found = run.results.confident_errors
    classes = run.results.classes["emotion"]
    wrong = {
        one.id: max(one.selections["validation"]["emotion"])
        for one in run.results.predictions
        if classes[int(np.argmax(one.selections["validation"]["emotion"]))] != one.truth["emotion"]
    }
    assert [one.confidence for one in found] == pytest.approx(sorted(wrong.values())[::-1][:12])
    for one in found:
        utterance = corpus.select([one.id])[0]
        assert one.truth == utterance.labels["emotion"] != one.answer
        assert one.confidence == pytest.approx(wrong[one.id])
        assert len(one.envelope) == 400
        assert all(-1 <= low <= high <= 1 for low, high in one.envelope)
        look = one.attention["heads"]
        assert len(look.times) == len(look.weight)
        assert look.times == sorted(look.times)
        assert look.times[0] >= 0
        assert look.times[-1] <= one.seconds
        assert sum(look.weight) == pytest.approx(1, abs=1e-3)


def test_attention_is_of_the_headline_epoch(run: Run, corpus: Corpus) -> None:
    todo = build_plan(load("li2019", QUICK), corpus, seed=0, device="cpu", runs=run.folder.parent)
    one = run.results.confident_errors[0]
    state = torch.load(run.folder / "folds" / f"{one.fold}.pt", weights_only=True)
    system = System(todo.recipe, todo.classes)
    system.load_state_dict(state["weights"])
    fold = next(fold for fold in todo.protocol.folds if fold.name == one.fold)
    side = todo.build_subset(fold.test, todo.load_frames(), system)
    answers = predict_subset(system, side, 40)["emotion"]
    record = next(record for record in run.results.predictions if record.id == one.id)
    place = fold.test.index(one.id)
    expected = record.selections["validation"]["emotion"]
    assert answers[place].tolist() == pytest.approx(expected, abs=1e-5)


def test_speaker_statistics_standardise_each_speaker() -> None:
    frames = random_frames([30, 40, 50, 60], width=3)
    frames.x_nf[:70] *= 7
    frames.x_nf[:70] += 100
    before = frames.x_nf.copy()
    groups = {"u000": "a", "u001": "a", "u002": "b", "u003": "b"}
    found = dataset.standardize_by_group(frames, groups)
    for first, last in ((0, 70), (70, 180)):
        np.testing.assert_allclose(found.x_nf[first:last].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(found.x_nf[first:last].std(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(frames.x_nf, before)


def test_speaker_statistics_are_a_setting(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "normalise.statistics=speaker", "training.epochs=1"]
    todo = build_plan(load("li2019", settings), corpus, seed=0, device="cpu", runs=tmp_path)
    frames = todo.load_frames()
    for speaker in {one.speaker for one in corpus.utterances}:
        ids = [one.id for one in corpus.utterances if one.speaker == speaker]
        together = np.concatenate([frames[id_] for id_ in ids])
        np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-4)
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    assert len(results.predictions) == len(corpus.utterances)


def test_model_with_speaker_statistics_cannot_be_saved(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "normalise.statistics=speaker"]
    with pytest.raises(ConfigError, match="it is for evaluations only"):
        train("li2019", corpus, tmp_path / "a.safetensors", settings=settings)
