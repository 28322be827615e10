"""Recognize chunks of files in this process, in worker processes, or on a Ray cluster.

An engine takes chunks of file names and yields each one with its results, or with None if the
process that had it crashed. It takes only as many chunks as it needs to keep its workers busy. The
machines of a Ray cluster need this package, and the folder at the same path.

Recordings of similar length are predicted together while the next ones are read. Padding does not
change a prediction, so the answer for a recording does not depend on the others, up to rounding.
Recordings that are too long for memory, and timelines, are processed on their own.

S = samples.
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
from serein.inference.embedding import Embedding, embed_long, embed_many, embed_windows
from serein.inference.long_form import iter_timeline, recognize_long, recognize_recordings
from serein.inference.predictor import Predictor
from serein.inference.recognition import Recognition
from serein.inference.stream_config import StreamConfig
from serein.utils import distributed
from serein.utils.distributed import count_task_slots, join_ray_cluster, wait_for_tasks

T = TypeVar("T")

GROUP_SIZE = 32
"""Recordings that are predicted together, sorted by length."""
MAX_SECONDS_IN_MEMORY = 240.0
"""Seconds of audio that are loaded at a time; a longer recording is read in blocks, if the model
splits recordings into windows."""
NO_SAMPLES = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A file that could not be read, and the reason."""

    source: str
    reason: str


Chunk = tuple[str, ...]
"""Names of files."""
FileResult = Recognition | Embedding | Failure
ChunkResult = list[FileResult]
"""The result for each file of a chunk."""
FinishedChunk = tuple[Chunk, ChunkResult | None]
"""A chunk with its result; None if its process crashed."""


@dataclass(frozen=True)
class RecognitionContext:
    """What all chunks of a run have in common.

    Attributes:
        predictor: the model.
        root: folder of the files.
        stream_config: settings of timelines; None gives one answer per file.
        embedded_task: the task whose vectors are computed in place of answers; None answers.
    """

    predictor: Predictor
    root: Path
    stream_config: StreamConfig | None = None
    embedded_task: str | None = None


Engine = Callable[[RecognitionContext, Iterator[Chunk], int | None], Iterator[FinishedChunk]]
"""Arguments: context, chunks, and number of jobs; None is the default of the engine."""


def run_inline(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Recognize all chunks in this process."""
    for chunk in chunks:
        yield chunk, recognize_files(context, chunk)


def run_processes(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Recognize chunks in processes on this machine, by default one; replace crashed processes.

    Raises:
        StorageError: no process can be started.
    """
    jobs, is_broken = jobs or 1, True
    while is_broken:
        with _open_pool(context, jobs) as pool:
            is_broken = yield from _feed_pool(pool, chunks, jobs if jobs == 1 else 2 * jobs)


@contextmanager
def _open_pool(context: RecognitionContext, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose processes stop soon if this one fails, and at once if it is killed."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    # As bytes: torch would share the weights' memory with each process, one file per weight.
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
            "no worker process could be started; use fewer jobs if memory is short. In a script "
            "of your own, call folder under `if __name__ == '__main__':`, or with jobs=1"
        ) from error


def _feed_pool(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], max_chunks: int
) -> Generator[FinishedChunk, None, bool]:
    """Keep a pool busy until all chunks are done or it breaks; return whether it broke."""
    running: dict[Future[ChunkResult], Chunk] = {}
    is_broken = False
    while True:
        for chunk in islice(chunks, 0 if is_broken else max_chunks - len(running)):
            running[_submit_chunk(pool, chunk)] = chunk
        if not running:
            return is_broken
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            crashed = isinstance(future.exception(), BrokenProcessPool)
            is_broken = is_broken or crashed
            yield running.pop(future), None if crashed else future.result()


def _submit_chunk(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[ChunkResult]:
    try:
        return pool.submit(_recognize_chunk, chunk)
    except BrokenProcessPool as error:
        future: Future[ChunkResult] = Future()
        future.set_exception(error)
        return future


_WORKER: dict[str, Any] = {}
"""State of a worker process: its ``context``, and the event ``stop``."""


def _init_worker(content: bytes, stop: Any) -> None:
    distributed.init_worker()
    _WORKER.update(context=pickle.loads(content), stop=stop)


def _recognize_chunk(chunk: Chunk) -> ChunkResult:
    return recognize_files(_WORKER["context"], chunk, _exit_if_stopped)


def _exit_if_stopped() -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)


