from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein import protocols
from serein.errors import ProtocolError, UnknownName
from serein.protocols import Settings, check, check_contents, split
from serein.records import Fold, Protocol, Utterance

GENDERS = "female", "male", None
Validation = int | Literal["none"]


def utterance(speaker: str | None, number: int, gender: str | None = None) -> Utterance:
    return Utterance(id=f"{speaker}-{number}", path=Path("a.wav"), speaker=speaker, gender=gender)


@st.composite
def corpora(draw: st.DrawFn, least: int = 2) -> list[Utterance]:
    """Speakers of any names and genders, with any number of utterances each, in any order."""
    names = st.text("abc/ ä0", min_size=1, max_size=3)
    speakers = draw(st.lists(names, min_size=least, max_size=9, unique=True))
    utterances = []
    for speaker in speakers:
        gender = draw(st.sampled_from(GENDERS))
        count = draw(st.integers(1, 4))
        utterances += [utterance(speaker, number, gender) for number in range(count)]
    return list(draw(st.permutations(utterances)))


def speakers_of(ids: tuple[str, ...]) -> set[str]:
    return {id_.rpartition("-")[0] for id_ in ids}


def lists(utterances: list[Utterance], validation: Validation = 1) -> Protocol:
    return split(utterances, Settings(validation=validation))


