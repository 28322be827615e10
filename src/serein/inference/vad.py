"""Where somebody speaks: silero-vad, its recurrence cut into lanes.

silero-vad (https://github.com/snakers4/silero-vad, MIT) gives each block of 32 ms at 16 kHz the
probability that somebody speaks. Its package runs one block after the other. Here are its weights
under layers of torch's own: what does not look back runs for many blocks at once, and the
recurrence begins anew at every lane, after a warm-up. Lanes are counted from the recording's start:
a file that runs many of them together, a stream, and a part of a file all get the same numbers.

N = blocks, S = samples of a block and its context, D = channels, L = lanes at once, T = blocks of a
lane, C = bins of the spectrum.

Whether anybody speaks in short recordings: no more is listened to than it takes to know.

N = recordings, S = samples, T = blocks of a step, D = channels.

From the probability of speech, block by block, to stretches of speech.

Speech begins where a block reaches ``THRESHOLD`` and lasts while blocks reach ``LOWER``; shorter
pauses than ``PAUSE`` belong to it. What is shorter than ``SHORTEST`` is none. All times are whole
milliseconds from the recording's start.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.audio import Resampler, Samples
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


THRESHOLD = 0.5
NEG_THRESHOLD = 0.35
MIN_SILENCE_MS = 500
MIN_SILENCE_BLOCKS = ceil(MIN_SILENCE_MS / BLOCK_MS)
MIN_SPEECH_MS = 250
SPEECH_PAD_MS = 100
"""What is heard before and after speech."""


class SpeechSegment(NamedTuple):
    """What is known of a stretch of speech.

    Attributes:
        start: where it begins, in ms.
        until: where it ends, or how far it certainly goes, in ms.
        closed: whether it has ended.
    """

    start: int
    end: int
    closed: bool


class SpeechDetector(Protocol):
    """Finds stretches in samples."""

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """What samples tell: each stretch that ended, and then the one that goes on.

        Args:
            wave_s: (S,) samples; at 16 kHz where speech is looked for.
            last: whether they are the last.
            window_end: where the window ends, in ms, that is heard next of the stretch that goes on.
        """

    def next_update(self, window_end: int | None) -> int:
        """Until where, in ms, samples tell nothing new; ``window_end`` as above."""

    @property
    def first_needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""


class NoVAD:
    """One stretch, whatever is said."""

    first_needed = 0

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """All samples until now."""
        self._count += len(wave_s)
        until = self._count * 1000 / self._rate
        return [SpeechSegment(0, ceil(until) if last else floor(until), last)]

    def next_update(self, window_end: int | None) -> int:
        """Only a window that is full tells something."""
        return window_end or 0


class SileroVAD:
    """What silero-vad hears. It listens as late as it may: to many blocks at once."""

    def __init__(self, window_ms: int, chunks: tuple[int, int] | None = None) -> None:
        """Listen from the start, or for what begins in some lanes of ``speech.LANE`` blocks.

        Args:
            window_ms: its length in ms.
            chunks: the first one and the one after the last. Listening begins a lane earlier:
                within those 32 s speech and pauses have told whether somebody is speaking.
        """
        first, last = chunks or (0, 2**31)
        self._lanes = ChunkedVAD(max(0, first - 1))
        self._mine = range(first * CHUNK_BLOCKS, last * CHUNK_BLOCKS)
        self._window = window_ms
        self._at = self._lanes.position
        self._waiting: list[Samples] = []
        self._samples = self._at * BLOCK_SAMPLES
        self._start: int | None = None
        self._last = 0

    @property
    def first_needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""
        block = self._at if self._start is None else self._start
        return max(0, block * BLOCK_MS - SPEECH_PAD_MS)

    @property
    def is_finished(self) -> bool:
        """Whether all stretches that begin in its lanes have ended."""
        return self._at >= self._mine.stop and not self._is_in_shard()

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """What samples at 16 kHz tell."""
        self._waiting.append(wave_s)
        self._samples += len(wave_s)
        if not last and self._samples // BLOCK_SAMPLES < self._next_update_block(window_end):
            return self._current_segments(closed=False)
        found = []
        for probability in self._lanes(np.concatenate(self._waiting), last=last).tolist():
            if probability >= (THRESHOLD if self._start is None else NEG_THRESHOLD):
                self._start = self._at if self._start is None else self._start
                self._last = self._at + 1
            elif self._start is not None and self._at + 1 - self._last >= MIN_SILENCE_BLOCKS:
                found += self._current_segments(closed=True)
                self._start = None
            self._at += 1
        self._waiting = []
        return found + self._current_segments(closed=last)

    def next_update(self, window_end: int | None) -> int:
        """When it listens next, or a window is full in speech that was heard already."""
        heard, known = (
            self._next_update_block(window_end) * BLOCK_MS,
            self._current_segments(closed=False),
        )
        return (
            min(heard, window_end) if known and window_end and window_end <= known[0].end else heard
        )

    def _next_update_block(self, window_end: int | None) -> int:
        """How many blocks must be there before they can end a stretch or a window."""
        pause = (self._at + 1 if self._start is None else self._last) + MIN_SILENCE_BLOCKS
        if window_end is None:
            start = self._at if self._start is None else self._start
            window_end = start * BLOCK_MS - 2 * SPEECH_PAD_MS + self._window
        return max(self._at + 1, min(pause, -((SPEECH_PAD_MS - window_end) // BLOCK_MS)))

    def _is_in_shard(self) -> bool:
        return self._start is not None and self._start in self._mine

    def _current_segments(self, *, closed: bool) -> list[SpeechSegment]:
        if self._start is None or not self._is_in_shard():
            return []
        if (self._last - self._start) * BLOCK_MS < MIN_SPEECH_MS:
            return []
        start = max(0, self._start * BLOCK_MS - SPEECH_PAD_MS)
        return [SpeechSegment(start, self._last * BLOCK_MS + SPEECH_PAD_MS, closed)]
