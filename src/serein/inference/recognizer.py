"""A saved model as one object: a recording in, probabilities or values, and attention out.

B = windows at a time, S = samples, H = heads, T = steps, K = classes of a task.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serein import audio, config
from serein.audio import Samples, Source
from serein.bundle import Bundle
from serein.errors import ConfigError, UnknownName
from serein.inference.onnx_runtime import ONNXSystem, open_model
from serein.inference.predictor import (
    WindowPrediction,
    collect_words,
    merge_attention,
    predict_batches,
    torch_threads,
)
from serein.inference.recognition import Answer, Recognition, get_source_name
from serein.inference.vad import contains_speech
from serein.system import System
from serein.utils import device as memory
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    precision_warnings,
    requested_precision,
    resolve_precision,
    to_bf16,
)

if TYPE_CHECKING:
    from serein.inference.folder import Summary
    from serein.inference.streaming import Stream
    from serein.results.evaluation import FolderProgress

DEFAULT_MODEL = "serein-base"
"""The shipped model that is used where none is named."""


def list_models() -> dict[str, Path]:
    """The models that come with this package, by name."""
    folder = Path(str(files("serein") / "pretrained"))
    return dict(sorted((file.stem, file) for file in folder.glob("*.safetensors")))


def find_model_file(model: str | os.PathLike[str]) -> Path:
    """The file of a shipped model's name, or the path itself.

    Raises:
        UnknownName: neither a shipped model nor a file.
    """
    if str(model) in list_models():
        return list_models()[str(model)]
    path = Path(model).expanduser()
    if not path.exists() and path.suffix not in (".onnx", ".safetensors"):
        hint = "The path of a .safetensors file of your own works too."
        raise UnknownName("model", str(model), list_models(), hint)
    return path


class Recognizer:
    """Emotion in recordings.

    >>> recognizer = Recognizer()
    >>> silence = np.zeros(16000, dtype=np.float32)
    >>> found = recognizer((silence, 16000))
    >>> sorted(found.tasks), found.speech, found.label
    (['emotion', 'gender'], False, None)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle = DEFAULT_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        trust: Sequence[str] = (),
        confidence: float | Literal["auto"] = 0.0,
        precision: PrecisionSetting | None = None,
        answer_nonspeech: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: a shipped model's name, the path of a bundle or of an exported model, or a
                bundle.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads that one call uses; None is torch's own number. For
                seconds of audio one is the fastest, and far faster on a busy machine.
            trust: dotted names of your own modules that the bundle may import.
            confidence: an answer of a lower probability is withheld; "auto" takes each task's
                threshold from the bundle.
            precision: numbers to compute in: "fp32"; "bf16" or "auto", which are fp32 where the
                device has no bf16; None is what the model's recipe says. What it came to stands
                in ``numbers``, and in ``warnings`` that a bf16 asked for by name is not there.
                An exported model computes in fp32.
            always: whether to answer for recordings in which nobody speaks, too.

        Raises:
            UnknownName: no shipped model has that name.
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the confidence is out of range, or the bundle has no threshold; or there
                is no such precision.
        """
        memory.limit_onednn_cache()
        if isinstance(model, Bundle):
            self.bundle, self.name = model, model.card.name or "model"
        else:
            path = find_model_file(model)
            self.bundle = open_model(path, device=device, trust=trust)
            self.name = path.stem
        self.system = self.bundle.system
        self.precision, self.warnings = _choose_precision(self.system, precision)
        if self.precision == "bf16":
            self.system = to_bf16(self.system)
        self.threads = threads
        self.answer_nonspeech = answer_nonspeech
        self.thresholds = _choose_thresholds(self.bundle, self.name, confidence)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Of each task, in the order of its probabilities; none where it answers with a number."""
        return self.system.classes

    @property
    def rate(self) -> int:
        """Samples a second that the model hears."""
        return self.system.front_end.rate

    @property
    def window(self) -> float | None:
        """Seconds that the model hears at a time; longer recordings are cut into windows."""
        return self.system.front_end.max_seconds

    def __call__(
        self, source: Source, *, start: float = 0.0, end: float | None = None
    ) -> Recognition:
        """Recognise a recording.

        Args:
            source: path, bytes, binary file, or (samples, rate in Hz).
            start: where to begin, in seconds.
            end: where to end, in seconds; None is the end of the recording.

        Raises:
            AudioError: it cannot be read, or is too short.
        """
        wave_s = audio.load(source, self.rate, start=start, end=end)
        return self.predict_many([(get_source_name(source), wave_s)], start=start)[0]

    def predict_many(
        self,
        recordings: Sequence[tuple[str, Samples]],
        *,
        start: float = 0.0,
        attention: bool = True,
    ) -> list[Recognition]:
        """Recognise several recordings that were read already, in common forward passes.

        Args:
            recordings: of each its name and its samples, of shape (n,), at ``rate``.
            start: where the samples begin in their recordings, in seconds.
            attention: whether to tell of it; whoever keeps only answers saves some time without.

        Returns:
            What each would be given alone, but for rounding.
        """
        cuts = [
            audio.split_evenly(len(wave_s), self._window_samples(wave_s))
            for _, wave_s in recordings
        ]
        parts = [
            wave_s[first:last]
            for (_, wave_s), some in zip(recordings, cuts, strict=True)
            for first, last in some
        ]
        with torch_threads(self.threads):
            voices = self.detect_speech(parts)
            heard = predict_batches(self.system, parts, self.precision, attention=attention)
        told = zip(heard, voices, strict=True)
        return [
            self.aggregate_windows(name, start, some, [next(told) for _ in some])
            for (name, _), some in zip(recordings, cuts, strict=True)
        ]

    def detect_speech(self, parts: Sequence[Samples]) -> list[bool]:
        """Of each part of a recording, whether its answer counts: somebody speaks in it."""
        return [True] * len(parts) if self.answer_nonspeech else contains_speech(parts, self.rate)

    def folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        jobs: int | None = None,
        engine: str = "processes",
        retry: bool = False,
        progress: "Callable[[FolderProgress], None] | None" = None,
        **settings: Any,
    ) -> "Summary":
        """Recognise all recordings in a folder and below it; what was begun is gone on with.

        Long recordings are read in blocks.

        Args:
            folder: where they are; links to other folders are followed, once.
            output: the table to write: .parquet, .csv or .jsonl.
            jobs: processes; 1 stays in this one. None is 1, or all that a cluster has.
            engine: who works: "processes", or "ray" for a cluster (extra ``ray``).
            retry: whether files that failed before are tried again.
            progress: is told how far it is.
            settings: as for ``timeline``; with any of them each segment is a row.

        Raises:
            AudioError: there is no such folder, or no recording in it.
            ConfigError: the output is of other settings, or of no run; or settings do not fit.
            StorageError: another process writes it, or it could not be written.
        """
        from serein.inference.folder import recognize_folder
        from serein.inference.streaming import StreamConfig

        return recognize_folder(
            self,
            Path(folder),
            Path(output),
            jobs=jobs,
            engine=engine,
            retry=retry,
            progress=progress,
            stream_config=config.build_config(StreamConfig, settings, "folder")
            if settings
            else None,
        )

    def _window_samples(self, wave_s: Samples) -> int:
        """Samples that the model hears at a time."""
        return len(wave_s) if self.window is None else round(self.window * self.rate)

    def aggregate_windows(
        self,
        name: str,
        start: float,
        cuts: Sequence[tuple[int, int]],
        predictions: Sequence[tuple[WindowPrediction, bool]],
    ) -> Recognition:
        """The answer for a recording from what was heard in each of its windows.

        Where nobody speaks in some, the others count; where in none, all do, and the answer is
        withheld.

        Args:
            name: what the answer calls it.
            start: where the samples begin in it, in seconds.
            cuts: each window's first sample and the one after its last.
            predictions: what was heard in each of them, and whether somebody speaks in it.
        """
        speech = any(voice for _, voice in predictions)
        heard = [one for one, voice in predictions if voice or not speech]
        windows = [
            (start + first / self.rate, start + last / self.rate)
            for (first, last), (_, voice) in zip(cuts, predictions, strict=True)
            if voice or not speech
        ]
        answers = {
            task: [fmean(p) for p in zip(*(one.outputs[task] for one in heard), strict=True)]
            for task in self.classes
        }
        return Recognition(
            source=name,
            model=self.name,
            start=start,
            end=start + cuts[-1][1] / self.rate,
            windows=windows,
            tasks=self.to_answers(answers, withheld=not speech),
            attention=merge_attention(
                [one.attention for one in heard], windows, self.system.front_end.hop
            ),
            values=self.to_values(answers) if speech else {},
            words=collect_words(
                heard if speech else [],
                windows,
                self.system.transcript_task,
                self.system.front_end.hop,
            ),
            speech=speech,
        )

    def stream(self, rate: float = 16_000, **settings: Any) -> "Stream":
        """Hear samples as they come: ``feed`` blocks of any size, and ``close`` in the end.

        Args:
            rate: of the samples, in Hz.
            settings: fields of ``inference.stream.Settings``, such as ``window=4.0``.

        Raises:
            ConfigError: settings that do not fit each other or the model.
            AudioError: a rate that no recording has.
        """
        from serein.inference.streaming import Stream, StreamConfig

        return Stream(self, rate, config.build_config(StreamConfig, settings, "stream"))

    def timeline(
        self,
        source: Source,
        *,
        start: float = 0.0,
        end: float | None = None,
        channel: int | None = None,
        shard: tuple[int, int] | None = None,
        **settings: Any,
    ) -> Recognition:
        """Recognise a recording of any length, segment by segment; read in blocks.

        Args:
            source: as for a call of the recogniser.
            start: where to begin, in seconds.
            end: where to end, in seconds.
            channel: one of them, counted from 1; None is the mean of all.
            shard: (2, 10) is the third of ten parts; ``inference.timeline.joined`` joins them.
            settings: as for ``stream``.

        Returns:
            Its ``segments``; ``tasks`` and ``values`` are their means by length.

        Raises:
            AudioError: it cannot be read, or is too short.
            ConfigError: settings that do not fit each other or the model.
        """
        from serein.inference.long_form import recognize_timeline
        from serein.inference.streaming import StreamConfig

        how = config.build_config(StreamConfig, settings, "timeline")
        return recognize_timeline(self, source, (start, end), channel, shard, how)

    def to_answers(
        self, outputs: Mapping[str, Sequence[float]], *, withheld: bool = False
    ) -> dict[str, Answer]:
        """Of each task, its probabilities or its value -> what those of classes answer."""
        said = {task: self._to_answer(task, p) for task, p in outputs.items() if self.classes[task]}
        if withheld:
            return {task: replace(answer, label=None) for task, answer in said.items()}
        return said

    def to_values(self, outputs: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Of each task, its probabilities or its value -> what those of numbers answer."""
        return {task: value[0] for task, value in outputs.items() if not self.classes[task]}

    def _to_answer(self, task: str, probabilities: Sequence[float]) -> Answer:
        classes = self.classes[task]
        best = int(np.argmax(probabilities))
        sure = probabilities[best] >= self.thresholds[task]
        return Answer(
            label=classes[best] if sure else None,
            confidence=probabilities[best],
            probabilities=dict(zip(classes, probabilities, strict=True)),
        )


def _choose_precision(
    system: System, precision: PrecisionSetting | None
) -> tuple[Precision, list[str]]:
    """What is computed in, and what must be said of that."""
    wanted = requested_precision(system.recipe) if precision is None else precision
    numbers, words = (
        resolve_precision(wanted, system.device),
        precision_warnings(wanted, system.device),
    )
    if not isinstance(system, ONNXSystem):
        return numbers, words
    refused = "precision bf16 was asked for; an exported model computes in fp32"
    return "fp32", [refused] if precision == "bf16" else []


def _choose_thresholds(
    bundle: Bundle, name: str, confidence: float | Literal["auto"]
) -> dict[str, float]:
    """Of each task, the lowest probability that is answered."""
    if confidence == "auto":
        fitted = {task: one.threshold for task, one in bundle.confidence.items()}
        found = {task: fitted.get(task, 0.0) for task in bundle.system.classes}
        if not any(found.values()):
            raise ConfigError(
                f"{name} holds no threshold; give one, such as 0.5, or train with `--run` of an "
                "evaluation that had validation speakers"
            )
        return found
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence is {confidence}; expected 0 to 1, or auto")
    return dict.fromkeys(bundle.system.classes, confidence)
