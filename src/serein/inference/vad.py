"""Where somebody speaks: silero-vad, its recurrence cut into lanes.

silero-vad (https://github.com/snakers4/silero-vad, MIT) gives each block of 32 ms at 16 kHz the
probability that somebody speaks. Its package runs one block after the other. Here are its weights
under layers of torch's own: what does not look back runs for many blocks at once, and the
recurrence begins anew at every lane, after a warm-up. Lanes are counted from the recording's start:
a file that runs many of them together, a stream, and a part of a file all get the same numbers.

N = blocks, S = samples of a block and its context, D = channels, L = lanes at once, T = blocks of a
lane, C = bins of the spectrum.
"""

import warnings
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.audio import Samples
from serein.errors import BundleError

SAMPLE_RATE = 16_000
BLOCK_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""Samples before a block that it sees."""
BLOCK_MS = 32
CHUNK_BLOCKS = 1000
"""Blocks of a lane: 32 s."""
WARM_UP_BLOCKS = 250
"""Blocks before a lane that its state is warmed with: 8 s."""
ENCODER_BATCH_SIZE = 512
"""Blocks that are encoded together; more would not fit into a core's cache."""

LSTMState = tuple[Tensor, Tensor]


class SileroModel(nn.Module):
    """The layers of silero-vad; its spectrum is a convolution with fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.encoder = nn.ModuleList(
            nn.Conv1d(channels, filters, 3, stride, padding=1)
            for channels, filters, stride in (
                (129, 128, 1),
                (128, 64, 2),
                (64, 64, 2),
                (64, 128, 1),
            )
        )
        self.recurrence = nn.LSTM(128, 128, batch_first=True)
        self.head = nn.Conv1d(128, 1, 1)

    def encode(self, wave_ns: Tensor) -> Tensor:
        """Blocks with their context (N, S) -> (N, D); no block sees another one."""
        padded_ns = F.pad(wave_ns[:, None], (0, CONTEXT_SAMPLES), mode="reflect")
        real_nct, imaginary_nct = self.spectrum(padded_ns).chunk(2, dim=1)
        x_nct = (real_nct.square() + imaginary_nct.square()).sqrt()
        for convolution in self.encoder:
            x_nct = convolution(x_nct).relu()
        return x_nct[..., 0]

    def forward(self, x_ltd: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Encoded blocks (L, T, D) and the state before -> probabilities (L, T), and it after."""
        h_ltd, state = self.recurrence(x_ltd, state)
        return self.head(h_ltd.relu().mT)[:, 0].sigmoid(), state


@cache
def load_silero() -> SileroModel:
    """The detector with the weights that its package brings.

    Raises:
        BundleError: the package or its weights are missing.
    """
    found = find_spec("silero_vad")
    places = (found and found.submodule_search_locations) or [""]
    path = Path(places[0]) / "data" / "silero_vad.jit"
    if not path.is_file():
        raise BundleError(
            f"silero-vad's weights are missing ({path}); expected those of silero-vad 6. Install "
            "it with pip install 'silero-vad>=6.2.3,<7', or do without speech detection"
        )
    with warnings.catch_warnings():  # torch means to drop this format, the only one with them all
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = torch.jit.load(str(path)).state_dict()  # type: ignore[no-untyped-call]
    ours = SileroModel().eval()
    names = {
        _convert_weight_name(name): weight
        for name, weight in theirs.items()
        if name.startswith("_model.")
    }
    ours.load_state_dict(names)
    return ours.requires_grad_(False)


def _convert_weight_name(name: str) -> str:
    """``_model.encoder.0.reparam_conv.weight`` is our ``encoder.0.weight``."""
    pairs = {
        "_model.": "",
        "stft.forward_basis_buffer": "spectrum.weight",
        ".reparam_conv": "",
        "decoder.decoder.2": "head",
    }
    for old, new in pairs.items():
        name = name.replace(old, new)
    if name.startswith("decoder.rnn."):
        return f"recurrence.{name.removeprefix('decoder.rnn.')}_l0"
    return name


