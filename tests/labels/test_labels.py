from dataclasses import replace
from pathlib import Path

import pytest
from builders.small_systems import small_recipe

from serein import corpora, labels
from serein.errors import ConfigError, CorpusError, UnknownName
from serein.evaluation.labels import apply_label_scheme
from serein.labels.targets import find_classes, get_raw_labels, get_task_label, get_task_labels
from serein.records import Corpus, Recipe, Utterance
from serein.synthetic import SyntheticConfig, generate

WORDS = ["angry", "happy", "excited", "calm", "neutral", "sad", None]


def recipe(**emotion: object) -> Recipe:
    made = small_recipe()
    made.tasks["emotion"] = {**made.tasks["emotion"], **emotion}
    return made


def corpus(words: list[str | None] = WORDS) -> Corpus:
    genders = ["female", "male"] * len(words)
    utterances = tuple(
        Utterance(
            id=f"u{number}",
            path=Path("none.wav"),
            gender=genders[number],
            labels={} if word is None else {"emotion": word},
        )
        for number, word in enumerate(words)
    )
    return Corpus(name="said", utterances=utterances)


@pytest.mark.parametrize(
    ("scheme", "changes", "wanted"),
    [
        ("own", {}, ["angry", "happy", "excited", "calm", "neutral", "sad"]),
        ("own", {"happy": "joy", "calm": ""}, ["angry", "joy", "excited", "", "neutral", "sad"]),
        ("harmonised", {}, ["anger", "happiness", "excitement", "calm", "neutral", "sadness"]),
        ("four", {}, ["anger", "happiness", "happiness", "", "neutral", "sadness"]),
        (
            "four",
            {"calm": "neutral"},
            ["anger", "happiness", "happiness", "neutral", "neutral", "sadness"],
        ),
        ("seven", {"excited": ""}, ["anger", "happiness", "", "", "neutral", "sadness"]),
    ],
)
def test_schemes(scheme: str, changes: dict[str, str], wanted: list[str]) -> None:
    assert [labels.map_to_class(str(word), scheme, changes) for word in WORDS[:-1]] == wanted


def test_no_word_has_two_names_and_schemes_know_the_names() -> None:
    table = labels._read_word_table()
    words = [word for names in table["words"].values() for word in names]
    assert len(words) == len(set(words))
    assert all(name in names for name, names in table["words"].items())
    for scheme in table["schemes"].values():
        assert {word for names in scheme.values() for word in names} <= set(table["words"])


def test_every_corpus_of_the_papers_has_names_for_all_of_its_words() -> None:
    for name in ("anger", "Angry", "angry", "fearful", "surprised", "excitement", "frustration"):
        assert labels.harmonize_emotion(name) in labels._read_word_table()["words"]


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"scheme of classes 'for'.*did you mean 'four'"):
        apply_label_scheme(corpus(), recipe(scheme="for"))


def test_what_a_scheme_drops_is_left_out_and_counted_and_what_is_missing_stays() -> None:
    kept, mapping = apply_label_scheme(corpus(), recipe(scheme="four"))
    assert [one.id for one in kept.utterances] == ["u0", "u1", "u2", "u4", "u5", "u6"]
    found = mapping["emotion"]
    assert found.scheme == "four"
    assert found.mapped == {
        "anger": {"angry": 1},
        "happiness": {"excited": 1, "happy": 1},
        "neutral": {"neutral": 1},
        "sadness": {"sad": 1},
    }
    assert (found.dropped, found.missing) == ({"calm": 1}, 1)
    assert mapping["gender"].mapped == {"female": {"female": 4}, "male": {"male": 3}}


def test_a_second_task_drops_nobody() -> None:
    made = recipe()
    made.tasks["gender"] = {**made.tasks["gender"], "map": {"male": ""}}
    kept, mapping = apply_label_scheme(corpus(), made)
    assert len(kept.utterances) == len(WORDS)
    assert mapping["gender"].dropped == {"male": 3}
    assert get_task_label(kept.utterances[1], "gender", made) is None


def test_classes_are_those_of_the_scheme() -> None:
    classes = find_classes(corpus().utterances, recipe(scheme="four"))
    assert classes["emotion"] == ("anger", "happiness", "neutral", "sadness")


def test_a_scheme_that_leaves_nothing_says_what_the_corpus_says() -> None:
    with pytest.raises(ConfigError, match=r"leaves none of 2 utterances: the corpus says \['calm'"):
        apply_label_scheme(corpus(["calm", "wistful"]), recipe(scheme="four"))


def test_a_word_that_nobody_says_cannot_be_mapped() -> None:
    with pytest.raises(ConfigError, match=r"map names Angry, which said never says; its words for"):
        apply_label_scheme(corpus(), recipe(map={"Angry": "fury", "calm": ""}))


def test_joined_corpora_have_one_word_for_one_class() -> None:
    both = corpus(["angry", "anger", "neutral", "sad"])
    joined = replace(both, utterances=tuple(replace(u, corpus="a") for u in both.utterances))
    with pytest.raises(ConfigError, match=r"anger and angry are two classes of emotion in said"):
        apply_label_scheme(joined, recipe())
    _, mapping = apply_label_scheme(joined, recipe(scheme="harmonised"))
    assert mapping["emotion"].mapped["anger"] == {"anger": 1, "angry": 1}
    apply_label_scheme(both, recipe())


def test_several_corpora_are_read_as_one(tmp_path: Path) -> None:
    few = SyntheticConfig(speakers=2, sentences=1, emotions=("anger", "neutral"), words=1)
    for name in ("a", "b"):
        generate(tmp_path / name, few)
    specs = [f"one={tmp_path / 'a' / 'labels.csv'}", f"two={tmp_path / 'b' / 'labels.csv'}"]
    read = corpora.read(specs)
    assert read.name == "one+two"
    assert len(read.utterances) == 8
    assert {one.corpus for one in read.utterances} == {"one", "two"}
    assert {one.speaker for one in read.utterances} == {"one/s01", "one/s02", "two/s01", "two/s02"}
    assert [one.id for one in read.utterances] == sorted(one.id for one in read.utterances)
    assert corpora.read(read) is read
    alone = corpora.read(specs[:1])
    assert (alone.name, alone.utterances[0].corpus) == ("one", None)
    with pytest.raises(CorpusError, match="not all different"):
        corpora.read([specs[0], specs[0]])
    with pytest.raises(CorpusError, match="no corpus is given"):
        corpora.read([])


def test_many_are_labelled_as_one_is_and_no_word_is_looked_up_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, said = recipe(scheme="four"), corpus(WORDS * 3).utterances
    one_by_one = [get_task_label(one, "emotion", made) for one in said]
    looked_up: list[str] = []
    class_of = labels.map_to_class

    def counted(word: str, *rest: object) -> str:
        looked_up.append(word)
        return class_of(word, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(labels, "map_to_class", counted)
    assert get_task_labels(said, "emotion", made) == one_by_one
    assert get_raw_labels(said, "emotion", made) == WORDS * 3
    assert sorted(looked_up) == sorted(word for word in WORDS if word)


def test_who_has_a_word_that_is_no_rating_is_named() -> None:
    made = recipe(scheme="levels")
    with pytest.raises(ConfigError, match=r"utterance u2, task emotion: .*'high'"):
        get_task_labels(corpus(["1", "5", "high", "high"]).utterances, "emotion", made)


def test_of_an_unknown_scheme_no_utterance_is_named() -> None:
    with pytest.raises(UnknownName, match="scheme of classes") as told:
        get_task_labels(corpus().utterances, "emotion", recipe(scheme="five"))
    assert "utterance" not in str(told.value)
