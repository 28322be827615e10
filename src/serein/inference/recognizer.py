"""A saved model as one object: a recording in, probabilities or values, and attention out.

B = windows at a time, S = samples, H = heads, T = steps, K = classes of a task.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from serein import audio
from serein.audio import Samples, Source
from serein.bundle import Bundle
from serein.errors import ConfigError, UnknownName
from serein.inference.exported import opened
from serein.inference.recognition import Answer, AttentionMap, Recognition
from serein.layers.attention import Attention
from serein.precision import Precision, asked, fallen_back, rounded, settled
from serein.predict import answer, steps

if TYPE_CHECKING:
    from serein.inference.folder import Summary
    from serein.results import Progress

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
    if not path.exists() and path.suffix not in (".onnx", ".safetensors"):
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
        precision: Precision | None = None,
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

        Raises:
            UnknownName: no shipped model has that name.
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the confidence is out of range, or the bundle has no threshold; or there
                is no such precision.
        """
        if isinstance(model, Bundle):
            self.bundle, self.name = model, model.card.name or "model"
        else:
            path = located(model)
            self.bundle = opened(path, device=device, trust=trust)
            self.name = path.stem
        self.system = self.bundle.system
        wanted = asked(self.system.recipe) if precision is None else precision
        self.numbers = settled(wanted, self.system.device)
        self.warnings = fallen_back(wanted, self.system.device)
        if self.numbers == "bf16":
            self.system = rounded(self.system)
        self.threads = threads
        self.thresholds = _thresholds(self.bundle, self.name, confidence)

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
        wave_s = audio.load(source, self.rate, start=start, end=end)
        return self.together([(_name(source), wave_s)], start=start)[0]

    def together(
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
        cuts = [audio.windows(len(wave_s), self._most(wave_s)) for _, wave_s in recordings]
        parts = [
            wave_s[first:last]
            for (_, wave_s), some in zip(recordings, cuts, strict=True)
            for first, last in some
        ]
        with _threads(self.threads):
            heard = iter(self._heard(parts, attention=attention))
        return [
            self._recognition(name, start, some, [next(heard) for _ in some])
            for (name, _), some in zip(recordings, cuts, strict=True)
        ]

    def folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        jobs: int | None = None,
        engine: str = "processes",
        retry: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "Summary":
        """Recognise all recordings in a folder and below it; what was begun is gone on with.

        Args:
            folder: where they are; links to other folders are followed, once.
            output: the table to write: .parquet, .csv or .jsonl.
            jobs: processes; 1 stays in this one. None is 1, or all that a cluster has.
            engine: who works: "processes", or "ray" for a cluster (extra ``ray``).
            retry: whether files that failed before are tried again.
            progress: is told how far it is.

        Raises:
            AudioError: there is no such folder, or no recording in it.
            ConfigError: the output is of other settings, or of no run.
            StorageError: another process writes it, or it could not be written.
        """
        from serein.inference.folder import recognise

        return recognise(
            self,
            Path(folder),
            Path(output),
            jobs=jobs,
            engine=engine,
            retry=retry,
            progress=progress,
        )

    def _most(self, wave_s: Samples) -> int:
        """Samples that the model hears at a time."""
        return len(wave_s) if self.window is None else round(self.window * self.rate)

    def _heard(self, parts: Sequence[Samples], *, attention: bool) -> list["_Window"]:
        """What the model says of each part, those of like length together, some at a time."""
        device = self.system.device
        order = sorted(range(len(parts)), key=lambda number: len(parts[number]))
        heard: dict[int, _Window] = {}
        for first in range(0, len(order), AT_A_TIME):
            some = order[first : first + AT_A_TIME]
            wave_bs = torch.zeros(len(some), len(parts[some[-1]]))
            for row_s, number in zip(wave_bs, some, strict=True):
                row_s[: len(parts[number])] = torch.from_numpy(parts[number])
            length_b = torch.tensor([len(parts[number]) for number in some])
            with torch.inference_mode():
                inputs = self.system.hear(wave_bs.to(device), length_b.to(device))
            answers, output = answer(self.system, inputs, self.numbers)
            maps = output.attention if attention else {}
            for row, number in enumerate(some):
                heard[number] = _Window.of(row, answers, maps)
        return [heard[number] for number in range(len(parts))]

    def _recognition(
        self, name: str, start: float, cuts: list[tuple[int, int]], heard: list["_Window"]
    ) -> Recognition:
        windows = [(start + first / self.rate, start + last / self.rate) for first, last in cuts]
        answers = {
            task: torch.stack([one.answers[task] for one in heard]).mean(dim=0).tolist()
            for task in self.classes
        }
        return Recognition(
            source=name,
            model=self.name,
            start=start,
            end=windows[-1][1],
            windows=windows,
            tasks={
                task: self._answer(task, p) for task, p in answers.items() if self.classes[task]
            },
            attention=self._attention([one.attention for one in heard], windows),
            values={task: v[0] for task, v in answers.items() if not self.classes[task]},
        )

    def _answer(self, task: str, probabilities: list[float]) -> Answer:
        classes = self.classes[task]
        best = int(np.argmax(probabilities))
        sure = probabilities[best] >= self.thresholds[task]
        return Answer(
            label=classes[best] if sure else None,
            confidence=probabilities[best],
            probabilities=dict(zip(classes, probabilities, strict=True)),
        )

    def _attention(
        self, heard: list[dict[str, Attention]], windows: list[tuple[float, float]]
    ) -> dict[str, AttentionMap]:
        """Each map over the whole recording; a step lies in the window that it belongs to."""
        maps = {}
        for name in heard[0]:
            times, columns = [], []
            for (start, end), found in zip(windows, heard, strict=True):
                part_ht, stride = found[name]
                middles = steps(part_ht.shape[-1], stride, self._hop, end - start)
                times += [start + middle for middle in middles]
                columns.append(_of_keys(part_ht, len(middles)) / len(windows))
            weights = torch.cat(columns, dim=1).tolist()
            queries = heard[0][name].weight.ndim > 2
            maps[name] = AttentionMap(times=times, weights=weights, queries=queries)
        return maps

    @property
    def _hop(self) -> float:
        return self.system.front_end.hop


def _of_keys(weight: Tensor, count: int) -> Tensor:
    """The first steps' weights, (H, T) or the mean over the queries of (H, T, T) -> (H, count)."""
    if weight.ndim > 2:
        weight = weight[:, :count].mean(dim=1)
    return weight[:, :count]


class _Window(NamedTuple):
    """What the model says of one window.

    Attributes:
        answers: for each task, (K,) probabilities, or the value (1,).
        attention: maps by name, with weights of (H, T), or (H, T, T) of queries by keys.
    """

    answers: dict[str, Tensor]
    attention: dict[str, Attention]

    @classmethod
    def of(cls, row: int, answers: dict[str, Tensor], attention: dict[str, Attention]) -> "_Window":
        """Take one row out of a batch."""
        maps = {
            name: Attention(weight_bht[row].cpu(), stride)
            for name, (weight_bht, stride) in attention.items()
        }
        return cls({task: p_bk[row].cpu() for task, p_bk in answers.items()}, maps)


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


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return (
        "bytes" if isinstance(source, bytes) else "array" if isinstance(source, tuple) else "file"
    )