@given(corpora(least=4), st.sampled_from([1, 2, "none"]))
def test_every_speaker_is_tested_once_and_stands_on_one_side(
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


@given(corpora(least=5), st.sampled_from([1, 2, 3]))
def test_every_speaker_validates_equally_often(
    utterances: list[Utterance], validation: int
) -> None:
    folds = lists(utterances, validation).folds
    chosen = Counter(name for fold in folds for name in speakers_of(fold.validation))
    assert set(chosen.values()) == {validation}
    assert set(chosen) == {str(one.speaker) for one in utterances}


@given(corpora(least=3))
def test_the_order_of_the_corpus_does_not_matter(utterances: list[Utterance]) -> None:
    one, other = lists(utterances), lists(utterances[::-1])
    assert one == other
    assert one.hash == other.hash


@pytest.mark.parametrize("each", [2, 3, 5])
@pytest.mark.parametrize("alternating", [True, False])
def test_validation_holds_as_many_women_as_men(each: int, alternating: bool) -> None:
    number = 2 * each
    gender = {n: GENDERS[n % 2 if alternating else n // each] for n in range(number)}
    utterances = [utterance(f"{n:02}", 0, gender[n]) for n in range(number)]
    by_speaker = {f"{n:02}": gender[n] for n in range(number)}
    for fold in lists(utterances, 2).folds:
        found = {by_speaker[name] for name in speakers_of(fold.validation)}
        assert found == {"female", "male"}


def test_validation_speakers_are_of_the_other_gender_where_there_is_one() -> None:
    names = [("a", "female"), ("b", "female"), ("c", "male"), ("d", "male")]
    utterances = [utterance(name, 0, gender) for name, gender in names]
    folds = {fold.name: speakers_of(fold.validation) for fold in lists(utterances).folds}
    assert folds == {"a": {"c"}, "c": {"b"}, "b": {"d"}, "d": {"a"}}


def test_without_validation_everybody_else_trains() -> None:
    utterances = [utterance(name, n) for name in "abc" for n in range(2)]
    protocol = lists(utterances, "none")
    assert protocol.validation == "none"
    assert [fold.validation for fold in protocol.folds] == [()] * 3
    assert protocol.folds[1] == Fold(
        name="b", train=("a-0", "a-1", "c-0", "c-1"), validation=(), test=("b-0", "b-1")
    )


def test_one_speaker_can_only_train_or_be_tested() -> None:
    with pytest.raises(ProtocolError, match="needs 2 speakers; found 1: a"):
        lists([utterance("a", n) for n in range(3)], "none")


def test_too_few_speakers_are_named() -> None:
    utterances = [utterance(name, 0) for name in "abc"]
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
    utterances = [utterance("a", 0), utterance(None, 0), utterance(None, 1)]
    with pytest.raises(ProtocolError, match=r"2 of 3 utterances have no speaker.* None-0"):
        lists(utterances)


def test_an_unknown_protocol_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'leave-one-speaker-out'\? Known: "):
        split([], Settings(name="leave-one-out"))
    with pytest.raises(UnknownName) as caught:
        split([], Settings(name="random"))
    assert caught.value.known == sorted(protocols.PROTOCOLS)


# Leaks

UTTERANCES = [utterance(name, number) for name in "abc" for number in range(2)]


def folded(train: str, validation: str, test: str) -> Protocol:
    """One fold of utterances such as "a0 a1"."""
    sides = [tuple(f"{x[0]}-{x[1]}" for x in side.split()) for side in (train, validation, test)]
    fold = Fold(name="one", train=sides[0], validation=sides[1], test=sides[2])
    return Protocol(name="by hand", validation="by hand", folds=(fold,))


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (("a0 a1", "", "a1"), "utterance a-1 is on two sides, train and test"),
        (("a0", "", "a1"), "speaker a is on two sides, train and test"),
        (("a0 a1", "b0", "b1"), "speaker b is on two sides, validation and test"),
        (("a0 c0", "c1", "b0"), "speaker c is on two sides, train and validation"),
        (("", "a0", "b0"), "empty training or test side"),
        (("a0", "b0", ""), "empty training or test side"),
    ],
)
def test_a_leak_is_told_of(sides: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ProtocolError, match=f"fold one.*{message}"):
        check(folded(*sides), UTTERANCES)


def test_a_fold_that_does_not_leak_passes() -> None:
    check(folded("a0 a1", "c0", "b0 b1"), UTTERANCES)
    check(folded("a0 a1", "", "b0"), UTTERANCES)


def test_every_fold_is_checked() -> None:
    good, bad = folded("a0", "", "b0").folds[0], folded("a0", "", "a1").folds[0]
    protocol = Protocol(name="by hand", validation="", folds=(good, replace(bad, name="second")))
    with pytest.raises(ProtocolError, match="fold second"):
        check(protocol, UTTERANCES)


def test_a_recording_under_two_names_is_a_leak() -> None:
    protocol = lists(UTTERANCES)
    contents = {one.id: one.id for one in UTTERANCES}
    check_contents(protocol, contents)
    check_contents(protocol, contents | {"a-0": "a-1"})  # of one speaker: always on one side
    with pytest.raises(ProtocolError, match=r"b-1 .* and a-0 .* are the same recording"):
        check_contents(protocol, contents | {"a-0": "b-1"})


# The hash


def test_the_hash_changes_with_any_utterance_on_any_side() -> None:
    protocols_ = [
        folded("a0 a1", "b0", "c0"),
        folded("a0", "b0", "c0"),
        folded("a0 a1", "b1", "c0"),
        folded("a0 a1", "b0", "c1"),
        folded("a0 a1", "", "c0"),
        folded("a0 a1 b0", "", "c0"),
        folded("a0 b0", "a1", "c0"),
    ]
    named = replace(protocols_[0], name="other")
    fold = replace(protocols_[0].folds[0], name="two")
    twice = replace(protocols_[0], folds=(*protocols_[0].folds, fold))
    hashes = [protocol.hash for protocol in [*protocols_, named, twice]]
    assert len(set(hashes)) == len(hashes)
    assert all(len(found) == 16 and int(found, 16) >= 0 for found in hashes)


def test_the_hash_is_the_same_tomorrow() -> None:
    assert lists(UTTERANCES).hash == "a01a471e0a6ff91b"
    assert folded("a0 a1", "b0", "c0").hash == folded("a0 a1", "b0", "c0").hash
