"""Occlusion: how the answer changes when a short span of the recording is silenced.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2
(occlusion sensitivity), cover one square of an image after the other and record the probability of
the class. Here one span of a recording after the other fades to the recording's own background, and
the drop of the probability of the predicted label is the weight of the span. It needs the answers
of a model only, so that it works for every model.

The background is noise with the level and the spectrum of the quietest tenth of the recording.
Digital zeros would be quieter than any part of most recordings, and a step to zeros is a click:
both are signals that no training recording has, and a model may react to them rather than to the
missing speech. A recording whose quietest tenth is digital silence fades to zeros.

S = samples, N = spans, K = classes of a task, or 1 for a value.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serein.audio import Samples
from serein.errors import ConfigError
from serein.inference.backend import WindowPrediction
from serein.inference.predictor import BATCH_SIZE, Predictor

SPAN_SECONDS = 0.4
"""Duration of a span in seconds: about two syllables. Spans start every half of it."""
MIN_SPAN_SECONDS = 0.04
"""Shortest span in seconds: two periods of the lowest voice."""
MIN_SPANS = 5
"""Shorter recordings are divided into this many spans, and as many halfway between them."""
MAX_SPANS = 150
"""Spans of a recording are at most so many; those of recordings longer than 30 s are longer."""
FADE_SECONDS = 0.01
"""Duration of the fade at either end of a span, in seconds."""
FRAME_SECONDS = 0.025
"""Frames whose quietest tenth is the background, in seconds."""
QUIET_SHARE = 0.1
"""Share of the frames that are the background."""
BATCH_SECONDS = 240.0
"""Most audio in a batch of answers, in seconds, which limits memory."""
DECIMALS = 5
"""Digits of a drop: smaller ones are rounding, which depends on what is in a batch."""

FloatArray = NDArray[np.float64]


class Spans(NamedTuple):
    """Spans of equal length that cover a recording.

    Attributes:
        start_n: (N,) first sample of each span.
        length: samples of a span.
    """

    start_n: NDArray[np.int64]
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drops:
    """Changes of the answer.

    Attributes:
        spans: the occluded spans.
        drops: for each task, (N,) its probability of the label, or its value, minus the same with
            the span occluded.
        answers: number of windows that the model answered.
    """

    spans: Spans
    drops: dict[str, FloatArray]
    answers: int


def place_spans(length: int, rate: int) -> Spans:
    """Place overlapping spans over a recording, the first at its start and the last at its end.

    >>> spans = place_spans(32_000, 16_000)
    >>> spans.length, spans.start_n.tolist()
    (6400, [0, 3200, 6400, 9600, 12800, 16000, 19200, 22400, 25600])

    Args:
        length: of the recording, in samples.
        rate: in Hz.
    """
    seconds = length / rate
    span = max(
        min(SPAN_SECONDS, seconds / MIN_SPANS),
        MIN_SPAN_SECONDS,
        2 * seconds / (MAX_SPANS + 1),
    )
    samples = min(length, max(1, round(span * rate)))
    count = min(MAX_SPANS, 1 + math.ceil(2 * (length - samples) / samples - 1e-9))
    return Spans(np.linspace(0, length - samples, count).round().astype(np.int64), samples)


def build_background(wave_s: Samples, rate: int) -> Samples:
    """Build noise with the level and spectrum of the quietest tenth of a recording.

    Args:
        wave_s: (S,) the recording.
        rate: in Hz.

    Returns:
        (S,), the same for the same recording; zeros if the quietest tenth is digital silence, or if
        the recording is shorter than two frames.
    """
    size = round(FRAME_SECONDS * rate)
    if len(wave_s) < 2 * size:
        return np.zeros_like(wave_s)
    frames = np.lib.stride_tricks.sliding_window_view(wave_s, size)[:: max(1, size // 2)]
    level_n = np.einsum("ns,ns->n", frames, frames)
    quietest = np.argsort(level_n, kind="stable")[: max(1, round(QUIET_SHARE * len(frames)))]
    window_s = np.hanning(size)
    power_f = np.mean(np.abs(np.fft.rfft(frames[quietest] * window_s)) ** 2, axis=0)
    noise_f = np.fft.rfft(np.random.default_rng(0).standard_normal(len(wave_s)))
    bins = np.linspace(0, 1, len(noise_f))
    gain_f = np.sqrt(
        np.interp(bins, np.linspace(0, 1, len(power_f)), power_f / (window_s**2).sum())
    )
    return np.fft.irfft(noise_f * gain_f, len(wave_s)).astype(np.float32)


def occlude(wave_s: Samples, background_s: Samples, start: int, end: int, rate: int) -> Samples:
    """Replace a span of a recording by the background, with a fade at either end.

    The fades are within the span and keep the power of unrelated signals (quarters of a sine), so
    that there is no click. They are shorter in spans shorter than four fades.

    Args:
        wave_s: (S,) the recording.
        background_s: (S,) what replaces it.
        start: first sample of the span.
        end: the one after its last.
        rate: in Hz.
    """
    fade = min(round(FADE_SECONDS * rate), (end - start) // 4)
    angle_s = np.full(end - start, np.pi / 2)
    rise = np.pi / 2 * (np.arange(fade) + 0.5) / max(1, fade)
    angle_s[:fade], angle_s[len(angle_s) - fade :] = rise, rise[::-1]
    occluded_s = wave_s.copy()
    part = slice(start, end)
    mixed_s = np.cos(angle_s) * wave_s[part] + np.sin(angle_s) * background_s[part]
    # The cosine of the float nearest to a right angle is not 0.
    occluded_s[part] = np.where(angle_s == np.pi / 2, background_s[part], mixed_s)
    return occluded_s


def measure_drops(
    predictor: Predictor,
    wave_s: Samples,
    windows: Sequence[tuple[int, int]],
    labels: Mapping[str, str],
    words: str | None = None,
) -> Drops:
    """Occlude one span after the other, and return how much the answer changes.

    Only the windows that a span overlaps are answered again. All windows count, also if the model
    would find no speech in an occluded one.

    Args:
        predictor: the model.
        wave_s: (S,) the recording, at the rate of the model.
        windows: first sample of each window that the answer is the mean of, and the one after its
            last.
        labels: the predicted label of each classification task.
        words: what is said, for a model that reads words; it stays the same for each span. None are
            recognised anew for each span by the model's own recogniser.

    Raises:
        ConfigError: the model reads the given words and not the sound.
    """
    columns = {task: _find_column(predictor, task, labels) for task in predictor.classes}
    with predictor.limit_threads():
        if words is not None:
            _check_reads_sound(predictor, wave_s[slice(*windows[0])], words)
        rate, spans = predictor.rate, place_spans(len(wave_s), predictor.rate)
        background_s = build_background(wave_s, rate)
        overlaps = [
            (span, window)
            for span, start in enumerate(spans.start_n.tolist())
            for window, (first, last) in enumerate(windows)
            if first < start + spans.length and start < last
        ]

        def iter_waves() -> Iterator[Samples]:
            for first, last in windows:
                yield wave_s[first:last]
            for span, window in overlaps:
                first, last = windows[window]
                start = int(spans.start_n[span])
                yield occlude(
                    wave_s[first:last],
                    background_s[first:last],
                    max(start - first, 0),
                    min(start + spans.length, last) - first,
                    rate,
                )

        longest = max(last - first for first, last in windows)
        size = int(np.clip(BATCH_SECONDS * rate // longest, 1, BATCH_SIZE))
        waves = iter_waves()
        predictions: list[WindowPrediction] = []
        while batch := list(islice(waves, size)):
            texts = [words] * len(batch)
            predictions += predictor.predict_batches(batch, attention=False, texts=texts)
    drops = {
        task: _sum_drops(
            np.array([_get_output(one, task, column) for one in predictions]),
            overlaps,
            len(windows),
            len(spans.start_n),
        )
        for task, column in columns.items()
    }
    return Drops(spans=spans, drops=drops, answers=len(predictions))


def _find_column(predictor: Predictor, task: str, labels: Mapping[str, str]) -> int:
    """Return which output of a task is occluded: that of the label, or its only value."""
    classes = predictor.classes[task]
    return classes.index(labels[task]) if classes else 0


def _get_output(prediction: WindowPrediction, task: str, column: int) -> float:
    return prediction.outputs[task][column]


def _sum_drops(
    output_w: FloatArray, overlaps: Sequence[tuple[int, int]], windows: int, spans: int
) -> FloatArray:
    """Return the drop (N,) of the mean over windows.

    Args:
        output_w: of each window as it is, then of each pair of a span and a window.
        overlaps: these pairs.
        windows: number of windows.
        spans: N.
    """
    drop_n = np.zeros(spans)
    for (span, window), output in zip(overlaps, output_w[windows:], strict=True):
        drop_n[span] += (output_w[window] - output) / windows
    return drop_n.round(DECIMALS) + 0.0  # no -0.0


def _check_reads_sound(predictor: Predictor, wave_s: Samples, words: str) -> None:
    """Raise ConfigError if noise with the same words has exactly the same answer."""
    noise_s = np.random.default_rng(0).standard_normal(len(wave_s)).astype(np.float32)
    answers = [
        predictor.predict_batches([one_s], attention=False, texts=[words])[0].outputs
        for one_s in (wave_s, 0.1 * noise_s)
    ]
    if answers[0] == answers[1]:
        raise ConfigError(
            f"the model {predictor.name} (recipe {predictor.description.recipe.name}) reads the "
            "given words only, and not the recording; a silenced span cannot change its answer. "
            "`serein recognize --words ... --format json` lists the weight of each word"
        )
