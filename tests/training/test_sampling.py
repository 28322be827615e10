from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK, small_recipe
from hypothesis import given
from hypothesis import strategies as st
from training.test_loop import (
    SETTINGS,
    TRAIN,
    Interrupted,
    assert_same_course,
    assert_same_weights,
    trained,
)

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


def shifted(by: float) -> Frames:
    return Frames(TRAIN.frames.x_nf + np.float32(by), TRAIN.frames.index)


COPIES = [shifted(100), shifted(200)]


def varying(settings: TrainingConfig = SETTINGS, **options: Any) -> Subset:
    return augment_subset(TRAIN, UTTERANCES, settings, **options)


def assert_same_batches(one: Subset, other: Subset, size: int = 4) -> None:
    for a, b in zip(one.iter_batches(size), other.iter_batches(size), strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.inputs["frames"][0], b.inputs["frames"][0])
        assert all(torch.equal(a.targets[task], b.targets[task]) for task in a.targets)


# Draws


def test_where_nothing_varies_the_side_is_itself() -> None:
    assert varying() is TRAIN
    assert varying(replace(SETTINGS, balance=())) is TRAIN
    assert TRAIN.draw_epoch(5) is TRAIN


def test_a_side_as_such_hears_recordings() -> None:
    side = varying(replace(SETTINGS, balance="class"), copies=COPIES, masks=MASKS)
    assert_same_batches(side, TRAIN)


def test_the_same_seed_draws_the_same() -> None:
    side = varying(replace(SETTINGS, balance="speaker"), copies=COPIES, masks=MASKS)
    assert_same_batches(side.draw_epoch(3), side.draw_epoch(3))
    assert side.draw_epoch(3).ids != side.draw_epoch(4).ids


def test_every_form_comes_and_all_of_an_utterance_is_of_one() -> None:
    side = varying(copies=COPIES)
    seen: Counter[int] = Counter()
    for seed in range(60):
        heard = side.draw_epoch(seed)
        assert heard.ids == TRAIN.ids
        for place, id_ in enumerate(heard.ids):
            shift_tf = heard.frames_at(place) - TRAIN.frames[id_]
            assert np.ptp(shift_tf) < 1e-3
            assert heard.length(place) == len(shift_tf)
            seen[round(float(shift_tf.mean()))] += 1
    assert set(seen) == {0, 100, 200}
    assert min(seen.values()) > 0.28 * 60 * len(TRAIN.ids)


def test_masks_depend_on_the_place_and_not_on_the_batch() -> None:
    heard = varying(masks=MASKS).draw_epoch(7)
    order = heard.shuffled_order(4, 2, 0)
    alone = {place: next(heard.iter_batches(1, [place])).inputs["frames"][0][0] for place in order}
    for start, batch in zip(range(0, len(order), 4), heard.iter_batches(4, order), strict=True):
        x_btf, mask_bt = batch.inputs["frames"]
        for row, place in enumerate(order[start : start + 4]):
            torch.testing.assert_close(x_btf[row][mask_bt[row]], alone[place])
    assert any((alone[place].numpy() != heard.frames_at(place)).any() for place in order)


def test_masks_are_drawn_anew_for_every_epoch() -> None:
    side = varying(masks=MASKS)
    one, other = (
        next(side.draw_epoch(seed).iter_batches(14)).inputs["frames"][0] for seed in (1, 2)
    )
    assert not torch.equal(one, other)


# Balance

PARTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=60)


@given(groups=PARTS, seed=st.integers(0, 99))
def test_an_epoch_holds_parts_evenly(groups: list[tuple[Hashable, ...]], seed: int) -> None:
    drawn = [groups[place] for place in systematic_sample(groups, np.random.default_rng(seed))]
    assert len(drawn) == len(groups)
    first, both = Counter(one[0] for one in drawn), Counter(drawn)
    parts = {one[0] for one in groups}
    for part in parts:
        due = len(groups) / len(parts)
        assert abs(first[part] - due) < 1 + 1e-6
        within = {one for one in groups if one[0] == part}
        assert all(abs(both[one] - due / len(within)) < 1 + 1e-6 for one in within)


def test_within_a_group_everybody_comes_about_as_often() -> None:
    groups = [("a",)] * 30 + [("b",)] * 3
    counts = Counter(systematic_sample(groups, np.random.default_rng(0)).tolist())
    assert {counts[place] for place in range(30, 33)} <= {5, 6}
    assert {counts[place] for place in range(30)} <= {0, 1}


def test_alike_parts_are_heard_once_each() -> None:
    groups: Sequence[tuple[Hashable, ...]] = [("a",), ("b",)] * 7
    assert sorted(systematic_sample(groups, np.random.default_rng(0)).tolist()) == list(range(14))


@pytest.mark.parametrize(
    ("balance", "told"),
    [("speaker", "speaker"), ("corpus", "corpus"), ("class", "emotion")],
)
def test_each_balance_counts_what_it_says(balance: Any, told: str) -> None:
    side = varying(replace(SETTINGS, balance=balance))
    by_id = {one.id: one for one in UTTERANCES}
    for seed in range(5):
        heard = side.draw_epoch(seed)
        if balance == "class":
            found = Counter(heard.targets[told].tolist())
            parts = len(set(TRAIN.targets["emotion"].tolist()))
        else:
            found = Counter(by_id[id_].label(told) for id_ in heard.ids)
            parts = len({one.label(told) for one in UTTERANCES})
        assert all(abs(count - 14 / parts) <= 1 for count in found.values())
        assert len(found) == parts
        assert all(
            torch.equal(target_n[place], TRAIN.targets[task][TRAIN.ids.index(id_)])
            for task, target_n in heard.targets.items()
            for place, id_ in enumerate(heard.ids)
        )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({"arousal": torch.rand(14)}, "task arousal, the leading one, answers with none"),
        ({"words": torch.ones(14, 5, dtype=torch.long)}, "task words, the leading one"),
        ({}, "there is no task"),
    ],
)
def test_without_classes_none_can_be_balanced(targets: dict[str, torch.Tensor], words: str) -> None:
    side = replace(TRAIN, targets=targets)
    with pytest.raises(ConfigError, match=words):
        augment_subset(side, UTTERANCES, replace(SETTINGS, balance="class"))


