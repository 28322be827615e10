"""Properties of each protocol."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from builders.protocols import (
    GENDERS,
    SESSIONS,
    SMALL,
    UTTERANCES,
    make_corpora,
    make_iemocap,
    make_utterance,
    speakers_of,
    split_by_settings,
    utterance_lists,
)
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ProtocolError
from serein.protocols import SplitConfig, split
from serein.records import Utterance

# Sessions


def test_the_sessions_after_the_tested_one_validate() -> None:
    protocol = split_by_settings(make_iemocap(), "leave-one-session-out", validation=2)
    session = {one.id: one.session for one in make_iemocap()}
    found = {f.name: sorted({str(session[id_]) for id_ in f.validation}) for f in protocol.folds}
    assert found == {
        "1": list("23"),
        "2": list("34"),
        "3": list("45"),
        "4": list("15"),
        "5": list("12"),
    }
    assert [len(fold.test) for fold in protocol.folds] == list(SESSIONS.values())


@pytest.mark.parametrize(
    ("name", "sizes", "fold"),
    [
        # The paper prints 6,319, 1,811 and 1,819: sessions 3-5 hold 90 more than that.
        ("zhang-text", (1819 + 1811 + 2136, 2103, 2170), "session 5"),
        ("zhang-sizes", (6409, 1811, 1819), "session 1"),
    ],
)
@pytest.mark.parametrize("naming", ["{}", "Session{}", "Ses0{}", "0{}"])
def test_subsets_of_zhang_2019(name: str, sizes: tuple[int, ...], fold: str, naming: str) -> None:
    utterances = [replace(one, session=naming.format(one.session)) for one in make_iemocap()]
    (found,) = split_by_settings(utterances, name).folds
    assert (len(found.train), len(found.validation), len(found.test)) == sizes
    assert found.name == fold
    (merged,) = split_by_settings(utterances, name, validation="none").folds
    assert set(merged.train) == {*found.train, *found.validation}
    assert (merged.validation, merged.test) == ((), found.test)


@pytest.mark.parametrize("missing", list(SESSIONS))
def test_missing_session_is_an_error(missing: str) -> None:
    utterances = [one for one in SMALL if one.session != missing]
    with pytest.raises(ProtocolError, match="needs IEMOCAP's five sessions; found 4: "):
        split_by_settings(utterances, "zhang-sizes")


# Groups of speakers


@given(utterance_lists(min_speakers=5), st.integers(2, 5), st.integers(0, 9))
def test_speaker_groups_are_balanced_in_gender(
    utterances: list[Utterance], folds: int, seed: int
) -> None:
    protocol = split_by_settings(
        utterances, "speaker-k-fold", folds=folds, seed=seed, validation="none"
    )
    gender = {str(one.speaker): one.gender for one in utterances}
    groups = [speakers_of(fold.test) for fold in protocol.folds]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(gender)
    for kind in [*GENDERS, "anybody"]:
        sizes = [sum(kind in (gender[one], "anybody") for one in group) for group in groups]
        assert max(sizes) - min(sizes) <= 1, (kind, sizes)


def test_speaker_groups_are_balanced_in_utterances_and_classes() -> None:
    sizes = {f"s{number:02}": 4 + number * 7 % 40 for number in range(40)}
    utterances = [
        replace(
            make_utterance(name, n),
            labels={"emotion": "anger" if n % (2 + len(name) % 3) else "joy"},
        )
        for name, size in sizes.items()
        for n in range(size)
    ]
    emotion = {one.id: one.label("emotion") for one in utterances}
    folds = split_by_settings(utterances, "speaker-k-fold").folds
    for wanted in ("anger", "joy"):
        counts = [sum(emotion[id_] == wanted for id_ in fold.test) for fold in folds]
        assert max(counts) < 1.15 * min(counts), counts


@pytest.mark.parametrize("name", ["speaker-k-fold", "random"])
def test_other_seeds_give_other_folds(name: str) -> None:
    hashes = {split_by_settings(SMALL, name, seed=seed).hash for seed in range(5)}
    assert len(hashes) == 5
    assert split_by_settings(SMALL, name, seed=0).hash == split_by_settings(SMALL, name).hash


@pytest.mark.parametrize("validation", [2, 4])
def test_groups_are_validated_by_both_genders(validation: int) -> None:
    gender = {one.id: one.gender for one in SMALL}
    for fold in split_by_settings(SMALL, "speaker-k-fold", validation=validation).folds:
        counts = Counter(gender[id_] for id_ in fold.validation)
        assert counts["female"] > 0 < counts["male"]
    one = split_by_settings(SMALL, "speaker-k-fold", validation=1).folds
    assert {gender[fold.validation[0]] for fold in one} == {"female", "male"}


# Corpora


def test_leave_one_corpus_out_validates_on_speakers_of_each_other_corpus() -> None:
    utterances = make_corpora(berlin=6, toronto=4, delhi=3)
    protocol = split_by_settings(utterances, "leave-one-corpus-out", validation=2)
    by_id = {one.id: one for one in utterances}
    assert [fold.name for fold in protocol.folds] == ["berlin", "delhi", "toronto"]
    for fold in protocol.folds:
        held = {
            (by_id[id_].corpus, by_id[id_].gender, by_id[id_].speaker) for id_ in fold.validation
        }
        assert Counter(name for name, *_ in held) == {
            name: 2 for name in ("berlin", "delhi", "toronto") if name != fold.name
        }
        assert Counter(kind for _, kind, _ in held) == {"female": 2, "male": 2}
        assert {by_id[id_].corpus for id_ in fold.test} == {fold.name}


def test_a_corpus_with_too_few_speakers_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"training subset of delhi, which has 2: delhi/00, "):
        split_by_settings(make_corpora(berlin=6, delhi=2), "leave-one-corpus-out", validation=2)
    with pytest.raises(ProtocolError, match="needs two corpora or more; found berlin"):
        split_by_settings(make_corpora(berlin=6), "leave-one-corpus-out")


def test_equal_names_in_two_corpora_are_two_speakers() -> None:
    protocol = split(make_corpora(berlin=3, delhi=3), SplitConfig())
    assert [fold.name for fold in protocol.folds] == [
        f"{corpus}/0{number}" for corpus in ("berlin", "delhi") for number in range(3)
    ]


def test_by_label_trains_on_one_corpus_and_tests_another() -> None:
    utterances = make_corpora(berlin=6, toronto=4, delhi=3)
    protocol = split_by_settings(
        utterances, "by-label", by="corpus", train="berlin", test="toronto"
    )
    (fold,) = protocol.folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (15, 3, 12)
    assert fold.name == "toronto"
    assert protocol.caution == "9 of 39 utterances are in no subset: their corpus is delhi"
    (fold,) = split_by_settings(
        utterances, "by-label", by="corpus", test="delhi", validation="toronto"
    ).folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (18, 12, 9)
    (fold,) = split_by_settings(
        utterances, "by-label", by="corpus", test="*o*", validation="none"
    ).folds
    assert (len(fold.train), fold.validation, len(fold.test)) == (27, (), 12)


# Parts


def parted(*parts: str) -> list[Utterance]:
    """Two women and two men in each part."""
    return [
        replace(make_utterance(f"{part}.{n}", take, GENDERS[n % 2]), labels={"part": part})
        for part in parts
        for n in range(4)
        for take in range(2)
    ]


@pytest.mark.parametrize(
    ("names", "settings", "sizes"),
    [
        ("train-clean-100 train-other-500 dev-clean test-clean test-other", {}, (16, 8, 16)),
        ("train-clean-100 dev-clean dev-other test-clean", {"test": "test-*"}, (8, 16, 8)),
        ("train-clean-100 dev-clean test-clean", {"validation": "none"}, (16, 0, 8)),
        (
            "train-a train-b dev-a dev-b test-a",
            {"validation": "dev-b", "train": "train-a"},
            (8, 8, 8),
        ),
        ("train-a train-b test-a", {"train": ["train-a", "train-b"], "validation": 2}, (12, 4, 8)),
        ("an4-train an4-test", {}, (6, 2, 8)),
        ("an4-train an4-test", {"validation": "none"}, (8, 0, 8)),
    ],
)
def test_parts(names: str, settings: dict[str, Any], sizes: tuple[int, ...]) -> None:
    protocol = split_by_settings(parted(*names.split()), "parts", **settings)
    (fold,) = protocol.folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == sizes
    left = 8 * len(names.split()) - sum(sizes)
    assert protocol.caution.startswith(f"{left} of" if left else "")
    assert bool(protocol.caution) == bool(left)


def test_validation_speakers_of_a_part_are_of_both_genders() -> None:
    utterances = parted("an4-train", "an4-test")
    (fold,) = split_by_settings(utterances, "parts", validation=2).folds
    gender = {one.id: one.gender for one in utterances}
    assert Counter(gender[id_] for id_ in fold.validation) == {"female": 2, "male": 2}


# Random folds


@pytest.mark.parametrize("name", ["random", "speaker-dependent"])
def test_random_folds_are_stratified_and_cautioned(name: str) -> None:
    utterances = make_iemocap()
    protocol = split_by_settings(utterances, name, folds=10)
    emotion = {one.id: one.label("emotion") for one in utterances}
    speaker = {one.id: one.speaker for one in utterances}
    assert protocol.caution.startswith("speaker-dependent: the same speakers train and are tested")
    whole = Counter(emotion.values())
    for fold in protocol.folds:
        assert len(fold.test) in (1003, 1004)
        for kind, count in Counter(emotion[id_] for id_ in fold.test).items():
            assert abs(count - whole[kind] / 10) < 1
        assert len({speaker[id_] for id_ in fold.test}) == 10
    assert [fold.name for fold in protocol.folds][::9] == ["01", "10"]


# What is left out


def test_only_filters_and_counts_utterances() -> None:
    utterances = make_iemocap()
    protocol = split_by_settings(utterances, "leave-one-session-out", only={"style": "improvised"})
    tested = [id_ for fold in protocol.folds for id_ in fold.test]
    assert all("improvised" in id_ for id_ in tested)
    assert protocol.caution == f"only style improvised: {len(tested)} of 10039 utterances"
    both = {"session": [1, "2", 3.0], "emotion": "anger, sadness"}
    few = split_by_settings(utterances, "leave-one-session-out", only=both)
    assert [fold.name for fold in few.folds] == ["1", "2", "3"]
    assert "only session 1 or 2 or 3, emotion anger or sadness: " in few.caution


def test_disjoint_removes_tested_scripts_from_the_other_subsets() -> None:
    utterances = make_iemocap()
    script = {one.id: one.label("script") for one in utterances}
    sizes = {"1": 7, "2": 300, "3": 300, "4": 300, "5": 300}
    few = make_iemocap(sizes)
    whole, protocol = (
        split_by_settings(few, "leave-one-session-out", **more)
        for more in ({}, {"disjoint": "script"})
    )
    for before, after in zip(whole.folds, protocol.folds, strict=True):
        tested = {script.get(id_) for id_ in after.test} - {None}
        for old, new in ((before.train, after.train), (before.validation, after.validation)):
            assert set(new) == {id_ for id_ in old if script.get(id_) not in tested}
        assert before.test == after.test
    lost = sum(len(f.train) for f in whole.folds) - sum(len(f.train) for f in protocol.folds)
    assert f"script-disjoint: {lost} of " in protocol.caution
    assert protocol.hash != whole.hash


@pytest.mark.parametrize(
    ("text", "left"), [("Kids, talking!", 0), ("kids TALKING", 0), ("dogs", 1), (None, 1)]
)
def test_sentences_are_compared_by_their_words(text: str | None, left: int) -> None:
    said = [*(replace(one, text="kids  talking.") for one in UTTERANCES[:2]), *UTTERANCES[2:]]
    said[2] = replace(said[2], text=text)
    said += [make_utterance(name, number) for name in "abc" for number in (2, 3)]
    (fold, *_) = split_by_settings(said, "leave-one-speaker-out", disjoint=["sentence"]).folds
    assert fold.validation == ("b-0", "b-1", "b-2", "b-3")[0 if left else 1 :]


@pytest.mark.parametrize("name", ["leave-one-session-out", "speaker-k-fold", "random"])
@pytest.mark.parametrize("groups", [2, 3])
def test_disjoint_groups_of_scripts_that_every_session_has(name: str, groups: int) -> None:
    played = [replace(one, labels={"script": f"{n % 30 % 7}"}) for n, one in enumerate(SMALL)]
    script = {one.id: one.label("script") for one in played}
    with pytest.raises(ProtocolError, match=r"tests every script .* Set protocol\.disjoint_groups"):
        split_by_settings(played, name, disjoint="script")
    protocol = split_by_settings(played, name, disjoint="script", disjoint_groups=groups)
    assert protocol == split_by_settings(
        played[::-1], name, disjoint="script", disjoint_groups=groups
    )
    assert len(protocol.folds) == 5 * groups
    assert [fold.name for fold in protocol.folds][:2] == ["1, script 1", "1, script 2"]
    tested = Counter(id_ for fold in protocol.folds for id_ in fold.test)
    assert tested == Counter(list(script))
    for fold in protocol.folds:
        sides = [{script[id_] for id_ in side} for side in (fold.train, fold.validation, fold.test)]
        assert not (sides[0] | sides[1]) & sides[2]
        assert len(sides[0] | sides[2]) == 7


def test_disjoint_keeps_utterances_without_a_value() -> None:
    utterances = make_iemocap(dict.fromkeys(SESSIONS, 60))
    protocol = split_by_settings(
        utterances, "leave-one-session-out", disjoint="script", disjoint_groups=2
    )
    free = {one.id for one in utterances if one.label("script") is None}
    assert Counter(id_ for fold in protocol.folds for id_ in fold.test) == Counter(
        one.id for one in utterances
    )
    whole = split_by_settings(utterances, "leave-one-session-out")
    for fold in protocol.folds:
        same = next(one for one in whole.folds if one.name == fold.name[0])
        assert free & set(fold.train) == free & set(same.train)
    first = sum(len(fold.test) for fold in protocol.folds if fold.name.endswith("1"))
    assert first == len(utterances) / 2


# Length


def utterances_of(*seconds: float) -> list[Utterance]:
    """Utterances of two speakers with these durations."""
    spoken = [(speaker, length) for speaker in ("a", "b") for length in seconds]
    return [
        replace(make_utterance(speaker, number), start=1.0, end=1.0 + length)
        for number, (speaker, length) in enumerate(spoken)
    ]


def test_max_duration_drops_and_counts_long_utterances() -> None:
    settings = {"max_duration": 20.0, "validation": "none"}
    protocol = split_by_settings(
        utterances_of(3.0, 20.0, 20.1), "leave-one-speaker-out", **settings
    )
    assert {len(fold.test) for fold in protocol.folds} == {2}
    assert "2 of 6 utterances last longer than 20 s: left out" in protocol.caution
    assert (
        "longer"
        not in split_by_settings(utterances_of(3.0), "leave-one-speaker-out", **settings).caution
    )


def test_max_duration_that_drops_everything_is_an_error() -> None:
    with pytest.raises(ProtocolError, match=r"max_duration = 2 s leaves none of 4 .* lasts 3\.0 s"):
        split_by_settings(
            utterances_of(3.0, 5.0), "leave-one-speaker-out", max_duration=2.0, validation="none"
        )
