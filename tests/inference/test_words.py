"""Words of models that read words: from the recogniser of the bundle, or given."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders.word_systems import (
    RATE,
    noise,
    small_asr,
    small_joint_model,
    small_text_model,
)

from serein.bundle import Bundle, load, save
from serein.errors import ConfigError
from serein.inference.explain import collect_explanations, explain
from serein.inference.formats import as_card
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import feed_streams
from serein.inference.transcribe import Transcriber
from serein.report import explanation as explanation_report

RECORDINGS = [noise(1.0 + index / 3, index) for index in range(5)]
Probabilities = dict[str, float]


def open_model(kind: str = "text", asr: Bundle | None = None, **options: Any) -> Recognizer:
    return Recognizer(small_text_model(kind, asr=asr), answer_nonspeech=True, **options)


@pytest.fixture(scope="module")
def asr() -> Bundle:
    return small_asr()


@pytest.fixture(scope="module", params=["text", "combined"])
def recognizer(request: pytest.FixtureRequest, asr: Bundle) -> Recognizer:
    """A model that reads the words of its own recogniser."""
    return open_model(request.param, asr)


def list_words(answer: Recognition) -> list[str]:
    return [word.word for word in answer.words]


def get_probabilities(answer: Recognition) -> Probabilities:
    return answer.tasks["emotion"].probabilities


# The recogniser of the bundle


def test_words_are_those_of_the_recogniser(recognizer: Recognizer, asr: Bundle) -> None:
    texts = set()
    for recording in RECORDINGS:
        transcription = Transcriber(asr)(recording)
        answer = recognizer(recording)
        assert list_words(answer) == [*transcription.text.split(), "</s>"]
        times = [word.time for word in transcription.words]
        assert [word.time for word in answer.words[: len(times)]] == times
        texts.add(transcription.text)
    assert len(texts) == 4


def test_emotion_is_that_of_the_recognised_words(recognizer: Recognizer, asr: Bundle) -> None:
    for recording in RECORDINGS:
        text = Transcriber(asr)(recording).text
        given = get_probabilities(recognizer(recording, words=text))
        assert get_probabilities(recognizer(recording)) == pytest.approx(given, abs=1e-6)


def test_given_words_replace_those_of_the_recogniser(recognizer: Recognizer) -> None:
    answer = recognizer(RECORDINGS[0], words="LEFT, away!")
    assert list_words(answer) == ["left", "away"]
    assert {word.time for word in answer.words} == {None}
    assert "recogniser" not in answer.attention
    assert get_probabilities(answer) != pytest.approx(get_probabilities(recognizer(RECORDINGS[0])))


def test_weights_of_words_sum_to_one(recognizer: Recognizer) -> None:
    for words in (None, "left away", ""):
        answer = recognizer(RECORDINGS[2], words=words)
        assert sum(word.weight or 0 for word in answer.words) == pytest.approx(1, abs=1e-5)
    assert list_words(answer) == ["</s>"]  # it reads the end token where there are no words


def test_attention_of_the_recogniser_is_in_the_answer(recognizer: Recognizer) -> None:
    for recording in RECORDINGS:
        answer = recognizer(recording)
        attention = answer.attention["recogniser"]
        assert attention.words
        assert len(attention.weights) == len(answer.words)
        assert len(attention.weights[0]) == len(attention.times)
        assert np.sum(attention.weights, axis=1) == pytest.approx(
            np.ones(len(answer.words)), abs=1e-5
        )


def test_recogniser_may_have_another_hop() -> None:
    slow = small_asr("features.hop=320")
    answer = open_model("combined", slow)(RECORDINGS[0])
    (times,) = [answer.attention["recogniser"].times]
    assert times[1] - times[0] == pytest.approx(0.06)
    assert times[-1] <= 1.0
    audio = answer.attention["audio"].times
    assert audio[1] - audio[0] == pytest.approx(0.01)


def test_answer_does_not_depend_on_the_batch(recognizer: Recognizer) -> None:
    recordings = [(f"{index}", wave_s) for index, (wave_s, _) in enumerate(RECORDINGS)]
    alone = [recognizer.predict_many([one])[0] for one in recordings]
    together = recognizer.predict_many(recordings)
    for one, other in zip(alone, together, strict=True):
        for word, same in zip(one.words, other.words, strict=True):
            assert (word.word, word.time) == (same.word, same.time)
            assert word.weight == pytest.approx(same.weight, abs=1e-5)
        assert get_probabilities(one) == pytest.approx(get_probabilities(other), abs=1e-5)
        shapes = [np.shape(answer.attention["recogniser"].weights) for answer in (one, other)]
        assert shapes[0] == shapes[1]


def test_joint_model_has_the_same_words_in_any_batch() -> None:
    recognizer = Recognizer(small_joint_model(), answer_nonspeech=True)
    recordings = [(f"{index}", wave_s) for index, (wave_s, _) in enumerate(RECORDINGS)]
    for answer, recording in zip(recognizer.predict_many(recordings), recordings, strict=True):
        (alone,) = recognizer.predict_many([recording])
        assert list_words(answer) == list_words(alone)
        attention = [np.array(one.attention["recogniser"].weights) for one in (answer, alone)]
        assert attention[0].shape == attention[1].shape == (len(alone.words), len(attention[0][0]))
        assert attention[0] == pytest.approx(attention[1], abs=1e-5)


def test_words_are_given_to_some_recordings_of_a_batch(recognizer: Recognizer) -> None:
    recordings = [(f"{index}", wave_s) for index, (wave_s, _) in enumerate(RECORDINGS[:3])]
    texts = [None, "up", None]
    answers = recognizer.predict_many(recordings, words=texts)
    for answer, recording, text in zip(answers, RECORDINGS, texts, strict=False):
        alone = recognizer(recording, words=text)
        assert list_words(answer) == list_words(alone)
        assert get_probabilities(answer) == pytest.approx(get_probabilities(alone), abs=1e-5)


def test_recording_without_speech_has_no_words(asr: Bundle) -> None:
    silent = Recognizer(small_text_model(asr=asr))
    answer = silent((np.zeros(RATE, np.float32), RATE))
    assert not answer.speech
    assert answer.words == []


def test_long_recording_has_the_words_of_each_window(asr: Bundle) -> None:
    recognizer = Recognizer(
        small_text_model("text", "features.seconds=2.0", asr=asr), answer_nonspeech=True
    )
    wave_s = np.concatenate([noise(2.0, seed)[0] for seed in range(3)])
    answer = recognizer((wave_s, RATE))
    texts = [Transcriber(asr)(noise(2.0, seed)).text for seed in range(3)]
    assert list_words(answer) == [word for text in texts for word in (*text.split(), "</s>")]
    assert [word.time for word in answer.words] != sorted(word.time or 0 for word in answer.words)
    assert sum(word.weight or 0 for word in answer.words) == pytest.approx(3, abs=1e-4)


def test_timeline_and_stream_read_recognised_words(recognizer: Recognizer) -> None:
    settings: dict[str, Any] = {"window": 1.0, "hop": 0.5, "speech": False, "merge": False}
    wave_s = np.concatenate([wave_s for wave_s, _ in RECORDINGS])
    timeline = recognizer.timeline((wave_s, RATE), **settings)
    assert timeline.segments
    first = recognizer((wave_s[:RATE], RATE))
    hop = timeline.segments[0].tasks["emotion"].probabilities
    assert hop == pytest.approx(get_probabilities(first), abs=1e-5)
    streams = [recognizer.stream(RATE, **settings) for _ in range(2)]
    fed = feed_streams(recognizer, [(stream, wave_s) for stream in streams])
    closed = feed_streams(recognizer, [(stream, None) for stream in streams])
    for first_part, last_part in zip(fed, closed, strict=True):
        assert isinstance(first_part, list)
        assert isinstance(last_part, list)
        found = [one.tasks["emotion"].confidence for one in (*first_part, *last_part)]
        expected = [one.tasks["emotion"].confidence for one in timeline.segments]
        assert found == pytest.approx(expected, abs=1e-5)


def test_folder_reads_recognised_words(recognizer: Recognizer, tmp_path: Path) -> None:
    for index, (wave_s, rate) in enumerate(RECORDINGS):
        soundfile.write(tmp_path / f"{index}.wav", wave_s, rate, subtype="FLOAT")
    frame = recognizer.folder(tmp_path, tmp_path / "out.csv", jobs=1).to_frame()
    for index, recording in enumerate(RECORDINGS):
        expected = get_probabilities(recognizer(recording))["anger"]
        found = frame.xs(f"{index}.wav", level="file")["emotion_anger"].item()
        assert found == pytest.approx(expected, abs=1e-5)


def test_recognizer_can_be_pickled_for_workers(recognizer: Recognizer) -> None:
    copy = pickle.loads(pickle.dumps(recognizer))
    assert copy(RECORDINGS[1]) == recognizer(RECORDINGS[1])


def test_saved_model_recognises_as_before(
    recognizer: Recognizer, asr: Bundle, tmp_path: Path
) -> None:
    file = tmp_path / "reader.safetensors"
    save(recognizer.bundle, file)
    assert Recognizer(file, answer_nonspeech=True)(RECORDINGS[3]) == recognizer(RECORDINGS[3])
    assert load(file).asr is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16", None])
def test_recogniser_has_the_precision_that_was_requested(
    precision: Any, asr: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serein.utils.device.has_bf16", lambda device: True)
    recognizer = open_model("combined", asr, precision=precision)
    assert recognizer.asr is not None
    assert recognizer.asr.precision == recognizer.precision == (precision or "fp32")
    assert recognizer(RECORDINGS[0]).words


def test_explanation_has_words_times_and_attention(recognizer: Recognizer) -> None:
    found = explain(recognizer, RECORDINGS[0])
    assert found.attention["recogniser"].words == [word.word for word in found.words]
    html = explanation_report.render_html(collect_explanations([found], {}))
    assert "Words, as recognised:" in html
    assert "recognised words and their weights" in html


# Words that are given


@pytest.mark.parametrize("kind", ["text", "combined"])
def test_model_without_recogniser_needs_words(kind: str) -> None:
    recognizer = open_model(kind)
    message = rf"reader \(feng2020-{kind}\) reads words and has no recogniser .* --words"
    with pytest.raises(ConfigError, match=message):
        recognizer(RECORDINGS[0])
    with pytest.raises(ConfigError, match=message):
        recognizer.predict_many([("a", RECORDINGS[0][0])])
    answer = recognizer(RECORDINGS[0], words="so left")
    assert list_words(answer) == ["so", "left"]
    assert answer.tasks["emotion"].confidence > 0


def test_unknown_words_are_one_word(asr: Bundle) -> None:
    recognizer = open_model()
    one, other = (recognizer(RECORDINGS[0], words=text) for text in ("so", "zebra"))
    assert get_probabilities(one) == get_probabilities(other)
    assert get_probabilities(one) != get_probabilities(recognizer(RECORDINGS[0], words="up"))


@pytest.mark.parametrize("kind", ["text", "combined"])
def test_segments_and_folders_need_a_recogniser(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes before any window is predicted, and names the remedy once."""
    recognizer = open_model(kind)
    monkeypatch.setattr(recognizer, "predict_batches", pytest.fail)
    monkeypatch.setattr(recognizer, "predict_windows", pytest.fail)
    soundfile.write(tmp_path / "a.wav", *RECORDINGS[0])
    for call in (
        lambda: recognizer.stream(),
        lambda: recognizer.timeline(RECORDINGS[0]),
        lambda: recognizer.folder(tmp_path, tmp_path / "out.csv"),
        lambda: recognizer.folder(tmp_path, tmp_path / "out.csv", window=1.0),
    ):
        with pytest.raises(ConfigError, match=r"streams and folders have no words: .* --words"):
            call()
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_model_that_reads_no_words_is_given_none() -> None:
    recognizer = open_model("audio")
    with pytest.raises(ConfigError, match=r"reader \(feng2020-audio\) does not read words"):
        recognizer(RECORDINGS[0], words="left")


