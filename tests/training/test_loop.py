from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_side, small_system
from torch import Tensor, nn

from serein.results.evaluation import Epoch
from serein.system import System, predict_batch
from serein.training.checkpoint import TrainingRun, compute_scores, load_checkpoint
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.loop import fit
from serein.training.predict import predict_subset

TRAIN = random_side([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33, 7])
VALIDATION = random_side([10, 20, 6, 15], seed=5)
TEST = random_side([13, 4, 19], seed=9)
WATCHED = {"validation": VALIDATION, "test": TEST}
SETTINGS = TrainingConfig(epochs=4, batch=4, bucket=2, rate=1e-2, decay=0.01, clip=0.5)


class Interrupted(Exception):
    pass


def trained(
    settings: TrainingConfig = SETTINGS,
    *,
    seed: int = 0,
    weights: int = 0,
    train: Subset = TRAIN,
    watched: Mapping[str, Subset] = WATCHED,
    changes: tuple[str, ...] = (),
    **options: Any,
) -> tuple[System, TrainingRun]:
    system = small_system(*changes, seed=weights)
    return system, fit(system, train, watched, settings, seed=seed, **options)


def assert_same_weights(one: System, other: System) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert list(a) == list(b)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def assert_same_course(one: TrainingRun, other: TrainingRun) -> None:
    """To the last bit; seconds alone may differ."""
    assert [replace(e, seconds=0) for e in one.epochs] == [
        replace(e, seconds=0) for e in other.epochs
    ]
    assert len(one.predictions) == len(other.predictions) == len(one.epochs)
    for a, b in zip(one.predictions, other.predictions, strict=True):
        assert {side: list(tasks) for side, tasks in a.items()} == {
            side: list(tasks) for side, tasks in b.items()
        }
        for side, tasks in a.items():
            for task, probabilities in tasks.items():
                assert torch.equal(probabilities, b[side][task])


def test_the_same_seed_gives_the_same_course() -> None:
    (one, first), (other, second) = trained(), trained()
    assert_same_weights(one, other)
    assert_same_course(first, second)


def test_what_was_drawn_before_changes_nothing() -> None:
    one, first = trained()
    system = small_system()
    torch.manual_seed(123)
    np.random.default_rng(5).random(100)
    second = fit(system, TRAIN, WATCHED, SETTINGS)
    assert_same_weights(one, system)
    assert_same_course(first, second)


def test_another_seed_gives_another_course() -> None:
    (_, first), (_, second) = trained(seed=0), trained(seed=1)
    assert [e.loss for e in first.epochs] != [e.loss for e in second.epochs]


def test_every_epoch_has_an_order_and_dropout_of_its_own() -> None:
    still = replace(SETTINGS, rate=1e-12, decay=0, clip=0)
    _, course = trained(still)
    losses = [epoch.loss for epoch in course.epochs]
    assert len(set(losses)) == len(losses)
    _, course = trained(still, changes=("model.dropout=0",))
    losses = [epoch.loss for epoch in course.epochs]
    assert losses == pytest.approx([losses[0]] * 4, rel=0.05)


def test_training_learns() -> None:
    _, course = trained(replace(SETTINGS, epochs=15), changes=("model.dropout=0",))
    assert course.epochs[-1].loss < 0.5 * course.epochs[0].loss


def test_each_epoch_is_told_and_kept() -> None:
    told: list[Epoch] = []
    _, course = trained(progress=told.append)
    assert told == course.epochs
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4]
    assert all(epoch.seconds > 0 for epoch in told)
    assert all(set(epoch.scores) == {"validation", "test"} for epoch in told)


def test_the_last_epoch_foretells_what_the_trained_system_does() -> None:
    system, course = trained()
    for side, chosen in WATCHED.items():
        for task, probabilities_nk in predict_subset(system, chosen, 2).items():
            torch.testing.assert_close(course.predictions[-1][side][task], probabilities_nk)
            known = chosen.targets[task] >= 0
            right = probabilities_nk.argmax(dim=1)[known] == chosen.targets[task][known]
            assert course.epochs[-1].scores[side][task]["wa"] == pytest.approx(
                float(right.double().mean())
            )


def test_answers_stand_in_the_order_of_the_side() -> None:
    system = small_system()
    for size in (1, 3, 100):
        for task, probabilities_nk in predict_subset(system, TRAIN, size).items():
            for id_, found_k in zip(TRAIN.ids, probabilities_nk, strict=True):
                alone = predict_batch(system, {"frames": TRAIN.frames.pad_batch([id_])})[0][task][0]
                torch.testing.assert_close(found_k, alone, atol=1e-6, rtol=0)
    assert not system.training


# Resuming


