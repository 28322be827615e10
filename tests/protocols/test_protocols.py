"""Splits of every protocol, and the rules that folds follow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from builders.protocols import (
    GENDERS,
    SHARED,
    SMALL,
    UTTERANCES,
    make_protocol,
    make_utterance,
    speakers_of,
    split_by_settings,
    utterance_lists,
)
from hypothesis import given
from hypothesis import strategies as st

from serein import protocols
from serein.corpora import load
from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.protocols import SplitConfig, check_protocol, split
from serein.records import Fold, Protocol, Utterance

Validation = int | Literal["none"]


def lists(utterances: Sequence[Utterance], validation: Validation = 1) -> Protocol:
    return split(utterances, SplitConfig(validation=validation))


@given(utterance_lists(min_speakers=4), st.sampled_from([1, 2, "none"]))
def test_loso_tests_every_speaker_once_in_disjoint_subsets(
    utterances: list[Utterance], validation: Validation
) -> None:
    protocol = lists(utterances, validation)
    everybody = {str(one.speaker) for one in utterances}
    count = 0 if validation == "none" else validation
    tested = Counter(id_ for fold in protocol.folds for id_ in fold.test)
    assert tested == Counter(one.id for one in utterances)
    assert len(protocol.folds) == len(everybody)
    for fold in protocol.folds:
        sides = [speakers_of(side) for side in (fold.train, fold.validation, fold.test)]
        assert sides[2] == {fold.name}
        assert len(sides[1]) == count
        assert sum(map(len, sides)) == len(everybody)
        assert set.union(*sides) == everybody
        every = sorted([*fold.train, *fold.validation, *fold.test])
        assert every == sorted(one.id for one in utterances)


@given(utterance_lists(min_speakers=5), st.sampled_from([1, 2, 3]))
def test_every_speaker_validates_equally_often(
    utterances: list[Utterance], validation: int
) -> None:
    folds = lists(utterances, validation).folds
    chosen = Counter(name for fold in folds for name in speakers_of(fold.validation))
    assert set(chosen.values()) == {validation}
    assert set(chosen) == {str(one.speaker) for one in utterances}


@given(utterance_lists(min_speakers=3))
def test_the_order_of_the_corpus_does_not_matter(utterances: list[Utterance]) -> None:
    one, other = lists(utterances), lists(utterances[::-1])
    assert one == other
    assert one.hash == other.hash


@pytest.mark.parametrize("each", [2, 3, 5])
@pytest.mark.parametrize("alternating", [True, False])
def test_validation_holds_as_many_women_as_men(each: int, alternating: bool) -> None:
    number = 2 * each
    gender = {n: GENDERS[n % 2 if alternating else n // each] for n in range(number)}
    utterances = [make_utterance(f"{n:02}", 0, gender[n]) for n in range(number)]
    by_speaker = {f"{n:02}": gender[n] for n in range(number)}
    for fold in lists(utterances, 2).folds:
        found = {by_speaker[name] for name in speakers_of(fold.validation)}
        assert found == {"female", "male"}


def test_validation_speaker_is_of_the_other_gender() -> None:
    names = [("a", "female"), ("b", "female"), ("c", "male"), ("d", "male")]
    utterances = [make_utterance(name, 0, gender) for name, gender in names]
    folds = {fold.name: speakers_of(fold.validation) for fold in lists(utterances).folds}
    assert folds == {"a": {"c"}, "c": {"b"}, "b": {"d"}, "d": {"a"}}


def test_without_validation_all_other_speakers_train() -> None:
    utterances = [make_utterance(name, n) for name in "abc" for n in range(2)]
    protocol = lists(utterances, "none")
    assert protocol.validation == "none"
    assert [fold.validation for fold in protocol.folds] == [()] * 3
    assert protocol.folds[1] == Fold(
        name="b", train=("a-0", "a-1", "c-0", "c-1"), validation=(), test=("b-0", "b-1")
    )


def test_one_speaker_cannot_be_split() -> None:
    with pytest.raises(ProtocolError, match="needs 2 speakers; found 1: a"):
        lists([make_utterance("a", n) for n in range(3)], "none")


def test_too_few_speakers_are_named() -> None:
    utterances = [make_utterance(name, 0) for name in "abc"]
    with pytest.raises(
        ProtocolError,
        match=r"with 2 validation speakers needs 4 speakers; found 3: a, b, c\. .*validation lower",
    ):
        lists(utterances, 2)
    assert len(lists(utterances, 1).folds) == 3


def test_an_empty_corpus_cannot_be_split() -> None:
    with pytest.raises(ProtocolError, match="found 0"):
        lists([])


def test_utterances_without_a_speaker_are_counted() -> None:
    utterances = [make_utterance("a", 0), make_utterance(None, 0), make_utterance(None, 1)]
    with pytest.raises(ProtocolError, match=r"2 of 3 utterances have no speaker.* None-0"):
        lists(utterances)


NEEDS: dict[str, dict[str, Any]] = {
    "zhang-text": {},
    "by-label": {"by": "session", "test": ["5"], "validation": ["4"]},
    "random": {"folds": 4},
    "speaker-k-fold": {"folds": 4, "seed": 3},
}
PARTED = [
    replace(one, corpus="ab"[one.session in ("4", "5")], labels=one.labels | {"part": part})
    for one in SMALL
    for part in [f"{'dev' if one.session == '4' else 'test' if one.session == '5' else 'train'}-x"]
]
ONCE = sorted({*protocols.PROTOCOLS} - {"zhang-text", "zhang-sizes", "parts", "by-label"})


# Every protocol


@pytest.mark.parametrize("name", sorted(protocols.PROTOCOLS))
def test_subsets_are_disjoint_and_independent_of_corpus_order(name: str) -> None:
    settings = NEEDS.get(name, {})
    utterances = PARTED if name in ("parts", "leave-one-corpus-out") else SMALL
    protocol = split_by_settings(utterances, name, **settings)
    assert protocol == split_by_settings(utterances[::-1], name, **settings)
    assert protocol.name == name
    assert protocol.validation
    for fold in protocol.folds:
        sides = [fold.train, fold.validation, fold.test]
        every = [id_ for side in sides for id_ in side]
        assert all(sides)
        assert len(set(every)) == len(every) == len(SMALL)


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("validation", [1, 2, "none"])
def test_every_utterance_is_tested_once(name: str, validation: Validation) -> None:
    folds = split_by_settings(PARTED, name, **NEEDS.get(name, {}), validation=validation).folds
    tested = Counter(id_ for fold in folds for id_ in fold.test)
    assert tested == Counter(one.id for one in PARTED)
    assert all(bool(fold.validation) == (validation != "none") for fold in folds)


@pytest.mark.parametrize("name", sorted({*protocols.PROTOCOLS} - {"random", "speaker-dependent"}))
def test_speaker_independent_protocols_have_no_caution(name: str) -> None:
    protocol = split_by_settings(PARTED, name, **NEEDS.get(name, {}))
    speaker = {one.id: one.speaker for one in PARTED}
    assert protocol.caution == ""
    for fold in protocol.folds:
        sides = [{speaker[id_] for id_ in s} for s in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 10


def test_protocols_are_described_in_a_line_each() -> None:
    told = protocols.describe_protocols()
    assert list(told) == list(protocols.PROTOCOLS)
    assert all(words and "\n" not in words and len(words) < 70 for words in told.values())


def test_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'leave-one-speaker-out'\? Known: "):
        split([], SplitConfig(name="leave-one-speaker"))
    with pytest.raises(UnknownName, match=r"ends in \.json or \.csv") as caught:
        split([], SplitConfig(name="chance"))
    assert caught.value.known == sorted(protocols.PROTOCOLS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 3}, r"folds = 3; leave-one-speaker-out has no such setting. It has allow, "),
        ({"name": "random", "by": "session"}, "by = 'session'; random has no such setting"),
        ({"validation": "two"}, "validation = 'two'; leave-one-speaker-out expects a number"),
        ({"validation": ["4"]}, "expects a number of at least 1"),
        ({"validation": 0}, r"protocol\.validation"),
        ({"validation": 1.5}, r"protocol\.validation"),
        ({"name": "random", "folds": 1}, r"protocol\.folds.* = 1"),
        ({"name": "zhang-text", "validation": 2}, "has a predefined validation subset"),
        ({"name": "by-label"}, "by-label needs protocol.by .* and protocol.test"),
        (
            {"name": "by-label", "by": "session", "test": "1,2", "train": ["2"]},
            "2 is in two subsets",
        ),
        ({"disjoint_groups": 2}, "disjoint_groups = 2 needs protocol.disjoint, which is empty"),
        ({"fold": 3}, "did you mean 'folds'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_by_settings(SMALL, **{"name": "leave-one-speaker-out", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "leave-one-session-out", "validation": 4}, r"needs 6 sessions; found 5: 1, 2, "),
        ({"name": "leave-one-corpus-out"}, "450 of 450 utterances have no corpus"),
        ({"name": "speaker-k-fold", "folds": 11}, "11 folds need as many speakers; found 10"),
        ({"name": "speaker-k-fold", "folds": 2, "validation": 5}, "leave none to train"),
        (
            {"name": "speaker-k-fold", "stratify": "mood"},
            "stratify = mood: no utterance has this label",
        ),
        ({"name": "random", "folds": 451}, "451 folds need as many utterances; found 450"),
        ({"name": "random", "validation": 4}, "needs 6 folds; found 5"),
        ({"name": "parts"}, "no utterance has part train.*found no part at all"),
        ({"name": "by-label", "by": "session", "test": [6]}, "test: .* has session 6; found 1, 2"),
        ({"name": "by-label", "by": "gender", "test": "male", "validation": 5}, "which has 5: 1F"),
        (
            {"name": "by-label", "by": "session", "test": 5, "validation": "9"},
            "protocol.validation",
        ),
        ({"only": {"style": "sung"}}, "only.style = sung leaves no utterance; found improvised, s"),
        ({"only": {"speaker": "1F"}, "validation": "none"}, "needs 2 speakers; found 1: 1F"),
        ({"disjoint": ["accent"]}, "disjoint = accent: no utterance has this value"),
        ({"disjoint": "emotion"}, "fold 1F tests every emotion of its training subset"),
    ],
)
def test_utterances_that_a_protocol_cannot_split(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        split_by_settings(SMALL, **{"name": "leave-one-speaker-out", **settings})


# Real corpora


def test_the_folds_of_emodb_never_change() -> None:
    if not (SHARED / "emodb").exists():
        pytest.skip("EMO-DB is not in ../shared/data")
    utterances = load(f"emodb={SHARED / 'emodb'}").utterances
    hashes = [lists(utterances, count).listing_hash for count in (1, 2, 3)]
    assert hashes == ["4e1e355f60ed5e3c", "ba5aaf2aff0ed75f", "1e66b56dbe2d91c2"]
    published = split(utterances, SplitConfig(complete_validation=False))
    assert published.listing_hash == "c563eb4dd38d8952"
    assert lists(utterances, "none").listing_hash == "4ee5587e76d0f8bc"
    five = split_by_settings(utterances, "speaker-k-fold")
    gender = {one.id: one.gender for one in utterances}
    assert all(len({gender[id_] for id_ in fold.test}) == 2 for fold in five.folds)
    assert all(len({id_[:2] for id_ in fold.test}) == 2 for fold in five.folds)
    with pytest.raises(ProtocolError, match="tests every sentence of its training subset"):
        split_by_settings(utterances, "leave-one-speaker-out", disjoint="sentence")
    crossed = split_by_settings(
        utterances, "leave-one-speaker-out", disjoint="sentence", disjoint_groups=5
    ).folds
    assert len(crossed) == 50
    assert all(not {i[2:5] for i in f.train} & {i[2:5] for i in f.test} for f in crossed)


# Folds by hand


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (("a0 a1", "", "a1"), "utterance a-1 is in two subsets, train and test"),
        (("a0", "b0", "b0"), "utterance b-0 is in two subsets, validation and test"),
        (("a0 a0", "", "b0"), "has utterance a-0 twice in its train subset"),
        (("", "a0", "b0"), "empty training or test subset"),
        (("a0", "b0", ""), "empty training or test subset"),
    ],
)
def test_invalid_fold_is_an_error(sides: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ProtocolError, match=f"fold one.*{message}"):
        check_protocol(make_protocol(*sides))


def test_every_fold_is_checked() -> None:
    good, bad = make_protocol("a0", "", "b0").folds[0], make_protocol("a0", "", "a0").folds[0]
    protocol = Protocol(name="by hand", validation="", folds=(good, replace(bad, name="second")))
    with pytest.raises(ProtocolError, match="fold second"):
        check_protocol(protocol)
    with pytest.raises(ProtocolError, match="two folds one"):
        check_protocol(replace(protocol, folds=(good, good)))
    with pytest.raises(ProtocolError, match="by hand has no folds"):
        check_protocol(replace(protocol, folds=()))
    check_protocol(replace(protocol, folds=(good,)))


def test_all_folds_or_none_have_a_validation_subset() -> None:
    some = make_protocol("a0", "c0", "b0").folds[0]
    none = replace(some, name="two", validation=(), test=("b-1",))
    for folds in ((some, none), (none, some)):
        with pytest.raises(
            ProtocolError,
            match=r"^fold one has a validation subset and fold two has none; expected one in every "
            "fold, or in none$",
        ):
            check_protocol(Protocol(name="by hand", validation="", folds=folds))


def test_no_utterance_is_tested_in_two_folds() -> None:
    one = make_protocol("a0", "", "b0 b1").folds[0]
    two = replace(one, name="two", train=("c-0",), test=("b-1",))
    with pytest.raises(ProtocolError, match="b-1 is tested in two folds, one and two, and would"):
        check_protocol(Protocol(name="by hand", validation="", folds=(one, two)))
    crossed = split_by_settings(
        SMALL, "leave-one-session-out", disjoint="script", disjoint_groups=3
    )
    tested = Counter(id_ for fold in crossed.folds for id_ in fold.test)
    assert len(crossed.folds) == 15
    assert tested == Counter(one.id for one in SMALL)


# Corpora that are read together


def marked() -> list[Utterance]:
    """Two corpora, joined, whose speakers have the same names."""
    people = [("mine", "s01"), ("mine", "s02"), ("yours", "s01"), ("yours", "t02")]
    return [
        replace(
            make_utterance(f"{corpus}/{name}", number),
            corpus=corpus,
            session=f"{corpus}/1",
            labels={"mood": "x"},
        )
        for corpus, name in people
        for number in range(2)
    ]


def test_speakers_of_joined_corpora_are_named_once() -> None:
    folds = split_by_settings(marked(), "leave-one-speaker-out").folds
    assert [fold.name for fold in folds] == ["mine/s01", "mine/s02", "yours/s01", "yours/t02"]
    assert {fold.name for fold in folds} == {one.speaker for one in marked()}
    assert [
        f.name
        for f in split_by_settings(marked(), "leave-one-session-out", validation="none").folds
    ] == [
        "mine/1",
        "yours/1",
    ]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ("s0*", {"mine/s01", "mine/s02", "yours/s01"}),
        ("s01, t02", {"mine/s01", "yours/s01", "yours/t02"}),
        ("mine/s01, mine/s02", {"mine/s01", "mine/s02"}),
        ("yours/*", {"yours/s01", "yours/t02"}),
    ],
)
def test_plain_words_choose_among_joined_corpora(wanted: str, left: set[str]) -> None:
    protocol = split_by_settings(
        marked(), "leave-one-speaker-out", validation="none", only={"speaker": wanted}
    )
    assert {fold.name for fold in protocol.folds} == left
    (fold,) = split_by_settings(
        marked(), "by-label", by="speaker", test=wanted, validation="none"
    ).folds
    assert speakers_of(fold.test) == left
    with pytest.raises(ProtocolError, match=r"no utterance has speaker theirs/s01; found s01, s"):
        split_by_settings(marked(), "by-label", by="speaker", test="theirs/s01")


# The hash


def test_the_hash_changes_with_any_utterance_on_any_side() -> None:
    several_ones = [
        make_protocol("a0 a1", "b0", "c0"),
        make_protocol("a0", "b0", "c0"),
        make_protocol("a0 a1", "b1", "c0"),
        make_protocol("a0 a1", "b0", "c1"),
        make_protocol("a0 a1", "", "c0"),
        make_protocol("a0 a1 b0", "", "c0"),
        make_protocol("a0 b0", "a1", "c0"),
    ]
    named = replace(several_ones[0], name="other")
    fold = replace(several_ones[0].folds[0], name="two")
    twice = replace(several_ones[0], folds=(*several_ones[0].folds, fold))
    assert named.hash == several_ones[0].hash
    assert named.listing_hash != several_ones[0].listing_hash
    hashes = [protocol.hash for protocol in [*several_ones, twice]]
    assert len(set(hashes)) == len(hashes)
    assert all(len(found) == 16 and int(found, 16) >= 0 for found in hashes)


def test_the_hash_is_the_same_tomorrow() -> None:
    assert lists(UTTERANCES).hash == "a7b4a27cc09a5c45"
    assert lists(UTTERANCES).listing_hash == "a01a471e0a6ff91b"
    assert make_protocol("a0 a1", "b0", "c0").hash == make_protocol("a0 a1", "b0", "c0").hash


def test_the_hash_depends_on_sets_of_ids_only() -> None:
    one = lists(UTTERANCES)
    folds = [
        replace(fold, name=f"{number}", train=fold.train[::-1], test=fold.test[::-1])
        for number, fold in enumerate(reversed(one.folds))
    ]
    other = replace(one, name="mine.csv", validation="?", caution="?", folds=tuple(folds))
    assert (one.hash, one.listing_hash == other.listing_hash) == (other.hash, False)
