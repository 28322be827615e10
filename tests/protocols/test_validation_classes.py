"""Tests of validation subsets that get further speakers until every class is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.protocols import SHARED

from serein import corpora
from serein.evaluation.plan import describe_dropped_settings, resolve_recipe
from serein.protocols import SplitConfig, split
from serein.protocols.splitters import get_subsets
from serein.protocols.validation import complete_validation
from serein.records import Utterance


def speak(speaker: str, moods: str, **fields: Any) -> list[Utterance]:
    """Return an utterance of a speaker for each letter."""
    return [
        Utterance(
            id=f"{speaker}-{n}",
            path=Path(f"{speaker}{n}.wav"),
            speaker=speaker,
            labels={"emotion": mood},
            **fields,
        )
        for n, mood in enumerate(moods)
    ]


def speakers_of(ids: tuple[str, ...]) -> list[str]:
    return sorted({id_.partition("-")[0] for id_ in ids})


CORPUS = [
    *speak("s1", "ab", gender="female"),
    *speak("s2", "abc", gender="female"),
    *speak("s3", "ab", gender="female"),
    *speak("s4", "a", gender="female"),
    *speak("s5", "abcc", gender="female"),
]
"""Only s2 and s5 have class c."""


def test_speakers_are_added_until_every_class_is_there() -> None:
    protocol = split(CORPUS, SplitConfig())
    subsets = {fold.name: get_subsets(fold) for fold in protocol.folds}
    # The next speaker, and then the next one that has a missing class.
    assert speakers_of(subsets["s1"]["validation"]) == ["s2"]
    assert speakers_of(subsets["s3"]["validation"]) == ["s4", "s5"]
    assert speakers_of(subsets["s3"]["train"]) == ["s1", "s2"]
    assert protocol.validation == (
        "1 speaker after the tested one; 1 fold with more, so that every class is validated: s3"
    )


def test_training_subsets_keep_every_class() -> None:
    """Fold s2 has class c in s5 only, and fold s5 in s2 only: both train on it."""
    folds = {fold.name: fold for fold in split(CORPUS, SplitConfig()).folds}
    assert speakers_of(folds["s2"].validation) == ["s3"]
    assert speakers_of(folds["s5"].validation) == ["s1"]


def test_it_can_be_turned_off_and_needs_a_number() -> None:
    off = split(CORPUS, SplitConfig(complete_validation=False))
    assert [speakers_of(fold.validation) for fold in off.folds] == [
        ["s2"],
        ["s3"],
        ["s4"],
        ["s5"],
        ["s1"],
    ]
    assert not any(fold.validation for fold in split(CORPUS, SplitConfig(validation="none")).folds)
    settings = SplitConfig(name="by-label", by="speaker", test="s1", validation="s4")
    assert speakers_of(split(CORPUS, settings).folds[0].validation) == ["s4"]


def test_classes_may_be_given() -> None:
    """Classes of the first task, such as merged labels, replace the label ``stratify``."""
    merged = {u.id: "b" if u.labels["emotion"] == "c" else str(u.labels["emotion"]) for u in CORPUS}
    folds = {fold.name: fold for fold in split(CORPUS, SplitConfig(), classes=merged).folds}
    assert speakers_of(folds["s3"].validation) == ["s4", "s5"]
    only_a = dict.fromkeys(merged, "a")
    folds = {fold.name: fold for fold in split(CORPUS, SplitConfig(), classes=only_a).folds}
    assert speakers_of(folds["s3"].validation) == ["s4"]


def test_held_out_training_speakers_are_completed() -> None:
    settings = SplitConfig(name="by-label", by="speaker", test="s5", validation=1)
    utterances = [u for u in CORPUS if u.speaker in ("s3", "s4", "s5")]
    more = speak("s2", "abc") + speak("s6", "cab")
    (fold,) = split([replace(u, gender=None) for u in utterances] + more, settings).folds
    assert speakers_of(fold.validation) == ["s2"]
    settings = replace(settings, test="s6")
    (fold,) = split(
        [replace(u, gender=None) for u in CORPUS if u.speaker != "s2"] + more, settings
    ).folds
    assert speakers_of(fold.validation) == ["s1", "s2"]


@pytest.mark.skipif(not (SHARED / "emodb").is_dir(), reason="needs EMO-DB")
def test_one_fold_of_emodb_gets_a_second_speaker() -> None:
    utterances = corpora.load(f"emodb={SHARED / 'emodb'}").utterances
    folds = split(utterances, SplitConfig()).folds
    emotion = {u.id: u.labels["emotion"] for u in utterances}
    counts = {
        fold.name: len(set(map(str.__getitem__, fold.validation, [slice(2)] * 999)))
        for fold in folds
    }
    assert counts == {**dict.fromkeys(counts, 1), "15": 2}
    assert all(len({emotion[id_] for id_ in fold.validation}) == 7 for fold in folds)


def test_a_validation_subset_that_a_recipe_lacks_is_said() -> None:
    """serein-light has none; another protocol would choose the epoch without a word."""
    recipe = resolve_recipe("serein-light", ["protocol.name=speaker-k-fold"])
    text = "\n".join(describe_dropped_settings(recipe))
    assert (
        "the recipe has no validation subset, and the split by --set protocol.name has one" in text
    )
    settings = ["protocol.name=speaker-k-fold", "protocol.validation=none"]
    assert not describe_dropped_settings(resolve_recipe("serein-light", settings))


class CountedClasses(dict[str, str | None]):
    """Classes that count how often they are read."""

    reads = 0

    def get(self, *args: Any) -> Any:
        self.reads += 1
        return super().get(*args)


def test_each_class_is_read_a_few_times_however_many_speakers_there_are() -> None:
    """With 100 speakers, reading every class anew for each speaker took 200 reads per utterance."""
    corpus = [one for n in range(100) for one in speak(f"s{n:03}", "ab" if n else "abc")]
    config = SplitConfig(name="speaker-k-fold", folds=5)
    protocol = split(corpus, replace(config, complete_validation=False))
    classes = CountedClasses({one.id: str(one.label("emotion")) for one in corpus})
    complete_validation(protocol, corpus, config, classes)
    assert 0 < classes.reads <= 4 * len(corpus) * len(protocol.folds)
