"""Tasks of numbers: scores, loss, head; what a recipe and a corpus may say."""

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
from serein.labels import targets as truth
from serein.metrics import scoring
from serein.metrics.bootstrap import bootstrap_counts, bootstrap_difference, sum_by_group
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
ALONE = ["tasks.emotion=remove", "tasks.gender=remove"]

# Moments

PAIRS: list[tuple[Callable[..., object], Callable[..., object]]] = [
    (concordance_from_moments, concordance_score),
    (pearson_from_moments, pearson_score),
    (root_mean_squared_error_from_moments, root_mean_squared_error),
]


@pytest.mark.parametrize(("of_sums", "of_values"), PAIRS)
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
def test_sums_score_as_values_do(
    of_sums: Callable[..., object],
    of_values: Callable[..., object],
    truth: list[float],
    answers: list[float],
) -> None:
    found = of_sums(moments(truth, answers).sum(axis=0))
    assert found == pytest.approx(of_values(truth, answers), abs=1e-12, nan_ok=True)


def test_sums_of_groups_add_up() -> None:
    rng = np.random.default_rng(0)
    truth, answers = rng.uniform(1, 5, 200), rng.uniform(1, 5, 200)
    groups = rng.integers(0, 9, 200).tolist()
    sums = sum_by_group(moments(truth, answers), groups)
    assert sums.shape == (9, 6)
    total = sums.sum(axis=0)
    assert pearson_from_moments(total) == pytest.approx(stats.pearsonr(truth, answers)[0])
    assert concordance_from_moments(total) == pytest.approx(concordance_score(truth, answers))


def test_an_answer_that_is_no_number_leaves_nothing_defined() -> None:
    sums = moments([1, 2, 3], [1, float("nan"), 3]).sum(axis=0)
    assert scoring.REGRESSION_SCORER.compute_scores(sums) == {
        "ccc": None,
        "rmse": None,
        "pearson": None,
    }


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0] * 5]])
def test_other_shapes_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="need six sums"):
        concordance_from_moments(wrong)
    with pytest.raises(ValueError, match="two vectors of one length"):
        moments(wrong, [1.0])


def test_each_kind_of_task_has_its_scores() -> None:
    assert [one.name for one in scoring.get_scorer(["a", "b"]).metrics] == ["wa", "ua"]
    assert [one.name for one in scoring.get_scorer(()).metrics] == ["ccc", "rmse", "pearson"]
    assert scoring.get_main_score({"wa": 0.1, "ua": 0.2}) == 0.2
    assert scoring.get_main_score({"ccc": None, "rmse": 1.0, "pearson": None}) is None
    assert scoring.get_metric("rmse").format_score(0.5) == "RMSE 0.500"
    assert scoring.get_metric("ua").format_score(0.5) == "UA 50.0%"


def rated(shift: float, seed: int = 1) -> tuple[list[float], list[float], list[int]]:
    """Truth, answers so far from it, and speakers."""
    truth = np.random.default_rng(0).uniform(1, 5, 120)
    answers = truth + np.random.default_rng(seed).normal(0, shift, 120)
    return truth.tolist(), answers.tolist(), [*range(12)] * 10


def test_an_interval_holds_the_score_and_is_that_of_whole_speakers() -> None:
    truth, answers, groups = rated(0.8)
    tallies = scoring.REGRESSION_SCORER.tally(truth, answers, groups, ())
    for kind in scoring.REGRESSION_SCORER.metrics:
        low, high = scoring.compute_interval(tallies, kind) or (1.0, 0.0)
        assert low < float(np.asarray(kind.statistic(tallies.sum(axis=0)))) < high
    assert scoring.compute_interval(tallies, scoring.CCC) == bootstrap_counts(
        tallies, concordance_from_moments
    )
    nothing = scoring.REGRESSION_SCORER.tally([], [], [], ())
    assert scoring.compute_interval(nothing, scoring.CCC) is None


def test_two_systems_are_told_apart_by_their_sums() -> None:
    truth, good, groups = rated(0.3)
    bad = rated(1.5, seed=2)[1]
    ours, theirs = (scoring.REGRESSION_SCORER.tally(truth, one, groups, ()) for one in (good, bad))
    low, high = bootstrap_difference(ours, theirs, concordance_from_moments)
    gap = concordance_score(truth, good) - concordance_score(truth, bad)
    assert 0 < low < gap < high
    assert permutation_test(ours, theirs, concordance_from_moments) == 2 / 2**12
    assert permutation_test(ours, ours, concordance_from_moments) == 1
    with pytest.raises(ValueError, match="need one confusion matrix per group from both"):
        permutation_test(ours, theirs[1:], concordance_from_moments)


# Head and loss


