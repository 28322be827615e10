"""A processor for Pipecat pipelines: the emotion of each user turn, on this machine.

    Pipeline([transport.input(), VADProcessor(...), EmotionProcessor(), stt, ...])

It needs ``pip install "serein[pipecat]"`` and Pipecat's detection of speech before it, such as
``VADProcessor``. All frames pass through unchanged.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt

from serein.config import build_config
from serein.errors import ConfigError, SereinError
from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer

try:
    from pipecat.frames.frames import (
        CancelFrame,
        DataFrame,
        EndFrame,
        Frame,
        InputAudioRawFrame,
        StopFrame,
        UserStartedSpeakingFrame,
        UserStoppedSpeakingFrame,
        VADUserStartedSpeakingFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
except ImportError:  # the module can be read without Pipecat, and the processor not be built
    IS_INSTALLED = False
    DataFrame = FrameProcessor = object
else:
    IS_INSTALLED = True

BYTES_PER_SAMPLE = 2
"""Pipecat's audio is PCM of 16 bits."""
ROUNDING = 1e-6
"""Seconds by which sums of times may differ."""


@dataclass(frozen=True)
class TurnConfig:
    """When a turn is answered. Times are in seconds.

    Attributes:
        first: speech after which the first, provisional answer is given.
        interval: time between provisional answers.
        longest: the latest part of a turn that is recognised.
        lead: audio before the detected start of speech that belongs to the turn, in addition to the
            time that the detection took.
    """

    first: Annotated[float, Ge(0.3)] = 0.8
    interval: Annotated[float, Gt(0)] = 1.0
    longest: Annotated[float, Ge(1)] = 30.0
    lead: Annotated[float, Ge(0)] = 0.2


@dataclass
class EmotionFrame(DataFrame):  # type: ignore[misc, unused-ignore]
    """The emotion of a user turn so far, or of the whole turn.

    Attributes:
        turn: number of the turn, counted from 1.
        seconds: duration of the turn's audio that was recognised.
        emotion: the class; None where the model is unsure, or without speech; "mixed" if no class
            leads in a turn that is longer than the model's window.
        confidence: calibrated probability of the most likely class; None without speech.
        probabilities: calibrated probability of each class; empty without speech.
        arousal: from -1, calm, to 1, excited; None without speech, or if the model gives none.
        valence: from -1, unpleasant, to 1, pleasant; likewise.
        final: whether the turn has ended.
        model: name of the model.
    """

    turn: int = 0
    seconds: float = 0.0
    emotion: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    arousal: float | None = None
    valence: float | None = None
    final: bool = False
    model: str = ""

    def __str__(self) -> str:
        """Describe the frame for Pipecat's log."""
        emotion = self.emotion or "unsure"
        return f"{self.name}(turn: {self.turn}, {self.seconds:.1f} s: {emotion}, {self.final})"


class _Turn(NamedTuple):
    """The audio of a turn so far.

    Attributes:
        number: of the turn.
        audio: PCM of 16 bits.
        rate: its sampling rate, in Hz.
        channels: number of channels.
        seconds: its duration.
    """

    number: int
    audio: bytes
    rate: int
    channels: int
    seconds: float


