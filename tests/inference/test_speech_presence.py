"""Recordings without speech: they are detected, and their labels are withheld."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders.small_systems import VALUE_TASKS, small_system
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from serein.audio import Samples, load
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.inference.backend import BackendSetting
from serein.inference.formats import as_csv, as_table
from serein.inference.long_form import average_windows, recognize_long
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.vad import BLOCKS_PER_STEP, LSTMState, contains_speech, find_speech
from serein.synthetic import SyntheticConfig, generate

RATE = 16_000
TIME_S = np.arange(4 * RATE) / RATE
SHARED = Path(__file__).parents[3] / "shared" / "data"


def noise(colour: float) -> Samples:
    """Return noise: white for 0, pink for 0.5, brown for 1."""
    x = np.fft.rfft(np.random.default_rng(0).normal(size=len(TIME_S)))
    x_s = np.fft.irfft(x / np.maximum(1, np.arange(len(x))) ** colour)
    return (0.5 * x_s / np.abs(x_s).max()).astype(np.float32)


def chords() -> Samples:
    """Return four sustained chords of three tones."""
    steps = np.repeat([0, 5, 7, 0], RATE)
    phase_s = 2 * np.pi * np.cumsum(220 * 2 ** (steps / 12)) / RATE
    tones = [np.sin(ratio * phase_s) for ratio in (1, 1.26, 1.5)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


def drums() -> Samples:
    beat_s = np.exp(-np.arange(4000) / 400) * np.random.default_rng(1).normal(size=4000)
    return np.tile(0.5 * beat_s, 16).astype(np.float32)


NONSPEECH = {
    "silence": np.zeros(4 * RATE, np.float32),
    "offset": np.full(4 * RATE, 0.3, np.float32),
    "white noise": noise(0),
    "pink noise": noise(0.5),
    "brown noise": noise(1),
    "beep": (0.5 * np.sin(2 * np.pi * 1000 * TIME_S)).astype(np.float32),
    "mains hum": (0.3 * np.sign(np.sin(2 * np.pi * 50 * TIME_S))).astype(np.float32),
    "siren": (0.3 * np.sin(2 * np.pi * (700 * TIME_S + 90 * np.sin(9 * TIME_S)))).astype(
        np.float32
    ),
    "chords": chords(),
    "drums": drums(),
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    made = generate(tmp_path_factory.mktemp("made"), SyntheticConfig(speakers=2, sentences=1))
    return load(made[0].path, RATE)


def assert_close(one: Recognition, other: Recognition) -> None:
    for task, answer in one.tasks.items():
        assert answer.probabilities == pytest.approx(other.tasks[task].probabilities, abs=1e-4)


@pytest.mark.parametrize("name", NONSPEECH)
def test_labels_without_speech_are_withheld(name: str) -> None:
    found = Recognizer()((NONSPEECH[name], RATE))
    assert not found.speech
    assert found.label is None
    assert {answer.label for answer in found.tasks.values()} == {None}
    assert found.end == 4.0
    forced = Recognizer(answer_nonspeech=True)((NONSPEECH[name], RATE))
    assert forced.speech
    assert forced.label == max(
        found.tasks["emotion"].probabilities, key=found.tasks["emotion"].probabilities.__getitem__
    )


@given(
    level=st.sampled_from([0.03, 0.1, 1.0]),
    offset=st.sampled_from([0.0, 0.05]),
    before=st.integers(0, 3 * RATE),
)
def test_speech_is_detected_at_any_level_and_offset(
    level: float, offset: float, before: int, speech: Samples
) -> None:
    quiet_s = np.concatenate([np.zeros(before, np.float32), level * speech]) + np.float32(offset)
    assert contains_speech([quiet_s], RATE) == [True]


@pytest.mark.parametrize("rate", [RATE, RATE // 2])
def test_the_part_with_speech_has_a_second_of_silence_around_it(rate: int, speech: Samples) -> None:
    speech_s = np.ascontiguousarray(speech[:: RATE // rate])
    before, after = round(3.3 * rate), round(5.1 * rate)
    padded_s = np.concatenate([noise(1)[:before] * 1e-3, speech_s, np.zeros(after, np.float32)])
    padded_s = np.concatenate([np.zeros(before - len(noise(1)[:before]), np.float32), padded_s])
    parts = find_speech([padded_s, speech_s, NONSPEECH["silence"], padded_s[:before]], rate)
    first, last = parts[0]
    assert before - 1.2 * rate <= first <= before - 0.5 * rate
    assert 0.5 * rate <= last - before - len(speech_s) <= 1.2 * rate
    assert parts[1] == (0, len(speech_s))
    assert parts[2] == (0, len(NONSPEECH["silence"]))
    assert parts[3] == (0, before)
    assert find_speech([], rate) == []


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_silence_around_the_speech_does_not_change_the_answer(
    backend: BackendSetting, speech: Samples
) -> None:
    """The default model averages over time: without this, five seconds made it say neutral."""
    recognizer = Recognizer(backend=backend)
    silence_s = np.zeros(5 * RATE, np.float32)
    half_s = silence_s[: RATE // 2]
    wave_s = np.concatenate([silence_s, speech, silence_s])
    ((first, last),) = find_speech([wave_s], RATE)
    (alone,) = recognizer.predict_batches([wave_s[first:last]], attention=False)
    padded = recognizer((wave_s, RATE))
    for task, answer in padded.tasks.items():
        assert list(answer.probabilities.values()) == pytest.approx(alone.outputs[task], abs=1e-4)
    assert (padded.start, padded.end) == (0.0, len(wave_s) / RATE)
    assert padded.windows == [(first / RATE, last / RATE)]
    assert Recognizer(backend=backend, answer_nonspeech=True)((wave_s, RATE)) == padded
    short = recognizer((np.concatenate([half_s, speech, half_s]), RATE))
    assert short.label == padded.label


def test_speech_at_8_khz_is_detected(speech: Samples) -> None:
    assert contains_speech([speech[::2].copy()], RATE / 2) == [True]


def test_detection_does_not_depend_on_the_batch(speech: Samples) -> None:
    waves = [NONSPEECH["silence"], speech, NONSPEECH["chords"][:700], speech[:12000], noise(0)[:1]]
    assert contains_speech(waves, RATE) == [contains_speech([one], RATE)[0] for one in waves]
    assert contains_speech(waves, RATE)[:2] == [False, True]
    assert contains_speech([], RATE) == []


def test_windows_without_speech_are_left_out(speech: Samples, tmp_path: Path) -> None:
    recognizer = Recognizer("serein-light")
    assert recognizer.window is not None
    first = round(recognizer.window * RATE)
    voice_s = np.resize(speech, first)
    around_s = np.concatenate([voice_s, np.resize(NONSPEECH["pink noise"], 2 * first)])
    (alone,) = recognizer.predict_many([("alone", voice_s)])
    (found,) = recognizer.predict_many([("around", around_s)])
    assert found.windows == alone.windows
    assert found.end == 3 * alone.end
    assert_close(found, alone)
    soundfile.write(tmp_path / "long.wav", around_s, RATE, subtype="FLOAT")
    read = average_windows(recognizer, tmp_path / "long.wav", "long", lambda: None)
    assert (read.windows, read.end) == (found.windows, found.end)
    assert_close(read, found)


def test_long_recording_without_speech_has_no_label(tmp_path: Path) -> None:
    recognizer = Recognizer("li2019-emodb")
    noise_s = np.resize(NONSPEECH["white noise"], 9 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise_s, RATE, subtype="FLOAT")
    found = recognizer((noise_s, RATE))
    read = recognize_long(recognizer, tmp_path / "noise.wav", "noise", lambda: None)
    for answer in (found, read):
        assert (answer.speech, answer.segments, answer.shares) == (False, [], {})
        assert {one.label for one in answer.tasks.values()} == {None}
        assert as_csv([answer]).splitlines()[1].startswith(f"{answer.source},0.0,9.0,,")
    assert_close(found, read)


def test_random_detections_in_long_recordings_are_no_speech(
    monkeypatch: pytest.MonkeyPatch, speech: Samples
) -> None:
    rng = np.random.default_rng(0)

    def by_chance(model: object, some: list[Tensor], state: LSTMState) -> tuple[Tensor, LSTMState]:
        return torch.from_numpy(rng.random((len(some), BLOCKS_PER_STEP)) < 0.002).float(), state

    monkeypatch.setattr("serein.inference.vad._score_blocks", by_chance)
    assert contains_speech([np.zeros(600 * RATE, np.float32)], RATE) == [False]


def test_regression_model_gives_no_values_without_speech(speech: Samples) -> None:
    recognizer = Recognizer(
        Bundle(small_system(*VALUE_TASKS, "features.pad=false").eval(), Card("v"))
    )
    answers = [recognizer((wave_s, RATE)) for wave_s in (NONSPEECH["silence"], speech)]
    names = ["arousal", "valence"]
    for order in (answers, answers[::-1]):
        lines = [line.split(",") for line in as_csv(order).splitlines()]
        scaled = [f"scaled_{name}{end}" for name in names for end in ("", "_basis")]
        assert lines[0] == ["file", "start", "end", *names, *scaled]
        found = {
            answer.speech: any(line[3:]) for answer, line in zip(order, lines[1:], strict=True)
        }
        assert found == {False: False, True: True}
        assert {len(line) for line in lines} == {9}
        assert as_table(order).row_count == 2


def test_resuming_a_folder_with_another_setting_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", NONSPEECH["white noise"], RATE)
    Recognizer().folder(tmp_path, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="silence"):
        Recognizer(answer_nonspeech=True).folder(tmp_path, tmp_path / "out.csv")


def test_timeline_of_noise_has_no_speech() -> None:
    found = Recognizer().timeline((NONSPEECH["pink noise"], RATE))
    assert (found.speech, found.segments, found.tasks) == (False, [], {})


def test_recognize_command_without_speech(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, NONSPEECH["white noise"], RATE)
    status, out, _ = run("recognize", path)
    assert (status, "no speech" in out) == (0, True)
    status, out, _ = run("recognize", path, "--answer-nonspeech")
    assert (status, "no speech" in out, "%" in out) == (0, False, True)
    table, _ = tmp_path / "answers.csv", run("recognize", tmp_path, "-o", tmp_path / "answers.csv")
    header, row = (line.split(",") for line in table.read_text().splitlines())
    cells = dict(zip(header, row, strict=True))
    assert (cells["emotion"], cells["emotion_abstained"].lower()) == ("", "true")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora of ../shared/data")
@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["emodb/wav/*.wav", "ravdess/**/*.flac"])
def test_few_acted_utterances_are_taken_for_nonspeech(pattern: str) -> None:
    files = sorted(SHARED.glob(pattern))
    silent = [file.name for file in files if not contains_speech([load(file, RATE)], RATE)[0]]
    assert len(silent) <= len(files) // 1000
