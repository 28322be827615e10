"""The training loop: determinism, resumption, optimizer settings, and subsets kept apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_subset, small_system
from builders.training import (
    CONFIG,
    EVAL_SUBSETS,
    FULL_BATCH_CONFIG,
    TRAIN,
    VALIDATION,
    Interrupted,
    assert_same_history,
    assert_same_weights,
    largest_difference,
    train_small,
)
from torch import Tensor, nn

from serein.results.evaluation import Epoch
from serein.system import predict_batch
from serein.training.checkpoint import TrainingRun, compute_scores, load_checkpoint
from serein.training.config import TrainingConfig
from serein.training.loop import fit
from serein.training.predict import predict_subset


def test_fit_with_the_same_seed_is_deterministic() -> None:
    (one, first), (other, second) = train_small(), train_small()
    assert_same_weights(one, other)
    assert_same_history(first, second)


def test_fit_does_not_depend_on_earlier_random_draws() -> None:
    one, first = train_small()
    system = small_system()
    torch.manual_seed(123)
    np.random.default_rng(5).random(100)
    second = fit(system, TRAIN, EVAL_SUBSETS, CONFIG)
    assert_same_weights(one, system)
    assert_same_history(first, second)


def test_fit_with_another_seed_differs() -> None:
    (_, first), (_, second) = train_small(seed=0), train_small(seed=1)
    assert [e.loss for e in first.epochs] != [e.loss for e in second.epochs]


def test_every_epoch_has_its_own_order_and_dropout() -> None:
    still = replace(CONFIG, rate=1e-12, decay=0, clip=0)
    _, run = train_small(still)
    losses = [epoch.loss for epoch in run.epochs]
    assert len(set(losses)) == len(losses)
    _, run = train_small(still, changes=("model.dropout=0",))
    losses = [epoch.loss for epoch in run.epochs]
    assert losses == pytest.approx([losses[0]] * 4, rel=0.05)


def test_training_learns() -> None:
    _, run = train_small(replace(CONFIG, epochs=15), changes=("model.dropout=0",))
    assert run.epochs[-1].loss < 0.5 * run.epochs[0].loss


def test_on_epoch_end_receives_every_epoch() -> None:
    seen: list[Epoch] = []
    _, run = train_small(on_epoch_end=seen.append)
    assert seen == run.epochs
    assert [epoch.epoch for epoch in seen] == [1, 2, 3, 4]
    assert all(epoch.seconds > 0 for epoch in seen)
    assert all(set(epoch.scores) == {"validation", "test"} for epoch in seen)


def test_fit_restores_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: list[int] = []
        train_small(on_epoch_end=lambda epoch: seen.append(torch.get_num_threads()))
        assert seen == [CONFIG.threads] * 4
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_predictions_of_the_last_epoch_are_those_of_the_trained_system() -> None:
    system, run = train_small()
    for name, subset in EVAL_SUBSETS.items():
        for task, probabilities_nk in predict_subset(system, subset, 2).items():
            torch.testing.assert_close(run.predictions[-1][name][task], probabilities_nk)
            labelled = subset.targets[task] >= 0
            right = probabilities_nk.argmax(dim=1)[labelled] == subset.targets[task][labelled]
            assert run.epochs[-1].scores[name][task]["wa"] == pytest.approx(
                float(right.double().mean())
            )


def test_predict_subset_keeps_the_order_of_the_subset() -> None:
    system = small_system()
    for size in (1, 3, 100):
        for task, probabilities_nk in predict_subset(system, TRAIN, size).items():
            for id_, predicted_k in zip(TRAIN.ids, probabilities_nk, strict=True):
                alone = predict_batch(system, {"frames": TRAIN.frames.pad_batch([id_])})[0][task][0]
                torch.testing.assert_close(predicted_k, alone, atol=1e-6, rtol=0)
    assert not system.training


# Resuming


@pytest.mark.parametrize("last", [1, 2, 3])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, last: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise Interrupted

    whole, wanted = train_small()
    with pytest.raises(Interrupted):
        train_small(checkpoint=tmp_path / "fold.pt", on_epoch_end=stop)
    seen: list[int] = []
    # Other initial weights: they are replaced by those of the checkpoint.
    system, run = train_small(
        weights=7,
        checkpoint=tmp_path / "fold.pt",
        on_epoch_end=lambda epoch: seen.append(epoch.epoch),
    )
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)
    assert seen == list(range(last, 5))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fold.pt"
    first, wanted = train_small(checkpoint=checkpoint)
    stamp, seconds = checkpoint.stat().st_mtime_ns, [epoch.seconds for epoch in wanted.epochs]
    second, run = train_small(weights=7, checkpoint=checkpoint)
    assert_same_weights(first, second)
    assert_same_history(wanted, run)
    assert checkpoint.stat().st_mtime_ns == stamp
    assert [epoch.seconds for epoch in run.epochs] == seconds


def test_writing_checkpoints_does_not_change_the_training(tmp_path: Path) -> None:
    (one, first), (other, second) = train_small(), train_small(checkpoint=tmp_path / "fold.pt")
    assert_same_weights(one, other)
    assert_same_history(first, second)
    assert [file.name for file in tmp_path.iterdir()] == ["fold.pt"]


def damage(content: bytes, kind: str) -> bytes:
    middle = len(content) // 2
    return {
        "empty": b"",
        "text": b"not a state\n" * 9,
        "truncated": content[:middle],
        "head missing": content[middle:],
        "zeros": bytes(len(content)),
        "noise": np.random.default_rng(0).bytes(5000),
        "pickle": b"\x80\x02]q\x00.",
        "old": b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
    }[kind]


KINDS = ["empty", "text", "truncated", "head missing", "zeros", "noise", "pickle", "old"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_restarts_the_training(tmp_path: Path, kind: str) -> None:
    checkpoint = tmp_path / "fold.pt"
    brief = replace(CONFIG, epochs=1)
    whole, wanted = train_small(brief, checkpoint=checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes(), kind))
    system, run = train_small(brief, checkpoint=checkpoint)
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)
    assert len(load_checkpoint(checkpoint)[0].epochs) == 1


def test_load_checkpoint_of_noise_is_empty(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fold.pt"
    train_small(replace(CONFIG, epochs=1), checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 40):
            content[place] = generator.integers(256)
        checkpoint.write_bytes(bytes(content[: generator.integers(1, len(content) + 1)]))
        run, kept = load_checkpoint(checkpoint)
        assert (len(run.epochs), bool(kept)) in ((0, False), (1, True))
        checkpoint.write_bytes(generator.bytes(int(generator.integers(1, 200))))
        assert load_checkpoint(checkpoint) == (TrainingRun(), {})


@pytest.mark.parametrize("foreign", [{"a": 1}, [1, 2], torch.zeros(3), {"epochs": [{"no": 1}]}])
def test_load_checkpoint_of_another_object_is_empty(tmp_path: Path, foreign: Any) -> None:
    torch.save(foreign, tmp_path / "fold.pt")
    assert load_checkpoint(tmp_path / "fold.pt") == (TrainingRun(), {})


def test_load_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"epochs": [], "predictions": [], "evil": Evil()}, tmp_path / "fold.pt")
    assert load_checkpoint(tmp_path / "fold.pt") == (TrainingRun(), {})
    assert not (tmp_path / "ran").exists()


def test_load_checkpoint_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt") == (TrainingRun(), {})


# Optimizer settings


def train_by_hand(
    config: TrainingConfig, steps: int, *, balanced: bool = False
) -> dict[str, Tensor]:
    """Train with full batches and no dropout, without the training loop."""
    setting = f"tasks.emotion.class_weights={'balanced' if balanced else 'none'}"
    system = small_system("model.dropout=0", setting)
    rows = np.concatenate([TRAIN.frames[id_] for id_ in TRAIN.ids]).astype(np.float64)
    system.normaliser.mean_f.copy_(torch.from_numpy(rows.mean(axis=0)))
    system.normaliser.deviation_f.copy_(torch.from_numpy(rows.std(axis=0)))
    emotion = TRAIN.targets["emotion"]
    count = torch.bincount(emotion[emotion >= 0])
    weight = (emotion >= 0).sum() / (3 * count) if balanced else torch.ones(3)
    parameters = list(system.parameters())
    square = [torch.zeros_like(parameter) for parameter in parameters]
    epsilon = config.epsilon or 1e-8
    optimiser = torch.optim.Adam(parameters, eps=epsilon, weight_decay=config.weight_decay)
    system.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = config.rate / (1 + config.decay * step)
        optimiser.zero_grad()
        logits = system({"frames": TRAIN.frames.pad_batch(TRAIN.ids)}).logits
        first = nn.CrossEntropyLoss(weight.float(), ignore_index=-1)(logits["emotion"], emotion)
        second = nn.CrossEntropyLoss()(logits["gender"], TRAIN.targets["gender"])
        torch.autograd.backward(first + second)
        for parameter in parameters:
            assert parameter.grad is not None
            if config.clip:
                parameter.grad.clamp_(-config.clip, config.clip)
        if config.optimiser == "adam":
            optimiser.step()
            continue
        with torch.no_grad():  # Keras's RMSprop, by its documentation
            for parameter, mean in zip(parameters, square, strict=True):
                assert parameter.grad is not None
                mean.mul_(0.9).add_(0.1 * parameter.grad**2)
                divisor = mean.sqrt() + (config.epsilon or 1e-7)
                parameter.sub_(config.rate * parameter.grad / divisor)
    return system.state_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {"decay": 0.5},
        {"clip": 1e-3},
        {"weight_decay": 0.3},
        {"epsilon": 1e-2},
        {"optimiser": "rmsprop"},
        {"optimiser": "rmsprop", "epsilon": 1e-2},
    ],
    ids=["decay", "clip", "weight decay", "epsilon", "rmsprop", "rmsprop with epsilon"],
)
def test_optimizer_settings_match_a_training_by_hand(changes: dict[str, Any]) -> None:
    settings = replace(FULL_BATCH_CONFIG, **changes)
    system, _ = train_small(settings, changes=("model.dropout=0",))
    found = system.state_dict()
    assert largest_difference(found, train_by_hand(settings, 5)) < 2e-5
    assert largest_difference(found, train_by_hand(FULL_BATCH_CONFIG, 5)) > 1e-3


def test_balanced_class_weights_match_a_training_by_hand() -> None:
    changes = "model.dropout=0", "tasks.emotion.class_weights=balanced"
    system, _ = train_small(FULL_BATCH_CONFIG, changes=changes)
    found = system.state_dict()
    assert largest_difference(found, train_by_hand(FULL_BATCH_CONFIG, 5, balanced=True)) < 2e-5
    assert largest_difference(found, train_by_hand(FULL_BATCH_CONFIG, 5)) > 1e-3


def test_learning_rate_decays_as_in_keras(tmp_path: Path) -> None:
    settings = replace(CONFIG, rate=1e-4, decay=1e-2, epochs=3)
    train_small(settings, checkpoint=tmp_path / "fold.pt")
    _, kept = load_checkpoint(tmp_path / "fold.pt")
    steps = 3 * 4  # 14 utterances in batches of 4
    assert kept["schedule"]["last_epoch"] == steps
    assert kept["optimiser"]["param_groups"][0]["lr"] == pytest.approx(1e-4 / (1 + 1e-2 * steps))


def test_a_task_of_weight_0_does_not_train() -> None:
    alone, _ = train_small(FULL_BATCH_CONFIG, changes=("model.dropout=0", "tasks.gender.weight=0"))
    emotion = replace(TRAIN, targets={"emotion": TRAIN.targets["emotion"]})
    changes = "model.dropout=0", "tasks.gender=remove"
    none, _ = train_small(FULL_BATCH_CONFIG, train=emotion, eval_subsets={}, changes=changes)
    found, wanted = alone.state_dict(), none.state_dict()
    assert largest_difference({name: found[name] for name in wanted}, wanted) < 2e-5


# Evaluation subsets do not influence training


def test_evaluation_does_not_change_training() -> None:
    with_all, all_ = train_small()
    with_none, none = train_small(eval_subsets={})
    with_one, one = train_small(eval_subsets={"validation": VALIDATION})
    assert_same_weights(with_all, with_none)
    assert_same_weights(with_all, with_one)
    losses = [epoch.loss for epoch in all_.epochs]
    assert losses == [e.loss for e in none.epochs] == [e.loss for e in one.epochs]
    assert none.epochs[0].scores == {}


def test_evaluation_data_does_not_change_training() -> None:
    other = random_subset([5, 50, 7], seed=77)
    one, _ = train_small()
    two, _ = train_small(eval_subsets={"validation": other, "test": other})
    assert_same_weights(one, two)


def test_normalization_is_fitted_on_the_training_subset_only() -> None:
    system, _ = train_small(replace(CONFIG, epochs=1))
    rows = np.concatenate([TRAIN.frames[id_] for id_ in TRAIN.ids]).astype(np.float64)
    np.testing.assert_allclose(system.normaliser.mean_f, rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(system.normaliser.deviation_f, rows.std(axis=0), rtol=1e-5)


# History and scores


def epoch(number: int, ua: float | None) -> Epoch:
    scores = {"test": {"emotion": {"wa": 0.0, "ua": ua}}}
    return Epoch(epoch=number, loss=1.0, seconds=1.0, scores=scores)


def test_best_epoch_is_the_earliest_of_equal_ones() -> None:
    uas = [None, 0.2, 0.7, 0.7, 0.1]
    run = TrainingRun([epoch(number, ua) for number, ua in enumerate(uas, 1)], [])
    assert run.best_epoch("test", ["emotion"]) == 3
    assert TrainingRun([epoch(1, None), epoch(2, None)], []).best_epoch("test", ["emotion"]) == 1


def test_compute_scores_ignores_unlabelled_utterances() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    scores = compute_scores(probabilities, torch.tensor([0, 0, 0, -1]))
    assert scores == {"wa": pytest.approx(2 / 3), "ua": pytest.approx(2 / 3)}
    assert compute_scores(probabilities, torch.full((4,), -1)) == {"wa": None, "ua": None}
