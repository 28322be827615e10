"""Many streams at the same time: their windows go through the model together."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from serein.audio import Block
from serein.inference.hearing import Window, predict_windows, torch_threads
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import NO_PREDICTIONS, Step, Stream
from serein.inference.windowing import Probabilities


def feed_streams(
    predictor: Recognizer, feeds: Sequence[tuple[Stream, Block | None]]
) -> list[list[Segment] | Exception]:
    """Feed streams of one recogniser.

    Args:
        predictor: who listens in all of them.
        feeds: streams, each once, and their blocks as for ``Stream.feed``; None closes.

    Returns:
        Of each, in their order, what ``feed`` or ``close`` would return, but for rounding; or what
        they would raise, which the others do not notice.
    """
    with torch_threads(predictor.threads):
        taken = [_prepare_steps(stream, block) for stream, block in feeds]
        windows = [_collect_windows(steps) for steps in taken]
        heard = _predict_streams(predictor, windows)
        return [
            _apply_predictions(stream, steps, p_bk)
            for (stream, _), steps, p_bk in zip(feeds, taken, heard, strict=True)
        ]


def _prepare_steps(stream: Stream, block: Block | None) -> list[Step] | Exception:
    try:
        return stream.prepare_steps(block)
    except Exception as error:
        return error


def _collect_windows(steps: list[Step] | Exception) -> list[Window]:
    if isinstance(steps, Exception):
        return []
    return [step.window for step in steps if step.window]


def _predict_streams(
    predictor: Recognizer, windows: list[list[Window]]
) -> list[Probabilities | Exception]:
    """What each stream's windows say; a stream whose windows cannot be heard is alone with that."""
    every = [window for some in windows for window in some]
    if not every:
        return [NO_PREDICTIONS for _ in windows]
    try:
        p_bk = predict_windows(predictor.system, every, predictor.precision)
    except Exception as error:
        if len(windows) == 1:
            return [error]
        return [heard for some in windows for heard in _predict_streams(predictor, [some])]
    ends = list(accumulate(map(len, windows)))
    return list(np.split(p_bk, ends[:-1]))


def _apply_predictions(
    stream: Stream, steps: list[Step] | Exception, p_bk: Probabilities | Exception
) -> list[Segment] | Exception:
    if isinstance(steps, Exception):
        return steps
    return p_bk if isinstance(p_bk, Exception) else stream.apply_predictions(steps, p_bk)
