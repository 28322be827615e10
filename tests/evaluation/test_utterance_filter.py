"""Tests of which utterances evaluate, train and transcribe use, and what they leave out."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders.corpus_layouts import write_librispeech
from builders.small_systems import QUICK

from serein import corpora, recipes
from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.evaluation.plan import build_plan
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.evaluation.utterance_filter import (
    FilteredCorpus,
    describe_filtered_corpus,
    select_for_training,
    select_for_transcription,
    select_utterances,
)
from serein.records import Corpus, Recipe, Utterance

EMOTIONS = ("anger", "happiness", "excitement", "neutral", "sadness", "frustration")
ASR_SETTINGS = (
    *("features.bands=12", "features.seconds=4.0", "training.epochs=1", "training.batch=8"),
    *("model.encoder_hidden=8", "model.encoder_layers=1", "model.decoder_hidden=8"),
    *("model.decoder_words=8", "model.decoder_attention=8", "text.min_count=1"),
)


def make_corpus(per_emotion: int = 10) -> Corpus:
    """Two speakers in each of five sessions; every sixth utterance lasts 25 s, audio is absent."""
    utterances = []
    for number in range(per_emotion * len(EMOTIONS)):
        session = number % 5 + 1
        utterances.append(
            Utterance(
                id=f"u{number:03}",
                path=Path(f"u{number:03}.wav"),
                speaker=f"{session}{'FM'[number // 5 % 2]}",
                session=str(session),
                gender=("female", "male")[number // 5 % 2],
                labels={
                    "emotion": EMOTIONS[number // per_emotion],
                    "style": ("improvised", "scripted")[number % 2],
                    "part": ("train-a", "train-b", "dev-a", "test-a", "other-a")[number % 5],
                },
                start=0.0,
                end=25.0 if number % 6 == 0 else 3.0,
            )
        )
    return Corpus(name="acted", utterances=tuple(utterances))


SPLIT = ("protocol.name=leave-one-session-out", "tasks.emotion.scheme=own")
OWN = ("protocol.name=leave-one-speaker-out", "tasks.emotion.scheme=own")


def make_recipe(*settings: str) -> Recipe:
    return recipes.load("li2019", [*SPLIT, *settings])


def select(*settings: str) -> FilteredCorpus:
    return select_utterances(make_corpus(), make_recipe(*settings))


def list_counts(filtered: FilteredCorpus) -> list[tuple[str, int]]:
    return [(reason.reason, reason.count) for reason in filtered.left_out]


def test_everything_is_selected_without_a_filter() -> None:
    filtered = select()
    assert len(filtered.corpus.utterances) == filtered.total == 60
    assert filtered.left_out == ()
    assert filtered.caution == ""
    assert describe_filtered_corpus(filtered) == "all 60 utterances of acted"


def test_each_reason_is_counted_once_and_in_order() -> None:
    filtered = select(
        "tasks.emotion.scheme=four", "protocol.only.style=improvised", "protocol.max_duration=20"
    )
    assert list_counts(filtered) == [("class", 10), ("only", 25), ("duration", 9)]
    assert len(filtered.corpus.utterances) + 10 + 25 + 9 == filtered.total
    assert describe_filtered_corpus(filtered) == (
        "16 of 60 utterances of acted; left out: 10 without a class of emotion (scheme four): "
        "frustration 10; 25 of another style than improvised; 9 longer than 20 s"
    )
    assert filtered.caution == (
        "only style improvised: 25 of 50 utterances; 9 of 25 utterances last longer than 20 s: "
        "left out"
    )


def test_labels_are_counted_among_the_selected_utterances() -> None:
    filtered = select("tasks.emotion.scheme=four", "protocol.only.style=improvised")
    mapping = filtered.mapping["emotion"]
    assert mapping.mapped["happiness"] == {"excitement": 5, "happiness": 5}
    assert mapping.dropped == {"frustration": 10}
    assert sum(map(len, filtered.mapping["gender"].mapped.values())) == 2


def test_several_values_and_patterns_select() -> None:
    assert len(select("protocol.only.part=train-*").corpus.utterances) == 24
    assert len(select("protocol.only.part=train-a,test-*").corpus.utterances) == 24


def test_evaluation_uses_the_filtered_corpus(corpus: Corpus, tmp_path: Path) -> None:
    recipe = recipes.load("li2019", [*QUICK, *OWN, "protocol.only.emotion=anger,sadness"])
    plan = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    assert plan.classes["emotion"] == ("anger", "sadness")
    assert len(plan.corpus.utterances) == 16
    assert [(reason.reason, reason.count) for reason in plan.left_out] == [("only", 8)]
    assert "only emotion anger or sadness: 16 of 24 utterances" in plan.protocol.caution
    assert sum(len(fold.test) for fold in plan.protocol.folds) == 16


@pytest.mark.parametrize(
    ("settings", "count", "clause"),
    [
        (("protocol.name=leave-one-session-out",), 60, ""),
        (("protocol.name=speaker-k-fold", "protocol.folds=2"), 60, ""),
        (("protocol.name=random",), 60, ""),
        (("protocol.train_size=20", "protocol.stratify=emotion"), 20, "40 more than protocol."),
        (("protocol.name=parts",), 24, "12 in the test subset of parts (part test-a)"),
        (("protocol.name=parts",), 24, "12 in the validation subset of parts (part dev-a)"),
        (("protocol.name=parts",), 24, "12 in no subset of parts (part other-a)"),
        (("protocol.name=parts", "protocol.validation=none"), 36, "12 in the test subset"),
        (("protocol.name=parts", "protocol.train=train-a"), 12, "24 in no subset of parts"),
        (("protocol.name=zhang-text",), 36, "12 in the test subset of zhang-text (session 5)"),
        (
            ("protocol.name=by-label", "protocol.by=style", "protocol.test=scripted"),
            30,
            "30 in the test subset of by-label (style scripted)",
        ),
    ],
)
def test_training_uses_the_training_subset_of_a_predefined_split(
    settings: tuple[str, ...], count: int, clause: str
) -> None:
    recipe = make_recipe(*settings)
    filtered = select_for_training(select_utterances(make_corpus(), recipe), recipe)
    assert len(filtered.corpus.utterances) == count
    assert clause in describe_filtered_corpus(filtered)
    assert sum(reason.count for reason in filtered.left_out) == 60 - count


def test_training_speakers_are_not_held_out_where_nothing_validates() -> None:
    corpus = make_corpus()
    without_dev = tuple(u for u in corpus.utterances if u.labels["part"] != "dev-a")
    recipe = make_recipe("protocol.name=parts")
    whole = select_utterances(replace(corpus, utterances=without_dev), recipe)
    assert len(select_for_training(whole, recipe).corpus.utterances) == 24


def test_training_parts_need_no_test_part() -> None:
    corpus, recipe = make_corpus(), recipes.load("feng2020-asr")
    trains = tuple(u for u in corpus.utterances if u.labels["part"] != "test-a")
    filtered = select_for_training(
        select_utterances(replace(corpus, utterances=trains), recipe), recipe
    )
    assert describe_filtered_corpus(filtered) == (
        "24 of 48 utterances of acted (the training subset of parts: part train-a, train-b); left "
        "out: 24 in no training part (part dev-a, other-a)"
    )


def test_corpus_without_parts_trains_whole() -> None:
    corpus, recipe = make_corpus(), recipes.load("feng2020-asr")
    plain = tuple(replace(u, labels={}) for u in corpus.utterances)
    filtered = select_for_training(
        select_utterances(replace(corpus, utterances=plain), recipe), recipe
    )
    assert (
        describe_filtered_corpus(filtered)
        == "all 60 utterances of acted (no utterance names a part)"
    )


def test_corpus_with_test_parts_alone_is_an_error() -> None:
    corpus, recipe = make_corpus(), recipes.load("feng2020-asr")
    dev = tuple(u for u in corpus.utterances if u.labels["part"] == "dev-a")
    filtered = select_utterances(replace(corpus, utterances=dev), recipe)
    with pytest.raises(ProtocolError, match=r"no training part: found dev-a.*protocol\.train=NAME"):
        select_for_training(filtered, recipe)


def test_transcription_selects_by_filters_and_by_classes() -> None:
    corpus, recipe = make_corpus(), recipes.load("feng2020-asr")
    assert len(select_for_transcription(corpus, recipe).corpus.utterances) == 60
    settings = ["tasks.emotion.scheme=four", "protocol.max_duration=20"]
    filtered = select_for_transcription(corpus, recipe, settings)
    assert list_counts(filtered) == [("class", 10), ("duration", 9)]
    named = ["protocol.only.emotion=anger,happiness,excitement,neutral,sadness"]
    same = select_for_transcription(corpus, recipe, [*named, "protocol.max_duration=20"])
    assert same.corpus == filtered.corpus


@pytest.mark.parametrize(
    ("setting", "error", "text"),
    [
        ("protocol.name=parts", ConfigError, r"protocol\.name has no effect here"),
        ("training.epochs=2", UnknownName, "training"),
        ("protocol.only.style=sung", ProtocolError, "leaves no utterance; found improvised, scr"),
    ],
)
def test_settings_that_select_nothing_are_errors(
    setting: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        select_for_transcription(make_corpus(), recipes.load("feng2020-asr"), [setting])


def test_card_counts_what_was_left_out(corpus: Corpus, tmp_path: Path) -> None:
    seen: list[FilteredCorpus] = []
    bundle = train(
        "li2019",
        corpus,
        tmp_path / "a.safetensors",
        settings=[*QUICK, *OWN, "training.epochs=1", "protocol.only.emotion=anger,sadness"],
        on_filtered_corpus=seen.append,
    )
    assert bundle.card.data == "spoken, 16 of 24 utterances"
    assert bundle.system.classes["emotion"] == ("anger", "sadness")
    assert len(bundle.card.file_hashes) == 16
    assert describe_filtered_corpus(seen[0]).endswith(
        "left out: 8 of another emotion than anger or sadness"
    )
    results = score_model(bundle, corpus, settings=["protocol.only.emotion=anger"])
    assert len(results.predictions) == 8
    assert results.warnings[0] == "left out: 16 of another emotion than anger"


def test_recognizer_trains_on_the_training_parts_of_librispeech(tmp_path: Path) -> None:
    parts = ("train-clean-100", "dev-clean", "test-clean")
    write_librispeech(tmp_path / "libri", parts=parts)
    seen: list[FilteredCorpus] = []
    bundle = train(
        "feng2020-asr",
        f"librispeech={tmp_path / 'libri'}",
        tmp_path / "asr.safetensors",
        settings=ASR_SETTINGS,
        on_filtered_corpus=seen.append,
    )
    assert describe_filtered_corpus(seen[0]) == (
        "6 of 18 utterances of librispeech (the training subset of parts: part train-clean-100); "
        "left out: 6 in the test subset of parts (part test-clean); 6 in the validation subset of "
        "parts (part dev-clean)"
    )
    corpus = corpora.load(f"librispeech={tmp_path / 'libri'}")
    trained = {u.speaker for u in corpus.utterances if u.labels["part"] == "train-clean-100"}
    assert set(bundle.card.speakers) == {f"librispeech/{speaker}" for speaker in trained}
    texts = [str(u.text) for u in corpus.utterances if u.speaker in trained]
    known = {word for text in texts for word in text.split()}
    assert set(bundle.system.words[3:]) == {word.lower() for word in known}
