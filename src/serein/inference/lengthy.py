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
from serein.inference.hearing import threads
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.tape import Tape
from serein.inference.together import AT_A_TIME, Heard, hear_each

BLOCK = 60.0
"""Seconds that are read at a time."""


def recognise(
    recognizer: Recognizer, source: Source, name: str, between: Callable[[], None]
) -> Recognition:
    """What ``Recognizer.together`` says of a recording, but for attention; memory does not grow.

    Args:
        recognizer: with a ``window``.
        source: a path or bytes, which can be read twice.
        name: what the answer calls it.
        between: is called now and then.

    Raises:
        AudioError: it cannot be read, or is too short.
    """
    assert recognizer.window is not None, "a model that hears all at once holds it"
    most = round(recognizer.window * recognizer.rate)
    cuts = audio.windows(_measured(source, recognizer.rate), most)
    parts, told = _parts(source, recognizer.rate, cuts), list[tuple[Heard, bool]]()
    with threads(recognizer.threads):
        while some := list(islice(parts, AT_A_TIME)):
            between()
            heard = hear_each(recognizer.system, some, recognizer.numbers, attention=False)
            told += zip(heard, recognizer.voices(some), strict=True)
    return recognizer.concluded(name, 0.0, cuts, told)


def _measured(source: Source, rate: int) -> int:
    """Samples at a rate, as a resampler will give them."""
    found = [(len(wave_s), own) for wave_s, own in audio.blocks(source, seconds=BLOCK)]
    return math.floor(sum(count for count, _ in found) * rate / found[0][1] + 0.5)


def _parts(source: Source, rate: int, cuts: list[tuple[int, int]]) -> Iterator[Samples]:
    """The samples (S,) of each window."""
    tape, waiting = Tape(), iter(cuts)
    first, last = next(waiting)
    for wave_s in _resampled(source, rate):
        tape.append(wave_s)
        while first < last <= tape.end:
            yield tape[first:last].copy()
            first, last = next(waiting, (last, last))
            tape.forget(first)
    if first < min(last, tape.end):
        yield tape[first : tape.end].copy()


def _resampled(source: Source, rate: int) -> Iterator[Samples]:
    resample = None
    for wave_s, own in audio.blocks(source, seconds=BLOCK):
        resample = resample or Resampler(own, rate)
        yield resample(wave_s)
    if resample is not None:
        yield resample(wave_s[:0], last=True)
