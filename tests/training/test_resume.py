"""A training that was interrupted within an epoch goes on as if nothing had been."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_side
from training.test_loop import (
    SETTINGS,
    TRAIN,
    Interrupted,
    assert_same_course,
    assert_same_weights,
    trained,
)

from serein.training import checkpoint, loop
from serein.training.checkpoint import (
    CheckpointWriter,
    EpochPosition,
    TrainingRun,
    evaluate_subsets,
    load_checkpoint,
    save_checkpoint,
)
from serein.training.dataset import Frames, Subset
from serein.training.sampling import BatchShard, shard_batches

ALWAYS = replace(SETTINGS, epochs=3, checkpoint=1e-9)
"""A state after every one of 4 batches."""


@pytest.fixture(autouse=True)
def _whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_WRITE_SHARE", float("inf"))


def interrupt(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Stop before the next step when so many are done."""
    left = iter(range(steps))

    def some(*arguments: Any) -> Iterator[BatchShard]:
        for share in shard_batches(*arguments):
            if next(left, None) is None:
                raise Interrupted
            yield share

    monkeypatch.setattr(loop, "shard_batches", some)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 7, 10, 11])
def test_a_training_goes_on_within_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole, wanted = trained(replace(ALWAYS, checkpoint=0.0))
    interrupt(monkeypatch, steps)
    with pytest.raises(Interrupted):
        trained(ALWAYS, state=tmp_path / "fold.pt")
    course, kept = load_checkpoint(tmp_path / "fold.pt")
    assert (len(course.epochs), kept["place"]["batches"]) == divmod(steps, 4)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    system, course = trained(ALWAYS, weights=7, state=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)


def test_a_training_that_is_interrupted_after_every_step_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = replace(ALWAYS, epochs=2)
    whole, wanted = trained(brief)
    for _ in range(7):
        interrupt(monkeypatch, 1)
        with pytest.raises(Interrupted):
            trained(brief, state=tmp_path / "fold.pt")
        torch.manual_seed(99)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    system, course = trained(brief, state=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)


@pytest.mark.parametrize("writings", [1, 3, 4, 7])
def test_an_interruption_while_writing_leaves_the_state_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writings: int
) -> None:
    left = iter(range(writings))
    synced = os.fsync

    def stop(file: int) -> None:
        if next(left, None) is None:
            raise Interrupted
        synced(file)

    whole, wanted = trained(ALWAYS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(Interrupted):
            trained(ALWAYS, state=tmp_path / "fold.pt")
    system, course = trained(ALWAYS, weights=7, state=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)


def test_an_interruption_while_looking_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise Interrupted

    whole, wanted = trained(ALWAYS)
    monkeypatch.setattr(loop, "evaluate_subsets", stop)
    with pytest.raises(Interrupted):
        trained(ALWAYS, state=tmp_path / "fold.pt")
    monkeypatch.setattr(loop, "evaluate_subsets", evaluate_subsets)
    assert load_checkpoint(tmp_path / "fold.pt")[1]["place"]["batches"] == 4
    system, course = trained(ALWAYS, weights=7, state=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)


def test_seconds_are_summed_over_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2)
    with pytest.raises(Interrupted):
        trained(ALWAYS, state=tmp_path / "fold.pt")
    course, kept = load_checkpoint(tmp_path / "fold.pt")
    kept["place"]["seconds"] = 500.0
    save_checkpoint(tmp_path / "fold.pt", course, kept)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    _, course = trained(ALWAYS, state=tmp_path / "fold.pt")
    assert course.epochs[0].seconds > 500 > course.epochs[1].seconds


def test_a_state_of_before_is_gone_on_with_after_its_last_epoch(tmp_path: Path) -> None:
    state = tmp_path / "fold.pt"
    whole, wanted = trained()
    trained(replace(SETTINGS, epochs=2), state=state)
    course, kept = load_checkpoint(state)
    del kept["place"], kept["average"]
    save_checkpoint(state, course, kept)
    assert set(load_checkpoint(state)[1]) == {"system", "optimiser", "schedule"}
    system, course = trained(weights=7, state=state)
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)