# Training

EVERYTHING = replace(
    SETTINGS, balance=("corpus", "class"), ema_decay=0.9, warmup=3, schedule="cosine"
)


def everything(**options: Any) -> Any:
    side = augment_subset(
        TRAIN, UTTERANCES, EVERYTHING, augmented_frames=COPIES, spec_augment=MASKS
    )
    changes = "tasks.emotion.smoothing=0.1", "tasks.gender.smoothing=0.1"
    return trained(EVERYTHING, train=side, changes=changes, **options)


def test_with_everything_on_the_same_seed_gives_the_same_course() -> None:
    (one, first), (other, second) = everything(), everything()
    assert_same_weights(one, other)
    assert_same_course(first, second)


@pytest.mark.parametrize("last", [1, 3])
def test_with_everything_on_an_interrupted_training_goes_on(tmp_path: Path, last: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise Interrupted

    whole, wanted = everything()
    with pytest.raises(Interrupted):
        everything(state=tmp_path / "fold.pt", progress=stop)
    system, course = everything(weights=7, state=tmp_path / "fold.pt")
    assert_same_weights(whole, system)
    assert_same_course(wanted, course)
    again, read = everything(weights=7, state=tmp_path / "fold.pt")
    assert_same_weights(whole, again)
    assert_same_course(wanted, read)


def test_statistics_are_those_of_the_recordings() -> None:
    system, _ = everything()
    plain, _ = trained()
    assert torch.equal(system.normaliser.mean_f, plain.normaliser.mean_f)
    assert torch.equal(system.normaliser.deviation_f, plain.normaliser.deviation_f)


# From end to end

ALL = (
    *("augment.copies=2", "augment.speed=[0.9, 1.1]", "augment.pitch=[-2, 2]"),
    *("augment.gain=[-6, 6]", "augment.noise=0.5", "augment.room=0.5"),
    *("augment.bandwidth=0.5", "augment.telephone=0.3"),
    *("augment.time_masks=1", "augment.band_masks=1", "augment.band_width=4"),
    *("training.balance=['class', 'speaker']", "training.ema_decay=0.9", "training.warmup=2"),
    *("training.schedule=cosine", "tasks.emotion.smoothing=0.1"),
)


def test_an_evaluation_with_everything_on(corpus: Corpus, tmp_path: Path) -> None:
    first = evaluate("li2019", corpus, settings=[*QUICK, *ALL], runs=tmp_path / "a").results
    assert first.recipe["augment"]["noise"] == 0.5
    assert first.recipe["training"]["balance"] == ["class", "speaker"]
    again = evaluate("li2019", corpus, settings=[*QUICK, *ALL], runs=tmp_path / "b", jobs=2).results
    assert first.predictions == again.predictions
    losses = [[epoch.loss for epoch in fold.history] for fold in first.folds]
    assert losses == [[epoch.loss for epoch in fold.history] for fold in again.folds]
    chosen = recipes.load("li2019", [*QUICK, *ALL])
    assert apply_evaluation(chosen, first).augment == chosen.augment
    plain = replace(chosen, augment={})
    with pytest.raises(ConfigError, match="other settings of augment than li2019"):
        apply_evaluation(plain, first)
    before = {name: table for name, table in first.recipe.items() if name != "augment"}
    assert apply_evaluation(plain, replace(first, recipe=before)).augment == {}


def test_a_model_trained_with_everything_on(corpus: Corpus, tmp_path: Path) -> None:
    made = train("li2019", corpus, tmp_path / "a.safetensors", settings=[*QUICK, *ALL])
    assert made.system.recipe.augment["copies"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_who_is_watched_is_heard_as_recorded(corpus: Corpus, tmp_path: Path) -> None:
    settings = [s for s in ALL if s.startswith("augment")]
    todo = build_plan(
        small_recipe(*settings, "features.pad=false"), corpus, seed=0, device="cpu", runs=tmp_path
    )
    plain = build_plan(
        small_recipe("features.pad=false"), corpus, seed=0, device="cpu", runs=tmp_path
    )
    assert len(todo.augmentations) == 2
    assert todo.folder != plain.folder
    fold = todo.protocol.folds[0]
    judge = System(todo.recipe, todo.classes)
    side, watched = held_out.build_subsets(todo, fold, todo.load_frames(), judge)
    _, wanted = held_out.build_subsets(plain, fold, plain.load_frames(), judge)
    assert set(watched) == {"validation", "test"}
    for name, one in watched.items():
        assert type(one) is Subset
        assert one.draw_epoch(1) is one
        assert_same_batches(one, wanted[name])
    heard = todo.augment_subset(side).draw_epoch(1)
    assert set(heard.ids) <= set(fold.train)
    assert any(
        len(heard.frames_at(p)) != side.frames.length(id_) for p, id_ in enumerate(heard.ids)
    )
