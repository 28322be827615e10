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

from serein import audio
from serein.errors import AudioError
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer

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
    for group in _ahead(groups):
        between()
        good = [(wave.name, wave.wave_s) for wave in group if not wave.reason]
        answers = {one.source: one for one in recognizer.together(good, attention=False)}
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
