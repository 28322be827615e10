"""Resumption within an epoch, the interval of checkpoints, and the shards of batches."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_subset
from builders.training import (
    CONFIG,
    TRAIN,
    Interrupted,
    assert_same_history,
    assert_same_weights,
    train_small,
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

EVERY_BATCH = replace(CONFIG, epochs=3, checkpoint=1e-9)
"""Write a checkpoint after each of the 4 batches of an epoch."""


@pytest.fixture(autouse=True)
def _unlimited_write_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_WRITE_SHARE", float("inf"))


def interrupt(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt the training after a number of steps."""
    left = iter(range(steps))

    def stop_after_steps(*arguments: Any) -> Iterator[BatchShard]:
        for shard in shard_batches(*arguments):
            if next(left, None) is None:
                raise Interrupted
            yield shard

    monkeypatch.setattr(loop, "shard_batches", stop_after_steps)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 7, 10, 11])
def test_fit_resumes_within_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole, wanted = train_small(replace(EVERY_BATCH, checkpoint=0.0))
    interrupt(monkeypatch, steps)
    with pytest.raises(Interrupted):
        train_small(EVERY_BATCH, checkpoint=tmp_path / "fold.pt")
    run, states = load_checkpoint(tmp_path / "fold.pt")
    assert (len(run.epochs), states["position"]["batches"]) == divmod(steps, 4)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    system, run = train_small(EVERY_BATCH, weights=7, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)


def test_fit_ends_when_interrupted_after_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = replace(EVERY_BATCH, epochs=2)
    whole, wanted = train_small(brief)
    for _ in range(7):
        interrupt(monkeypatch, 1)
        with pytest.raises(Interrupted):
            train_small(brief, checkpoint=tmp_path / "fold.pt")
        torch.manual_seed(99)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    system, run = train_small(brief, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)


@pytest.mark.parametrize("writings", [1, 3, 4, 7])
def test_interrupted_writing_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writings: int
) -> None:
    left = iter(range(writings))
    synced = os.fsync

    def stop(file: int) -> None:
        if next(left, None) is None:
            raise Interrupted
        synced(file)

    whole, wanted = train_small(EVERY_BATCH)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(Interrupted):
            train_small(EVERY_BATCH, checkpoint=tmp_path / "fold.pt")
    system, run = train_small(EVERY_BATCH, weights=7, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)


def test_interrupted_evaluation_repeats_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise Interrupted

    whole, wanted = train_small(EVERY_BATCH)
    monkeypatch.setattr(loop, "evaluate_subsets", stop)
    with pytest.raises(Interrupted):
        train_small(EVERY_BATCH, checkpoint=tmp_path / "fold.pt")
    monkeypatch.setattr(loop, "evaluate_subsets", evaluate_subsets)
    assert load_checkpoint(tmp_path / "fold.pt")[1]["position"]["batches"] == 4
    system, run = train_small(EVERY_BATCH, weights=7, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)


def test_seconds_of_an_epoch_include_interrupted_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2)
    with pytest.raises(Interrupted):
        train_small(EVERY_BATCH, checkpoint=tmp_path / "fold.pt")
    run, states = load_checkpoint(tmp_path / "fold.pt")
    states["position"]["seconds"] = 500.0
    save_checkpoint(tmp_path / "fold.pt", run, states)
    monkeypatch.setattr(loop, "shard_batches", shard_batches)
    _, run = train_small(EVERY_BATCH, checkpoint=tmp_path / "fold.pt")
    assert run.epochs[0].seconds > 500 > run.epochs[1].seconds


def test_a_checkpoint_without_position_resumes_after_its_last_epoch(tmp_path: Path) -> None:
    path = tmp_path / "fold.pt"
    whole, wanted = train_small()
    train_small(replace(CONFIG, epochs=2), checkpoint=path)
    run, states = load_checkpoint(path)
    del states["position"], states["average"]
    save_checkpoint(path, run, states)
    assert set(load_checkpoint(path)[1]) == {"system", "optimiser", "schedule"}
    system, run = train_small(weights=7, checkpoint=path)
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)


