"""Tests of the calibration in evaluations, against a second computation."""

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
def plan(run: Run, corpus: Corpus) -> Plan:
    recipe = recipes.load("li2019", QUICK)
    return build_plan(recipe, corpus, seed=0, device="cpu", runs=run.folder.parent)


def validation_probabilities(
    run: Run, plan: Plan, fold: str, task: str
) -> tuple[np.ndarray, list[int]]:
    """Return probabilities and true classes of a fold's validation subset from its checkpoint."""
    state = torch.load(run.folder / "folds" / f"{fold}.pt", weights_only=True)
    epoch = next(one for one in run.results.folds if one.name == fold).epochs["validation"]
    sides = next(one for one in plan.protocol.folds if one.name == fold)
    names = plan.classes[task]
    said = [str(u.label(task)) for u in plan.corpus.select(sides.validation)]
    p_nk = state["predictions"][epoch - 1]["validation"][task].double().numpy()
    return p_nk, [names.index(label) for label in said]


def apply_temperature(p_nk: np.ndarray, temperature: float) -> np.ndarray:
    powers = p_nk ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_fold_temperature_is_the_best_fit_on_validation(run: Run, plan: Plan) -> None:
    for fold in run.results.folds:
        for task, found in fold.temperatures.items():
            p_nk, truth = validation_probabilities(run, plan, fold.name, task)

            def cost(
                temperature: float, p_nk: np.ndarray = p_nk, truth: list[int] = truth
            ) -> float:
                return -float(
                    np.log(apply_temperature(p_nk, temperature)[range(len(truth)), truth]).mean()
                )

            others = [cost(t) for t in np.geomspace(0.05, 20, 200)]
            assert cost(found) <= min(others) + 1e-6


def test_calibration_scores_are_of_test_subsets(run: Run) -> None:
    results = run.results
    for task, found in results.calibration.items():
        assert found.calibrated is not None
        temperature_of = {fold.name: fold.temperatures[task] for fold in results.folds}
        rows = [
            apply_temperature(
                np.array([one.selections["validation"][task]]), temperature_of[one.fold]
            )[0]
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


def test_thresholds_are_of_validation_subsets(run: Run, plan: Plan) -> None:
    task = "emotion"
    found = run.results.calibration[task].thresholds
    confidences = np.concatenate(
        [
            apply_temperature(
                validation_probabilities(run, plan, fold.name, task)[0], fold.temperatures[task]
            ).max(axis=1)
            for fold in run.results.folds
        ]
    )
    assert [row[0] for row in found] == sorted(row[0] for row in found)
    for tenth, (threshold, *_) in zip(range(10, 0, -1), found, strict=True):
        assert (confidences >= threshold - 1e-9).mean() >= tenth / 10
        assert threshold in [pytest.approx(value) for value in confidences]


def test_no_validation_subset_fits_nothing(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "protocol.validation=none"]
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    assert [fold.temperatures for fold in results.folds] == [{}] * 4
    for found in results.calibration.values():
        assert found.calibrated is None
        assert found.thresholds == []
        assert found.raw.ece is not None
        assert 0 <= found.raw.ece <= 1


def test_validation_without_labels_has_no_temperature(plan: Plan) -> None:
    fold = plan.protocol.folds[0]
    uniform = {
        task: torch.full((len(fold.validation), len(names)), 1 / len(names))
        for task, names in plan.classes.items()
    }
    scores: dict[str, dict[str, dict[str, float | None]]] = {
        "validation": {task: {"ua": 0.5} for task in plan.classes}
    }
    course = TrainingRun(
        [Epoch(epoch=1, loss=1, seconds=1, scores=scores)], [{"validation": uniform}]
    )
    assert fit_temperatures(plan, fold, course) == {}
