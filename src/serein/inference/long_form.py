"""Recognize long recordings, which are read in blocks so that memory use does not grow.

``iter_timeline`` gives an answer per segment, for a whole recording or for one of several shards of
it; ``recognize_long`` gives one answer for the whole recording.

S = samples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from serein import audio
from serein.audio import Resampler, Samples, Source
from serein.errors import ConfigError
from serein.inference.backend import WindowPrediction
from serein.inference.predictor import BATCH_SIZE, Predictor
from serein.inference.recognition import Recognition, Segment, get_source_name
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.inference.vad import CHUNK_SECONDS
from serein.inference.windowing import SampleBuffer

CHUNKS_AT_A_TIME = 4
"""VAD chunks in a block of a timeline: what is held in memory, and predicted as one batch."""
BLOCK_SECONDS = 60.0
"""Length of the blocks that ``recognize_long`` reads."""


def recognize_timeline(
    predictor: Predictor,
    source: Source,
    span: tuple[float, float | None],
    channel: int | None,
    shard: tuple[int, int] | None,
    config: StreamConfig,
) -> Recognition:
    """Recognize a recording segment by segment; see ``Recognizer.timeline``."""
    *_, answer = iter_timeline(predictor, source, span, channel, shard, config)
    assert answer is not None
    return answer


def iter_timeline(
    predictor: Predictor,
    source: Source,
    span: tuple[float, float | None] = (0.0, None),
    channel: int | None = None,
    shard: tuple[int, int] | None = None,
    config: StreamConfig | None = None,
    chunks_at_a_time: float = CHUNKS_AT_A_TIME,
) -> Iterator[Recognition | None]:
    """Recognize a recording block by block, so that the caller can do other work in between.

    Args:
        predictor: the model.
        source: path, bytes, binary file, or (samples, rate in Hz).
        span: start and end in seconds; None is the end of the recording.
        channel: number of a channel, counted from 1; None is the mean of all channels.
        shard: number of the shard, counted from 0, and number of shards.
        config: windowing, smoothing and merging.
        chunks_at_a_time: VAD chunks in a block.

    Yields:
        None after each block, and the answer at the end.
    """
    start, end = span
    chunks = None if shard is None else _shard_chunks(source, start, end, shard)
    shard_start, shard_end, read_start = start, math.inf, start
    if chunks:
        shard_start, shard_end = (start + chunk * CHUNK_SECONDS for chunk in chunks)
        read_start = start + max(0, chunks[0] - 1) * CHUNK_SECONDS
    windows: list[tuple[float, float]] = []
    segments: list[Segment] = []
    stream, seconds, count = None, 0.0, 0
    blocks = audio.iter_blocks(
        source,
        block_seconds=chunks_at_a_time * CHUNK_SECONDS,
        start=read_start,
        end=end,
        channel=channel,
    )
    for samples, rate in blocks:
        if stream is None:
            stream = Stream(predictor, rate, config or StreamConfig(), start, chunks, windows)
        segments += stream.feed(samples)
        count += len(samples)
        seconds = count / rate
        yield None
        if stream.is_finished:
            break
    segments += stream.close() if stream else []
    answer = join_segments(
        predictor, get_source_name(source), segments, min(read_start + seconds, shard_end)
    )
    yield replace(answer, start=shard_start, windows=windows, channel=channel)


def join_segments(
    predictor: Predictor, source: str, segments: list[Segment], end: float
) -> Recognition:
    """Return the answer of a recording with these segments; it is their mean.

    Args:
        predictor: the model.
        source: name of the recording.
        segments: of the recording, in order.
        end: duration of the recording, in seconds.
    """
    means = average_segments(predictor, segments)
    tasks, values = predictor.to_answers(means), predictor.to_values(means)
    return Recognition(
        source=source,
        model=predictor.name,
        start=0.0,
        end=end,
        windows=[],
        tasks=tasks,
        attention={},
        values=values,
        dimensions=predictor.to_dimensions(tasks, values),
        segments=segments,
        speech=bool(segments),
    )


def _shard_chunks(
    source: Source, start: float, end: float | None, shard: tuple[int, int]
) -> tuple[int, int]:
    """Return the first VAD chunk of a shard and the one after its last."""
    number, count = shard
    if not 0 <= number < count:
        raise ConfigError(f"shard {number} of {count}; expected 0 to {count - 1}. Count from 0")
    duration = audio.duration(source)
    chunks = math.ceil((min(end or duration, duration) - start) / CHUNK_SECONDS)
    return chunks * number // count, chunks * (number + 1) // count


def join_shards(predictor: Predictor, shards: Sequence[Recognition]) -> Recognition:
    """Join the answers for all shards of a recording, in order, to one answer."""
    segments = [segment for shard in shards for segment in shard.segments or []]
    means = average_segments(predictor, segments)
    tasks, values = predictor.to_answers(means), predictor.to_values(means)
    return replace(
        shards[0],
        end=shards[-1].end,
        windows=[window for shard in shards for window in shard.windows],
        tasks=tasks,
        values=values,
        dimensions=predictor.to_dimensions(tasks, values),
        segments=segments,
        speech=bool(segments),
    )


def merge_hops(predictor: Predictor, timeline: Recognition) -> Recognition:
    """Merge the hops of a timeline (``merge=False``) to the segments that it has with merging."""
    if not any(predictor.classes.values()):
        return timeline
    groups: list[list[Segment]] = []
    for hop in timeline.segments or []:
        last = groups[-1][-1] if groups else None
        if last is not None and last.label == hop.label and hop.start - last.end < 1e-6:
            groups[-1].append(hop)
        else:
            groups.append([hop])
    return replace(timeline, segments=[_join_hops(predictor, group) for group in groups])


def _join_hops(predictor: Predictor, hops: Sequence[Segment]) -> Segment:
    means = average_segments(predictor, hops)
    tasks, values = predictor.to_answers(means), predictor.to_values(means)
    return Segment(
        start=hops[0].start,
        end=hops[-1].end,
        tasks=tasks,
        values=values,
        dimensions=predictor.to_dimensions(tasks, values),
    )


def average_segments(predictor: Predictor, segments: Sequence[Segment]) -> dict[str, list[float]]:
    """Average probabilities and values of segments, weighted by length; empty without segments."""
    if not segments:
        return {}
    length_n = [segment.end - segment.start for segment in segments]
    means = {}
    for task, classes in predictor.classes.items():
        p_nk = [
            list(segment.tasks[task].probabilities.values()) if classes else [segment.values[task]]
            for segment in segments
        ]
        means[task] = np.average(p_nk, axis=0, weights=length_n).tolist()
    return means


def recognize_long(
    predictor: Predictor, source: Source, name: str, on_step: Callable[[], None]
) -> Recognition:
    """Recognize a recording of any length with one answer, as ``Predictor.predict_many`` does.

    The length of the windows depends on the exact length of the recording, and the header of a
    file may be wrong about it. So the recording is read twice; the first time to measure it.

    Args:
        predictor: a model with a ``window``.
        source: a path or bytes, which can be read twice.
        name: name of the recording in its answer.
        on_step: is called before each batch.

    Returns:
        The answer, without attention maps.

    Raises:
        AudioError: the recording cannot be read, or is too short.
    """
    assert predictor.window is not None, "a model without a longest window needs all samples"
    max_length = round(predictor.window * predictor.rate)
    bounds = audio.split_evenly(count_samples(source, predictor.rate), max_length)
    windows = iter_windows(source, predictor.rate, bounds)
    predictions: list[tuple[WindowPrediction, bool]] = []
    with predictor.limit_threads():
        while batch := list(islice(windows, BATCH_SIZE)):
            on_step()
            outputs = predictor.predict_batches(batch, attention=False)
            predictions += zip(outputs, predictor.detect_speech(batch), strict=True)
    return predictor.aggregate_windows(name, 0.0, bounds, predictions)


def count_samples(source: Source, rate: int) -> int:
    """Return the number of samples at a rate, as a ``Resampler`` rounds it."""
    blocks = audio.iter_blocks(source, block_seconds=BLOCK_SECONDS)
    lengths = [(len(wave_s), source_rate) for wave_s, source_rate in blocks]
    return math.floor(sum(length for length, _ in lengths) * rate / lengths[0][1] + 0.5)


def iter_windows(source: Source, rate: int, bounds: list[tuple[int, int]]) -> Iterator[Samples]:
    """Yield the samples (S,) of each window."""
    buffer, remaining = SampleBuffer(), iter(bounds)
    first, last = next(remaining)
    for wave_s in _iter_resampled(source, rate):
        buffer.append(wave_s)
        while first < last <= buffer.end:
            yield buffer[first:last].copy()
            first, last = next(remaining, (last, last))
            buffer.discard(first)
    if first < min(last, buffer.end):
        yield buffer[first : buffer.end].copy()


def _iter_resampled(source: Source, rate: int) -> Iterator[Samples]:
    resample = None
    for wave_s, source_rate in audio.iter_blocks(source, block_seconds=BLOCK_SECONDS):
        resample = resample or Resampler(source_rate, rate)
        yield resample(wave_s)
    if resample is not None:
        yield resample(wave_s[:0], last=True)