def test_resumption_does_not_fit_normalization_again(tmp_path: Path) -> None:
    path = tmp_path / "fold.pt"
    one, _ = train_small(replace(CONFIG, epochs=1), checkpoint=path)
    read: list[str] = []

    class RecordingFrames(Frames):
        def __getitem__(self, id_: str) -> np.ndarray:
            read.append(id_)
            return super().__getitem__(id_)

    frames = RecordingFrames(TRAIN.frames.x_nf, TRAIN.frames.index)
    other, _ = train_small(
        replace(CONFIG, epochs=1), checkpoint=path, train=replace(TRAIN, frames=frames)
    )
    assert_same_weights(one, other)
    assert read == []


# Interval of checkpoints


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now = 100.0
        monkeypatch.setattr(checkpoint, "MAX_WRITE_SHARE", 0.02)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(checkpoint, "save_checkpoint", lambda *_: self.advance(cost))

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("cost", "interval", "after"), [(0.0, 30.0, 30.0), (0.5, 30.0, 30.0), (2.0, 30.0, 100.0)]
)
def test_checkpoints_take_at_most_two_percent_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, interval: float, after: float
) -> None:
    clock = Clock(monkeypatch, cost)
    writer = CheckpointWriter(tmp_path / "fold.pt", interval)
    clock.advance(interval - 1)
    assert not writer.is_due
    clock.advance(1)
    assert writer.is_due
    writer.write(TrainingRun(), {}, EpochPosition())
    clock.advance(after - 1)
    assert not writer.is_due
    clock.advance(1)
    assert writer.is_due


@pytest.mark.parametrize(("named", "interval"), [(True, 0.0), (False, 30.0)])
def test_without_path_or_interval_no_checkpoint_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, interval: float
) -> None:
    clock = Clock(monkeypatch, 0.1)
    writer = CheckpointWriter(tmp_path / "fold.pt" if named else None, interval)
    clock.advance(1e6)
    assert not writer.is_due
    writer.write(TrainingRun(), {}, EpochPosition())
    assert clock.now == 100.0 + 1e6 + 0.1 * named


def test_short_epochs_write_no_checkpoint_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def record(
        self: CheckpointWriter, run: TrainingRun, stateful: Any, position: EpochPosition
    ) -> None:
        written.append(position.batches)

    monkeypatch.setattr(CheckpointWriter, "write", record)
    train_small(checkpoint=tmp_path / "fold.pt")
    assert written == [0] * 4


# Shards of batches


SUBSET = random_subset([5, 9, 4, 7, 12, 3, 8, 6, 10, 11, 2, 13, 14])
ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 12, 11, 10]


@pytest.mark.parametrize(("size", "world"), [(4, 1), (4, 2), (3, 2), (5, 3), (4, 7), (20, 2)])
def test_shards_partition_each_batch(size: int, world: int) -> None:
    columns = [list(shard_batches(SUBSET, ORDER, size, 0, rank, world)) for rank in range(world)]
    starts = range(0, len(ORDER), size)
    for start, *row in zip(starts, *columns, strict=True):
        whole = ORDER[start : start + size]
        assert len({shard.counts for shard in row}) == 1
        assert sum(row[0].counts) == len(row[0]) == len(whole)
        assert max(row[0].counts) - min(row[0].counts) <= 1
        seen = []
        for shard, count in zip(row, row[0].counts, strict=True):
            x_btf, mask_bt = shard.inputs["frames"]
            assert len(x_btf) == max(count, 1)  # never empty: every process takes every step
            lengths = mask_bt.sum(dim=1).tolist()[:count]
            seen += [index for index in whole for n in lengths if length(SUBSET, index) == n]
        assert sorted(seen) == sorted(whole)
        for task, target_b in row[0].targets.items():
            assert all(torch.equal(target_b, shard.targets[task]) for shard in row)
            mine = [p for r in range(world) for p in whole[r::world]]
            assert torch.equal(target_b, SUBSET.targets[task][mine])


def length(subset: Subset, index: int) -> int:
    return subset.frames.length(subset.ids[index])


@pytest.mark.parametrize("first", [0, 1, 3, 4])
def test_shard_batches_skips_finished_batches(first: int) -> None:
    all_, some = list(shard_batches(SUBSET, ORDER, 4)), list(shard_batches(SUBSET, ORDER, 4, first))
    assert len(some) == 4 - first
    for one, other in zip(all_[first:], some, strict=True):
        assert torch.equal(one.inputs["frames"][0], other.inputs["frames"][0])
        assert torch.equal(one.targets["emotion"], other.targets["emotion"])
