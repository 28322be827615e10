"""Learning rate schedules, averaged weights, and label smoothing."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.small_systems import small_recipe, small_system
from builders.training import CONFIG, FULL_BATCH_CONFIG, VALIDATION, largest_difference, train_small

from serein.errors import ConfigError
from serein.evaluation.plan import build_training_config
from serein.recipes import load
from serein.tasks import dimensions
from serein.tasks.heads import ClassificationConfig, ClassificationTask
from serein.training.checkpoint import load_checkpoint
from serein.training.config import TrainingConfig
from serein.training.loop import WeightAverage, lr_schedule
from serein.training.predict import predict_subset

RATE_CONFIG = TrainingConfig(epochs=5, batch=10)
STEPS = 5 * 3  # of 25 utterances


def test_the_default_rate_is_constant() -> None:
    factor = lr_schedule(RATE_CONFIG, 25)
    assert [factor(step) for step in range(STEPS + 1)] == [1.0] * (STEPS + 1)


@pytest.mark.parametrize("decay", [0.0, 1e-6, 0.3])
def test_decay_divides_the_rate(decay: float) -> None:
    factor = lr_schedule(replace(RATE_CONFIG, decay=decay), 25)
    assert [factor(s) for s in range(100)] == [1 / (1 + decay * s) for s in range(100)]


def test_warmup_is_linear() -> None:
    factor = lr_schedule(replace(RATE_CONFIG, warmup=4), 25)
    assert [factor(step) for step in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_cosine_schedule() -> None:
    factor = lr_schedule(replace(RATE_CONFIG, schedule="cosine"), 25)
    wanted = [0.5 + 0.5 * math.cos(math.pi * step / STEPS) for step in range(STEPS + 1)]
    assert [factor(step) for step in range(STEPS + 1)] == pytest.approx(wanted)
    assert factor(STEPS + 99) == pytest.approx(0)


def test_cosine_begins_at_the_end_of_warmup() -> None:
    factor = lr_schedule(replace(RATE_CONFIG, schedule="cosine", warmup=5), 25)
    assert factor(5) == 1
    assert factor(10) == pytest.approx(0.5)
    assert max(factor(step) for step in range(STEPS)) == factor(5)


def test_warmup_longer_than_the_training() -> None:
    factor = lr_schedule(replace(RATE_CONFIG, schedule="cosine", warmup=99), 25)
    assert [factor(s) for s in range(15)] == pytest.approx([(s + 1) / 100 for s in range(15)])


def test_fit_uses_the_schedule(tmp_path: Path) -> None:
    settings = replace(CONFIG, decay=0, warmup=20, rate=1e-4)
    train_small(settings, checkpoint=tmp_path / "fold.pt")
    _, kept = load_checkpoint(tmp_path / "fold.pt")
    assert kept["optimiser"]["param_groups"][0]["lr"] == pytest.approx(1e-4 * 17 / 21)


# Averages


def test_average_without_decay_is_the_system() -> None:
    system = small_system()
    average = WeightAverage(system, 0.0)
    average.step()
    assert average.system is system
    assert average.state_dict() == {}


def test_average_follows_the_weights() -> None:
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


def test_average_continues_from_its_state() -> None:
    system = small_system()
    one, other = WeightAverage(system, 0.9), WeightAverage(small_system(seed=5), 0.9)
    one.step()
    other.load_state_dict(one.state_dict())
    assert other.steps == 1
    found, wanted = other.system.state_dict(), one.system.state_dict()
    assert largest_difference(found, wanted) == 0


def test_averaged_weights_are_evaluated_kept_and_returned() -> None:
    settings = replace(CONFIG, ema_decay=0.9)
    system, run = train_small(settings, keep_weights=lambda run: len(run.epochs) == 4)
    plain, other = train_small()
    losses = [epoch.loss for epoch in run.epochs]
    assert losses == [epoch.loss for epoch in other.epochs]
    found = system.state_dict()
    assert largest_difference(found, plain.state_dict()) > 1e-3
    assert largest_difference(found, run.weights) == 0
    for task, prediction_nk in predict_subset(system, VALIDATION, 4).items():
        assert torch.equal(run.predictions[-1]["validation"][task], prediction_nk)


def test_average_of_constant_weights_is_these_weights() -> None:
    still = replace(CONFIG, rate=1e-20)
    (plain, _), (average, _) = train_small(still), train_small(replace(still, ema_decay=0.9))
    assert largest_difference(plain.state_dict(), average.state_dict()) < 1e-7


# Smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("balanced", [False, True])
def test_smoothing_spreads_part_of_each_label_over_all_classes(
    smoothing: float, balanced: bool
) -> None:
    weights: Any = "balanced" if balanced else "none"
    task = ClassificationTask(
        ClassificationConfig(smoothing=smoothing, class_weights=weights), 4, ("a", "b", "c")
    )
    target_b = torch.tensor([0, 0, 1, -1, 2])
    task.fit_statistics(target_b)
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


def test_smoothing_changes_training() -> None:
    smooth, _ = train_small(
        FULL_BATCH_CONFIG, changes=("model.dropout=0", "tasks.emotion.smoothing=0.3")
    )
    plain, _ = train_small(FULL_BATCH_CONFIG, changes=("model.dropout=0",))
    assert largest_difference(smooth.state_dict(), plain.state_dict()) > 1e-3


def test_smoothing_of_values_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"smoothing = 0.1 applies to classes"):
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
def test_settings_out_of_range_are_errors(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_training_config(small_recipe(setting))


def test_balance_with_an_estimator_is_an_error() -> None:
    with pytest.raises(ConfigError, match="balance = 'class' samples epochs, and svm is fitted"):
        build_training_config(load("egemaps-svm", ["training.balance=class"]))
