"""Many recordings through one model: those of like length together, reading beside computing.

Padding changes no answer, so a recording's is the same whoever its neighbours are, but for the
last digits. What is too long to be held is heard by itself, and so are timelines.

S = samples, K = classes of a task.

Who recognises the files of a folder: this process, others beside it, or a Ray cluster.

An engine takes chunks of file names and gives each back with what was heard in it, or with None
where the process that had it is gone. It asks for no more chunks than it needs to be busy.

The files of a folder, recognised by a Ray cluster.

Its machines need serein, and the folder at the same path.
"""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from serein import audio
from serein.audio import Samples
from serein.errors import AudioError, StorageError
from serein.inference import long_form
from serein.inference.long_form import iter_timeline
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import StreamConfig
from serein.utils import distributed
from serein.utils.distributed import count_task_slots, join_ray_cluster, wait_for_tasks

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
        wave.name, lambda: long_form.recognize_long(context.predictor, path, wave.name, on_step)
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


def run_ray(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Work on a cluster; a task whose machine is lost is given to another one, once.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with join_ray_cluster() as ray:
        hear = ray.remote(_recognize_remotely).options(max_retries=1)
        content = ray.put(pickle.dumps(context))
        most = jobs or 2 * max(1, count_task_slots(ray))
        running: dict[Any, Chunk] = {}
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[hear.remote(content, chunk)] = chunk
            if not running:
                return
            for task in wait_for_tasks(ray, list(running)):
                yield running.pop(task), _fetch_result(ray, task)


def _fetch_result(ray: Any, task: Any) -> ChunkResult | None:
    """What a task heard; None where its process died."""
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return None


def _recognize_remotely(content: bytes, chunk: Chunk) -> ChunkResult:
    work: RecognitionContext = pickle.loads(content)
    return recognize_files(work, chunk)


Engine = Callable[[RecognitionContext, Iterator[Chunk], int | None], Iterator[FinishedChunk]]
"""Work, chunks, and how many of these are heard at a time; None is for the engine to say."""


def run_inline(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Do all in this process."""
    for chunk in chunks:
        yield chunk, recognize_files(context, chunk)


def run_processes(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Work in processes on this machine, one if no number is given; others take over for the dead.

    Raises:
        StorageError: no process can be started.
    """
    jobs, broken = jobs or 1, True
    while broken:
        with _open_pool(context, jobs) as pool:
            broken = yield from _feed_pool(pool, chunks, jobs if jobs == 1 else 2 * jobs)


def _feed_pool(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], max_chunks: int
) -> Generator[FinishedChunk, None, bool]:
    """Keep a pool busy until no chunk is left, or it broke, which is the value returned."""
    running: dict[Future[ChunkResult], Chunk] = {}
    broken = False
    while True:
        for chunk in islice(chunks, 0 if broken else max_chunks - len(running)):
            running[_submit_chunk(pool, chunk)] = chunk
        if not running:
            return broken
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            lost = isinstance(future.exception(), BrokenProcessPool)
            broken = broken or lost
            yield running.pop(future), None if lost else future.result()


def _submit_chunk(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[ChunkResult]:
    try:
        return pool.submit(_recognize_chunk, chunk)
    except BrokenProcessPool as error:
        future: Future[ChunkResult] = Future()
        future.set_exception(error)
        return future


@contextmanager
def _open_pool(context: RecognitionContext, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that stop soon when this one fails, and at once when it is gone."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    # As bytes: torch would share the weights' memory with each process, one file a weight.
    content = pickle.dumps(context)
    pool = ProcessPoolExecutor(jobs, spawn, _init_worker, (content, stop))
    try:
        _check_pool(pool)
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _check_pool(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise StorageError(
            "no worker process could be started; take fewer jobs if memory is short. In a script "
            "of your own, call folder under `if __name__ == '__main__':`, or with jobs=1"
        ) from error


_WORKER: dict[str, Any] = {}


def _init_worker(content: bytes, stop: Any) -> None:
    distributed.init_worker()
    _WORKER.update(work=pickle.loads(content), stop=stop)


def _recognize_chunk(chunk: Chunk) -> ChunkResult:
    return recognize_files(_WORKER["work"], chunk, _exit_if_stopped)


def _exit_if_stopped() -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)


ENGINES: dict[str, Engine] = {"processes": run_processes, "ray": run_ray}
"""By the names that a user gives them."""
