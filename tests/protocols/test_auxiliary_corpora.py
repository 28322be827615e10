"""Auxiliary corpora: their training utterances, and that they are never tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders.protocols import split_by_settings

from serein import config
from serein.errors import ConfigError, ProtocolError
from serein.protocols import SplitConfig, save, select_training_utterances
from serein.records import Fold, Utterance

LANGUAGES = {"surrey": "en", "berlin": "de", "vienna": "de", "paris": "fr"}
MOODS = ("joy", "joy", "rage", "rage", "rage", "calm", "joy", "rage", "calm", "rage")


def voices(**speakers: int) -> list[Utterance]:
    """Corpora with these numbers of speakers, each with ten utterances in three classes."""
    return [
        Utterance(
            id=f"{corpus}/s{number}-{take}",
            path=Path(f"{corpus}/{number}/{take}.wav"),
            speaker=f"{corpus}/s{number}",
            corpus=corpus,
            language=LANGUAGES[corpus],
            labels={"emotion": mood},
        )
        for corpus, count in speakers.items()
        for number in range(count)
        for take, mood in enumerate(MOODS)
    ]


TWO = voices(surrey=3, berlin=4)
FOUR = voices(surrey=3, berlin=4, vienna=2, paris=1)
LOSO = "leave-one-speaker-out"


def others(fold: Fold, corpus: str = "") -> set[str]:
    """Training utterances of auxiliary corpora."""
    return {id_ for id_ in fold.train if id_.startswith(f"{corpus}/" if corpus else "")} - {
        id_ for id_ in fold.train if id_.startswith("surrey/")
    }


def settings(**table: Any) -> SplitConfig:
    return config.build_config(SplitConfig, {"main": "surrey", **table}, "protocol")


def test_only_the_main_corpus_is_split() -> None:
    alone = [replace(one, corpus=None) for one in TWO if one.corpus == "surrey"]
    parted, joint = split_by_settings(alone, LOSO), split_by_settings(TWO, LOSO, main="surrey")
    assert [fold.name for fold in joint.folds] == ["surrey/s0", "surrey/s1", "surrey/s2"]
    berlin = {one.id for one in TWO if one.corpus == "berlin"}
    for fold, own in zip(joint.folds, parted.folds, strict=True):
        assert (fold.validation, fold.test) == (own.validation, own.test)
        assert fold.train[: len(own.train)] == own.train
        assert set(fold.train) == {*own.train, *berlin}
    assert joint.caution == (
        "only surrey is split; berlin (40 of 40 utterances) train in every fold"
    )


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("speaker-k-fold", {"folds": 3}),
        ("random", {"folds": 3}),
        ("by-label", {"by": "speaker", "test": "s0"}),
        ("by-label", {"by": "speaker", "train": ["s1", "s2"], "test": "s0", "validation": "none"}),
    ],
)
def test_any_protocol_splits_the_main_corpus(name: str, more: dict[str, Any]) -> None:
    for fold in split_by_settings(FOUR, name, main="surrey", **more).folds:
        assert {id_.split("/")[0] for id_ in (*fold.test, *fold.validation)} == {"surrey"}
        assert {id_.split("/")[0] for id_ in fold.train} == set(LANGUAGES)


def test_shares_are_nested_and_stratified() -> None:
    taken: list[set[str]] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        folds = split_by_settings(TWO, LOSO, main="surrey", auxiliary_share=share).folds
        found = [others(fold) for fold in folds]
        assert len(found[0]) == round(share * 40)
        assert all(one == found[0] for one in found)
        taken += found[:1]
    for small, large in pairwise(taken):
        assert small < large
    mood = {one.id: one.labels["emotion"] for one in TWO}
    assert Counter(mood[id_] for id_ in taken[1]) == {"rage": 5, "joy": 3, "calm": 2}
    assert Counter(mood[id_] for id_ in taken[2]) == {"rage": 10, "joy": 6, "calm": 4}


def test_a_share_depends_on_the_seed_and_not_on_the_order() -> None:
    def half(utterances: Sequence[Utterance], seed: int) -> set[str]:
        return others(
            split_by_settings(
                utterances, LOSO, main="surrey", auxiliary_share=0.5, seed=seed
            ).folds[0]
        )

    assert half(TWO, 0) == half(TWO[::-1], 0)
    assert half(TWO, 0) != half(TWO, 1)


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        ({"auxiliary_share": 0.5}, {"berlin": 20, "vienna": 10, "paris": 5}),
        ({"auxiliary_share": {"berlin": 0.25}}, {"berlin": 10, "vienna": 20, "paris": 10}),
        ({"auxiliary_share": {"de": 0.5}}, {"de": 30, "paris": 10}),
        ({"auxiliary_share": {"de": 0.5, "vienna": 0}}, {"berlin": 20, "vienna": 0, "paris": 10}),
        ({"auxiliary_ratio": 0.5}, {"berlin": 5, "vienna": 5, "paris": 5}),
        ({"auxiliary_ratio": {"de": 1, "fr": 0.1}}, {"de": 10, "paris": 1}),
        ({"auxiliary_ratio": {"berlin": 4.0}}, {"berlin": 40, "vienna": 20, "paris": 10}),
    ],
)
def test_amounts_by_corpus_and_by_language(table: dict[str, Any], counts: dict[str, int]) -> None:
    for fold in split_by_settings(FOUR, LOSO, main="surrey", **table).folds:
        german = others(fold, "berlin") | others(fold, "vienna")
        found = {name: len(others(fold, name)) for name in LANGUAGES} | {"de": len(german)}
        assert {name: found[name] for name in counts} == counts


def test_ratio_follows_the_size_of_the_training_subset() -> None:
    some = [one for one in TWO if not one.id.startswith("surrey/s0-")] + TWO[:4]
    protocol = split_by_settings(some, LOSO, main="surrey", auxiliary_ratio=1)
    sizes = {fold.name: len(others(fold)) for fold in protocol.folds}
    assert sizes == {"surrey/s0": 10, "surrey/s1": 4, "surrey/s2": 10}
    assert "berlin (4 to 10 of 40 utterances)" in protocol.caution


FAULTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"main": "london"}, ProtocolError, r"main = 'london': .* several .* found berlin, surrey\."),
    (
        {"auxiliary_share": 1.5},
        ConfigError,
        r"share = 1.5 takes 60 utterances of berlin, which has 40; ",
    ),
    (
        {"auxiliary_share": {"de": 2}},
        ConfigError,
        r"takes 80 utterances of de, which has 40; .* 1 or",
    ),
    (
        {"auxiliary_ratio": 5},
        ConfigError,
        r"ratio = 5 takes 50 .* berlin, which has 40; .* 4 or",
    ),
    ({"auxiliary_share": float("inf")}, ConfigError, r"share = inf takes inf utterances"),
    ({"auxiliary_share": -0.1}, ConfigError, r"protocol.auxiliary_share"),
    (
        {"auxiliary_share": {"italy": 0.5}},
        ConfigError,
        r"protocol.auxiliary_share.italy: no auxiliary corpus .* expected berlin, de$",
    ),
    (
        {"auxiliary_share": {"surrey": 0.5}},
        ConfigError,
        r"protocol.auxiliary_share.surrey: no auxiliary corpus",
    ),
    (
        {"auxiliary_share": 0.5, "auxiliary_ratio": 1},
        ConfigError,
        r"share and protocol.auxiliary_ratio are both set; set one",
    ),
    (
        {"main": "", "auxiliary_share": 0.5},
        ConfigError,
        r"protocol.auxiliary_share needs protocol.main, which is empty",
    ),
    (
        {"main": "", "auxiliary_ratio": {"de": 1}},
        ConfigError,
        r"protocol.auxiliary_ratio needs protocol.main",
    ),
    ({"name": "leave-one-corpus-out"}, ConfigError, r"main = 'surrey'; .* has no such setting"),
    ({"name": "mine.json"}, ConfigError, r"main = 'surrey'; mine.json has no such setting"),
    ({"main": "", "seed": 1}, ConfigError, r"seed = 1; leave-one-speaker-out has no such setting"),
]


@pytest.mark.parametrize(("table", "kind", "words"), FAULTS)
def test_invalid_auxiliary_settings_are_errors(
    table: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        split_by_settings(TWO, **{"name": LOSO, "main": "surrey", **table})


def test_single_corpus_has_no_auxiliary_corpora() -> None:
    alone = [replace(one, corpus=None) for one in TWO if one.corpus == "surrey"]
    with pytest.raises(ProtocolError, match="found a single corpus"):
        split_by_settings(alone, LOSO, main="surrey")
    with pytest.raises(ProtocolError, match="found surrey"):
        split_by_settings(TWO, LOSO, main="surrey", only={"language": "en"})


def test_disjoint_values_leave_auxiliary_corpora_too() -> None:
    texts = [replace(one, text=one.id.partition("-")[2]) for one in TWO]
    part = {"by": "text", "test": ["0", "1"], "train": [str(n) for n in range(2, 10)]}
    free = split_by_settings(texts, "by-label", main="surrey", validation="none", **part)
    strict = split_by_settings(
        texts, "by-label", main="surrey", validation="none", disjoint="text", **part
    )
    assert len(others(free.folds[0])) == 40
    assert len(others(strict.folds[0])) == 32
    assert all(id_.rpartition("-")[2] not in "01" for id_ in strict.folds[0].train)


def test_saved_split_contains_auxiliary_utterances(tmp_path: Path) -> None:
    protocol = split_by_settings(TWO, LOSO, main="surrey", auxiliary_share=0.25)
    save(protocol, tmp_path / "a.csv")
    assert [set(fold.train) for fold in split_by_settings(TWO, str(tmp_path / "a.csv")).folds] == [
        set(fold.train) for fold in protocol.folds
    ]


def test_select_training_utterances_takes_the_share() -> None:
    assert select_training_utterances(TWO, SplitConfig()) == TWO
    whole = select_training_utterances(FOUR, settings(auxiliary_share={"de": 0.5}))
    assert Counter(one.language for one in whole) == {"en": 30, "de": 30, "fr": 10}
    fold = split_by_settings(FOUR, LOSO, main="surrey", auxiliary_share={"de": 0.5}).folds[0]
    assert others(fold) == {one.id for one in whole if one.corpus != "surrey"}
    with pytest.raises(ConfigError, match="takes 60 utterances of berlin"):
        select_training_utterances(TWO, settings(auxiliary_ratio=2))
