"""The first folds of a split, such as a random hold-out."""

from dataclasses import replace

import pytest
from builders.protocols import make_iemocap

from serein.errors import ConfigError
from serein.protocols import SplitConfig, split

UTTERANCES = make_iemocap({"1": 60, "2": 50, "3": 70})
RANDOM = SplitConfig(name="random", validation="none")


def test_one_of_five_random_folds_is_a_hold_out() -> None:
    whole, held_out = split(UTTERANCES, RANDOM), split(UTTERANCES, replace(RANDOM, max_folds=1))
    assert held_out.folds == whole.folds[:1]
    (fold,) = held_out.folds
    assert (len(fold.test), len(fold.train)) == (36, 144)
    assert held_out.caution.endswith("only 1 of 5 folds trained and tested")
    assert held_out.hash != whole.hash


def test_folds_are_counted_after_disjoint_groups() -> None:
    how = SplitConfig(name="leave-one-session-out", disjoint="script", disjoint_groups=2)
    whole, first = split(UTTERANCES, how), split(UTTERANCES, replace(how, max_folds=2))
    assert first.folds == whole.folds[:2]
    assert len(whole.folds) > 2


def test_all_folds_need_no_caution() -> None:
    assert split(UTTERANCES, replace(RANDOM, max_folds=5)) == split(UTTERANCES, RANDOM)


def test_more_folds_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"max_folds = 4 is more than the 3 folds of leave-one-s"):
        split(UTTERANCES, SplitConfig(name="leave-one-session-out", max_folds=4))
