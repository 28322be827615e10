"""Whether anybody speaks in short recordings: no more is listened to than it takes to know.

N = recordings, S = samples, T = blocks of a step, D = channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from serein.audio import Resampler, Samples
from serein.inference.vad import (
    BLOCK_SAMPLES,
    CONTEXT_SAMPLES,
    SAMPLE_RATE,
    LSTMState,
    SileroModel,
    load_silero,
)

PRESENCE_THRESHOLD = 0.2
"""How likely a block is to be speech that counts."""
MIN_PRESENCE_BLOCKS = 2
"""Such blocks, of 32 ms, that make a voice. It takes little, as high voices that scream are hardly
heard as voices: 12 of RAVDESS's 1,440 utterances never reach 0.5 for 128 ms, and one does not reach
this. Noises, beeps, sirens, drums and chords do not; some melodies do."""
BLOCKS_PER_EXTRA = 250
"""Blocks, 8 s, for each of which it takes one more."""
BLOCKS_PER_STEP = 16
"""Blocks that are heard between two looks at what is known."""


def contains_speech(waves: Sequence[Samples], rate: float) -> list[bool]:
    """For each recording, whether somebody speaks in it, as silero-vad hears it.

    Args:
        waves: samples of shape (n,) each.
        rate: of the samples, in Hz.

    Raises:
        BundleError: silero-vad is missing.
    """
    model = load_silero()
    blocks = [_split_blocks(_resample_to_16k(wave_s, rate)) for wave_s in waves]
    found, known = [0] * len(waves), [False] * len(waves)
    state_21nd = torch.zeros(2, 1, len(waves), 128)
    first, open_ = 0, list(range(len(waves)))
    while open_ := [n for n in open_ if not known[n] and first < len(blocks[n])]:
        some = [blocks[n][first : first + BLOCKS_PER_STEP] for n in open_]
        p_nt, state = _score_blocks(model, some, (state_21nd[0][:, open_], state_21nd[1][:, open_]))
        first += BLOCKS_PER_STEP
        for place, n in enumerate(open_):
            found[n] += int((p_nt[place, : len(some[place])] >= PRESENCE_THRESHOLD).sum())
            known[n] = found[n] >= _required_blocks(first)
            state_21nd[:, :, n] = torch.stack([part[:, place] for part in state])
    return known


def _required_blocks(count: int) -> int:
    """How many of so many blocks it takes: what comes by chance comes oftener in the long run."""
    return MIN_PRESENCE_BLOCKS + count // BLOCKS_PER_EXTRA


def _resample_to_16k(wave_s: Samples, rate: float) -> Samples:
    return wave_s if rate == SAMPLE_RATE else Resampler(rate, SAMPLE_RATE)(wave_s, last=True)


def _split_blocks(wave_s: Samples) -> Tensor:
    """(S,) -> blocks with the context before each, the last one filled up."""
    padded_s = np.pad(wave_s, (CONTEXT_SAMPLES, -len(wave_s) % BLOCK_SAMPLES))
    return torch.from_numpy(padded_s).unfold(0, CONTEXT_SAMPLES + BLOCK_SAMPLES, BLOCK_SAMPLES)


def _score_blocks(
    model: SileroModel, some: Sequence[Tensor], state: LSTMState
) -> tuple[Tensor, LSTMState]:
    """Blocks of each recording -> probabilities (N, T), and the states after them."""
    with torch.inference_mode():
        x_nd = torch.split(model.encode(torch.cat(list(some))), [len(one) for one in some])
        x_ntd = torch.nn.utils.rnn.pad_sequence(list(x_nd), batch_first=True)
        return model(x_ntd, state)