def test_what_is_resumed_is_not_normalised_anew(tmp_path: Path) -> None:
    state = tmp_path / "fold.pt"
    one, _ = trained(replace(SETTINGS, epochs=1), state=state)
    read: list[str] = []

    class Watched(Frames):
        def __getitem__(self, id_: str) -> np.ndarray:
            read.append(id_)
            return super().__getitem__(id_)

    frames = Watched(TRAIN.frames.x_nf, TRAIN.frames.index)
    other, _ = trained(
        replace(SETTINGS, epochs=1), state=state, train=replace(TRAIN, frames=frames)
    )
    assert_same_weights(one, other)
    assert read == []


# When to write


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now = 100.0
        monkeypatch.setattr(checkpoint, "MAX_WRITE_SHARE", 0.02)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(checkpoint, "save_checkpoint", lambda *_: self.pass_(cost))

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("cost", "every", "after"), [(0.0, 30.0, 30.0), (0.5, 30.0, 30.0), (2.0, 30.0, 100.0)]
)
def test_writing_takes_two_percent_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, every: float, after: float
) -> None:
    clock = Clock(monkeypatch, cost)
    diary = CheckpointWriter(tmp_path / "fold.pt", every)
    clock.pass_(every - 1)
    assert not diary.is_due
    clock.pass_(1)
    assert diary.is_due
    diary.write(TrainingRun(), {}, EpochPosition())
    clock.pass_(after - 1)
    assert not diary.is_due
    clock.pass_(1)
    assert diary.is_due


@pytest.mark.parametrize(("named", "every"), [(True, 0.0), (False, 30.0)])
def test_who_asks_for_no_state_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, every: float
) -> None:
    clock = Clock(monkeypatch, 0.1)
    diary = CheckpointWriter(tmp_path / "fold.pt" if named else None, every)
    clock.pass_(1e6)
    assert not diary.is_due
    diary.write(TrainingRun(), {}, EpochPosition())
    assert clock.now == 100.0 + 1e6 + 0.1 * named


def test_brief_epochs_write_no_state_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def note(self: CheckpointWriter, course: TrainingRun, parts: Any, where: EpochPosition) -> None:
        written.append(where.batches)

    monkeypatch.setattr(CheckpointWriter, "write", note)
    trained(state=tmp_path / "fold.pt")
    assert written == [0] * 4


# Shares


SIDE = random_side([5, 9, 4, 7, 12, 3, 8, 6, 10, 11, 2, 13, 14])
ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 12, 11, 10]


@pytest.mark.parametrize(("size", "world"), [(4, 1), (4, 2), (3, 2), (5, 3), (4, 7), (20, 2)])
def test_shares_are_parts_of_the_whole_batch(size: int, world: int) -> None:
    columns = [list(shard_batches(SIDE, ORDER, size, 0, rank, world)) for rank in range(world)]
    starts = range(0, len(ORDER), size)
    for start, *row in zip(starts, *columns, strict=True):
        whole = ORDER[start : start + size]
        assert len({share.counts for share in row}) == 1
        assert sum(row[0].counts) == len(row[0]) == len(whole)
        assert max(row[0].counts) - min(row[0].counts) <= 1
        seen = []
        for share, count in zip(row, row[0].counts, strict=True):
            x_btf, mask_bt = share.inputs["frames"]
            assert len(x_btf) == max(count, 1)  # never nothing: every process takes every step
            lengths = mask_bt.sum(dim=1).tolist()[:count]
            seen += [place for place in whole for n in lengths if length(SIDE, place) == n]
        assert sorted(seen) == sorted(whole)
        for task, target_b in row[0].targets.items():
            assert all(torch.equal(target_b, share.targets[task]) for share in row)
            mine = [p for r in range(world) for p in whole[r::world]]
            assert torch.equal(target_b, SIDE.targets[task][mine])


def length(side: Subset, place: int) -> int:
    return side.frames.length(side.ids[place])


@pytest.mark.parametrize("first", [0, 1, 3, 4])
def test_batches_that_are_done_are_passed_over(first: int) -> None:
    all_, some = list(shard_batches(SIDE, ORDER, 4)), list(shard_batches(SIDE, ORDER, 4, first))
    assert len(some) == 4 - first
    for one, other in zip(all_[first:], some, strict=True):
        assert torch.equal(one.inputs["frames"][0], other.inputs["frames"][0])
        assert torch.equal(one.targets["emotion"], other.targets["emotion"])