@pytest.mark.parametrize("last", [1, 2, 3])
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(tmp_path: Path, last: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise Interrupted

    whole, wanted = trained()
    with pytest.raises(Interrupted):
        trained(state=tmp_path / "fold.pt", progress=stop)
    told: list[int] = []
    # Other weights to begin with: all that counts comes from the state.
    system, course = trained(
        weights=7, state=tmp_path / "fold.pt", progress=lambda epoch: told.append(epoch.epoch)
    )
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)
    assert told == list(range(last, 5))


def test_a_finished_training_is_read_and_not_done_again(tmp_path: Path) -> None:
    state = tmp_path / "fold.pt"
    first, wanted = trained(state=state)
    stamp, seconds = state.stat().st_mtime_ns, [epoch.seconds for epoch in wanted.epochs]
    second, course = trained(weights=7, state=state)
    assert_same_weights(first, second)
    assert_same_course(wanted, course)
    assert state.stat().st_mtime_ns == stamp
    assert [epoch.seconds for epoch in course.epochs] == seconds


def test_keeping_the_state_changes_nothing(tmp_path: Path) -> None:
    (one, first), (other, second) = trained(), trained(state=tmp_path / "fold.pt")
    assert_same_weights(one, other)
    assert_same_course(first, second)
    assert [file.name for file in tmp_path.iterdir()] == ["fold.pt"]


def broken(content: bytes, kind: str) -> bytes:
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
def test_a_broken_state_is_a_training_that_has_not_begun(tmp_path: Path, kind: str) -> None:
    state = tmp_path / "fold.pt"
    brief = replace(SETTINGS, epochs=1)
    whole, wanted = trained(brief, state=state)
    state.write_bytes(broken(state.read_bytes(), kind))
    system, course = trained(brief, state=state)
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)
    assert len(load_checkpoint(state)[0].epochs) == 1


def test_noise_of_any_kind_is_a_state_that_is_not_there(tmp_path: Path) -> None:
    state = tmp_path / "fold.pt"
    trained(replace(SETTINGS, epochs=1), state=state)
    whole = state.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 40):
            content[place] = generator.integers(256)
        state.write_bytes(bytes(content[: generator.integers(1, len(content) + 1)]))
        course, kept = load_checkpoint(state)
        assert (len(course.epochs), bool(kept)) in ((0, False), (1, True))
        state.write_bytes(generator.bytes(int(generator.integers(1, 200))))
        assert load_checkpoint(state) == (TrainingRun(), {})


@pytest.mark.parametrize("foreign", [{"a": 1}, [1, 2], torch.zeros(3), {"epochs": [{"no": 1}]}])
def test_a_state_of_something_else_is_a_training_that_has_not_begun(
    tmp_path: Path, foreign: Any
) -> None:
    torch.save(foreign, tmp_path / "fold.pt")
    assert load_checkpoint(tmp_path / "fold.pt") == (TrainingRun(), {})


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"epochs": [], "foretold": [], "evil": Evil()}, tmp_path / "fold.pt")
    assert load_checkpoint(tmp_path / "fold.pt") == (TrainingRun(), {})
    assert not (tmp_path / "ran").exists()


def test_there_is_no_state_before_the_first_epoch(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt") == (TrainingRun(), {})


# Steps


def literally(settings: TrainingConfig, steps: int, *, balanced: bool = False) -> dict[str, Tensor]:
    """Full batches without dropout, step by step, with none of the loop's parts."""
    change = f"tasks.emotion.class_weights={'balanced' if balanced else 'none'}"
    system = small_system("model.dropout=0", change)
    rows = np.concatenate([TRAIN.frames[id_] for id_ in TRAIN.ids]).astype(np.float64)
    system.normaliser.mean_f.copy_(torch.from_numpy(rows.mean(axis=0)))
    system.normaliser.deviation_f.copy_(torch.from_numpy(rows.std(axis=0)))
    emotion = TRAIN.targets["emotion"]
    count = torch.bincount(emotion[emotion >= 0])
    weight = (emotion >= 0).sum() / (3 * count) if balanced else torch.ones(3)
    parameters = list(system.parameters())
    square = [torch.zeros_like(parameter) for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, weight_decay=settings.weight_decay)
    system.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = settings.rate / (1 + settings.decay * step)
        optimiser.zero_grad()
        logits = system({"frames": TRAIN.frames.pad_batch(TRAIN.ids)}).logits
        first = nn.CrossEntropyLoss(weight.float(), ignore_index=-1)(logits["emotion"], emotion)
        second = nn.CrossEntropyLoss()(logits["gender"], TRAIN.targets["gender"])
        torch.autograd.backward(first + second)
        for parameter in parameters:
            assert parameter.grad is not None
            if settings.clip:
                parameter.grad.clamp_(-settings.clip, settings.clip)
        if settings.optimiser == "adam":
            optimiser.step()
            continue
        with torch.no_grad():  # Keras's RMSprop, by its documentation
            for parameter, mean in zip(parameters, square, strict=True):
                assert parameter.grad is not None
                mean.mul_(0.9).add_(0.1 * parameter.grad**2)
                parameter.sub_(settings.rate * parameter.grad / (mean.sqrt() + 1e-7))
    return system.state_dict()


PLAIN = TrainingConfig(epochs=5, batch=100, rate=1e-2)


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    "changes",
    [{"decay": 0.5}, {"clip": 1e-3}, {"weight_decay": 0.3}, {"optimiser": "rmsprop"}],
    ids=["decay", "clip", "weight decay", "rmsprop"],
)
def test_a_setting_does_what_it_says(changes: dict[str, Any]) -> None:
    settings = replace(PLAIN, **changes)
    system, _ = trained(settings, changes=("model.dropout=0",))
    found = system.state_dict()
    assert largest_difference(found, literally(settings, 5)) < 2e-5
    assert largest_difference(found, literally(PLAIN, 5)) > 1e-3


