"""The processor for Pipecat. Pipecat's requirements conflict with the development environment:

python3 -m venv .venv-pipecat && .venv-pipecat/bin/pip install -e ".[pipecat,train]" pytest
.venv-pipecat/bin/python -m pytest tests/integrations/test_pipecat.py
"""

import asyncio
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serein.errors import AudioError, ConfigError
from serein.inference.recognizer import Recognizer

pytest.importorskip("pipecat", reason="needs Pipecat: pip install 'serein[pipecat]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Pipecat and its libraries

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Pipecat's libraries
    from pipecat.frames.frames import (
        DataFrame,
        ErrorFrame,
        Frame,
        InputAudioRawFrame,
        TextFrame,
        UserStartedSpeakingFrame,
        UserStoppedSpeakingFrame,
        VADUserStartedSpeakingFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.tests.utils import SleepFrame, run_test

    from serein.integrations.pipecat import EmotionFrame, EmotionProcessor

ROOT = Path(__file__).parents[2]
EMODB = ROOT.parent / "shared" / "data" / "emodb" / "wav"
RATE = 16_000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    """One that answers for noise, too."""
    return Recognizer("serein-light", confidence="auto", answer_nonspeech=True)


def audio(seconds: float, *, rate: int = RATE, channels: int = 1) -> list[Frame]:
    """Frames of noise, 20 ms each."""
    count = round(seconds * 50)
    noise = np.random.default_rng(0).normal(0, 2000, (count, rate // 50 * channels))
    return [InputAudioRawFrame(block.astype("<i2").tobytes(), rate, channels) for block in noise]


def run(processor: EmotionProcessor, frames: list[Frame]) -> tuple[list[Any], list[Any]]:
    """Return the frames that leave a processor downstream and upstream."""
    down, up = asyncio.run(run_test(processor, frames_to_send=frames, start_timeout=30))
    return list(down), list(up)


def emotions(frames: list[Any]) -> list[EmotionFrame]:
    return [frame for frame in frames if isinstance(frame, EmotionFrame)]


def test_a_turn_has_provisional_answers_and_a_final_one(recognizer: Recognizer) -> None:
    speech = audio(2.5)
    pause = SleepFrame(sleep=1.0)  # until the answer is there
    sent = [
        *audio(1.0),
        VADUserStartedSpeakingFrame(start_secs=0.2),
        *speech[:31],
        pause,
        *speech[31:90],
        pause,
        *speech[90:],
        TextFrame("hello"),
        VADUserStoppedSpeakingFrame(stop_secs=0.2),
        *audio(0.4),
    ]
    down, up = run(EmotionProcessor(recognizer), sent)
    answers = emotions(down)
    assert len(answers) in (2, 3)  # a busy machine skips provisional ones
    assert [frame.final for frame in answers] == [False] * (len(answers) - 1) + [True]
    assert {frame.turn for frame in answers} == {1}
    # 0.4 s before the detection belong to the turn, 0.2 s of them are speech.
    assert answers[0].seconds == pytest.approx(1.0)
    assert answers[-1].seconds == pytest.approx(2.9)
    assert up == [] or not any(isinstance(frame, ErrorFrame) for frame in up)
    others = [frame for frame in down if not isinstance(frame, EmotionFrame)]
    passed = [frame for frame in sent if not isinstance(frame, SleepFrame)]
    assert {id(frame) for frame in passed} <= {id(frame) for frame in others}
    last = answers[-1]
    assert isinstance(last, DataFrame)
    assert last.model == "serein-light"
    assert sum(last.probabilities.values()) == pytest.approx(1)
    assert last.confidence == max(last.probabilities.values())
    assert -1 <= (last.arousal or 0) <= 1
    assert last.arousal is not None
    assert last.valence is not None
    threshold = recognizer.thresholds["emotion"]
    assert (last.emotion is None) == (last.confidence < threshold)


def test_final_answer_is_the_recognizers(recognizer: Recognizer) -> None:
    frames = audio(1.2, channels=2, rate=8000)
    sent = [VADUserStartedSpeakingFrame(), *frames, VADUserStoppedSpeakingFrame()]
    (last,) = [
        frame for frame in emotions(run(EmotionProcessor(recognizer), sent)[0]) if frame.final
    ]
    pcm = b"".join(frame.audio for frame in frames if isinstance(frame, InputAudioRawFrame))
    sample_nc = np.frombuffer(pcm, "<i2").reshape(-1, 2).astype(np.float32) / 32768
    assert last.probabilities == recognizer((sample_nc, 8000)).tasks["emotion"].probabilities


def test_announced_turns_span_pauses(recognizer: Recognizer) -> None:
    sent = [
        VADUserStartedSpeakingFrame(),
        UserStartedSpeakingFrame(),
        *audio(0.5),
        VADUserStoppedSpeakingFrame(),
        *audio(0.5),
        VADUserStartedSpeakingFrame(),
        *audio(0.5),
        VADUserStoppedSpeakingFrame(),
        UserStoppedSpeakingFrame(),
        *audio(0.5),
        UserStoppedSpeakingFrame(),
        VADUserStartedSpeakingFrame(),
        *audio(0.5),
    ]
    processor = EmotionProcessor(recognizer, turns={"first": 60.0, "lead": 0.0})
    answers = emotions(run(processor, sent)[0])
    assert [(frame.turn, round(frame.seconds, 1), frame.final) for frame in answers] == [
        (1, 1.5, True),
        (2, 0.5, True),  # ended by the pipeline's end
    ]


def test_long_turns_keep_their_latest_part(recognizer: Recognizer) -> None:
    processor = EmotionProcessor(recognizer, turns={"longest": 1.0, "first": 60.0})
    sent = [VADUserStartedSpeakingFrame(), *audio(3.0), VADUserStoppedSpeakingFrame()]
    (answer,) = emotions(run(processor, sent)[0])
    assert answer.seconds == pytest.approx(1.0)


def test_without_speech_there_are_no_values() -> None:
    processor = EmotionProcessor("serein-light")
    sent = [VADUserStartedSpeakingFrame(), *audio(0.5), VADUserStoppedSpeakingFrame()]
    (answer,) = emotions(run(processor, sent)[0])
    assert (answer.emotion, answer.arousal, answer.valence) == (None, None, None)
    assert (answer.confidence, answer.probabilities) == (None, {})


def test_errors_do_not_end_the_pipeline(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = EmotionProcessor(recognizer)

    def fail(*_: Any) -> None:
        raise AudioError("too short")

    monkeypatch.setattr(processor, "_recognize", fail)
    sent = [VADUserStartedSpeakingFrame(), *audio(0.5), VADUserStoppedSpeakingFrame()]
    down, up = run(processor, [*sent, TextFrame("after")])
    assert emotions(down) == []
    assert any(isinstance(frame, TextFrame) for frame in down)
    (error,) = [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert "no emotion of turn 1: too short" in error.error


def test_settings_are_checked(recognizer: Recognizer) -> None:
    with pytest.raises(ConfigError, match="first"):
        EmotionProcessor(recognizer, turns={"first": 0.1})
    with pytest.raises(ConfigError, match="frist"):
        EmotionProcessor(recognizer, turns={"frist": 1.0})
    with pytest.raises(ConfigError, match="serein-lite"):
        EmotionProcessor("serein-lite")


@pytest.mark.slow
@pytest.mark.skipif(not EMODB.is_dir(), reason="needs the recordings of EMO-DB")
def test_example_agent_on_a_recording() -> None:
    text = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    block = re.search(r"```py\n(import asyncio\n.*?)```", text, re.DOTALL)
    assert block is not None
    done = subprocess.run(
        [sys.executable, "-c", block[1], str(EMODB / "03a01Wa.wav")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"turn 1, \d\.\d s: (anger|unsure), arousal \+0\.\d\d", done.stdout)