class EmotionProcessor(FrameProcessor):  # type: ignore[misc, unused-ignore]
    """Push an `EmotionFrame` for each user turn: provisional ones, then a final one.

    A turn begins when Pipecat detects speech, and ends with Pipecat's end of the user's turn; if no
    processor announces turns, with the end of speech. The model runs in a thread, one answer at a
    time, so that audio is not delayed. An error is pushed as Pipecat's ErrorFrame, and the pipeline
    goes on.
    """

    def __init__(
        self,
        recognizer: Recognizer | str = DEFAULT_MODEL,
        *,
        turns: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        """Load the model.

        Args:
            recognizer: a recognizer, or the name of a model, of which unsure labels are withheld.
            turns: settings of ``TurnConfig``, such as ``{"first": 1.2}``.
            options: of Pipecat's FrameProcessor, such as ``name``.

        Raises:
            ConfigError: Pipecat is not installed, a setting is unknown or out of range, or the
                model has no threshold.
            BundleError: the model cannot be read.
        """
        if not IS_INSTALLED:
            raise ConfigError("EmotionProcessor needs Pipecat 1.x: pip install 'serein[pipecat]'")
        super().__init__(**options)
        self.config = build_config(TurnConfig, dict(turns or {}), "turns")
        if isinstance(recognizer, Recognizer):
            self.recognizer = recognizer
        else:
            self.recognizer = Recognizer(recognizer, confidence="auto")
        self._turn_audio = bytearray()
        self._turn_rate, self._turn_channels = 0, 1
        self._turn_number, self._turn_is_open, self._turn_is_announced = 0, False, False
        self._turn_next_answer = 0.0
        self._turn_task: asyncio.Task[None] | None = None

    async def process_frame(self, frame: "Frame", direction: "FrameDirection") -> None:
        """Collect the audio of turns, and pass on every frame."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame) and direction == FrameDirection.DOWNSTREAM:
            self._add_audio(frame)
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            self._start_turn(frame.start_secs)
        elif isinstance(frame, UserStartedSpeakingFrame):
            self._start_turn(0.0)
            self._turn_is_announced = True
        elif isinstance(frame, UserStoppedSpeakingFrame) or (
            isinstance(frame, VADUserStoppedSpeakingFrame) and not self._turn_is_announced
        ):
            await self._end_turn()
        elif isinstance(frame, EndFrame | StopFrame):
            await self._end_turn()
            await self._wait_for_answer()
        elif isinstance(frame, CancelFrame):
            await self._cancel_answer()
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Cancel an answer that is being computed."""
        await self._cancel_answer()
        await super().cleanup()

    @property
    def _turn_seconds(self) -> float:
        """Duration of the audio that is held, in seconds."""
        frame_bytes = BYTES_PER_SAMPLE * self._turn_channels
        return len(self._turn_audio) / frame_bytes / self._turn_rate if self._turn_rate else 0.0

    def _start_turn(self, detection_seconds: float) -> None:
        """Begin a turn, unless one is going on; keep the audio in which speech was detected."""
        if self._turn_is_open:
            return
        self._turn_is_open, self._turn_is_announced = True, False
        self._turn_number += 1
        self._trim(detection_seconds + self.config.lead)
        self._turn_next_answer = self._turn_seconds + self.config.first - detection_seconds

    async def _end_turn(self) -> None:
        """Give the final answer for the turn, if one is going on."""
        if not self._turn_is_open:
            return
        self._turn_is_open = self._turn_is_announced = False
        if self._turn_audio:
            self._begin_answer(final=True)
        self._turn_audio.clear()

    def _add_audio(self, frame: "InputAudioRawFrame") -> None:
        """Keep audio, and give a provisional answer when it is due."""
        if (frame.sample_rate, frame.num_channels) != (self._turn_rate, self._turn_channels):
            self._turn_audio.clear()
            self._turn_rate, self._turn_channels = frame.sample_rate, frame.num_channels
        self._turn_audio += frame.audio
        if not self._turn_is_open:
            self._trim(5.0)  # longer than any detection of speech takes
            return
        if self._turn_seconds > self.config.longest:
            excess = self._turn_seconds - self.config.longest
            self._trim(self.config.longest)
            self._turn_next_answer -= excess
        is_busy = self._turn_task is not None and not self._turn_task.done()
        if self._turn_seconds >= self._turn_next_answer - ROUNDING and not is_busy:
            self._turn_next_answer = self._turn_seconds + self.config.interval
            self._begin_answer(final=False)

    def _trim(self, seconds: float) -> None:
        """Drop all audio but the last seconds."""
        frame_bytes = BYTES_PER_SAMPLE * self._turn_channels
        keep = round(seconds * self._turn_rate) * frame_bytes
        del self._turn_audio[: max(0, len(self._turn_audio) - keep)]

    def _begin_answer(self, *, final: bool) -> None:
        """Begin to compute an answer for the audio that is held."""
        turn = _Turn(
            self._turn_number,
            bytes(self._turn_audio),
            self._turn_rate,
            self._turn_channels,
            self._turn_seconds,
        )
        self._turn_task = self.create_task(self._answer(turn, final, self._turn_task))

    async def _answer(
        self, turn: "_Turn", final: bool, before: "asyncio.Task[None] | None"
    ) -> None:
        """Recognise the audio of a turn in a thread, and push the answer.

        Args:
            turn: its audio so far.
            final: whether the turn has ended.
            before: the answer that must be pushed first, if there is one.
        """
        if before is not None and not before.done():
            await asyncio.wait([before])
        try:
            answer = await asyncio.to_thread(self._recognize, turn)
        except SereinError as error:
            await self.push_error(f"no emotion of turn {turn.number}: {error}", exception=error)
            return
        await self.push_frame(self._build_frame(answer, turn, final))

    def _recognize(self, turn: "_Turn") -> Recognition:
        """Return the answer for the audio of a turn."""
        sample_nc = np.frombuffer(turn.audio, "<i2").reshape(-1, turn.channels)
        return self.recognizer((sample_nc.astype(np.float32) / 32768, turn.rate))

    def _build_frame(self, answer: Recognition, turn: "_Turn", final: bool) -> EmotionFrame:
        """Return the frame of an answer; without speech, it has no values."""
        main = next(iter(answer.tasks.values()), None) if answer.speech else None
        return EmotionFrame(
            turn=turn.number,
            seconds=turn.seconds,
            emotion=None if main is None else main.label,
            confidence=None if main is None else main.confidence,
            probabilities={} if main is None else dict(main.probabilities),
            arousal=answer.arousal if answer.speech else None,
            valence=answer.valence if answer.speech else None,
            final=final,
            model=self.recognizer.name,
        )

    async def _wait_for_answer(self) -> None:
        """Wait until the last answer was pushed."""
        if self._turn_task is not None and not self._turn_task.done():
            await asyncio.wait([self._turn_task])

    async def _cancel_answer(self) -> None:
        """Cancel the answer that is being computed."""
        task, self._turn_task = self._turn_task, None
        if task is not None and not task.done():
            await self.cancel_task(task)