def test_balanced_classes_are_weighed_in_training() -> None:
    changes = "model.dropout=0", "tasks.emotion.class_weights=balanced"
    system, _ = trained(PLAIN, changes=changes)
    found = system.state_dict()
    assert largest_difference(found, literally(PLAIN, 5, balanced=True)) < 2e-5
    assert largest_difference(found, literally(PLAIN, 5)) > 1e-3


def test_the_rate_falls_as_in_keras(tmp_path: Path) -> None:
    settings = replace(SETTINGS, rate=1e-4, decay=1e-2, epochs=3)
    trained(settings, state=tmp_path / "fold.pt")
    _, kept = load_checkpoint(tmp_path / "fold.pt")
    steps = 3 * 4  # 14 utterances in batches of 4
    assert kept["schedule"]["last_epoch"] == steps
    assert kept["optimiser"]["param_groups"][0]["lr"] == pytest.approx(1e-4 / (1 + 1e-2 * steps))


def test_the_weight_of_a_task_counts() -> None:
    alone, _ = trained(PLAIN, changes=("model.dropout=0", "tasks.gender.weight=0"))
    emotion = replace(TRAIN, targets={"emotion": TRAIN.targets["emotion"]})
    changes = "model.dropout=0", "tasks.gender=remove"
    none, _ = trained(PLAIN, train=emotion, watched={}, changes=changes)
    found, wanted = alone.state_dict(), none.state_dict()
    assert largest_difference({name: found[name] for name in wanted}, wanted) < 2e-5


# Fairness


def test_who_watches_does_not_teach() -> None:
    with_all, all_ = trained()
    with_none, none = trained(watched={})
    with_one, one = trained(watched={"validation": VALIDATION})
    assert_same_weights(with_all, with_none)
    assert_same_weights(with_all, with_one)
    losses = [epoch.loss for epoch in all_.epochs]
    assert losses == [e.loss for e in none.epochs] == [e.loss for e in one.epochs]
    assert none.epochs[0].scores == {}


def test_what_the_watched_sides_hold_does_not_teach() -> None:
    other = random_side([5, 50, 7], seed=77)
    one, _ = trained()
    two, _ = trained(watched={"validation": other, "test": other})
    assert_same_weights(one, two)


def test_frames_are_normalised_by_the_training_side_alone() -> None:
    system, _ = trained(replace(SETTINGS, epochs=1))
    rows = np.concatenate([TRAIN.frames[id_] for id_ in TRAIN.ids]).astype(np.float64)
    np.testing.assert_allclose(system.normaliser.mean_f, rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(system.normaliser.deviation_f, rows.std(axis=0), rtol=1e-5)


# Course


def epoch(number: int, ua: float | None) -> Epoch:
    scores = {"test": {"emotion": {"wa": 0.0, "ua": ua}}}
    return Epoch(epoch=number, loss=1.0, seconds=1.0, scores=scores)


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    uas = [None, 0.2, 0.7, 0.7, 0.1]
    course = TrainingRun([epoch(number, ua) for number, ua in enumerate(uas, 1)], [])
    assert course.best_epoch("test", ["emotion"]) == 3
    assert TrainingRun([epoch(1, None), epoch(2, None)], []).best_epoch("test", ["emotion"]) == 1


def test_scores_leave_out_what_nobody_knows() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    scores = compute_scores(probabilities, torch.tensor([0, 0, 0, -1]))
    assert scores == {"wa": pytest.approx(2 / 3), "ua": pytest.approx(2 / 3)}
    assert compute_scores(probabilities, torch.full((4,), -1)) == {"wa": None, "ua": None}