def run_ray(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Recognize chunks on a Ray cluster; a chunk of a lost machine is run again, once.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    with join_ray_cluster() as ray:
        recognize = ray.remote(_recognize_remotely).options(max_retries=1)
        content = ray.put(pickle.dumps(context))
        max_chunks = jobs or 2 * max(1, count_task_slots(ray))
        running: dict[Any, Chunk] = {}
        while True:
            for chunk in islice(chunks, max_chunks - len(running)):
                running[recognize.remote(content, chunk)] = chunk
            if not running:
                return
            for task in wait_for_tasks(ray, list(running)):
                yield running.pop(task), _fetch_result(ray, task)


def _recognize_remotely(content: bytes, chunk: Chunk) -> ChunkResult:
    context: RecognitionContext = pickle.loads(content)
    return recognize_files(context, chunk)


def _fetch_result(ray: Any, task: Any) -> ChunkResult | None:
    """Return the result of a task; None if its process crashed."""
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return None


ENGINES: dict[str, Engine] = {"processes": run_processes, "ray": run_ray}
"""Engines by name."""


class _LoadedRecording(NamedTuple):
    """A recording with its samples (S,), or with the reason why it could not be loaded.

    A recording that is too long for memory has no samples, and ``is_long`` is set.
    """

    name: str
    wave_s: Samples
    reason: str
    is_long: bool = False


def recognize_files(
    context: RecognitionContext, names: Sequence[str], on_step: Callable[[], None] = lambda: None
) -> ChunkResult:
    """Recognize files and return the answer or failure of each, in their order.

    Args:
        context: model, folder and settings.
        names: paths of the files from the folder on.
        on_step: is called between steps of the work.
    """
    if context.stream_config is not None:
        return [
            _catch_failure(name, partial(_recognize_timeline, context, name, on_step))
            for name in names
        ]
    results: ChunkResult = []
    for group in _prefetch(_group_recordings(_load_recordings(context, names))):
        on_step()
        loaded = [
            (recording.name, recording.wave_s)
            for recording in group
            if not (recording.reason or recording.is_long)
        ]
        by_name = {answer.source: answer for answer in _process_loaded(context, loaded)}
        results += [
            by_name.get(recording.name) or _recognize_unbatched(context, recording, on_step)
            for recording in group
        ]
    return results


def _process_loaded(
    context: RecognitionContext, recordings: Sequence[tuple[str, Samples]]
) -> Sequence[Recognition | Embedding]:
    """Recognize or embed loaded recordings together."""
    if context.embedded_task is not None:
        return embed_many(context.predictor, recordings, context.embedded_task)
    return recognize_recordings(context.predictor, recordings, attention=False)


def _recognize_timeline(
    context: RecognitionContext, name: str, on_step: Callable[[], None]
) -> Recognition | Embedding:
    if context.embedded_task is not None:
        config = context.stream_config or StreamConfig()
        embedding = embed_windows(
            context.predictor,
            context.root / name,
            context.embedded_task,
            config,
            on_step=on_step,
        )
        return replace(embedding, source=name)
    steps = iter_timeline(context.predictor, context.root / name, config=context.stream_config)
    answer = None
    while answer is None:
        on_step()
        answer = next(steps)
    return replace(answer, source=name)


def _recognize_unbatched(
    context: RecognitionContext, recording: _LoadedRecording, on_step: Callable[[], None]
) -> FileResult:
    """Return the failure of a recording that was not loaded, or recognize a long one in blocks."""
    if recording.reason:
        return Failure(source=recording.name, reason=recording.reason)
    path, task = context.root / recording.name, context.embedded_task

    def process() -> Recognition | Embedding:
        if task is not None:
            return embed_long(context.predictor, path, recording.name, task, on_step)
        return recognize_long(context.predictor, path, recording.name, on_step)

    return _catch_failure(recording.name, process)


def _load_recordings(
    context: RecognitionContext, names: Sequence[str]
) -> Iterator[_LoadedRecording]:
    rate, has_window = context.predictor.rate, context.predictor.window is not None
    for name in names:
        loaded = _catch_failure(
            name, partial(_load_waveform, context.root / name, rate, has_window)
        )
        if isinstance(loaded, Failure):
            yield _LoadedRecording(name, NO_SAMPLES, loaded.reason)
        elif loaded is None:
            yield _LoadedRecording(name, NO_SAMPLES, "", is_long=True)
        else:
            yield _LoadedRecording(name, loaded, "")


def _load_waveform(path: Path, rate: int, has_window: bool) -> Samples | None:
    """Load a recording; None if it is too long for memory and the model uses windows."""
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


def _group_recordings(recordings: Iterator[_LoadedRecording]) -> Iterator[list[_LoadedRecording]]:
    """Group as many recordings as fit into memory, as if their rate were 16 kHz."""
    group: list[_LoadedRecording] = []
    for recording in recordings:
        group.append(recording)
        samples = sum(len(one.wave_s) for one in group)
        if len(group) == GROUP_SIZE or samples > MAX_SECONDS_IN_MEMORY * 16_000:
            yield group
            group = []
    if group:
        yield group


def _prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield items; the next one is computed in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, items, None)
            yield item
