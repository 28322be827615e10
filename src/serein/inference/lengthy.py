"""One answer for a recording that is too long to be held: it is read in blocks.

The windows of a recording are of one length, which follows from its own; a container may be wrong
about that. So it is read twice, first to be measured.

S = samples.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice

from serein import audio
from serein.audio import Resampler, Samples, Source
from serein.inference.hearing import torch_threads
from serein.inference.predictor import BATCH_SIZE, WindowPrediction, predict_batches
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.tape import SampleBuffer

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
