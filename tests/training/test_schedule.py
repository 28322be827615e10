import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.small_systems import small_recipe, small_system
from training.test_loop import PLAIN, SETTINGS, VALIDATION, largest_difference, trained

from serein.errors import ConfigError
from serein.evaluation.plan import build_training_config
from serein.recipes import load
from serein.tasks import dimensions
from serein.tasks.heads import ClassificationConfig, ClassificationTask
from serein.training.checkpoint import load_checkpoint
from serein.training.config import TrainingConfig
from serein.training.loop import WeightAverage, lr_schedule
from serein.training.predict import predict_subset

HOW = TrainingConfig(epochs=5, batch=10)
STEPS = 5 * 3  # of 25 utterances


def test_by_default_the_rate_stays() -> None:
    share = lr_schedule(HOW, 25)
    assert [share(step) for step in range(STEPS + 1)] == [1.0] * (STEPS + 1)


@pytest.mark.parametrize("decay", [0.0, 1e-6, 0.3])
def test_decay_is_to_the_last_bit_what_it_was(decay: float) -> None:
    share = lr_schedule(replace(HOW, decay=decay), 25)
    assert [share(s) for s in range(100)] == [1 / (1 + decay * s) for s in range(100)]


def test_the_rate_rises_evenly() -> None:
    share = lr_schedule(replace(HOW, warmup=4), 25)
    assert [share(step) for step in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_the_rate_falls_by_half_a_cosine() -> None:
    share = lr_schedule(replace(HOW, schedule="cosine"), 25)
    wanted = [0.5 + 0.5 * math.cos(math.pi * step / STEPS) for step in range(STEPS + 1)]
    assert [share(step) for step in range(STEPS + 1)] == pytest.approx(wanted)
    assert share(STEPS + 99) == pytest.approx(0)


def test_the_cosine_begins_where_the_warm_up_ends() -> None:
    share = lr_schedule(replace(HOW, schedule="cosine", warmup=5), 25)
    assert share(5) == 1
    assert share(10) == pytest.approx(0.5)
    assert max(share(step) for step in range(STEPS)) == share(5)


def test_a_warm_up_longer_than_the_training_only_rises() -> None:
    share = lr_schedule(replace(HOW, schedule="cosine", warmup=99), 25)
    assert [share(s) for s in range(15)] == pytest.approx([(s + 1) / 100 for s in range(15)])


def test_the_loop_takes_the_rate(tmp_path: Path) -> None:
    settings = replace(SETTINGS, decay=0, warmup=20, rate=1e-4)
    trained(settings, state=tmp_path / "fold.pt")
    _, kept = load_checkpoint(tmp_path / "fold.pt")
    assert kept["optimiser"]["param_groups"][0]["lr"] == pytest.approx(1e-4 * 17 / 21)


# Averages


def test_without_a_decay_the_average_is_the_system() -> None:
    system = small_system()
    average = WeightAverage(system, 0.0)
    average.step()
    assert average.system is system
    assert average.state_dict() == {}


def test_an_average_follows_the_weights() -> None:
    system = small_system()
    average = WeightAverage(system, 0.5)
    weight = next(system.parameters())
    wanted = weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            weight.add_(1.0)
        average.step()
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight.detach()
    torch.testing.assert_close(next(average.system.parameters()), wanted)
    assert not torch.equal(wanted, weight)


def test_an_average_goes_on_where_it_was() -> None:
    system = small_system()
    one, other = WeightAverage(system, 0.9), WeightAverage(small_system(seed=5), 0.9)
    one.step()
    other.load_state_dict(one.state_dict())
    assert other.steps == 1
    found, wanted = other.system.state_dict(), one.system.state_dict()
    assert largest_difference(found, wanted) == 0


def test_what_is_watched_kept_and_left_behind_is_the_average() -> None:
    settings = replace(SETTINGS, ema_decay=0.9)
    system, course = trained(settings, keep=lambda course: len(course.epochs) == 4)
    plain, other = trained()
    losses = [epoch.loss for epoch in course.epochs]
    assert losses == [epoch.loss for epoch in other.epochs]
    found = system.state_dict()
    assert largest_difference(found, plain.state_dict()) > 1e-3
    assert largest_difference(found, course.weights) == 0
    for task, answer_nk in predict_subset(system, VALIDATION, 4).items():
        assert torch.equal(course.predictions[-1]["validation"][task], answer_nk)


def test_an_average_of_still_weights_is_these_weights() -> None:
    still = replace(SETTINGS, rate=1e-20)
    (plain, _), (average, _) = trained(still), trained(replace(still, ema_decay=0.9))
    assert largest_difference(plain.state_dict(), average.state_dict()) < 1e-7


# Smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("balanced", [False, True])
def test_smoothing_spreads_a_share_of_each_label(smoothing: float, balanced: bool) -> None:
    weights: Any = "balanced" if balanced else "none"
    task = ClassificationTask(
        ClassificationConfig(smoothing=smoothing, class_weights=weights), 4, ("a", "b", "c")
    )
    target_b = torch.tensor([0, 0, 1, -1, 2])
    task.prepare(target_b)
    torch.manual_seed(0)
    logits_bk = torch.randn(5, 3)
    log_bk = logits_bk.log_softmax(dim=1)
    total = torch.tensor(0.0)
    for row, label in enumerate(target_b.tolist()):
        if label < 0:
            continue
        for k in range(3):
            share = smoothing / 3 + (1 - smoothing) * (k == label)
            total -= share * task.weights_k[k] * log_bk[row, k]
    known = target_b[target_b >= 0]
    torch.testing.assert_close(task.loss(logits_bk, target_b), total / task.weights_k[known].sum())


def test_smoothing_counts_in_training() -> None:
    smooth, _ = trained(PLAIN, changes=("model.dropout=0", "tasks.emotion.smoothing=0.3"))
    plain, _ = trained(PLAIN, changes=("model.dropout=0",))
    assert largest_difference(smooth.state_dict(), plain.state_dict()) > 1e-3


def test_values_cannot_be_smoothed() -> None:
    with pytest.raises(ConfigError, match=r"smoothing = 0.1 serves classes"):
        dimensions.Task(dimensions.Config(scheme="values", smoothing=0.1), 4, ())


# Errors


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.ema_decay=1", "training.ema_decay = 1"),
        ("training.warmup=-1", "training.warmup = -1"),
        ("training.schedule=linear", "training.schedule = 'linear'"),
        ("training.balance=gender", "training.balance.* = 'gender'"),
        ("training.balance=['class', 'gender']", "training.balance.*'gender'"),
    ],
)
def test_a_setting_out_of_range_is_told_of(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_training_config(small_recipe(setting))


def test_an_estimator_draws_no_epochs() -> None:
    with pytest.raises(ConfigError, match="balance = 'class' draws epochs, and svm is fitted"):
        build_training_config(load("egemaps-svm", ["training.balance=class"]))
