"""Corpora beside a main one: what trains, how much of it, and what is never tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders.protocols import made

from serein import config
from serein.errors import ConfigError, ProtocolError
from serein.protocols import SplitConfig, save, select_training_utterances
from serein.records import Fold, Utterance

LANGUAGES = {"surrey": "en", "berlin": "de", "vienna": "de", "paris": "fr"}
MOODS = ("joy", "joy", "rage", "rage", "rage", "calm", "joy", "rage", "calm", "rage")


def voices(**speakers: int) -> list[Utterance]:
    """Corpora by name, each with that many speakers of ten utterances, in three classes."""
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
    """What trains beside the main corpus."""
    return {id_ for id_ in fold.train if id_.startswith(f"{corpus}/" if corpus else "")} - {
        id_ for id_ in fold.train if id_.startswith("surrey/")
    }


def settings(**table: Any) -> SplitConfig:
    return config.build_config(SplitConfig, {"main": "surrey", **table}, "protocol")


def test_the_main_corpus_is_split_and_the_others_train() -> None:
    alone = [replace(one, corpus=None) for one in TWO if one.corpus == "surrey"]
    parted, joint = made(alone, LOSO), made(TWO, LOSO, main="surrey")
    assert [fold.name for fold in joint.folds] == ["surrey/s0", "surrey/s1", "surrey/s2"]
    berlin = {one.id for one in TWO if one.corpus == "berlin"}
    for fold, own in zip(joint.folds, parted.folds, strict=True):
        assert (fold.validation, fold.test) == (own.validation, own.test)
        assert fold.train[: len(own.train)] == own.train
        assert set(fold.train) == {*own.train, *berlin}
    assert joint.caution == (
        "beside surrey, which alone is split, train berlin (40 of 40 utterances)"
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
    for fold in made(FOUR, name, main="surrey", **more).folds:
        assert {id_.split("/")[0] for id_ in (*fold.test, *fold.validation)} == {"surrey"}
        assert {id_.split("/")[0] for id_ in fold.train} == set(LANGUAGES)


def test_a_larger_share_holds_the_smaller_one_with_the_same_classes() -> None:
    taken: list[set[str]] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        folds = made(TWO, LOSO, main="surrey", share=share).folds
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
        return others(made(utterances, LOSO, main="surrey", share=0.5, seed=seed).folds[0])

    assert half(TWO, 0) == half(TWO[::-1], 0)
    assert half(TWO, 0) != half(TWO, 1)


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        ({"share": 0.5}, {"berlin": 20, "vienna": 10, "paris": 5}),
        ({"share": {"berlin": 0.25}}, {"berlin": 10, "vienna": 20, "paris": 10}),
        ({"share": {"de": 0.5}}, {"de": 30, "paris": 10}),
        ({"share": {"de": 0.5, "vienna": 0}}, {"berlin": 20, "vienna": 0, "paris": 10}),
        ({"ratio": 0.5}, {"berlin": 5, "vienna": 5, "paris": 5}),
        ({"ratio": {"de": 1, "fr": 0.1}}, {"de": 10, "paris": 1}),
        ({"ratio": {"berlin": 4.0}}, {"berlin": 40, "vienna": 20, "paris": 10}),
    ],
)
def test_amounts_are_of_a_corpus_or_a_language(
    table: dict[str, Any], counts: dict[str, int]
) -> None:
    for fold in made(FOUR, LOSO, main="surrey", **table).folds:
        german = others(fold, "berlin") | others(fold, "vienna")
        found = {name: len(others(fold, name)) for name in LANGUAGES} | {"de": len(german)}
        assert {name: found[name] for name in counts} == counts


def test_a_ratio_follows_the_size_of_the_training_side() -> None:
    some = [one for one in TWO if not one.id.startswith("surrey/s0-")] + TWO[:4]
    protocol = made(some, LOSO, main="surrey", ratio=1)
    sizes = {fold.name: len(others(fold)) for fold in protocol.folds}
    assert sizes == {"surrey/s0": 10, "surrey/s1": 4, "surrey/s2": 10}
    assert "berlin (4 to 10 of 40 utterances)" in protocol.caution


FAULTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"main": "london"}, ProtocolError, r"main = 'london' is .* several .* found berlin, surrey\."),
    ({"share": 1.5}, ConfigError, r"share = 1.5 asks for 60 utterances of berlin, which has 40; "),
    (
        {"share": {"de": 2}},
        ConfigError,
        r"asks for 80 utterances of de, which has 40; .* 1 or",
    ),
    (
        {"ratio": 5},
        ConfigError,
        r"ratio = 5 asks for 50 .* berlin, which has 40; .* 4 or",
    ),
    ({"share": float("inf")}, ConfigError, r"share = inf asks for inf utterances"),
    ({"share": -0.1}, ConfigError, r"protocol.auxiliary_share"),
    (
        {"share": {"italy": 0.5}},
        ConfigError,
        r"protocol.auxiliary_share.italy: .* no such .* berlin, de$",
    ),
    (
        {"share": {"surrey": 0.5}},
        ConfigError,
        r"protocol.auxiliary_share.surrey: beside surrey there is no",
    ),
    (
        {"share": 0.5, "ratio": 1},
        ConfigError,
        r"share and protocol.auxiliary_ratio both say .* set one",
    ),
    (
        {"main": "", "share": 0.5},
        ConfigError,
        r"protocol.auxiliary_share is of .* which names none",
    ),
    (
        {"main": "", "ratio": {"de": 1}},
        ConfigError,
        r"protocol.auxiliary_ratio is of the corpora beside",
    ),
    ({"name": "leave-one-corpus-out"}, ConfigError, r"main = 'surrey'; .* has no such setting"),
    ({"name": "mine.json"}, ConfigError, r"main = 'surrey'; mine.json has no such setting"),
    ({"main": "", "seed": 1}, ConfigError, r"seed = 1; leave-one-speaker-out has no such setting"),
]


@pytest.mark.parametrize(("table", "kind", "words"), FAULTS)
def test_what_cannot_be_is_told(table: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        made(TWO, **{"name": LOSO, "main": "surrey", **table})


def test_one_corpus_alone_has_nothing_beside_it() -> None:
    alone = [replace(one, corpus=None) for one in TWO if one.corpus == "surrey"]
    with pytest.raises(ProtocolError, match="found one corpus alone"):
        made(alone, LOSO, main="surrey")
    with pytest.raises(ProtocolError, match="found surrey"):
        made(TWO, LOSO, main="surrey", only={"language": "en"})


def test_what_is_tested_leaves_the_other_corpora_too() -> None:
    texts = [replace(one, text=one.id.partition("-")[2]) for one in TWO]
    part = {"by": "text", "test": ["0", "1"], "train": [str(n) for n in range(2, 10)]}
    free = made(texts, "by-label", main="surrey", validation="none", **part)
    strict = made(texts, "by-label", main="surrey", validation="none", disjoint="text", **part)
    assert len(others(free.folds[0])) == 40
    assert len(others(strict.folds[0])) == 32
    assert all(id_.rpartition("-")[2] not in "01" for id_ in strict.folds[0].train)


def test_a_split_of_several_corpora_is_saved_whole(tmp_path: Path) -> None:
    protocol = made(TWO, LOSO, main="surrey", share=0.25)
    save(protocol, tmp_path / "a.csv")
    assert [set(fold.train) for fold in made(TWO, str(tmp_path / "a.csv")).folds] == [
        set(fold.train) for fold in protocol.folds
    ]


def test_a_model_of_the_whole_takes_its_share() -> None:
    assert select_training_utterances(TWO, SplitConfig()) == TWO
    whole = select_training_utterances(FOUR, settings(share={"de": 0.5}))
    assert Counter(one.language for one in whole) == {"en": 30, "de": 30, "fr": 10}
    fold = made(FOUR, LOSO, main="surrey", share={"de": 0.5}).folds[0]
    assert others(fold) == {one.id for one in whole if one.corpus != "surrey"}
    with pytest.raises(ConfigError, match="asks for 60 utterances of berlin"):
        select_training_utterances(TWO, settings(ratio=2))
