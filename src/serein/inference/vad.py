"""Voice activity detection with silero-vad, for streams and long files and for short recordings.

silero-vad (https://github.com/snakers4/silero-vad, MIT) gives the probability of speech for each
block of 32 ms at 16 kHz, one block after the other. Here its layers are two graphs of onnxruntime:
the encoder runs over many blocks at once, and the recurrent state is reset at the start of every
chunk of 32 s, after a warm-up on the blocks before it. Chunks are counted from the start of the
recording, so a whole file (many chunks in parallel), a stream and a shard give the same
probabilities.

N = blocks or recordings, S = samples of a block with its context, D = channels, L = chunks at a
time, T = blocks of a chunk or of a step, C = bins of the spectrum.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from serein.audio import Resampler, Samples
from serein.inference.onnx_session import open_session
from serein.model_file import read_bytes
from serein.registry import PACKAGE_ROOT

SAMPLE_RATE = 16_000
BLOCK_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""Samples before each block that are also input."""
BLOCK_MS = 32
CHUNK_BLOCKS = 1000
"""Blocks in a chunk: 32 s."""
CHUNK_SECONDS = CHUNK_BLOCKS * BLOCK_MS / 1000
WARM_UP_BLOCKS = 250
"""Blocks before a chunk that warm up its recurrent state: 8 s."""
ENCODER_BATCH_SIZE = 64
"""Blocks that are encoded at a time; more would not fit into the cache of a core."""
STATE_SIZE = 128

THRESHOLD = 0.5
"""Speech starts with a block of at least this probability."""
NEG_THRESHOLD = 0.35
"""Speech goes on while blocks have at least this probability."""
MIN_SILENCE_MS = 500
"""Shorter pauses are part of the speech."""
MIN_SILENCE_BLOCKS = ceil(MIN_SILENCE_MS / BLOCK_MS)
MIN_SPEECH_MS = 250
"""Shorter speech is ignored."""
SPEECH_PAD_MS = 100
"""Padding that is added before and after speech."""

PRESENCE_THRESHOLD = 0.2
"""Probability of a block that counts as speech in ``contains_speech``."""
MIN_PRESENCE_BLOCKS = 2
"""Number of such blocks that a recording with speech must have among those scored so far.

``PRESENCE_THRESHOLD`` and ``MIN_PRESENCE_BLOCKS`` are low because silero-vad hardly detects high,
screaming voices: 12 of the 1,440 utterances of RAVDESS never reach 0.5 for 128 ms, and one does not
reach even this. Noises, beeps, sirens, drums and chords do not reach it; some melodies do.
"""
BLOCKS_PER_EXTRA = 250
"""One more block is required for every 8 s that were scored."""
OUTER_SILENCE_SECONDS = 1.0
"""Silence that ``find_speech`` leaves before and after the speech: as much as recordings of RAVDESS
have, whose score falls with less."""
BLOCKS_PER_STEP = 16
"""Blocks that are scored before ``contains_speech`` checks whether it can stop."""

LSTMState = tuple[np.ndarray, np.ndarray]
SILERO_FOLDER = PACKAGE_ROOT / "pretrained" / "silero-vad"
"""The graphs of silero-vad, which ``shipped_graphs`` makes of the weights of its package."""


class SileroModel:
    """silero-vad in onnxruntime, on one processor thread."""

    def __init__(self, folder: Path) -> None:
        """Open the graphs.

        Raises:
            BackendError: onnxruntime is missing or broken.
            BundleError: a graph is missing or damaged.
        """
        self._encoder, self._recurrence = (
            open_session(read_bytes(folder / name), str(folder / name))
            for name in ("encoder.onnx", "recurrence.onnx")
        )

    def encode(self, wave_ns: np.ndarray) -> np.ndarray:
        """Encode blocks with their context (N, S) to (N, D), each block independently."""
        (x_nd,) = self._encoder.run(["encoded"], {"wave": np.ascontiguousarray(wave_ns)})
        encoded: np.ndarray = x_nd
        return encoded

    def __call__(self, x_ltd: np.ndarray, state: LSTMState) -> tuple[np.ndarray, LSTMState]:
        """Map encoded blocks (L, T, D) and a state to probabilities (L, T) and the next state."""
        names = ["probability", "next_h", "next_c"]
        inputs = {"encoded": x_ltd, "h": state[0], "c": state[1]}
        p_lt, h_1ld, c_1ld = self._recurrence.run(names, inputs)
        return p_lt, (h_1ld, c_1ld)


@cache
def load_silero() -> SileroModel:
    """Open the shipped graphs of silero-vad, once a process.

    Raises:
        BackendError: onnxruntime is missing or broken.
        BundleError: a graph is missing or damaged.
    """
    return SileroModel(SILERO_FOLDER)