class ChunkedVAD:
    """The probability of speech, block by block, however the samples come."""

    def __init__(self, first_chunk: int = 0) -> None:
        """Begin at the start of a lane; that one is warm only if it is the recording's first."""
        self.position = first_chunk * CHUNK_BLOCKS
        self._model = load_silero()
        self._rest_s = torch.zeros(CONTEXT_SAMPLES)
        self._before_nd = torch.zeros(0, 128)
        self._state = _zero_state(1)

    def __call__(self, wave_s: Samples, *, last: bool = False) -> Samples:
        """Samples (S,) at 16 kHz, and whether they are the last -> (N,) for each whole block."""
        known_s = torch.cat([self._rest_s, torch.from_numpy(wave_s)])
        if last:
            known_s = F.pad(known_s, (0, -(len(known_s) - CONTEXT_SAMPLES) % BLOCK_SAMPLES))
        count = (len(known_s) - CONTEXT_SAMPLES) // BLOCK_SAMPLES
        self._rest_s = known_s[count * BLOCK_SAMPLES :].clone()
        if not count:
            return np.zeros(0, np.float32)
        wave_ns = known_s.unfold(0, CONTEXT_SAMPLES + BLOCK_SAMPLES, BLOCK_SAMPLES)
        with torch.inference_mode():
            groups = torch.split(wave_ns, ENCODER_BATCH_SIZE)
            x_nd = torch.cat([self._model.encode(group_ns) for group_ns in groups])
            return self._run_recurrence(x_nd).numpy()

    def _run_recurrence(self, x_nd: Tensor) -> Tensor:
        """Encoded blocks -> their probabilities; lanes that end here go together."""
        known_nd = torch.cat([self._before_nd, x_nd])
        offset = self.position - len(self._before_nd)
        end = self.position + len(x_nd)
        edges = [
            self.position,
            *range(self.position // CHUNK_BLOCKS * CHUNK_BLOCKS + CHUNK_BLOCKS, end, CHUNK_BLOCKS),
            end,
        ]
        parts = [self._slice_chunk(known_nd, offset, a, b) for a, b in pairwise(edges)]
        whole = parts if end % CHUNK_BLOCKS == 0 else parts[:-1]
        probabilities = _run_parts(self._model, whole) if whole else []
        if len(whole) < len(parts):
            part = parts[-1]
            p_lt, self._state = self._model(part.x_td[None], part.state)
            probabilities.append(p_lt[0, part.warm_up :])
        self._before_nd = known_nd[-WARM_UP_BLOCKS:].clone()
        self.position = end
        return torch.cat(probabilities)

    def _slice_chunk(self, known_nd: Tensor, offset: int, start: int, end: int) -> "_ChunkPart":
        """Some blocks of one lane: where it begins, with a warm-up and no memory."""
        if start % CHUNK_BLOCKS:
            return _ChunkPart(known_nd[start - offset : end - offset], 0, self._state)
        begin = max(offset, start - WARM_UP_BLOCKS)
        return _ChunkPart(known_nd[begin - offset : end - offset], start - begin, _zero_state(1))


class _ChunkPart(NamedTuple):
    x_td: Tensor
    warm_up: int
    state: LSTMState


def _run_parts(model: SileroModel, parts: list[_ChunkPart]) -> list[Tensor]:
    x_ltd = nn.utils.rnn.pad_sequence([part.x_td for part in parts], batch_first=True)
    h_1ld = torch.cat([part.state[0] for part in parts], dim=1)
    c_1ld = torch.cat([part.state[1] for part in parts], dim=1)
    p_lt, _ = model(x_ltd, (h_1ld, c_1ld))
    return [p_t[part.warm_up : len(part.x_td)] for p_t, part in zip(p_lt, parts, strict=True)]


def _zero_state(count: int) -> LSTMState:
    return torch.zeros(1, count, 128), torch.zeros(1, count, 128)
