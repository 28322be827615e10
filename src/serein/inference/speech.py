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

RATE = 16_000
BLOCK = 512
CONTEXT = 64
"""Samples before a block that it sees."""
BLOCK_MS = 32
LANE = 1000
"""Blocks of a lane: 32 s."""
WARM_UP = 250
"""Blocks before a lane that its state is warmed with: 8 s."""
AT_A_TIME = 512
"""Blocks that are encoded together; more would not fit into a core's cache."""

State = tuple[Tensor, Tensor]


class Detector(nn.Module):
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
        padded_ns = F.pad(wave_ns[:, None], (0, CONTEXT), mode="reflect")
        real_nct, imaginary_nct = self.spectrum(padded_ns).chunk(2, dim=1)
        x_nct = (real_nct.square() + imaginary_nct.square()).sqrt()
        for convolution in self.encoder:
            x_nct = convolution(x_nct).relu()
        return x_nct[..., 0]

    def forward(self, x_ltd: Tensor, state: State) -> tuple[Tensor, State]:
        """Encoded blocks (L, T, D) and the state before -> probabilities (L, T), and it after."""
        h_ltd, state = self.recurrence(x_ltd, state)
        return self.head(h_ltd.relu().mT)[:, 0].sigmoid(), state


@cache
def detector() -> Detector:
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
    ours = Detector().eval()
    names = {_ours(name): weight for name, weight in theirs.items() if name.startswith("_model.")}
    ours.load_state_dict(names)
    return ours.requires_grad_(False)


def _ours(name: str) -> str:
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


class Lanes:
    """The probability of speech, block by block, however the samples come."""

    def __init__(self, first: int = 0) -> None:
        """Begin at the start of a lane; that one is warm only if it is the recording's first."""
        self.at = first * LANE
        self._model = detector()
        self._rest_s = torch.zeros(CONTEXT)
        self._before_nd = torch.zeros(0, 128)
        self._state = _silence(1)

    def __call__(self, wave_s: Samples, *, last: bool = False) -> Samples:
        """Samples (S,) at 16 kHz, and whether they are the last -> (N,) for each whole block."""
        known_s = torch.cat([self._rest_s, torch.from_numpy(wave_s)])
        if last:
            known_s = F.pad(known_s, (0, -(len(known_s) - CONTEXT) % BLOCK))
        count = (len(known_s) - CONTEXT) // BLOCK
        self._rest_s = known_s[count * BLOCK :].clone()
        if not count:
            return np.zeros(0, np.float32)
        wave_ns = known_s.unfold(0, CONTEXT + BLOCK, BLOCK)
        with torch.inference_mode():
            groups = torch.split(wave_ns, AT_A_TIME)
            x_nd = torch.cat([self._model.encode(group_ns) for group_ns in groups])
            return self._recurred(x_nd).numpy()

    def _recurred(self, x_nd: Tensor) -> Tensor:
        """Encoded blocks -> their probabilities; lanes that end here go together."""
        known_nd = torch.cat([self._before_nd, x_nd])
        offset = self.at - len(self._before_nd)
        end = self.at + len(x_nd)
        edges = [self.at, *range(self.at // LANE * LANE + LANE, end, LANE), end]
        parts = [self._part(known_nd, offset, a, b) for a, b in pairwise(edges)]
        whole = parts if end % LANE == 0 else parts[:-1]
        probabilities = _together(self._model, whole) if whole else []
        if len(whole) < len(parts):
            part = parts[-1]
            p_lt, self._state = self._model(part.x_td[None], part.state)
            probabilities.append(p_lt[0, part.warm :])
        self._before_nd = known_nd[-WARM_UP:].clone()
        self.at = end
        return torch.cat(probabilities)

    def _part(self, known_nd: Tensor, offset: int, start: int, end: int) -> "_Part":
        """Some blocks of one lane: where it begins, with a warm-up and no memory."""
        if start % LANE:
            return _Part(known_nd[start - offset : end - offset], 0, self._state)
        begin = max(offset, start - WARM_UP)
        return _Part(known_nd[begin - offset : end - offset], start - begin, _silence(1))


class _Part(NamedTuple):
    x_td: Tensor
    warm: int
    state: State


def _together(model: Detector, parts: list[_Part]) -> list[Tensor]:
    x_ltd = nn.utils.rnn.pad_sequence([part.x_td for part in parts], batch_first=True)
    h_1ld = torch.cat([part.state[0] for part in parts], dim=1)
    c_1ld = torch.cat([part.state[1] for part in parts], dim=1)
    p_lt, _ = model(x_ltd, (h_1ld, c_1ld))
    return [p_t[part.warm : len(part.x_td)] for p_t, part in zip(p_lt, parts, strict=True)]


def _silence(lanes: int) -> State:
    return torch.zeros(1, lanes, 128), torch.zeros(1, lanes, 128)