class ChunkedVAD:
    """Compute the probability of speech of every block, for samples in blocks of any size.

    Attributes:
        position: number of the next block, from the start of the recording.
    """

    def __init__(self, first_chunk: int = 0) -> None:
        """Start at the beginning of a chunk.

        The first chunk has no warm-up, so its probabilities are those of the whole recording only
        if it is the first one of the recording.
        """
        self.position = first_chunk * CHUNK_BLOCKS
        self._model = load_silero()
        self._rest_s = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._before_nd = np.zeros((0, STATE_SIZE), np.float32)
        self._state = _zero_state(1)

    def __call__(self, wave_s: Samples, *, last: bool = False) -> Samples:
        """Return the probabilities (N,) of the blocks that samples (S,) at 16 kHz complete.

        Args:
            wave_s: the next samples.
            last: whether no more samples follow; an incomplete block is then padded with zeros.
        """
        samples_s = np.concatenate([self._rest_s, wave_s], dtype=np.float32)
        if last:
            samples_s = np.pad(samples_s, (0, -(len(samples_s) - CONTEXT_SAMPLES) % BLOCK_SAMPLES))
        count = (len(samples_s) - CONTEXT_SAMPLES) // BLOCK_SAMPLES
        self._rest_s = samples_s[count * BLOCK_SAMPLES :].copy()
        if not count:
            return np.zeros(0, np.float32)
        wave_ns = _cut_blocks(samples_s)
        batches = range(0, count, ENCODER_BATCH_SIZE)
        encoded = [self._model.encode(wave_ns[at : at + ENCODER_BATCH_SIZE]) for at in batches]
        return self._run_recurrence(np.concatenate(encoded))

    def _run_recurrence(self, x_nd: np.ndarray) -> np.ndarray:
        """Compute the probabilities of encoded blocks; chunks that end here run in one batch."""
        known_nd = np.concatenate([self._before_nd, x_nd])
        offset = self.position - len(self._before_nd)
        end = self.position + len(x_nd)
        next_chunk = self.position // CHUNK_BLOCKS * CHUNK_BLOCKS + CHUNK_BLOCKS
        edges = [self.position, *range(next_chunk, end, CHUNK_BLOCKS), end]
        parts = [self._slice_chunk(known_nd, offset, a, b) for a, b in pairwise(edges)]
        complete = parts if end % CHUNK_BLOCKS == 0 else parts[:-1]
        probabilities = _run_parts(self._model, complete) if complete else []
        if len(complete) < len(parts):
            part = parts[-1]
            p_lt, self._state = self._model(part.x_td[None], part.state)
            probabilities.append(p_lt[0, part.warm_up :])
        self._before_nd = known_nd[-WARM_UP_BLOCKS:].copy()
        self.position = end
        return np.concatenate(probabilities)

    def _slice_chunk(self, known_nd: np.ndarray, offset: int, start: int, end: int) -> "_ChunkPart":
        """Slice blocks of one chunk; the start of a chunk has a warm-up and a zero state."""
        if start % CHUNK_BLOCKS:
            return _ChunkPart(known_nd[start - offset : end - offset], 0, self._state)
        begin = max(offset, start - WARM_UP_BLOCKS)
        return _ChunkPart(known_nd[begin - offset : end - offset], start - begin, _zero_state(1))


class _ChunkPart(NamedTuple):
    """Encoded blocks of one chunk, how many of them are warm-up, and the state before them."""

    x_td: np.ndarray
    warm_up: int
    state: LSTMState


def _run_parts(model: SileroModel, parts: list[_ChunkPart]) -> list[np.ndarray]:
    x_ltd = _pad_sequences([part.x_td for part in parts])
    h_1ld = np.concatenate([part.state[0] for part in parts], axis=1)
    c_1ld = np.concatenate([part.state[1] for part in parts], axis=1)
    p_lt, _ = model(x_ltd, (h_1ld, c_1ld))
    return [p_t[part.warm_up : len(part.x_td)] for p_t, part in zip(p_lt, parts, strict=True)]


