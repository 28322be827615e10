"""Augmented and balanced epochs, alone, in training and in an evaluation."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK, small_recipe
from builders.training import (
    CONFIG,
    TRAIN,
    Interrupted,
    assert_same_history,
    assert_same_weights,
    train_small,
)
from hypothesis import given
from hypothesis import strategies as st

from serein import recipes
from serein.augment.specaugment import SpecAugment
from serein.errors import ConfigError
from serein.evaluation import held_out
from serein.evaluation.evaluate import evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.train import apply_evaluation, train
from serein.records import Corpus, Utterance
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.config import TrainingConfig
from serein.training.dataset import Frames, Subset
from serein.training.sampling import augment_subset, systematic_sample

MASKS = SpecAugment(time_masks=1, max_frames=6, max_share=0.5, band_masks=1, max_bands=4, bands=16)
SPEAKERS = {id_: f"s{place % 3}" for place, id_ in enumerate(TRAIN.ids)}
UTTERANCES = [
    Utterance(id=id_, path=Path(id_), speaker=SPEAKERS[id_], corpus="ab"[place > 3])
    for place, id_ in enumerate(TRAIN.ids)
]


def shift_frames(by: float) -> Frames:
    return Frames(TRAIN.frames.x_nf + np.float32(by), TRAIN.frames.index)


COPIES = [shift_frames(100), shift_frames(200)]


def augmented(config: TrainingConfig = CONFIG, **options: Any) -> Subset:
    return augment_subset(TRAIN, UTTERANCES, config, **options)


def assert_same_batches(one: Subset, other: Subset, size: int = 4) -> None:
    for a, b in zip(one.iter_batches(size), other.iter_batches(size), strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.inputs["frames"][0], b.inputs["frames"][0])
        assert all(torch.equal(a.targets[task], b.targets[task]) for task in a.targets)


# Draws


def test_augment_subset_without_augmentation_returns_the_subset() -> None:
    assert augmented() is TRAIN
    assert augmented(replace(CONFIG, balance=())) is TRAIN
    assert TRAIN.draw_epoch(5) is TRAIN


def test_an_augmented_subset_itself_holds_the_recordings() -> None:
    subset = augmented(
        replace(CONFIG, balance="class"), augmented_frames=COPIES, spec_augment=MASKS
    )
    assert_same_batches(subset, TRAIN)


def test_draw_epoch_depends_on_the_seed() -> None:
    subset = augmented(
        replace(CONFIG, balance="speaker"), augmented_frames=COPIES, spec_augment=MASKS
    )
    assert_same_batches(subset.draw_epoch(3), subset.draw_epoch(3))
    assert subset.draw_epoch(3).ids != subset.draw_epoch(4).ids


def test_draw_epoch_takes_each_copy_equally_often() -> None:
    subset = augmented(augmented_frames=COPIES)
    seen: Counter[int] = Counter()
    for seed in range(60):
        epoch = subset.draw_epoch(seed)
        assert epoch.ids == TRAIN.ids
        for place, id_ in enumerate(epoch.ids):
            shift_tf = epoch.frames_at(place) - TRAIN.frames[id_]
            assert np.ptp(shift_tf) < 1e-3
            assert epoch.length(place) == len(shift_tf)
            seen[round(float(shift_tf.mean()))] += 1
    assert set(seen) == {0, 100, 200}
    assert min(seen.values()) > 0.28 * 60 * len(TRAIN.ids)


def test_masks_do_not_depend_on_batches() -> None:
    epoch = augmented(spec_augment=MASKS).draw_epoch(7)
    order = epoch.shuffled_order(4, 2, 0)
    alone = {place: next(epoch.iter_batches(1, [place])).inputs["frames"][0][0] for place in order}
    for start, batch in zip(range(0, len(order), 4), epoch.iter_batches(4, order), strict=True):
        x_btf, mask_bt = batch.inputs["frames"]
        for row, place in enumerate(order[start : start + 4]):
            torch.testing.assert_close(x_btf[row][mask_bt[row]], alone[place])
    assert any((alone[place].numpy() != epoch.frames_at(place)).any() for place in order)


def test_masks_differ_between_epochs() -> None:
    subset = augmented(spec_augment=MASKS)
    one, other = (
        next(subset.draw_epoch(seed).iter_batches(14)).inputs["frames"][0] for seed in (1, 2)
    )
    assert not torch.equal(one, other)


# Balance

GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=60)


@given(groups=GROUPS, seed=st.integers(0, 99))
def test_systematic_sample_takes_groups_equally_often(
    groups: list[tuple[Hashable, ...]], seed: int
) -> None:
    drawn = [groups[place] for place in systematic_sample(groups, np.random.default_rng(seed))]
    assert len(drawn) == len(groups)
    first, both = Counter(one[0] for one in drawn), Counter(drawn)
    parts = {one[0] for one in groups}
    for part in parts:
        due = len(groups) / len(parts)
        assert abs(first[part] - due) < 1 + 1e-6
        within = {one for one in groups if one[0] == part}
        assert all(abs(both[one] - due / len(within)) < 1 + 1e-6 for one in within)


def test_systematic_sample_takes_members_of_a_group_about_equally_often() -> None:
    groups = [("a",)] * 30 + [("b",)] * 3
    counts = Counter(systematic_sample(groups, np.random.default_rng(0)).tolist())
    assert {counts[place] for place in range(30, 33)} <= {5, 6}
    assert {counts[place] for place in range(30)} <= {0, 1}


def test_systematic_sample_of_equal_groups_takes_each_utterance_once() -> None:
    groups: Sequence[tuple[Hashable, ...]] = [("a",), ("b",)] * 7
    assert sorted(systematic_sample(groups, np.random.default_rng(0)).tolist()) == list(range(14))


@pytest.mark.parametrize(
    ("balance", "label"),
    [("speaker", "speaker"), ("corpus", "corpus"), ("class", "emotion")],
)
def test_balance_by_each_key(balance: Any, label: str) -> None:
    subset = augmented(replace(CONFIG, balance=balance))
    by_id = {one.id: one for one in UTTERANCES}
    for seed in range(5):
        epoch = subset.draw_epoch(seed)
        if balance == "class":
            found = Counter(epoch.targets[label].tolist())
            parts = len(set(TRAIN.targets["emotion"].tolist()))
        else:
            found = Counter(by_id[id_].label(label) for id_ in epoch.ids)
            parts = len({one.label(label) for one in UTTERANCES})
        assert all(abs(count - 14 / parts) <= 1 for count in found.values())
        assert len(found) == parts
        assert all(
            torch.equal(target_n[place], TRAIN.targets[task][TRAIN.ids.index(id_)])
            for task, target_n in epoch.targets.items()
            for place, id_ in enumerate(epoch.ids)
        )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({"arousal": torch.rand(14)}, "the first task, arousal, has no classes"),
        ({"words": torch.ones(14, 5, dtype=torch.long)}, "the first task, words, has no classes"),
        ({}, "there is no task"),
    ],
)
def test_balance_by_class_needs_classes(targets: dict[str, torch.Tensor], words: str) -> None:
    subset = replace(TRAIN, targets=targets)
    with pytest.raises(ConfigError, match=words):
        augment_subset(subset, UTTERANCES, replace(CONFIG, balance="class"))


# Training

FULL_CONFIG = replace(
    CONFIG, balance=("corpus", "class"), ema_decay=0.9, warmup=3, schedule="cosine"
)


def train_augmented(**options: Any) -> Any:
    subset = augment_subset(
        TRAIN, UTTERANCES, FULL_CONFIG, augmented_frames=COPIES, spec_augment=MASKS
    )
    changes = "tasks.emotion.smoothing=0.1", "tasks.gender.smoothing=0.1"
    return train_small(FULL_CONFIG, train=subset, changes=changes, **options)


def test_fit_with_augmentation_is_deterministic() -> None:
    (one, first), (other, second) = train_augmented(), train_augmented()
    assert_same_weights(one, other)
    assert_same_history(first, second)


@pytest.mark.parametrize("last", [1, 3])
def test_resumed_training_with_augmentation_equals_an_uninterrupted_one(
    tmp_path: Path, last: int
) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise Interrupted

    whole, wanted = train_augmented()
    with pytest.raises(Interrupted):
        train_augmented(checkpoint=tmp_path / "fold.pt", on_epoch_end=stop)
    system, run = train_augmented(weights=7, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_history(wanted, run)
    again, read = train_augmented(weights=7, checkpoint=tmp_path / "fold.pt")
    assert_same_weights(whole, again)
    assert_same_history(wanted, read)


def test_normalization_is_fitted_on_the_recordings() -> None:
    system, _ = train_augmented()
    plain, _ = train_small()
    assert torch.equal(system.normaliser.mean_f, plain.normaliser.mean_f)
    assert torch.equal(system.normaliser.deviation_f, plain.normaliser.deviation_f)


# From end to end

ALL_SETTINGS = (
    *("augment.copies=2", "augment.speed=[0.9, 1.1]", "augment.pitch=[-2, 2]"),
    *("augment.gain=[-6, 6]", "augment.noise=0.5", "augment.room=0.5"),
    *("augment.bandwidth=0.5", "augment.telephone=0.3"),
    *("augment.time_masks=1", "augment.band_masks=1", "augment.band_width=4"),
    *("training.balance=['class', 'speaker']", "training.ema_decay=0.9", "training.warmup=2"),
    *("training.schedule=cosine", "tasks.emotion.smoothing=0.1"),
)


def test_evaluate_with_augmentation_is_reproducible(corpus: Corpus, tmp_path: Path) -> None:
    first = evaluate(
        "li2019", corpus, settings=[*QUICK, *ALL_SETTINGS], runs=tmp_path / "a"
    ).results
    assert first.recipe["augment"]["noise"] == 0.5
    assert first.recipe["training"]["balance"] == ["class", "speaker"]
    again = evaluate(
        "li2019", corpus, settings=[*QUICK, *ALL_SETTINGS], runs=tmp_path / "b", jobs=2
    ).results
    assert first.predictions == again.predictions
    losses = [[epoch.loss for epoch in fold.history] for fold in first.folds]
    assert losses == [[epoch.loss for epoch in fold.history] for fold in again.folds]
    chosen = recipes.load("li2019", [*QUICK, *ALL_SETTINGS])
    assert apply_evaluation(chosen, first).augment == chosen.augment
    plain = replace(chosen, augment={})
    with pytest.raises(ConfigError, match="other settings of augment than li2019"):
        apply_evaluation(plain, first)
    before = {name: table for name, table in first.recipe.items() if name != "augment"}
    assert apply_evaluation(plain, replace(first, recipe=before)).augment == {}


def test_train_with_augmentation(corpus: Corpus, tmp_path: Path) -> None:
    made = train("li2019", corpus, tmp_path / "a.safetensors", settings=[*QUICK, *ALL_SETTINGS])
    assert made.system.recipe.augment["copies"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_evaluation_subsets_are_not_augmented(corpus: Corpus, tmp_path: Path) -> None:
    settings = [s for s in ALL_SETTINGS if s.startswith("augment")]
    plan = build_plan(
        small_recipe(*settings, "features.pad=false"), corpus, seed=0, device="cpu", runs=tmp_path
    )
    plain = build_plan(
        small_recipe("features.pad=false"), corpus, seed=0, device="cpu", runs=tmp_path
    )
    assert len(plan.augmentations) == 2
    assert plan.folder != plain.folder
    fold = plan.protocol.folds[0]
    made = System(plan.recipe, plan.classes)
    train_subset, eval_subsets = held_out.build_subsets(plan, fold, plan.load_frames(), made)
    _, wanted = held_out.build_subsets(plain, fold, plain.load_frames(), made)
    assert set(eval_subsets) == {"validation", "test"}
    for name, subset in eval_subsets.items():
        assert type(subset) is Subset
        assert subset.draw_epoch(1) is subset
        assert_same_batches(subset, wanted[name])
    epoch = plan.augment_subset(train_subset).draw_epoch(1)
    assert set(epoch.ids) <= set(fold.train)
    assert any(
        len(epoch.frames_at(p)) != train_subset.frames.length(id_)
        for p, id_ in enumerate(epoch.ids)
    )