def test_model_that_lost_its_recogniser_says_so() -> None:
    lost = small_text_model("text-asr", "text.transcripts_from=gone.safetensors")
    recognizer = Recognizer(lost, answer_nonspeech=True)
    with pytest.raises(ConfigError, match=r"saved without its recogniser gone.safetensors; train"):
        recognizer(RECORDINGS[0])
    assert recognizer(RECORDINGS[0], words="left").words


def test_explanation_with_given_words() -> None:
    with pytest.raises(ConfigError, match="reads words and has no recogniser"):
        explain(open_model("combined"), RECORDINGS[0])
    found = explain(open_model("combined"), RECORDINGS[0], words="left away")
    html = explanation_report.render_html(collect_explanations([found], {}))
    assert "Words, as given: left away." in html
    assert "recognised words" not in html
    with pytest.raises(ConfigError, match="reads the given words only"):
        explain(open_model("text"), RECORDINGS[0], words="left away")
    with pytest.raises(ConfigError, match="attends to words only"):
        explain(open_model("text"), RECORDINGS[0], words="left away", method="attention")


# What a model says about its words


def test_source_of_words(asr: Bundle) -> None:
    sources = {
        "recognised": [open_model("text", asr), Recognizer(small_joint_model()), Recognizer(asr)],
        "given": [open_model("text"), open_model("combined")],
        "none": [open_model("audio")],
    }
    for source, recognizers in sources.items():
        assert {one.word_source for one in recognizers} == {source}


def test_card_names_the_recogniser_and_its_size(asr: Bundle) -> None:
    card = as_card(small_text_model(asr=asr))
    weights = sum(weight.numel() for weight in asr.system.parameters())
    assert f"by the speech recogniser ear (feng2020-asr), {weights:,} weights, 0.02 MB" in card
    assert "data: made up; licence: CC0" in card
    assert "given with each recording" in as_card(small_text_model())
    assert "## Words" not in as_card(small_text_model("audio"))