def _pad_sequences(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Pad sequences (T, D) with zeros to (L, T, D)."""
    longest = max(map(len, sequences))
    x_ltd = np.zeros((len(sequences), longest, STATE_SIZE), np.float32)
    for x_td, own_td in zip(x_ltd, sequences, strict=True):
        x_td[: len(own_td)] = own_td
    return x_ltd


def _cut_blocks(samples_s: np.ndarray) -> np.ndarray:
    """Return a view of the complete blocks with their context (N, S); samples begin with one."""
    size = CONTEXT_SAMPLES + BLOCK_SAMPLES
    if len(samples_s) < size:
        return np.zeros((0, size), np.float32)
    return np.lib.stride_tricks.sliding_window_view(samples_s, size)[::BLOCK_SAMPLES]


def _zero_state(count: int) -> LSTMState:
    zeros_1ld = np.zeros((1, count, STATE_SIZE), np.float32)
    return zeros_1ld, zeros_1ld


class SpeechSegment(NamedTuple):
    """A segment of speech, as far as it is known; times are in milliseconds.

    Attributes:
        start: start of the segment.
        end: end of the segment; of a segment that is still growing, the end that is certain.
        closed: whether the segment has ended.
    """

    start: int
    end: int
    closed: bool


class SpeechDetector(Protocol):
    """Detector of speech segments; times are in milliseconds from the start of the recording."""

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """Process samples and return the segments that ended, then the one that is still growing.

        Args:
            wave_s: the next samples (S,); at 16 kHz for a detector of speech.
            last: whether no more samples follow.
            window_end: end of the next window of the growing segment; None if there is none.
        """

    def next_update(self, window_end: int | None) -> int:
        """Return the time up to which further samples cannot change the result."""

    @property
    def first_needed(self) -> int:
        """Time from which samples may belong to a segment that is not known yet."""


class NoVAD:
    """A detector that returns all audio as one segment."""

    first_needed = 0

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """Return all audio so far as one segment."""
        self._count += len(wave_s)
        end = self._count * 1000 / self._rate
        return [SpeechSegment(0, ceil(end) if last else floor(end), last)]

    def next_update(self, window_end: int | None) -> int:
        """Return the end of the next window: only a complete window changes the result."""
        return window_end or 0


class SileroVAD:
    """A detector of speech with silero-vad.

    Samples are collected until they can end a segment or complete a window, so that the model
    scores many blocks at a time.
    """

    def __init__(
        self, window_ms: int, chunks: tuple[int, int] | None = None, *, eager: bool = False
    ) -> None:
        """Start at the beginning of the recording or of a shard.

        Args:
            window_ms: length of a window.
            chunks: first chunk of a shard and the one after its last; only segments that start in
                the shard are returned. Detection starts one chunk earlier: within its 32 s, speech
                and pauses determine whether a segment is growing at the start of the shard.
            eager: whether to score each block as soon as it is complete, so that a growing segment
                is known early.
        """
        first, last = chunks or (0, 2**31)
        self._vad = ChunkedVAD(max(0, first - 1))
        self._shard = range(first * CHUNK_BLOCKS, last * CHUNK_BLOCKS)
        self._window_ms, self._eager = window_ms, eager
        self._block = self._vad.position
        self._pending: list[Samples] = []
        self._received = self._block * BLOCK_SAMPLES
        self._start: int | None = None
        self._end = 0

    @property
    def first_needed(self) -> int:
        """Time from which samples may belong to a segment that is not known yet."""
        block = self._block if self._start is None else self._start
        return max(0, block * BLOCK_MS - SPEECH_PAD_MS)

    @property
    def is_finished(self) -> bool:
        """Whether all segments that start in the shard have ended."""
        return self._block >= self._shard.stop and not self._is_in_shard()

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """Process samples at 16 kHz; see ``SpeechDetector``."""
        self._pending.append(wave_s)
        self._received += len(wave_s)
        is_early = self._received // BLOCK_SAMPLES < self._next_update_block(window_end)
        if is_early and not (last or self._eager):
            return self._current_segments(closed=False)
        segments = []
        for probability in self._vad(np.concatenate(self._pending), last=last).tolist():
            if probability >= (THRESHOLD if self._start is None else NEG_THRESHOLD):
                self._start = self._block if self._start is None else self._start
                self._end = self._block + 1
            elif self._start is not None and self._block + 1 - self._end >= MIN_SILENCE_BLOCKS:
                segments += self._current_segments(closed=True)
                self._start = None
            self._block += 1
        self._pending = []
        return segments + self._current_segments(closed=last)

    def next_update(self, window_end: int | None) -> int:
        """Return when blocks are scored next, or a window of speech that is known is complete."""
        scored = self._next_update_block(window_end) * BLOCK_MS
        growing = self._current_segments(closed=False)
        if growing and window_end and window_end <= growing[0].end:
            return min(scored, window_end)
        return scored

    def _next_update_block(self, window_end: int | None) -> int:
        """Return the number of blocks that can end a segment or complete a window."""
        silence_end = (self._block + 1 if self._start is None else self._end) + MIN_SILENCE_BLOCKS
        if window_end is None:
            start = self._block if self._start is None else self._start
            window_end = start * BLOCK_MS - 2 * SPEECH_PAD_MS + self._window_ms
        return max(self._block + 1, min(silence_end, -((SPEECH_PAD_MS - window_end) // BLOCK_MS)))

    def _is_in_shard(self) -> bool:
        return self._start is not None and self._start in self._shard

    def _current_segments(self, *, closed: bool) -> list[SpeechSegment]:
        """Return the growing segment, if it is long enough and starts in the shard."""
        if self._start is None or not self._is_in_shard():
            return []
        if (self._end - self._start) * BLOCK_MS < MIN_SPEECH_MS:
            return []
        start = max(0, self._start * BLOCK_MS - SPEECH_PAD_MS)
        return [SpeechSegment(start, self._end * BLOCK_MS + SPEECH_PAD_MS, closed)]


def contains_speech(waves: Sequence[Samples], rate: float) -> list[bool]:
    """Return for each recording whether it contains speech.

    Blocks of all recordings are scored in one batch, in steps; a recording that has enough blocks
    with speech is not scored any further.

    Args:
        waves: samples of each recording, of shape (n,).
        rate: sampling rate, in Hz.

    Raises:
        BackendError: onnxruntime is missing or broken.
    """
    model = load_silero()
    blocks = [_split_blocks(_resample_to_16k(wave_s, rate)) for wave_s in waves]
    speech_blocks, has_speech = [0] * len(waves), [False] * len(waves)
    state_21nd = np.zeros((2, 1, len(waves), STATE_SIZE), np.float32)
    first, active = 0, list(range(len(waves)))
    while active := [n for n in active if not has_speech[n] and first < len(blocks[n])]:
        step = [blocks[n][first : first + BLOCKS_PER_STEP] for n in active]
        p_nt, state = _score_blocks(
            model, step, (state_21nd[0][:, active], state_21nd[1][:, active])
        )
        first += BLOCKS_PER_STEP
        for row, n in enumerate(active):
            speech_blocks[n] += int((p_nt[row, : len(step[row])] >= PRESENCE_THRESHOLD).sum())
            has_speech[n] = speech_blocks[n] >= _required_blocks(first)
            state_21nd[:, :, n] = [part[:, row] for part in state]
    return has_speech


def find_speech(waves: Sequence[Samples], rate: float) -> list[tuple[int, int]]:
    """Find the first and the last speech of each recording.

    Args:
        waves: samples of each recording, of shape (n,).
        rate: sampling rate, in Hz.

    Returns:
        For each recording the first sample, and the one after the last, of a part that contains all
        its speech and up to ``OUTER_SILENCE_SECONDS`` before and after it. A recording without
        speech, or with less of it than ``contains_speech`` requires, is returned whole.

    Raises:
        BackendError: onnxruntime is missing or broken.
    """
    if not waves:
        return []
    model = load_silero()
    margin, block = round(OUTER_SILENCE_SECONDS * rate), rate * BLOCK_SAMPLES / SAMPLE_RATE
    blocks = [_split_blocks(_resample_to_16k(wave_s, rate)) for wave_s in waves]
    p_nt, _ = _score_blocks(model, blocks, _zero_state(len(waves)))
    parts = []
    for wave_s, row_t, own in zip(waves, p_nt, blocks, strict=True):
        speech = np.flatnonzero(row_t[: len(own)] >= PRESENCE_THRESHOLD)
        if len(speech) < _required_blocks(len(own)):
            parts.append((0, len(wave_s)))
            continue
        first, last = round(speech[0] * block) - margin, round((speech[-1] + 1) * block) + margin
        parts.append((max(0, first), min(len(wave_s), last)))
    return parts


def _required_blocks(count: int) -> int:
    """Return how many of ``count`` blocks must be speech; more chance hits occur in more blocks."""
    return MIN_PRESENCE_BLOCKS + count // BLOCKS_PER_EXTRA


def _resample_to_16k(wave_s: Samples, rate: float) -> Samples:
    return wave_s if rate == SAMPLE_RATE else Resampler(rate, SAMPLE_RATE)(wave_s, last=True)


def _split_blocks(wave_s: Samples) -> np.ndarray:
    """Split samples (S,) into blocks with their context; the last one is padded with zeros."""
    padding = CONTEXT_SAMPLES, -len(wave_s) % BLOCK_SAMPLES
    return _cut_blocks(np.pad(wave_s, padding).astype(np.float32, copy=False))


def _score_blocks(
    model: SileroModel, blocks: Sequence[np.ndarray], state: LSTMState
) -> tuple[np.ndarray, LSTMState]:
    """Return the probabilities (N, T) of the blocks of each recording, and the next states."""
    ends = np.cumsum([len(recording_blocks) for recording_blocks in blocks])
    x_nd = np.split(model.encode(np.concatenate(blocks)), ends[:-1])
    return model(_pad_sequences(x_nd), state)
