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
from serein.inference.long_form import iter_timeline
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import StreamConfig

T = TypeVar("T")

GROUP_SIZE = 32
"""Recordings that are sorted by length at a time."""
MAX_SECONDS_IN_MEMORY = 240.0
"""Of audio that is held before it is heard; what is longer is read in blocks by models that cut."""
NO_SAMPLES = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A file that has no answer."""

    source: str
    reason: str


Chunk = tuple[str, ...]
ChunkResult = list[Recognition | Failure]
FinishedChunk = tuple[Chunk, ChunkResult | None]


@dataclass(frozen=True)
class RecognitionContext:
    """What every chunk of a run has in common.

    Attributes:
        recognizer: what hears the files.
        root: the folder from which they are named.
        hearing: how timelines are made; None is one answer for each file.
    """

    predictor: Recognizer
    root: Path
    stream_config: StreamConfig | None = None


class _LoadedRecording(NamedTuple):
    """A recording as it was read: (S,), or why it could not be; or that it is too long for it."""

    name: str
    wave_s: Samples
    reason: str
    is_long: bool = False


def recognize_files(
    context: RecognitionContext, names: Sequence[str], on_step: Callable[[], None] = lambda: None
) -> list[Recognition | Failure]:
    """Recognise some files, one answer or failure for each, in their order.

    Args:
        context: who hears them, where they are, and how.
        names: paths from the folder on.
        on_step: is called now and then.
    """
    if context.stream_config is not None:
        return [
            _catch_failure(name, partial(_recognize_timeline, context, name, on_step))
            for name in names
        ]
    heard: list[Recognition | Failure] = []
    for group in _prefetch(_group_recordings(_load_recordings(context, names))):
        on_step()
        good = [(wave.name, wave.wave_s) for wave in group if not (wave.reason or wave.is_long)]
        answers = {one.source: one for one in context.predictor.predict_many(good, attention=False)}
        heard += [
            answers.get(wave.name) or _recognize_unbatched(context, wave, on_step) for wave in group
        ]
    return heard


def _recognize_timeline(
    context: RecognitionContext, name: str, on_step: Callable[[], None]
) -> Recognition:
    answer, steps = (
        None,
        iter_timeline(context.predictor, context.root / name, config=context.stream_config),
    )
    while answer is None:
        on_step()
        answer = next(steps)
    return replace(answer, source=name)


def _recognize_unbatched(
    context: RecognitionContext, wave: _LoadedRecording, on_step: Callable[[], None]
) -> Recognition | Failure:
    """Of one that was not heard with others."""
    if wave.reason:
        return Failure(source=wave.name, reason=wave.reason)
    path = context.root / wave.name
    return _catch_failure(
        wave.name, lambda: lengthy.recognize_long(context.predictor, path, wave.name, on_step)
    )


def _load_recordings(
    context: RecognitionContext, names: Sequence[str]
) -> Iterator[_LoadedRecording]:
    cuts = context.predictor.window is not None
    for name in names:
        found = _catch_failure(
            name, partial(_load_waveform, context.root / name, context.predictor.rate, cuts)
        )
        if isinstance(found, Failure):
            yield _LoadedRecording(name, NO_SAMPLES, found.reason)
        else:
            yield _LoadedRecording(name, NO_SAMPLES if found is None else found, "", found is None)


def _load_waveform(path: Path, rate: int, has_window: bool) -> Samples | None:
    """All of a recording; None of one that is too long to be held, by a model that cuts it."""
    if has_window and audio.duration(path) > MAX_SECONDS_IN_MEMORY:
        return None
    return audio.load(path, rate)


def _catch_failure(name: str, function: Callable[[], T]) -> T | Failure:
    try:
        return function()
    except AudioError as error:
        return Failure(source=name, reason=str(error))
    except MemoryError:
        return Failure(source=name, reason=f"{name} is too long for this memory.")


def _group_recordings(waves: Iterator[_LoadedRecording]) -> Iterator[list[_LoadedRecording]]:
    """As many as are held at a time; the rate is taken for 16 kHz."""
    group: list[_LoadedRecording] = []
    for wave in waves:
        group.append(wave)
        if (
            len(group) == GROUP_SIZE
            or sum(len(w.wave_s) for w in group) > MAX_SECONDS_IN_MEMORY * 16_000
        ):
            yield group
            group = []
    if group:
        yield group


def _prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