def made(**settings: object) -> RegressionTask:
    torch.manual_seed(0)
    task = Task(
        config.build_config(Config, {"scheme": "values", **settings}, "tasks.arousal"), 3, ()
    )
    assert isinstance(task, RegressionTask)
    return task


def test_a_value_task_has_no_classes_and_one_number() -> None:
    task = made()
    assert task.classes == ()
    assert task(torch.zeros(4, 3)).shape == (4, 1)
    x = torch.randn(4, 3)
    assert torch.equal(task.decode(task(x)), task(x))


def test_a_missing_label_is_nan_and_costs_nothing() -> None:
    task = made()
    targets = task.targets(["2.5", None, 4.0])
    assert targets.tolist()[0::2] == [2.5, 4.0]
    assert targets.isnan().tolist() == [False, True, False]
    values = torch.tensor([[1.0], [9.0], [2.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(task.loss(values, targets), values)
    assert slope[1] == 0
    assert (slope[[0, 2]] != 0).all()


def test_the_loss_is_one_less_the_concordance() -> None:
    truth, answers = [1.0, 2.0, 4.5, 3.0], [1.5, 2.5, 3.0, 3.0]
    found = made().loss(torch.tensor(answers)[:, None], torch.tensor(truth))
    assert float(found) == pytest.approx(1 - concordance_score(truth, answers), abs=1e-6)
    squared = made(loss="mse").loss(torch.tensor(answers)[:, None], torch.tensor(truth))
    assert float(squared) == pytest.approx(root_mean_squared_error(truth, answers) ** 2)


NAN = float("nan")


@pytest.mark.parametrize("loss", ["ccc", "mse"])
@pytest.mark.parametrize("target", [[NAN, NAN, NAN], [NAN, 3.0, NAN], [2.0, NAN, 2.0], [2.0] * 3])
def test_a_batch_without_anything_to_learn_has_a_finite_gradient(
    loss: str, target: list[float]
) -> None:
    values = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    cost = made(loss=loss).loss(values, torch.tensor(target))
    (slope,) = torch.autograd.grad(cost, values)
    assert slope.isfinite().all()
    labelled_ = [one for one in target if one == one]
    if loss == "ccc" or not labelled_:
        assert cost == 0
        assert (slope == 0).all()
    else:
        assert cost > 0


def test_equal_answers_cost_one_and_still_learn() -> None:
    values = torch.full((3,), 2.0, requires_grad=True)
    cost = concordance_loss(values, torch.tensor([1.0, 2.0, 4.0]))
    (slope,) = torch.autograd.grad(cost, values)
    assert cost.detach() == pytest.approx(1)
    assert (slope != 0).any()


def test_gradients_of_the_loss_are_right() -> None:
    truth = torch.tensor([1.0, 2.0, 4.0, 3.5], dtype=torch.float64)
    values = torch.tensor([1.2, 3.0, 2.0, 2.2], dtype=torch.float64, requires_grad=True)

    def cost(x: Tensor) -> Tensor:
        return concordance_loss(x, truth)

    assert torch.autograd.gradcheck(cost, values)


def test_the_head_begins_where_the_training_side_lies() -> None:
    task = made()
    task.prepare(torch.tensor([2.0, NAN, 4.0]))
    assert (float(task.mean), float(task.deviation)) == (3.0, 1.0)
    task.prepare(torch.tensor([2.5, 2.5]))
    assert (float(task.mean), float(task.deviation)) == (2.5, 1.0)
    task.prepare(torch.tensor([NAN]))
    assert float(task.mean) == 2.5
    assert {"mean", "deviation"} <= set(task.state_dict())


# Epochs


def test_sides_are_scored_by_what_their_targets_are() -> None:
    values, target = torch.tensor([[1.0], [2.0], [7.0], [1.0]]), torch.tensor([0.0, 1.0, NAN, 2.0])
    found = compute_scores(values, target)
    assert found["ccc"] == pytest.approx(concordance_score([0, 1, 2], [1, 2, 1]))
    assert found["rmse"] == pytest.approx(1.0)
    assert compute_scores(values, torch.full((4,), NAN)) == {
        "ccc": None,
        "rmse": None,
        "pearson": None,
    }


def test_the_best_epoch_may_average_classes_and_values() -> None:
    def epoch(number: int, ua: float | None, ccc: float | None) -> Epoch:
        by_task = {"emotion": {"wa": 0.0, "ua": ua}, "arousal": {"ccc": ccc, "rmse": 0.0}}
        return Epoch(epoch=number, loss=1.0, seconds=1.0, scores={"validation": by_task})

    course = TrainingRun([epoch(1, 0.9, -0.5), epoch(2, 0.5, 0.4), epoch(3, 0.1, 0.6)], [])
    assert course.best_epoch("validation", ["emotion"]) == 1
    assert course.best_epoch("validation", ["arousal"]) == 3
    assert course.best_epoch("validation", ["emotion", "arousal"]) == 2
    assert TrainingRun([epoch(1, None, None)], []).best_epoch("validation", ["arousal"]) == 1


# Recipes and labels


def utterance(id_: str, **said: str | float) -> Utterance:
    return Utterance(id=id_, path=Path(id_), speaker=id_, labels=said)


def small(*settings: str) -> Recipe:
    return recipes.load("li2019", [*QUICK, *ALONE, *(settings or [VALUE])])


def test_a_rating_is_its_own_value() -> None:
    assert labels.map_to_class("2.5000", "values") == "2.5"
    assert labels.map_to_class("other", "values", {"other": ""}) == ""
    assert truth.get_task_label(utterance("a", arousal="3"), "arousal", small()) == 3.0
    assert truth.get_task_label(utterance("a", arousal=3.5), "arousal", small()) == 3.5
    assert truth.get_task_label(utterance("a"), "arousal", small()) is None


@pytest.mark.parametrize("rating", ["0.99", "5.01", "nan", "calm"])
def test_what_is_no_rating_names_its_utterance(rating: str) -> None:
    with pytest.raises(ConfigError, match="expected a number from 1 to 5"):
        dimensions.parse_rating(rating)
    read = Corpus(
        name="mine", utterances=(utterance("a", arousal="2"), utterance("b", arousal=rating))
    )
    with pytest.raises(ConfigError, match=rf"utterance b, task arousal: a rating is '{rating}'"):
        apply_label_scheme(read, small())


def test_the_labels_of_a_report_are_a_range() -> None:
    said = [utterance("a", arousal="1.5"), utterance("b", arousal=4.0), utterance("c")]
    rest = [utterance("d", arousal="1.5"), utterance("e", arousal="x")]
    table = "tasks.arousal={name='dimensions', scheme='values', map={x=''}}"
    kept, mapping = apply_label_scheme(Corpus(name="mine", utterances=(*said, *rest)), small(table))
    assert [one.id for one in kept.utterances] == ["a", "b", "c", "d"]
    assert mapping["arousal"].mapped == {"values": {"1.5 to 4, mean 2.33": 3}}
    assert (mapping["arousal"].dropped, mapping["arousal"].missing) == ({"x": 1}, 1)
    with pytest.raises(ConfigError, match="names y, which mine does not have"):
        apply_label_scheme(kept, small(table.replace("x=", "y=")))


def test_a_task_of_values_has_no_classes_but_needs_two_values() -> None:
    said = [utterance("a", arousal=2.0), utterance("b", arousal=2.5)]
    assert truth.find_classes(said, small()) == {"arousal": ()}
    with pytest.raises(ConfigError, match="task arousal needs two values or more; these 1 utt"):
        truth.find_classes(said[:1], small())


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("tasks.arousal={name='emotion', scheme='values'}", "scheme 'values' has no classes"),
        (
            "tasks.arousal={name='dimensions', scheme='values', class_weights='balanced'}",
            "class_weights = 'balanced' applies to classes",
        ),
        ("tasks.arousal={name='dimensions', scheme='values', loss='mae'}", "'ccc' or 'mse'"),
    ],
)
def test_settings_that_do_not_go_together(setting: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        system.check_recipe(small(setting))


def test_a_bundle_keeps_where_its_values_lie(tmp_path: Path) -> None:
    one = system.System(small(), {"arousal": ()})
    head = one.tasks["arousal"]
    head.prepare(torch.tensor([2.0, 4.5]))
    save(Bundle(one, Card()), tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors").system
    assert found.classes == {"arousal": ()}
    x = torch.randn(2, found.model.width)
    assert torch.equal(found.tasks["arousal"](x), head(x))


def test_the_recipe_of_values_is_zhangs_but_for_its_heads() -> None:
    mine, theirs = recipes.load("zhang2019-values"), recipes.load("zhang2019")
    assert [table["scheme"] for table in mine.tasks.values()] == ["values"] * 3
    assert mine.model == theirs.model
    system.check_recipe(mine)
    system.check_recipe(recipes.with_settings(theirs, ["tasks.valence.scheme=values"]))


def test_ratings_of_a_table_may_have_any_form(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "path,speaker,arousal\na.wav,1,1\nsub/b.wav,2,4.25\nc.wav,3,\n", encoding="utf-8"
    )
    read = corpora.load(f"mine={folder / 'labels.csv'}")
    found = [truth.get_task_label(one, "arousal", small()) for one in read.utterances]
    assert sorted(one for one in found if one is not None) == [1.0, 4.25]
