"""A long recording from start to end, or a part of it that another machine leaves to this one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from serein import audio
from serein.audio import Source
from serein.errors import ConfigError
from serein.inference.recognition import Recognition, Segment, named
from serein.inference.speech import BLOCK_MS, LANE
from serein.inference.stream import Settings, Stream

if TYPE_CHECKING:
    from serein.inference.recognizer import Recognizer

LANE_SECONDS = LANE * BLOCK_MS / 1000
AT_A_TIME = 4
"""Lanes that are read and heard together: what memory holds, and what goes through as one batch."""


def timeline(
    recognizer: "Recognizer",
    source: Source,
    part: tuple[float, float | None],
    channel: int | None,
    shard: tuple[int, int] | None,
    settings: Settings,
) -> Recognition:
    """What ``Recognizer.timeline`` does; see there."""
    *_, answer = gradually(recognizer, source, part, channel, shard, settings)
    assert answer is not None
    return answer


def gradually(
    recognizer: "Recognizer",
    source: Source,
    part: tuple[float, float | None] = (0.0, None),
    channel: int | None = None,
    shard: tuple[int, int] | None = None,
    settings: Settings | None = None,
    lanes_at_a_time: int = AT_A_TIME,
) -> Iterator[Recognition | None]:
    """The same step by step, for whoever has other things to do between them.

    Yields:
        None after each block, and the answer in the end.
    """
    start, end = part
    lanes = None if shard is None else _lanes(source, start, end, shard)
    begin = start + max(0, lanes[0] - 1) * LANE_SECONDS if lanes else start
    last = start + lanes[1] * LANE_SECONDS if lanes else math.inf
    windows: list[tuple[float, float]] = []
    segments: list[Segment] = []
    stream, seconds, count = None, 0.0, 0
    size = lanes_at_a_time * LANE_SECONDS
    for samples, rate in audio.blocks(source, seconds=size, start=begin, end=end, channel=channel):
        if stream is None:
            stream = Stream(recognizer, rate, settings or Settings(), start, lanes, windows)
        segments += stream.feed(samples)
        count += len(samples)
        seconds = count / rate
        yield None
        if stream.over:
            break
    segments += stream.close() if stream else []
    means = overall(recognizer, segments)
    yield Recognition(
        source=named(source),
        model=recognizer.name,
        start=start + lanes[0] * LANE_SECONDS if lanes else start,
        end=min(begin + seconds, last),
        windows=windows,
        tasks=recognizer.answers(means),
        attention={},
        values=recognizer.values(means),
        channel=channel,
        segments=segments,
        speech=bool(segments),
    )


def joined(recognizer: "Recognizer", parts: Sequence[Recognition]) -> Recognition:
    """The timelines of all shards of a recording, in order -> that of the whole."""
    segments = [segment for part in parts for segment in part.segments or []]
    means = overall(recognizer, segments)
    return replace(
        parts[0],
        end=parts[-1].end,
        windows=[window for part in parts for window in part.windows],
        tasks=recognizer.answers(means),
        values=recognizer.values(means),
        segments=segments,
        speech=bool(segments),
    )


def overall(recognizer: "Recognizer", segments: Sequence[Segment]) -> dict[str, list[float]]:
    """Means of segments' probabilities and values by length; nothing where nobody spoke."""
    if not segments:
        return {}
    length_n = [segment.end - segment.start for segment in segments]
    means = {}
    for task, classes in recognizer.classes.items():
        p_nk = [
            list(one.tasks[task].probabilities.values()) if classes else [one.values[task]]
            for one in segments
        ]
        means[task] = np.average(p_nk, axis=0, weights=length_n).tolist()
    return means


def _lanes(
    source: Source, start: float, end: float | None, shard: tuple[int, int]
) -> tuple[int, int]:
    """The first lane of a shard and the one after its last."""
    number, count = shard
    if not 0 <= number < count:
        raise ConfigError(f"shard {number} of {count}; expected 0 to {count - 1}. Count from 0")
    length = audio.duration(source)
    lanes = math.ceil((min(end or length, length) - start) / LANE_SECONDS)
    return lanes * number // count, lanes * (number + 1) // count
