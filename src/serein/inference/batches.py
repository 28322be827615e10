"""Many recordings through one model: those of like length together, reading beside computing.

Padding changes no answer, so a recording's is the same whoever its neighbours are, but for the
last digits. What is too long to be held is heard by itself, and so are timelines.

S = samples, K = classes of a task.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from serein import audio
from serein.audio import Samples
from serein.errors import AudioError
from serein.inference import lengthy
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream import Settings
from serein.inference.timeline import gradually

T = TypeVar("T")

TOGETHER = 32
"""Recordings that are sorted by length at a time."""
SECONDS = 240.0
"""Of audio that is held before it is heard; what is longer is read in blocks by models that cut."""
NOTHING = np.zeros(0, np.float32)


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
        hearing: how timelines are made; None is one answer for each file.
    """

    recognizer: Recognizer
    root: Path
    hearing: Settings | None = None


class _Wave(NamedTuple):
    """A recording as it was read: (S,), or why it could not be; or that it is too long for it."""

    name: str
    wave_s: Samples
    reason: str
    long: bool = False


def recognise(
    work: Work, names: Sequence[str], between: Callable[[], None] = lambda: None
) -> list[Recognition | Failure]:
    """Recognise some files, one answer or failure for each, in their order.

    Args:
        work: who hears them, where they are, and how.
        names: paths from the folder on.
        between: is called now and then.
    """
    if work.hearing is not None:
        return [_tried(name, partial(_timeline, work, name, between)) for name in names]
    heard: list[Recognition | Failure] = []
    for group in _ahead(_groups(_read(work, names))):
        between()
        good = [(wave.name, wave.wave_s) for wave in group if not (wave.reason or wave.long)]
        answers = {one.source: one for one in work.recognizer.together(good, attention=False)}
        heard += [answers.get(wave.name) or _alone(work, wave, between) for wave in group]
    return heard


def _timeline(work: Work, name: str, between: Callable[[], None]) -> Recognition:
    answer, steps = None, gradually(work.recognizer, work.root / name, settings=work.hearing)
    while answer is None:
        between()
        answer = next(steps)
    return replace(answer, source=name)


def _alone(work: Work, wave: _Wave, between: Callable[[], None]) -> Recognition | Failure:
    """Of one that was not heard with others."""
    if wave.reason:
        return Failure(source=wave.name, reason=wave.reason)
    path = work.root / wave.name
    return _tried(wave.name, lambda: lengthy.recognise(work.recognizer, path, wave.name, between))


def _read(work: Work, names: Sequence[str]) -> Iterator[_Wave]:
    cuts = work.recognizer.window is not None
    for name in names:
        found = _tried(name, partial(_wave, work.root / name, work.recognizer.rate, cuts))
        if isinstance(found, Failure):
            yield _Wave(name, NOTHING, found.reason)
        else:
            yield _Wave(name, NOTHING if found is None else found, "", found is None)


def _wave(path: Path, rate: int, cuts: bool) -> Samples | None:
    """All of a recording; None of one that is too long to be held, by a model that cuts it."""
    if cuts and audio.duration(path) > SECONDS:
        return None
    return audio.load(path, rate)


def _tried(name: str, work: Callable[[], T]) -> T | Failure:
    try:
        return work()
    except AudioError as error:
        return Failure(source=name, reason=str(error))
    except MemoryError:
        return Failure(source=name, reason=f"{name} is too long for this memory.")


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
