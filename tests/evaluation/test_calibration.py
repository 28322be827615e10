"""What an evaluation says of its confidence, counted again by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK

from serein import recipes
from serein.evaluation.calibration import fit_temperatures
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import Plan, build_plan
from serein.records import Corpus
from serein.results.evaluation import Epoch
from serein.training.checkpoint import TrainingRun


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate("li2019", corpus, settings=QUICK, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def todo(run: Run, corpus: Corpus) -> Plan:
    recipe = recipes.load("li2019", QUICK)
    return build_plan(recipe, corpus, seed=0, device="cpu", runs=run.folder.parent)


def validated(run: Run, todo: Plan, fold: str, task: str) -> tuple[np.ndarray, list[int]]:
    """Probabilities and true classes of a fold's validation side, from its state on disk."""
    state = torch.load(run.folder / "folds" / f"{fold}.pt", weights_only=True)
    epoch = next(one for one in run.results.folds if one.name == fold).epochs["validation"]
    sides = next(one for one in todo.protocol.folds if one.name == fold)
    names = todo.classes[task]
    said = [str(u.label(task)) for u in todo.corpus.select(sides.validation)]
    p_nk = state["predictions"][epoch - 1]["validation"][task].double().numpy()
    return p_nk, [names.index(label) for label in said]


def heated(p_nk: np.ndarray, temperature: float) -> np.ndarray:
    powers = p_nk ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_folds_temperature_fits_its_validation_side_best(run: Run, todo: Plan) -> None:
    for fold in run.results.folds:
        for task, found in fold.temperatures.items():
            p_nk, truth = validated(run, todo, fold.name, task)

            def cost(
                temperature: float, p_nk: np.ndarray = p_nk, truth: list[int] = truth
            ) -> float:
                return -float(np.log(heated(p_nk, temperature)[range(len(truth)), truth]).mean())

            others = [cost(t) for t in np.geomspace(0.05, 20, 200)]
            assert cost(found) <= min(others) + 1e-6


def test_confidence_is_counted_on_test_sides(run: Run) -> None:
    results = run.results
    for task, found in results.calibration.items():
        assert found.calibrated is not None
        heat = {fold.name: fold.temperatures[task] for fold in results.folds}
        rows = [
            heated(np.array([one.selections["validation"][task]]), heat[one.fold])[0]
            for one in results.predictions
        ]
        names = results.classes[task]
        truth = [names.index(str(one.truth[task])) for one in results.predictions]
        apart = np.array(rows) - np.eye(len(names))[truth]
        brier = (apart**2).sum(axis=1).mean()
        assert found.calibrated.brier == pytest.approx(brier, abs=1e-5)
        assert sum(count for count, _, _ in found.calibrated.bins) == len(truth)
        right = np.array([int(np.argmax(row)) == t for row, t in zip(rows, truth, strict=True)])
        confidence = np.array([row.max() for row in rows])
        for threshold, share, wa, _ in found.thresholds:
            kept = confidence >= threshold
            assert share == pytest.approx(kept.mean())
            if kept.any():
                assert wa == pytest.approx(right[kept].mean())
            else:
                assert wa is None


def test_thresholds_come_from_the_validation_sides(run: Run, todo: Plan) -> None:
    task = "emotion"
    found = run.results.calibration[task].thresholds
    confidences = np.concatenate(
        [
            heated(validated(run, todo, fold.name, task)[0], fold.temperatures[task]).max(axis=1)
            for fold in run.results.folds
        ]
    )
    assert [row[0] for row in found] == sorted(row[0] for row in found)
    for tenth, (threshold, *_) in zip(range(10, 0, -1), found, strict=True):
        assert (confidences >= threshold - 1e-9).mean() >= tenth / 10
        assert threshold in [pytest.approx(value) for value in confidences]


def test_without_a_validation_side_nothing_is_fitted(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "protocol.validation=none"]
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    assert [fold.temperatures for fold in results.folds] == [{}] * 4
    for found in results.calibration.values():
        assert found.calibrated is None
        assert found.thresholds == []
        assert found.raw.ece is not None
        assert 0 <= found.raw.ece <= 1


def test_a_validation_side_without_labels_gives_no_temperature(todo: Plan) -> None:
    fold = todo.protocol.folds[0]
    uniform = {
        task: torch.full((len(fold.validation), len(names)), 1 / len(names))
        for task, names in todo.classes.items()
    }
    scores: dict[str, dict[str, dict[str, float | None]]] = {
        "validation": {task: {"ua": 0.5} for task in todo.classes}
    }
    course = TrainingRun(
        [Epoch(epoch=1, loss=1, seconds=1, scores=scores)], [{"validation": uniform}]
    )
    assert fit_temperatures(todo, fold, course) == {}
