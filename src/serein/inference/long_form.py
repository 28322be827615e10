"""A long recording from start to end, or a part of it that another machine leaves to this one.

One answer for a recording that is too long to be held: it is read in blocks.

The windows of a recording are of one length, which follows from its own; a container may be wrong
about that. So it is read twice, first to be measured.

S = samples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from serein import audio
from serein.audio import Resampler, Samples, Source
from serein.errors import ConfigError
from serein.inference.predictor import BATCH_SIZE, WindowPrediction, predict_batches, torch_threads
from serein.inference.recognition import Recognition, Segment, get_source_name
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream, StreamConfig
from serein.inference.vad import BLOCK_MS, CHUNK_BLOCKS
from serein.inference.windowing import SampleBuffer

if TYPE_CHECKING:
    from serein.inference.recognizer import Recognizer


CHUNK_SECONDS = CHUNK_BLOCKS * BLOCK_MS / 1000
CHUNKS_AT_A_TIME = 4
"""Lanes that are read and heard together: what memory holds, and what goes through as one batch."""


def recognize_timeline(
    predictor: "Recognizer",
    source: Source,
    span: tuple[float, float | None],
    channel: int | None,
    shard: tuple[int, int] | None,
    config: StreamConfig,
) -> Recognition:
    """What ``Recognizer.timeline`` does; see there."""
    *_, answer = iter_timeline(predictor, source, span, channel, shard, config)
    assert answer is not None
    return answer


def iter_timeline(
    predictor: "Recognizer",
    source: Source,
    span: tuple[float, float | None] = (0.0, None),
    channel: int | None = None,
    shard: tuple[int, int] | None = None,
    config: StreamConfig | None = None,
    chunks_at_a_time: int = CHUNKS_AT_A_TIME,
) -> Iterator[Recognition | None]:
    """The same step by step, for whoever has other things to do between them.

    Yields:
        None after each block, and the answer in the end.
    """
    start, end = span
    lanes = None if shard is None else _shard_chunks(source, start, end, shard)
    begin = start + max(0, lanes[0] - 1) * CHUNK_SECONDS if lanes else start
    last = start + lanes[1] * CHUNK_SECONDS if lanes else math.inf
    windows: list[tuple[float, float]] = []
    segments: list[Segment] = []
    stream, seconds, count = None, 0.0, 0
    size = chunks_at_a_time * CHUNK_SECONDS
    for samples, rate in audio.iter_blocks(
        source, block_seconds=size, start=begin, end=end, channel=channel
    ):
        if stream is None:
            stream = Stream(predictor, rate, config or StreamConfig(), start, lanes, windows)
        segments += stream.feed(samples)
        count += len(samples)
        seconds = count / rate
        yield None
        if stream.is_finished:
            break
    segments += stream.close() if stream else []
    means = average_segments(predictor, segments)
    yield Recognition(
        source=get_source_name(source),
        model=predictor.name,
        start=start + lanes[0] * CHUNK_SECONDS if lanes else start,
        end=min(begin + seconds, last),
        windows=windows,
        tasks=predictor.to_answers(means),
        attention={},
        values=predictor.to_values(means),
        channel=channel,
        segments=segments,
        speech=bool(segments),
    )


def join_shards(predictor: "Recognizer", shards: Sequence[Recognition]) -> Recognition:
    """The timelines of all shards of a recording, in order -> that of the whole."""
    segments = [segment for part in shards for segment in part.segments or []]
    means = average_segments(predictor, segments)
    return replace(
        shards[0],
        end=shards[-1].end,
        windows=[window for part in shards for window in part.windows],
        tasks=predictor.to_answers(means),
        values=predictor.to_values(means),
        segments=segments,
        speech=bool(segments),
    )


def average_segments(
    predictor: "Recognizer", segments: Sequence[Segment]
) -> dict[str, list[float]]:
    """Means of segments' probabilities and values by length; nothing where nobody spoke."""
    if not segments:
        return {}
    length_n = [segment.end - segment.start for segment in segments]
    means = {}
    for task, classes in predictor.classes.items():
        p_nk = [
            list(one.tasks[task].probabilities.values()) if classes else [one.values[task]]
            for one in segments
        ]
        means[task] = np.average(p_nk, axis=0, weights=length_n).tolist()
    return means


def _shard_chunks(
    source: Source, start: float, end: float | None, shard: tuple[int, int]
) -> tuple[int, int]:
    """The first lane of a shard and the one after its last."""
    number, count = shard
    if not 0 <= number < count:
        raise ConfigError(f"shard {number} of {count}; expected 0 to {count - 1}. Count from 0")
    length = audio.duration(source)
    lanes = math.ceil((min(end or length, length) - start) / CHUNK_SECONDS)
    return lanes * number // count, lanes * (number + 1) // count


BLOCK_SECONDS = 60.0
"""Seconds that are read at a time."""


def recognize_long(
    predictor: Recognizer, source: Source, name: str, on_step: Callable[[], None]
) -> Recognition:
    """What ``Recognizer.together`` says of a recording, but for attention; memory does not grow.

    Args:
        predictor: with a ``window``.
        source: a path or bytes, which can be read twice.
        name: what the answer calls it.
        on_step: is called now and then.

    Raises:
        AudioError: it cannot be read, or is too short.
    """
    assert predictor.window is not None, "a model that hears all at once holds it"
    most = round(predictor.window * predictor.rate)
    cuts = audio.split_evenly(_count_samples(source, predictor.rate), most)
    parts, told = _iter_windows(source, predictor.rate, cuts), list[tuple[WindowPrediction, bool]]()
    with torch_threads(predictor.threads):
        while some := list(islice(parts, BATCH_SIZE)):
            on_step()
            heard = predict_batches(predictor.system, some, predictor.precision, attention=False)
            told += zip(heard, predictor.detect_speech(some), strict=True)
    return predictor.aggregate_windows(name, 0.0, cuts, told)


def _count_samples(source: Source, rate: int) -> int:
    """Samples at a rate, as a resampler will give them."""
    found = [
        (len(wave_s), own) for wave_s, own in audio.iter_blocks(source, block_seconds=BLOCK_SECONDS)
    ]
    return math.floor(sum(count for count, _ in found) * rate / found[0][1] + 0.5)


def _iter_windows(source: Source, rate: int, cuts: list[tuple[int, int]]) -> Iterator[Samples]:
    """The samples (S,) of each window."""
    tape, waiting = SampleBuffer(), iter(cuts)
    first, last = next(waiting)
    for wave_s in _iter_resampled(source, rate):
        tape.append(wave_s)
        while first < last <= tape.end:
            yield tape[first:last].copy()
            first, last = next(waiting, (last, last))
            tape.discard(first)
    if first < min(last, tape.end):
        yield tape[first : tape.end].copy()


def _iter_resampled(source: Source, rate: int) -> Iterator[Samples]:
    resample = None
    for wave_s, own in audio.iter_blocks(source, block_seconds=BLOCK_SECONDS):
        resample = resample or Resampler(own, rate)
        yield resample(wave_s)
    if resample is not None:
        yield resample(wave_s[:0], last=True)
