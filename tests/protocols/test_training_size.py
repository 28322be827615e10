"""Training subsets of a given size."""

from collections import Counter
from pathlib import Path

import pytest
from builders.protocols import make_iemocap
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ConfigError
from serein.evaluation.plan import split_corpus
from serein.evaluation.train import train
from serein.protocols import SplitConfig, select_training_utterances, split
from serein.synthetic import SyntheticConfig, generate

SIZES = {"1": 60, "2": 50, "3": 70}
UTTERANCES = make_iemocap(SIZES)


def sessions(**settings: object) -> list[set[str]]:
    """Training subsets of leave-one-session-out."""
    how = SplitConfig(name="leave-one-session-out", **settings)  # type: ignore[arg-type]
    return [set(fold.train) for fold in split(UTTERANCES, how).folds]


@given(few=st.integers(1, 49), more=st.integers(0, 20), seed=st.integers(0, 5))
def test_samples_are_nested(few: int, more: int, seed: int) -> None:
    many = min(few + more, 50)
    less, larger = (sessions(train_size=size, seed=seed) for size in (few, many))
    for a, b, c in zip(less, larger, sessions(), strict=True):
        assert a <= b <= c
        assert (len(a), len(b)) == (few, many)


def test_train_size_keeps_validation_and_test() -> None:
    how = SplitConfig(name="leave-one-session-out")
    few = SplitConfig(name="leave-one-session-out", train_size=20)
    for a, b in zip(split(UTTERANCES, how).folds, split(UTTERANCES, few).folds, strict=True):
        assert (a.name, a.validation, a.test) == (b.name, b.validation, b.test)


def test_samples_are_stratified() -> None:
    emotion = {one.id: one.label("emotion") for one in UTTERANCES}
    for kept, whole in zip(sessions(train_size=25), sessions(), strict=True):
        found, there = Counter(emotion[id_] for id_ in kept), Counter(emotion[i] for i in whole)
        for name, count in there.items():
            assert abs(found[name] - 25 * count / len(whole)) <= 1


def test_samples_depend_on_the_seed() -> None:
    assert sessions(train_size=20, seed=0) != sessions(train_size=20, seed=1)


def test_caution_gives_the_training_size() -> None:
    found = split(UTTERANCES, SplitConfig(name="leave-one-session-out", train_size=20))
    assert found.caution == "each fold trains on 20 of 50 to 70 utterances"


def test_train_size_above_the_subset_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"train_size = 51 is larger than the 50 utterances of"):
        split(UTTERANCES, SplitConfig(name="leave-one-session-out", train_size=51))


def test_disjoint_values_are_removed_before_sampling() -> None:
    how = SplitConfig(
        name="leave-one-session-out", disjoint="script", disjoint_groups=3, train_size=8
    )
    text = {one.id: one.label("script") for one in UTTERANCES}
    found = split(UTTERANCES, how)
    assert len(found.folds) == 9
    for fold in found.folds:
        assert len(fold.train) == 8
        tested = {text[id_] for id_ in fold.test} - {None}
        assert not tested & {text[id_] for id_ in fold.train}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two corpora of four utterances per speaker, with the same speaker names."""
    root = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("mine", "yours")):
        config = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=2, seed=seed)
        generate(root / name, config)
    return [f"{name}={root / name / 'labels.csv'}" for name in ("mine", "yours")]


def test_train_size_limits_only_the_main_corpus(corpora: list[str]) -> None:
    settings = ["protocol.main=mine", "protocol.train_size=6", "protocol.auxiliary_ratio=0.5"]
    corpus, protocol, _ = split_corpus(corpora, settings)
    for fold in protocol.folds:
        counts = Counter(one.corpus for one in corpus.select(fold.train))
        assert counts == {"mine": 6, "yours": 3}
    how = SplitConfig(main="mine", train_size=6, auxiliary_ratio=0.5)
    assert Counter(one.corpus for one in select_training_utterances(corpus.utterances, how)) == {
        "mine": 6,
        "yours": 3,
    }


def test_train_uses_train_size(corpora: list[str], tmp_path: Path) -> None:
    settings = ["protocol.train_size=5", "training.epochs=1"]
    saved = train("quickstart", corpora[0], tmp_path / "a.safetensors", settings=settings)
    assert len(saved.card.file_hashes) == 5


def test_pattern_selects_all_speakers_of_a_corpus(corpora: list[str]) -> None:
    settings = [
        "protocol.name=by-label",
        "protocol.by=speaker",
        "protocol.train=mine/*",
        "protocol.validation=yours/s01,yours/s02",
        "protocol.test=yours/s03,yours/s04",
    ]
    corpus, protocol, _ = split_corpus(corpora, settings)
    (fold,) = protocol.folds
    assert {one.corpus for one in corpus.select(fold.train)} == {"mine"}
    assert len(fold.train) == 16
    assert {one.speaker for one in corpus.select(fold.test)} == {"yours/s03", "yours/s04"}
