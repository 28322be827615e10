"""Many streams at the same time: their windows go through the model together."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from serein.audio import Block
from serein.inference.hearing import Window, hear, threads
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.stream import NOTHING, Step, Stream
from serein.inference.windows import Probabilities


def feed(
    recognizer: Recognizer, feeds: Sequence[tuple[Stream, Block | None]]
) -> list[list[Segment] | Exception]:
    """Feed streams of one recogniser.

    Args:
        recognizer: who listens in all of them.
        feeds: streams, each once, and their blocks as for ``Stream.feed``; None closes.

    Returns:
        Of each, in their order, what ``feed`` or ``close`` would return, but for rounding; or what
        they would raise, which the others do not notice.
    """
    with threads(recognizer.threads):
        taken = [_taken(stream, block) for stream, block in feeds]
        windows = [_windows(steps) for steps in taken]
        heard = _heard(recognizer, windows)
        return [
            _told(stream, steps, p_bk)
            for (stream, _), steps, p_bk in zip(feeds, taken, heard, strict=True)
        ]


def _taken(stream: Stream, block: Block | None) -> list[Step] | Exception:
    try:
        return stream.take(block)
    except Exception as error:
        return error


def _windows(steps: list[Step] | Exception) -> list[Window]:
    if isinstance(steps, Exception):
        return []
    return [step.window for step in steps if step.window]


def _heard(recognizer: Recognizer, windows: list[list[Window]]) -> list[Probabilities | Exception]:
    """What each stream's windows say; a stream whose windows cannot be heard is alone with that."""
    every = [window for some in windows for window in some]
    if not every:
        return [NOTHING for _ in windows]
    try:
        p_bk = hear(recognizer.system, every, recognizer.numbers)
    except Exception as error:
        if len(windows) == 1:
            return [error]
        return [heard for some in windows for heard in _heard(recognizer, [some])]
    ends = list(accumulate(map(len, windows)))
    return list(np.split(p_bk, ends[:-1]))


def _told(
    stream: Stream, steps: list[Step] | Exception, p_bk: Probabilities | Exception
) -> list[Segment] | Exception:
    if isinstance(steps, Exception):
        return steps
    return p_bk if isinstance(p_bk, Exception) else stream.tell(steps, p_bk)
