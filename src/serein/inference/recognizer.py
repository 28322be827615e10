"""A saved model as one object: a recording in, probabilities and attention out.

B = windows at a time, S = samples, H = heads, T = steps.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from serein import audio, config
from serein.audio import Source
from serein.bundle import Bundle, load
from serein.errors import ConfigError, UnknownName
from serein.inference.hearing import threads
from serein.inference.recognition import Answer, AttentionMap, Recognition, named
from serein.predict import answer, steps
from serein.system import Output

if TYPE_CHECKING:
    from serein.inference.stream import Stream

DEFAULT = "li2019-emodb"
"""The shipped model that is used where none is named."""
AT_A_TIME = 16
"""Windows of a long recording that the model hears at once."""


def shipped() -> dict[str, Path]:
    """The models that come with this package, by name."""
    folder = Path(str(files("serein") / "pretrained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def located(model: str | os.PathLike[str]) -> Path:
    """The file of a shipped model's name, or the path itself.

    Raises:
        UnknownName: neither a shipped model nor a file.
    """
    if str(model) in shipped():
        return shipped()[str(model)]
    path = Path(model).expanduser()
    if not path.exists() and path.suffix != ".safetensors":
        hint = "The path of a .safetensors file of your own works too."
        raise UnknownName("model", str(model), shipped(), hint)
    return path


class Recognizer:
    """Emotion in recordings.

    >>> recognizer = Recognizer()
    >>> silence = np.zeros(16000, dtype=np.float32)
    >>> sorted(recognizer((silence, 16000)).tasks)
    ['emotion', 'gender']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle = DEFAULT,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        trust: Sequence[str] = (),
        confidence: float | Literal["auto"] = 0.0,
    ) -> None:
        """Load a model.

        Args:
            model: a shipped model's name, the path of a bundle, or a bundle.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads that one call uses; None is torch's own number. For
                seconds of audio one is the fastest, and far faster on a busy machine.
            trust: dotted names of your own modules that the bundle may import.
            confidence: an answer of a lower probability is withheld; "auto" takes each task's
                threshold from the bundle.

        Raises:
            UnknownName: no shipped model has that name.
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the confidence is out of range, or the bundle has no threshold.
        """
        if isinstance(model, Bundle):
            self.bundle, self.name = model, model.card.name or "model"
        else:
            path = located(model)
            self.bundle = load(path, device=device, trust=trust)
            self.name = path.stem
        self.system = self.bundle.system
        self.threads = threads
        self.thresholds = _thresholds(self.bundle, self.name, confidence)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Of each task, in the order of its probabilities."""
        return self.system.classes

    @property
    def window(self) -> float | None:
        """Seconds that the model hears at a time; longer recordings are cut into windows."""
        return self.system.front_end.longest

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
        rate = self.system.front_end.rate
        wave_s = audio.load(source, rate, start=start, end=end)
        longest = len(wave_s) if self.window is None else round(self.window * rate)
        cuts = audio.windows(len(wave_s), longest)
        with threads(self.threads):
            parts = list(self._heard(wave_s, cuts))
        probabilities = {
            task: torch.cat([part[0][task] for part in parts]).mean(dim=0).tolist()
            for task in self.classes
        }
        windows = [(start + first / rate, start + last / rate) for first, last in cuts]
        return Recognition(
            source=named(source),
            model=self.name,
            start=start,
            end=windows[-1][1],
            windows=windows,
            tasks=self.answers(probabilities),
            attention=self._attention([part[1] for part in parts], windows),
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
        from serein.inference.stream import Settings, Stream

        return Stream(self, rate, config.build(Settings, settings, "stream"))

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
            Its ``segments``; ``tasks`` is their mean by length.

        Raises:
            AudioError: it cannot be read, or is too short.
            ConfigError: settings that do not fit each other or the model.
        """
        from serein.inference.stream import Settings
        from serein.inference.timeline import timeline

        how = config.build(Settings, settings, "timeline")
        return timeline(self, source, (start, end), channel, shard, how)

    def answers(self, probabilities: Mapping[str, Sequence[float]]) -> dict[str, Answer]:
        """Of each task, its probabilities in the order of its classes -> what is answered."""
        return {task: self._answer(task, p) for task, p in probabilities.items()}

    def _answer(self, task: str, probabilities: Sequence[float]) -> Answer:
        classes = self.classes[task]
        best = int(np.argmax(probabilities))
        sure = probabilities[best] >= self.thresholds[task]
        return Answer(
            label=classes[best] if sure else None,
            confidence=probabilities[best],
            probabilities=dict(zip(classes, probabilities, strict=True)),
        )

    def _heard(
        self, wave_s: np.ndarray, cuts: list[tuple[int, int]]
    ) -> Iterator[tuple[dict[str, Tensor], Output]]:
        """Probabilities and output of the windows, a few of them at a time."""
        device = self.system.normaliser.mean_f.device
        for first in range(0, len(cuts), AT_A_TIME):
            some = cuts[first : first + AT_A_TIME]
            wave_bs = torch.zeros(len(some), max(end - start for start, end in some))
            for row_s, (start, end) in zip(wave_bs, some, strict=True):
                row_s[: end - start] = torch.from_numpy(wave_s[start:end])
            length_b = torch.tensor([end - start for start, end in some])
            with torch.inference_mode():
                inputs = self.system.hear(wave_bs.to(device), length_b.to(device))
            yield answer(self.system, inputs)

    def _attention(
        self, outputs: list[Output], windows: list[tuple[float, float]]
    ) -> dict[str, AttentionMap]:
        """Each map over the whole recording; a step lies in the window that it belongs to."""
        maps = {}
        for name, (_, stride) in outputs[0].attention.items():
            weight_ht = [w for output in outputs for w in output.attention[name].weight.cpu()]
            times, columns = [], []
            for (start, end), part_ht in zip(windows, weight_ht, strict=True):
                hop = self.system.front_end.hop
                middles = steps(part_ht.shape[1], stride, hop, end - start)
                times += [start + middle for middle in middles]
                columns.append(part_ht[:, : len(middles)] / len(windows))
            maps[name] = AttentionMap(times=times, weights=torch.cat(columns, dim=1).tolist())
        return maps


def _thresholds(bundle: Bundle, name: str, confidence: float | Literal["auto"]) -> dict[str, float]:
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
