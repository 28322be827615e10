"""Embeddings: the vector that the heads of a model read, one for a recording or for each window.

The vector of a task is the model's output before the linear layer that gives the logits. Models
whose tasks share one representation have the same vector for every task; others, such as those with
an attention for each task, have one for each. A recording that is longer than the model's window is
split as for an answer, and its vector is the mean over the windows with speech, or over all windows
if none has speech.

B = windows at a time, D = width of the vector, n = windows.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from serein import audio
from serein.audio import Samples, Source
from serein.errors import ConfigError, UnknownName
from serein.inference.long_form import CHUNKS_AT_A_TIME, count_samples, iter_windows
from serein.inference.predictor import BATCH_SIZE, Predictor
from serein.inference.recognition import get_source_name
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.inference.vad import CHUNK_SECONDS
from serein.records import Precision

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """The vectors of one recording.

    Attributes:
        source: the recording: a path, or "bytes", "file", "array".
        model: name of the model.
        task: whose vector it is.
        start: start of the embedded part, in seconds.
        end: end of the embedded part.
        windows: start and end of each vector's window; that of the whole part for one vector.
        vectors: (n, D), one for each window; (1, D) without settings of windows.
        speech: whether the recording contains speech.
    """

    source: str
    model: str
    task: str
    start: float
    end: float
    windows: list[tuple[float, float]]
    vectors: Vectors
    speech: bool = True

    @property
    def vector(self) -> Vectors:
        """(D,) the vector of the recording: the mean over its windows; nan without any."""
        if not len(self.vectors):
            return np.full(self.vectors.shape[1], np.nan, np.float32)
        return np.asarray(self.vectors.mean(axis=0, dtype=np.float64), np.float32)


def choose_task(predictor: Predictor, task: str | None) -> str:
    """Return the task whose vector is asked for; by default the first one.

    Raises:
        UnknownName: the model has no such task.
        ConfigError: the model is exported, without the vectors.
    """
    if is_exported(predictor):
        raise ConfigError(
            f"{predictor.name} is an exported model, which gives answers and no embeddings; use "
            "the .safetensors file that it was exported from"
        )
    tasks = list(predictor.description.classes)
    if task is not None and task not in tasks:
        raise UnknownName("task", task, tasks)
    return task or tasks[0]


def is_exported(predictor: Predictor) -> bool:
    """Return whether a model is an ONNX file alone, without a bundle."""
    return getattr(predictor.backend, "is_exported", False)


def limit_threads(predictor: Predictor) -> AbstractContextManager[None]:
    """Limit torch, which computes vectors, to the threads of a model within the context."""
    from serein.inference.torch_backend import torch_threads

    return torch_threads(predictor.threads)


def get_width(predictor: Predictor) -> int:
    """Return D, the number of values of a vector."""
    return int(predictor.system.model.width)


def embed_batches(
    predictor: Predictor,
    windows: Sequence[Samples],
    task: str,
    texts: Sequence[str | None] | None = None,
) -> Vectors:
    """Compute the vectors (n, D) of separate windows, in padded batches of similar length.

    Args:
        predictor: the model.
        windows: samples of each window, at the rate of the model.
        task: whose vectors are computed.
        texts: the words of each window, for a model that reads words; None are recognised.
    """
    import torch

    from serein.inference.torch_backend import extract_inputs
    from serein.utils.device import autocast_context

    system = predictor.system
    precision: Precision = "bf16" if predictor.precision == "bf16" else "fp32"
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    vectors = np.empty((len(windows), get_width(predictor)), np.float32)
    system.eval()
    for first in range(0, len(order), BATCH_SIZE):
        batch = order[first : first + BATCH_SIZE]
        given = [None if texts is None else texts[index] for index in batch]
        inputs, _ = extract_inputs(
            system, [windows[index] for index in batch], predictor.asr, given
        )
        with torch.inference_mode(), autocast_context(precision, system.device):
            vector_bd = system.encode(inputs).vectors[task]
        vectors[batch] = vector_bd.float().cpu().numpy()
    return vectors


def embed_many(
    predictor: Predictor,
    recordings: Sequence[tuple[str, Samples]],
    task: str,
    *,
    start: float = 0.0,
    words: Sequence[str | None] | None = None,
) -> list[Embedding]:
    """Compute one vector for each of several loaded recordings.

    Args:
        predictor: the model.
        recordings: name and samples of each, at the rate of the model.
        task: whose vectors are computed.
        start: time of the first sample in its recording, in seconds.
        words: of each recording, as for ``Predictor.predict_many``.

    Raises:
        ConfigError: the model needs words and has none, or is given words and reads none.
    """
    bounds, windows, texts = predictor.split_recordings(recordings, words)
    with limit_threads(predictor):
        has_speech = predictor.detect_speech(windows)
        vectors = embed_batches(predictor, windows, task, texts)
    embeddings, first = list[Embedding](), 0
    for (name, wave_s), own in zip(recordings, bounds, strict=True):
        last = first + len(own)
        mean_d, speech = _average(vectors[first:last], has_speech[first:last])
        end = start + len(wave_s) / predictor.rate
        embeddings.append(_build(predictor, name, task, (start, end), mean_d, speech))
        first = last
    return embeddings


def embed_long(
    predictor: Predictor, source: Source, name: str, task: str, on_step: Callable[[], None]
) -> Embedding:
    """Compute one vector for a recording of any length, which is read in blocks.

    Args:
        predictor: a model with a ``window``.
        source: a path or bytes, which can be read twice.
        name: of the recording.
        task: whose vector is computed.
        on_step: is called before each batch.

    Raises:
        AudioError: the recording cannot be read, or is too short.
    """
    assert predictor.window is not None, "a model without a longest window needs all samples"
    length = count_samples(source, predictor.rate)
    bounds = audio.split_evenly(length, round(predictor.window * predictor.rate))
    windows = iter_windows(source, predictor.rate, bounds)
    vectors, has_speech = list[Vectors](), list[bool]()
    with limit_threads(predictor):
        while batch := list(islice(windows, BATCH_SIZE)):
            on_step()
            vectors.append(embed_batches(predictor, batch, task))
            has_speech += predictor.detect_speech(batch)
    mean_d, speech = _average(np.concatenate(vectors), has_speech)
    return _build(predictor, name, task, (0.0, length / predictor.rate), mean_d, speech)


def embed_windows(
    predictor: Predictor,
    source: Source,
    task: str,
    config: StreamConfig,
    *,
    span: tuple[float, float | None] = (0.0, None),
    on_step: Callable[[], None] = lambda: None,
) -> Embedding:
    """Compute one vector for each window of a recording, which is read in blocks.

    Windows are those of a timeline: they start every hop within each segment of speech.

    Args:
        predictor: the model.
        source: path, bytes, binary file, or (samples, rate in Hz).
        task: whose vectors are computed.
        config: window, hop, and speech detection.
        span: start and end in seconds; None is the end of the recording.
        on_step: is called before each block.

    Raises:
        AudioError: the recording cannot be read, or is too short.
        ConfigError: the settings do not fit the model.
    """
    start, end = span
    times: list[tuple[float, float]] = []
    vectors = [np.empty((0, get_width(predictor)), np.float32)]
    stream, seconds, count = None, 0.0, 0
    block_seconds = CHUNKS_AT_A_TIME * CHUNK_SECONDS
    blocks = audio.iter_blocks(source, block_seconds=block_seconds, start=start, end=end)
    with limit_threads(predictor):
        for samples, rate in blocks:
            on_step()
            if stream is None:
                stream = Stream(predictor, rate, config, start, window_times=times)
            vectors.append(_embed_block(predictor, stream, samples, task))
            count += len(samples)
            seconds = count / rate
        if stream is not None:
            vectors.append(_embed_block(predictor, stream, None, task))
    return Embedding(
        source=get_source_name(source),
        model=predictor.name,
        task=task,
        start=start,
        end=start + seconds,
        windows=times,
        vectors=np.concatenate(vectors),
        speech=bool(times),
    )


def _embed_block(
    predictor: Predictor, stream: Stream, samples: audio.Block | None, task: str
) -> Vectors:
    """Feed a block to a stream, or end it, and return the vectors of its new windows."""
    steps = stream.prepare_steps(samples)
    windows = [step.window for step in steps if step.window]
    vectors = embed_batches(predictor, [buffer[a:b] for buffer, a, b in windows], task)
    stream.discard_samples()
    return vectors


def _average(vectors: Vectors, has_speech: Sequence[bool]) -> tuple[Vectors, bool]:
    """Return the mean vector (1, D) of windows with speech, or of all, and whether any has it."""
    speech = any(has_speech)
    used = vectors[np.array(has_speech)] if speech else vectors
    return np.asarray(used.mean(axis=0, keepdims=True, dtype=np.float64), np.float32), speech


def _build(
    predictor: Predictor,
    name: str,
    task: str,
    span: tuple[float, float],
    mean_d: Vectors,
    speech: bool,
) -> Embedding:
    return Embedding(
        source=name,
        model=predictor.name,
        task=task,
        start=span[0],
        end=span[1],
        windows=[span],
        vectors=mean_d,
        speech=speech,
    )
