"""Many recordings through one model: those of like length together, reading beside computing.

Padding changes no answer, so a recording's is the same whoever its neighbours are, but for the
last digits.

S = samples, K = classes of a task.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from serein import audio
from serein.errors import AudioError
from serein.inference.recognition import Recognition
from serein.inference.recognizer import AT_A_TIME, Recognizer, _threads
from serein.predict import answer
from serein.system import System

T = TypeVar("T")

TOGETHER = 32
"""Recordings that are sorted by length at a time."""
SECONDS = 240.0
"""Of audio that is held before it is heard; more only where one recording is longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A file that has no answer."""

    source: str
    reason: str


Chunk = tuple[str, ...]
Heard = list[Recognition | Failure]
Result = tuple[Chunk, Heard | None]


@dataclass(frozen=True)
class Work:
    """What every chunk of a run has in common.

    Attributes:
        recognizer: what hears the files.
        root: the folder from which they are named.
    """

    recognizer: Recognizer
    root: Path


class _Wave(NamedTuple):
    """A recording as it was read: (S,), or why it could not be."""

    name: str
    wave_s: np.ndarray
    reason: str


def recognise(
    recognizer: Recognizer,
    root: Path,
    names: Sequence[str],
    between: Callable[[], None] = lambda: None,
) -> list[Recognition | Failure]:
    """Recognise some files, one answer or failure for each, in their order.

    Args:
        recognizer: what hears them.
        root: the folder from which names are told.
        names: paths from there on.
        between: is called now and then.
    """
    heard: list[Recognition | Failure] = []
    groups = _groups(_read(root, names, recognizer.system.front_end.rate))
    with torch.inference_mode(), _threads(recognizer.threads):
        for group in _ahead(groups):
            between()
            good = [wave for wave in group if not wave.reason]
            answers = dict(zip((w.name for w in good), _answers(recognizer, good), strict=True))
            heard += [answers.get(w.name) or Failure(source=w.name, reason=w.reason) for w in group]
    return heard


def _read(root: Path, names: Sequence[str], rate: int) -> Iterator[_Wave]:
    for name in names:
        try:
            yield _Wave(name, audio.load(root / name, rate), "")
        except AudioError as error:
            yield _Wave(name, np.zeros(0, np.float32), str(error))
        except MemoryError:
            yield _Wave(name, np.zeros(0, np.float32), f"{name} is too long for this memory.")


def _groups(waves: Iterator[_Wave]) -> Iterator[list[_Wave]]:
    """As many as are held at a time; the rate is taken for 16 kHz."""
    group: list[_Wave] = []
    for wave in waves:
        group.append(wave)
        if len(group) == TOGETHER or sum(len(w.wave_s) for w in group) > SECONDS * 16_000:
            yield group
            group = []
    if group:
        yield group


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _answers(recognizer: Recognizer, waves: Sequence[_Wave]) -> Iterator[Recognition]:
    """Of each recording: its windows are heard together with those of the others."""
    rate = recognizer.system.front_end.rate
    longest = None if recognizer.window is None else round(recognizer.window * rate)
    cuts = [audio.windows(len(w.wave_s), longest or len(w.wave_s)) for w in waves]
    parts = [w.wave_s[a:b] for w, some in zip(waves, cuts, strict=True) for a, b in some]
    heard = iter(_heard(recognizer.system, parts))
    for wave, some in zip(waves, cuts, strict=True):
        own = [next(heard) for _ in some]
        tasks = {}
        for task in recognizer.classes:
            mean_k = torch.stack([part[task] for part in own]).mean(dim=0)
            tasks[task] = recognizer._answer(task, mean_k.tolist())
        yield Recognition(
            source=wave.name,
            model=recognizer.name,
            start=0.0,
            end=some[-1][1] / rate,
            windows=[(a / rate, b / rate) for a, b in some],
            tasks=tasks,
            attention={},
        )


def _heard(system: System, waves: Sequence[np.ndarray]) -> list[dict[str, Tensor]]:
    """(K,) probabilities of each task for each waveform (S,), in their order."""
    order = sorted(range(len(waves)), key=lambda place: len(waves[place]))
    heard: list[dict[str, Tensor]] = [{} for _ in waves]
    for first in range(0, len(order), AT_A_TIME):
        some = order[first : first + AT_A_TIME]
        probabilities, _ = answer(system, system.hear(*_padded(system, [waves[i] for i in some])))
        for row, place in enumerate(some):
            heard[place] = {task: p_bk[row].cpu() for task, p_bk in probabilities.items()}
    return heard


def _padded(system: System, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Waveforms (B, S), zeros behind each one's end, and their lengths (B,)."""
    device = system.normaliser.mean_f.device
    length_b = torch.tensor([len(wave_s) for wave_s in waves])
    wave_bs = torch.zeros(len(waves), int(length_b.max()))
    for row_s, wave_s in zip(wave_bs, waves, strict=True):
        row_s[: len(wave_s)] = torch.from_numpy(wave_s)
    return wave_bs.to(device), length_b.to(device)
