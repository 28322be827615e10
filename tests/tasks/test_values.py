"""Regression tasks: scores, loss, head, and labels of recipes and corpora."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK
from scipy import stats
from torch import Tensor

from serein import config, corpora, labels, recipes, system
from serein.bundle import Bundle, Card, load, save
from serein.errors import ConfigError
from serein.evaluation.labels import apply_label_scheme
from serein.labels import dimensions
from serein.labels.targets import find_classes, get_task_label
from serein.metrics import scoring
from serein.metrics.bootstrap import bootstrap_difference, bootstrap_interval, sum_by_group
from serein.metrics.regression import (
    concordance_from_moments,
    concordance_score,
    moments,
    pearson_from_moments,
    pearson_score,
    root_mean_squared_error,
    root_mean_squared_error_from_moments,
)
from serein.metrics.statistical_tests import permutation_test
from serein.records import Corpus, Recipe, Utterance
from serein.results.evaluation import Epoch
from serein.tasks.dimensions import Config, Task
from serein.tasks.heads import RegressionTask, concordance_loss
from serein.training.checkpoint import TrainingRun, compute_scores

VALUE = "tasks.arousal={name='dimensions', scheme='values'}"
NO_OTHER_TASKS = ["tasks.emotion=remove", "tasks.gender=remove"]

# Moments

PAIRS: list[tuple[Callable[..., object], Callable[..., object]]] = [
    (concordance_from_moments, concordance_score),
    (pearson_from_moments, pearson_score),
    (root_mean_squared_error_from_moments, root_mean_squared_error),
]


@pytest.mark.parametrize(("from_moments", "from_values"), PAIRS)
@pytest.mark.parametrize(
    ("truth", "answers"),
    [
        ([1, 2, 3, 5], [1.5, 2, 2, 4]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [3, 2, 1]),
        ([2, 2, 2], [1, 2, 3]),
        ([1, 2, 3], [2.1, 2.1, 2.1]),
        ([2.1, 2.1, 2.1], [2.1, 2.1, 2.1]),
        ([2.1, 2.1, 2.1], [3.3, 3.3, 3.3]),
        ([4], [3]),
        ([], []),
    ],
)
def test_scores_from_moments_equal_scores_from_values(
    from_moments: Callable[..., object],
    from_values: Callable[..., object],
    truth: list[float],
    answers: list[float],
) -> None:
    found = from_moments(moments(truth, answers).sum(axis=0))
    assert found == pytest.approx(from_values(truth, answers), abs=1e-12, nan_ok=True)


def test_moments_of_groups_add_up() -> None:
    rng = np.random.default_rng(0)
    truth, answers = rng.uniform(1, 5, 200), rng.uniform(1, 5, 200)
    groups = rng.integers(0, 9, 200).tolist()
    sums = sum_by_group(moments(truth, answers), groups)
    assert sums.shape == (9, 6)
    total = sums.sum(axis=0)
    assert pearson_from_moments(total) == pytest.approx(stats.pearsonr(truth, answers)[0])
    assert concordance_from_moments(total) == pytest.approx(concordance_score(truth, answers))


def test_scores_with_a_nan_prediction_are_undefined() -> None:
    sums = moments([1, 2, 3], [1, float("nan"), 3]).sum(axis=0)
    assert scoring.REGRESSION_SCORER.compute_scores(sums) == {
        "ccc": None,
        "rmse": None,
        "pearson": None,
    }


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0] * 5]])
def test_wrong_shapes_are_errors(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="need six sums"):
        concordance_from_moments(wrong)
    with pytest.raises(ValueError, match="two vectors of one length"):
        moments(wrong, [1.0])


def test_get_scorer_of_classes_and_values() -> None:
    assert [one.name for one in scoring.get_scorer(["a", "b"]).metrics] == ["wa", "ua"]
    assert [one.name for one in scoring.get_scorer(()).metrics] == ["ccc", "rmse", "pearson"]
    assert scoring.get_main_score({"wa": 0.1, "ua": 0.2}) == 0.2
    assert scoring.get_main_score({"ccc": None, "rmse": 1.0, "pearson": None}) is None
    assert scoring.get_metric("rmse").format_score(0.5) == "RMSE 0.500"
    assert scoring.get_metric("ua").format_score(0.5) == "UA 50.0%"


def random_ratings(deviation: float, seed: int = 1) -> tuple[list[float], list[float], list[int]]:
    """Return labels, predictions with normal errors, and speakers."""
    truth = np.random.default_rng(0).uniform(1, 5, 120)
    answers = truth + np.random.default_rng(seed).normal(0, deviation, 120)
    return truth.tolist(), answers.tolist(), [*range(12)] * 10


def test_intervals_resample_speakers_and_contain_the_score() -> None:
    truth, answers, groups = random_ratings(0.8)
    tallies = scoring.REGRESSION_SCORER.tally(truth, answers, groups, ())
    for kind in scoring.REGRESSION_SCORER.metrics:
        low, high = scoring.compute_interval(tallies, kind) or (1.0, 0.0)
        assert low < float(np.asarray(kind.statistic(tallies.sum(axis=0)))) < high
    assert scoring.compute_interval(tallies, scoring.CCC, method="bootstrap") == bootstrap_interval(
        tallies, concordance_from_moments
    )
    nothing = scoring.REGRESSION_SCORER.tally([], [], [], ())
    assert scoring.compute_interval(nothing, scoring.CCC) is None


def test_paired_tests_of_two_systems_use_their_moments() -> None:
    truth, good, groups = random_ratings(0.3)
    bad = random_ratings(1.5, seed=2)[1]
    ours, theirs = (scoring.REGRESSION_SCORER.tally(truth, one, groups, ()) for one in (good, bad))
    low, high = bootstrap_difference(ours, theirs, concordance_from_moments)
    gap = concordance_score(truth, good) - concordance_score(truth, bad)
    assert 0 < low < gap < high
    assert permutation_test(ours, theirs, concordance_from_moments) == 2 / 2**12
    assert permutation_test(ours, ours, concordance_from_moments) == 1
    with pytest.raises(ValueError, match="need one confusion matrix per group from both"):
        permutation_test(ours, theirs[1:], concordance_from_moments)


# Head and loss


def build_regression(**settings: object) -> RegressionTask:
    torch.manual_seed(0)
    task = Task(
        config.build_config(Config, {"scheme": "values", **settings}, "tasks.arousal"), 3, ()
    )
    assert isinstance(task, RegressionTask)
    return task


def test_a_regression_task_has_no_classes_and_one_output() -> None:
    task = build_regression()
    assert task.classes == ()
    assert task(torch.zeros(4, 3)).shape == (4, 1)
    x = torch.randn(4, 3)
    assert torch.equal(task.decode(task(x)), task(x))


def test_a_missing_label_is_nan_and_has_no_gradient() -> None:
    task = build_regression()
    targets = task.targets(["2.5", None, 4.0])
    assert targets.tolist()[0::2] == [2.5, 4.0]
    assert targets.isnan().tolist() == [False, True, False]
    values = torch.tensor([[1.0], [9.0], [2.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(task.loss(values, targets), values)
    assert gradient[1] == 0
    assert (gradient[[0, 2]] != 0).all()


def test_the_loss_is_one_minus_ccc() -> None:
    truth, answers = [1.0, 2.0, 4.5, 3.0], [1.5, 2.5, 3.0, 3.0]
    found = build_regression().loss(torch.tensor(answers)[:, None], torch.tensor(truth))
    assert float(found) == pytest.approx(1 - concordance_score(truth, answers), abs=1e-6)
    squared = build_regression(loss="mse").loss(torch.tensor(answers)[:, None], torch.tensor(truth))
    assert float(squared) == pytest.approx(root_mean_squared_error(truth, answers) ** 2)


NAN = float("nan")


@pytest.mark.parametrize("loss", ["ccc", "mse"])
@pytest.mark.parametrize("target", [[NAN, NAN, NAN], [NAN, 3.0, NAN], [2.0, NAN, 2.0], [2.0] * 3])
def test_a_batch_without_varying_labels_has_a_finite_gradient(
    loss: str, target: list[float]
) -> None:
    values = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    loss_value = build_regression(loss=loss).loss(values, torch.tensor(target))
    (gradient,) = torch.autograd.grad(loss_value, values)
    assert gradient.isfinite().all()
    labelled_ = [one for one in target if one == one]
    if loss == "ccc" or not labelled_:
        assert loss_value == 0
        assert (gradient == 0).all()
    else:
        assert loss_value > 0


def test_equal_predictions_have_loss_1_and_a_gradient() -> None:
    values = torch.full((3,), 2.0, requires_grad=True)
    loss_value = concordance_loss(values, torch.tensor([1.0, 2.0, 4.0]))
    (gradient,) = torch.autograd.grad(loss_value, values)
    assert loss_value.detach() == pytest.approx(1)
    assert (gradient != 0).any()


def test_gradients_of_the_loss_are_correct() -> None:
    truth = torch.tensor([1.0, 2.0, 4.0, 3.5], dtype=torch.float64)
    values = torch.tensor([1.2, 3.0, 2.0, 2.2], dtype=torch.float64, requires_grad=True)

    def loss_value(x: Tensor) -> Tensor:
        return concordance_loss(x, truth)

    assert torch.autograd.gradcheck(loss_value, values)


def test_prepare_fits_mean_and_deviation_of_the_training_labels() -> None:
    task = build_regression()
    task.fit_statistics(torch.tensor([2.0, NAN, 4.0]))
    assert (float(task.mean), float(task.deviation)) == (3.0, 1.0)
    task.fit_statistics(torch.tensor([2.5, 2.5]))
    assert (float(task.mean), float(task.deviation)) == (2.5, 1.0)
    task.fit_statistics(torch.tensor([NAN]))
    assert float(task.mean) == 2.5
    assert {"mean", "deviation"} <= set(task.state_dict())


# Epochs


def test_compute_scores_of_values() -> None:
    values, target = torch.tensor([[1.0], [2.0], [7.0], [1.0]]), torch.tensor([0.0, 1.0, NAN, 2.0])
    found = compute_scores(values, target)
    assert found["ccc"] == pytest.approx(concordance_score([0, 1, 2], [1, 2, 1]))
    assert found["rmse"] == pytest.approx(1.0)
    assert compute_scores(values, torch.full((4,), NAN)) == {
        "ccc": None,
        "rmse": None,
        "pearson": None,
    }


def test_best_epoch_averages_ua_and_ccc() -> None:
    def epoch(number: int, ua: float | None, ccc: float | None) -> Epoch:
        by_task = {"emotion": {"wa": 0.0, "ua": ua}, "arousal": {"ccc": ccc, "rmse": 0.0}}
        return Epoch(epoch=number, loss=1.0, seconds=1.0, scores={"validation": by_task})

    run = TrainingRun([epoch(1, 0.9, -0.5), epoch(2, 0.5, 0.4), epoch(3, 0.1, 0.6)], [])
    assert run.best_epoch("validation", ["emotion"]) == 1
    assert run.best_epoch("validation", ["arousal"]) == 3
    assert run.best_epoch("validation", ["emotion", "arousal"]) == 2
    assert TrainingRun([epoch(1, None, None)], []).best_epoch("validation", ["arousal"]) == 1


# Recipes and labels


def utterance(id_: str, **labels: str | float) -> Utterance:
    return Utterance(id=id_, path=Path(id_), speaker=id_, labels=labels)


def small(*settings: str) -> Recipe:
    return recipes.load("li2019", [*QUICK, *NO_OTHER_TASKS, *(settings or [VALUE])])


def test_get_task_label_of_a_rating_is_its_value() -> None:
    assert labels.map_to_class("2.5000", "values") == "2.5"
    assert labels.map_to_class("other", "values", {"other": ""}) == ""
    assert get_task_label(utterance("a", arousal="3"), "arousal", small()) == 3.0
    assert get_task_label(utterance("a", arousal=3.5), "arousal", small()) == 3.5
    assert get_task_label(utterance("a"), "arousal", small()) is None


@pytest.mark.parametrize("rating", ["0.99", "5.01", "nan", "calm"])
def test_an_invalid_rating_is_an_error_with_its_utterance(rating: str) -> None:
    with pytest.raises(ConfigError, match="expected a number from 1 to 5"):
        dimensions.parse_rating(rating)
    read = Corpus(
        name="mine", utterances=(utterance("a", arousal="2"), utterance("b", arousal=rating))
    )
    with pytest.raises(ConfigError, match=rf"utterance b, task arousal: a rating is '{rating}'"):
        apply_label_scheme(read, small())


def test_the_mapping_of_values_has_range_and_mean() -> None:
    rated = [utterance("a", arousal="1.5"), utterance("b", arousal=4.0), utterance("c")]
    rest = [utterance("d", arousal="1.5"), utterance("e", arousal="x")]
    table = "tasks.arousal={name='dimensions', scheme='values', map={x=''}}"
    kept, mapping = apply_label_scheme(
        Corpus(name="mine", utterances=(*rated, *rest)), small(table)
    )
    assert [one.id for one in kept.utterances] == ["a", "b", "d"]
    assert mapping["arousal"].mapped == {"values": {"1.5 to 4, mean 2.33": 3}}
    assert (mapping["arousal"].dropped, mapping["arousal"].missing) == ({"x": 1}, 1)
    with pytest.raises(ConfigError, match="names y, which mine does not have"):
        apply_label_scheme(kept, small(table.replace("x=", "y=")))


def test_find_classes_of_values_needs_two_values() -> None:
    rated = [utterance("a", arousal=2.0), utterance("b", arousal=2.5)]
    assert find_classes(rated, small()) == {"arousal": ()}
    with pytest.raises(ConfigError, match="task arousal needs two values or more; these 1 utt"):
        find_classes(rated[:1], small())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tasks.arousal={name='emotion', scheme='values'}", "scheme 'values' has no classes"),
        (
            "tasks.arousal={name='dimensions', scheme='values', class_weights='balanced'}",
            "class_weights = 'balanced' applies to classes",
        ),
        ("tasks.arousal={name='dimensions', scheme='values', loss='mae'}", "'ccc' or 'mse'"),
    ],
)
def test_settings_that_exclude_each_other_are_errors(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        system.check_recipe(small(setting))


def test_a_bundle_keeps_mean_and_deviation(tmp_path: Path) -> None:
    one = system.System(small(), {"arousal": ()})
    head = one.tasks["arousal"]
    head.fit_statistics(torch.tensor([2.0, 4.5]))
    save(Bundle(one, Card()), tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors").system
    assert found.classes == {"arousal": ()}
    x = torch.randn(2, found.model.width)
    assert torch.equal(found.tasks["arousal"](x), head(x))


def test_zhang2019_values_differs_from_zhang2019_in_its_heads() -> None:
    mine, theirs = recipes.load("zhang2019-values"), recipes.load("zhang2019")
    assert [table["scheme"] for table in mine.tasks.values()] == ["values"] * 3
    assert mine.model == theirs.model
    system.check_recipe(mine)
    system.check_recipe(recipes.with_settings(theirs, ["tasks.valence.scheme=values"]))


def test_ratings_of_a_table_are_numbers_or_missing(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "path,speaker,arousal\na.wav,1,1\nsub/b.wav,2,4.25\nc.wav,3,\n", encoding="utf-8"
    )
    read = corpora.load(f"mine={folder / 'labels.csv'}")
    found = [get_task_label(one, "arousal", small()) for one in read.utterances]
    assert sorted(one for one in found if one is not None) == [1.0, 4.25]
