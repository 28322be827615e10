"""Label schemes, and the labels of a corpus as classes of a recipe."""

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
    built = small_recipe()
    built.tasks["emotion"] = {**built.tasks["emotion"], **emotion}
    return built


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
    return Corpus(name="mine", utterances=utterances)


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


def test_words_have_one_name_and_schemes_use_these_names() -> None:
    table = labels._read_word_table()
    words = [word for names in table["words"].values() for word in names]
    assert len(words) == len(set(words))
    assert all(name in names for name, names in table["words"].items())
    for scheme in table["schemes"].values():
        assert {word for names in scheme.values() for word in names} <= set(table["words"])


def test_words_of_the_papers_corpora_have_names() -> None:
    for name in ("anger", "Angry", "angry", "fearful", "surprised", "excitement", "frustration"):
        assert labels.harmonize_emotion(name) in labels._read_word_table()["words"]


def test_an_unknown_scheme_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"scheme of classes 'for'.*did you mean 'four'"):
        apply_label_scheme(corpus(), recipe(scheme="for"))


def test_apply_label_scheme_drops_utterances_without_a_class_and_counts_labels() -> None:
    made = recipe(scheme="four")
    remaining, mapping = apply_label_scheme(corpus(), made)
    assert [one.id for one in remaining.utterances] == ["u0", "u1", "u2", "u4", "u5"]
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
    keeping = replace(made, protocol={**made.protocol, "unlabelled": "keep"})
    remaining, same = apply_label_scheme(corpus(), keeping)
    assert [one.id for one in remaining.utterances] == ["u0", "u1", "u2", "u4", "u5", "u6"]
    assert same == mapping


def test_a_label_that_no_utterance_has_drops_nothing() -> None:
    whole = corpus()
    bare = replace(whole, utterances=tuple(replace(u, labels={}) for u in whole.utterances))
    remaining, _ = apply_label_scheme(bare, recipe())
    assert remaining == bare
    with pytest.raises(UnknownName, match="unknown task or label 'emotion'"):
        find_classes(remaining.utterances, recipe())


def test_a_second_task_drops_no_utterances() -> None:
    made = recipe()
    made.tasks["gender"] = {**made.tasks["gender"], "map": {"male": ""}}
    remaining, mapping = apply_label_scheme(corpus(), made)
    assert len(remaining.utterances) == len(WORDS) - 1  # one has no emotion
    assert mapping["gender"].dropped == {"male": 3}
    assert get_task_label(remaining.utterances[1], "gender", made) is None


def test_find_classes_returns_those_of_the_scheme() -> None:
    classes = find_classes(corpus().utterances, recipe(scheme="four"))
    assert classes["emotion"] == ("anger", "happiness", "neutral", "sadness")


def test_a_scheme_that_drops_all_utterances_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"leaves none of 2 utterances: the labels of the corpus are \['calm'"
    ):
        apply_label_scheme(corpus(["calm", "wistful"]), recipe(scheme="four"))


def test_a_map_of_an_absent_label_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"map names Angry, which mine does not have; its labels for"
    ):
        apply_label_scheme(corpus(), recipe(map={"Angry": "fury", "calm": ""}))


def test_several_corpora_need_one_name_for_a_class() -> None:
    both = corpus(["angry", "anger", "neutral", "sad"])
    joined = replace(both, utterances=tuple(replace(u, corpus="a") for u in both.utterances))
    with pytest.raises(ConfigError, match=r"anger and angry are two classes of emotion in mine"):
        apply_label_scheme(joined, recipe())
    _, mapping = apply_label_scheme(joined, recipe(scheme="harmonised"))
    assert mapping["emotion"].mapped["anger"] == {"anger": 1, "angry": 1}
    apply_label_scheme(both, recipe())


def test_as_corpus_joins_several_corpora(tmp_path: Path) -> None:
    few = SyntheticConfig(speakers=2, sentences=1, emotions=("anger", "neutral"), words=1)
    for name in ("a", "b"):
        generate(tmp_path / name, few)
    specs = [f"one={tmp_path / 'a' / 'labels.csv'}", f"two={tmp_path / 'b' / 'labels.csv'}"]
    read = corpora.as_corpus(specs)
    assert read.name == "one+two"
    assert len(read.utterances) == 8
    assert {one.corpus for one in read.utterances} == {"one", "two"}
    assert {one.speaker for one in read.utterances} == {"one/s01", "one/s02", "two/s01", "two/s02"}
    assert [one.id for one in read.utterances] == sorted(one.id for one in read.utterances)
    assert corpora.as_corpus(read) is read
    alone = corpora.as_corpus(specs[:1])
    assert (alone.name, alone.utterances[0].corpus) == ("one", None)
    with pytest.raises(CorpusError, match="not all different"):
        corpora.as_corpus([specs[0], specs[0]])
    with pytest.raises(CorpusError, match="no corpus is given"):
        corpora.as_corpus([])


def test_get_task_labels_maps_each_distinct_label_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, utterances = recipe(scheme="four"), corpus(WORDS * 3).utterances
    one_by_one = [get_task_label(one, "emotion", made) for one in utterances]
    calls: list[str] = []
    map_to_class = labels.map_to_class

    def record(word: str, *rest: object) -> str:
        calls.append(word)
        return map_to_class(word, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(labels, "map_to_class", record)
    assert get_task_labels(utterances, "emotion", made) == one_by_one
    assert get_raw_labels(utterances, "emotion", made) == WORDS * 3
    assert sorted(calls) == sorted(word for word in WORDS if word)


def test_a_label_that_is_not_a_rating_is_an_error_with_its_utterance() -> None:
    made = recipe(scheme="levels")
    with pytest.raises(ConfigError, match=r"utterance u2, task emotion: .*'high'"):
        get_task_labels(corpus(["1", "5", "high", "high"]).utterances, "emotion", made)


def test_the_error_of_an_unknown_scheme_names_no_utterance() -> None:
    with pytest.raises(UnknownName, match="scheme of classes") as caught:
        get_task_labels(corpus().utterances, "emotion", recipe(scheme="five"))
    assert "utterance" not in str(caught.value)
