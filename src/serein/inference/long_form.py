"""Recognize long recordings, which are read in blocks so that memory use does not grow.

``iter_timeline`` gives an answer per segment, for a whole recording or for one of several shards of
it. ``recognize_recordings`` and ``recognize_long`` give one answer for a recording: a short one is
an utterance, and the answer to a long one is that of its timeline.

S = samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import islice

import numpy as np

from serein import audio
from serein.audio import Resampler, Samples, Source
from serein.errors import ConfigError
from serein.inference.backend import WindowPrediction
from serein.inference.predictor import BATCH_SIZE, Predictor
from serein.inference.recognition import (
    MIXED,
    LongRecognition,
    Recognition,
    Segment,
    choose_label,
    compute_shares,
    get_source_name,
)
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.inference.vad import CHUNK_SECONDS
from serein.inference.windowing import SampleBuffer

CHUNKS_AT_A_TIME = 4
"""VAD chunks in a block of a timeline: what is held in memory, and predicted as one batch."""
BLOCK_SECONDS = 60.0
"""Length of the blocks from which ``average_windows`` cuts windows."""
LONGEST_UTTERANCE = 30.0
"""Seconds up to which a recording is one utterance for a model without a longest window."""


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
    offset: float = 0.0,
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
        offset: seconds of the recording before the source; they are added to all times.

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
            origin = offset + start
            stream = Stream(predictor, rate, config or StreamConfig(), origin, chunks, windows)
        segments += stream.feed(samples)
        count += len(samples)
        seconds = count / rate
        yield None
        if stream.is_finished:
            break
    segments += stream.close() if stream else []
    last = offset + min(read_start + seconds, shard_end)
    answer = join_segments(predictor, get_source_name(source), segments, last)
    yield replace(answer, start=offset + shard_start, windows=windows, channel=channel)


def join_segments(
    predictor: Predictor, source: str, segments: list[Segment], end: float
) -> Recognition:
    """Return the answer of a recording with these segments.

    Labels follow the shares of the speech; probabilities and values are means.

    Args:
        predictor: the model.
        source: name of the recording.
        segments: of the recording, in order.
        end: duration of the recording, in seconds.
    """
    answer = Recognition(
        source=source,
        model=predictor.name,
        start=0.0,
        end=end,
        windows=[],
        tasks={},
        attention={},
    )
    return _set_segments(predictor, answer, segments)


def _set_segments(
    predictor: Predictor, answer: Recognition, segments: list[Segment]
) -> Recognition:
    """Return an answer with other segments, and with what follows from them."""
    means = average_segments(predictor, segments)
    tasks, values = predictor.to_answers(means), predictor.to_values(means)
    dimensions = predictor.to_dimensions(tasks, values)
    for task, shares in compute_shares(segments).items():
        label, mean = choose_label(shares), tasks[task]
        confidence = mean.confidence if label in (None, MIXED) else mean.probabilities[label]
        tasks[task] = replace(mean, label=label, confidence=confidence)
    return replace(
        answer,
        tasks=tasks,
        values=values,
        dimensions=dimensions,
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
    windows = [window for shard in shards for window in shard.windows]
    joined = replace(shards[0], end=shards[-1].end, windows=windows)
    return _set_segments(predictor, joined, segments)


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
    return _set_segments(predictor, timeline, [_join_hops(predictor, group) for group in groups])


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


def is_long(predictor: Predictor, seconds: float) -> bool:
    """Return whether the answer to a recording is that of its timeline.

    It is if the recording is longer than the model's window. A model that needs given words has no
    timelines.

    Args:
        predictor: the model.
        seconds: duration of the recording.
    """
    longest = predictor.window or LONGEST_UTTERANCE
    return seconds > longest and predictor.word_source != "given"


def choose_stream_config(predictor: Predictor) -> StreamConfig:
    """Return the settings of the timeline from which a long recording is answered."""
    window = min(predictor.window or math.inf, StreamConfig.window)
    hop = min(window, StreamConfig.hop)
    return StreamConfig(window=window, hop=hop, speech=not predictor.answer_nonspeech)


def recognize_recordings(
    predictor: Predictor,
    recordings: Sequence[tuple[str, Samples]],
    *,
    start: float = 0.0,
    attention: bool = True,
    words: Sequence[str | None] | None = None,
) -> list[Recognition]:
    """Recognize loaded recordings with one answer each.

    Args:
        predictor: the model.
        recordings: name of each recording, and its samples of shape (n,) at the model's rate.
        start: time of the first sample in its recording, in seconds.
        attention: whether to return attention maps, and the words of long recordings.
        words: the words of each recording, for a model that reads words. A recording whose words
            are given is answered as one utterance.

    Raises:
        ConfigError: the model needs words and has none, or is given words and reads none.
    """
    words = [None] * len(recordings) if words is None else words
    long = [
        text is None and is_long(predictor, len(wave_s) / predictor.rate)
        for (_, wave_s), text in zip(recordings, words, strict=True)
    ]
    short = [n for n, one in enumerate(long) if not one]
    predicted = predictor.predict_many(
        [recordings[n] for n in short],
        start=start,
        attention=attention,
        words=[words[n] for n in short],
    )
    answers = dict(zip(short, predicted, strict=True))
    for n, (name, wave_s) in enumerate(recordings):
        if long[n]:
            source, config = (wave_s, predictor.rate), choose_stream_config(predictor)
            *_, timeline = iter_timeline(predictor, source, config=config, offset=start)
            assert timeline is not None
            timeline = replace(timeline, source=name)
            *_, answer = iter_long_answer(predictor, wave_s, timeline, attention=attention)
            assert answer is not None
            answers[n] = answer
    return [answers[n] for n in range(len(recordings))]


def iter_long_answer(
    predictor: Predictor,
    wave_s: Samples,
    timeline: Recognition,
    *,
    attention: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Recognition | None]:
    """Complete the one answer to a long recording, of which the timeline is known.

    Its windows are predicted for attention maps and words, if the model has them, and for the
    probabilities of a recording without speech.

    Args:
        predictor: the model.
        wave_s: (S,) samples of the recording at the model's rate.
        timeline: of the recording.
        attention: whether to return attention maps and words.
        batch_size: windows that are predicted at a time.

    Yields:
        None after each batch, and the answer at the end.
    """
    mean: Recognition | None = None
    if not timeline.speech or (attention and _has_details(predictor, wave_s)):
        (bounds,), windows, _ = predictor.split_recordings([(timeline.source, wave_s)])
        steps = iter_average(
            predictor,
            timeline.source,
            windows,
            bounds,
            start=timeline.start,
            attention=attention,
            batch_size=batch_size,
        )
        while mean is None:
            mean = next(steps)
            yield None
    yield answer_by_timeline(timeline, mean)


def _has_details(predictor: Predictor, wave_s: Samples) -> bool:
    """Return whether the model has attention maps or words."""
    with predictor.limit_threads():
        (found,) = predictor.predict_batches([wave_s[: predictor.rate]], attention=True)
    return bool(found.attention or predictor.description.vocabulary)


def answer_by_timeline(timeline: Recognition, mean: Recognition | None) -> LongRecognition:
    """Return the one answer to a long recording.

    Args:
        timeline: of the recording.
        mean: the mean over the windows of the recording, which has attention maps and words, and
            the probabilities for a recording without speech; None if these are not needed.
    """
    content = {one.name: getattr(timeline, one.name) for one in fields(timeline) if one.init}
    if mean is not None:
        content["attention"] = mean.attention
        content["words"] = mean.words if timeline.speech else []
    if mean is not None and not timeline.speech:
        content["windows"] = mean.windows
        content["tasks"] = {task: replace(one, label=None) for task, one in mean.tasks.items()}
    return LongRecognition(**content)


def recognize_long(
    predictor: Predictor, source: Source, name: str, on_step: Callable[[], None]
) -> Recognition:
    """Recognize a recording of any length with one answer, as ``recognize_recordings`` does.

    Args:
        predictor: a model with a ``window``.
        source: a path or bytes, which can be read several times.
        name: name of the recording in its answer.
        on_step: is called before each batch.

    Returns:
        The answer, without attention maps and words.

    Raises:
        AudioError: the recording cannot be read, or is too short.
    """
    timeline, mean = None, None
    steps = iter_timeline(predictor, source, config=choose_stream_config(predictor))
    while timeline is None:
        on_step()
        timeline = next(steps)
    if not timeline.speech:
        mean = average_windows(predictor, source, name, on_step)
    return answer_by_timeline(replace(timeline, source=name), mean)


def average_windows(
    predictor: Predictor, source: Source, name: str, on_step: Callable[[], None]
) -> Recognition:
    """Average the predictions for the windows of a recording, as ``Predictor.predict_many`` does.

    The length of the windows depends on the exact length of the recording, and the header of a
    file may be wrong about it. So the recording is read twice; the first time to measure it.

    Args:
        predictor: a model with a ``window``.
        source: a path or bytes, which can be read twice.
        name: name of the recording in its answer.
        on_step: is called before each batch.

    Raises:
        AudioError: the recording cannot be read, or is too short.
    """
    assert predictor.window is not None, "a model without a longest window needs all samples"
    max_length = round(predictor.window * predictor.rate)
    bounds = audio.split_evenly(count_samples(source, predictor.rate), max_length)
    windows = iter_windows(source, predictor.rate, bounds)
    answer = None
    steps = iter_average(predictor, name, windows, bounds, attention=False)
    while answer is None:
        on_step()
        answer = next(steps)
    return answer


def iter_average(
    predictor: Predictor,
    name: str,
    windows: Iterable[Samples],
    bounds: Sequence[tuple[int, int]],
    *,
    start: float = 0.0,
    attention: bool,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Recognition | None]:
    """Average the predictions for windows batch by batch.

    Args:
        predictor: the model.
        name: of the recording.
        windows: the samples (S,) of each.
        bounds: first sample of each window, and the one after its last.
        start: time of the first sample in the recording, in seconds.
        attention: whether to return attention maps.
        batch_size: windows that are predicted at a time.

    Yields:
        None after each batch, and the answer at the end.
    """
    predictions: list[tuple[WindowPrediction, bool]] = []
    remaining = iter(windows)
    while batch := list(islice(remaining, batch_size)):
        with predictor.limit_threads():
            outputs = predictor.predict_batches(batch, attention=attention)
            predictions += zip(outputs, predictor.detect_speech(batch), strict=True)
        yield None
    yield predictor.aggregate_windows(name, start, bounds, predictions)


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
