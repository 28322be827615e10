"""Names of attention maps, and the times of their steps."""

import numpy as np

TRANSCRIPT = "transcript"
"""The name of the transcript among targets and predictions, which other tasks have by theirs."""
ASR_ATTENTION = "recogniser"
"""Name of the attention map (B, L, T') of each word over the frames."""
WORD_ATTENTION = "words"
"""Name of the attention map (B, H, L) of heads over words; it has no frames, so its stride is 0."""


def attention_step_times(count: int, stride: int, hop: float, seconds: float) -> list[float]:
    """Return the centre of each step of an attention map, in seconds.

    Args:
        count: number of steps.
        stride: frames of a step.
        hop: seconds from frame to frame.
        seconds: duration of the recording; steps that begin after its end are padding and are
            left out.
    """
    begin_t = np.arange(count, dtype=np.float64) * stride * hop
    centre_t = begin_t + (stride - 1) / 2 * hop
    times: list[float] = np.minimum(centre_t[begin_t <= seconds + 1e-6], seconds).tolist()
    return times
