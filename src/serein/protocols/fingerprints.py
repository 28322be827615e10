"""Acoustic fingerprints: copies of a recording are found in any format, level or excerpt.

Source: J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002. A
recording becomes a sequence of codes of 32 bits (section 4.2): bit m of frame n is the sign of

    E(n, m) - E(n, m + 1) - (E(n - 1, m) - E(n - 1, m + 1))                      (equation 1)

where E(n, m) is the energy of band m; 33 bands lie between 300 and 2000 Hz at equal ratios. Signs
do not depend on level and polarity. Two recordings are compared at one offset by the share of
unequal bits, the bit error rate (section 4.3); offsets are those at which they share a code, found
in an index of all codes (section 5.2).

Differences from the paper: 8 kHz instead of 5 kHz, frames of 256 ms every 12.5 ms instead of 370
ms every 11.6 ms, logarithmic energies, which are also independent of fixed filters, limits of 0.15
to 0.25 instead of 0.35, because overlaps of 0.5 s count instead of 3 s, and no code for quiet
frames.
"""

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from serein import audio
from serein.errors import SereinError, StorageError
from serein.records import Utterance
from serein.utils.files import cache_folder, write_bytes

RATE, WINDOW, HOP = 8000, 2048, 100
"""Sampling rate in Hz; length and distance of frames in samples."""
FRAME_SECONDS = HOP / RATE
NUM_BITS = 32
EDGES = np.searchsorted(
    np.fft.rfftfreq(WINDOW, 1 / RATE), np.geomspace(300.0, 2000.0, NUM_BITS + 2)
)
"""First Fourier bin of each band, and the end of the last band."""
HANN = np.hanning(WINDOW).astype(np.float32)
ACTIVE_RANGE = 1e-3
"""Frames within 30 dB of the loudest frame have a code."""
MIN_POWER = 1e-12
"""Mean power, relative to full scale, at or below which a frame counts as digital silence: -120
dB is less than the rounding error of 16 bits."""
FRAMES_PER_BLOCK = 2048
NO_CODE = 0
"""The code of frames that are not compared."""
BIT_WEIGHTS = 1 << np.arange(NUM_BITS, dtype=np.uint64)

MAX_BIT_ERROR_RATES = ((0.5, 2.0), (0.15, 0.25))
"""Seconds of overlap, and the rates below which recordings are copies; in between linear. Unrelated
recordings have rates near 0.5, but less than a second of the same sounds comes down to 0.2."""
MIN_SECONDS = 0.5
"""Shortest overlap, in seconds of frames that have codes in both recordings."""
MIN_COPY_SHARE = 0.9
"""A copy overlaps with at least this share of the frames of each recording; else an excerpt."""
MAX_NEIGHBOURS = 16
"""Entries of a code that each entry is paired with; bounds the work on frequent codes."""
LAGS_PER_PAIR = 3
"""Offsets at which a pair is compared: those at which the most codes are equal."""
REFINE_BELOW = 0.4
"""Bit error rate below which neighbouring offsets are compared, too."""
ENTRIES_PER_BLOCK = 2**21

CARD_STRIDE = 5
"""A card keeps every fifth code."""
MAX_CARD_CODES = 64
"""Codes of a recording that a card keeps at most: 4 s around its middle, 256 bytes."""

CACHE_VERSION = 1
"""Raised whenever the codes of a recording change."""
NUM_THREADS = 4

Codes = np.ndarray
"""Codes of a recording, uint32 of shape (frames,); ``NO_CODE`` where a frame is not compared."""


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two recordings that contain the same audio.

    Attributes:
        first, second: their ids.
        bit_error_rate: share of unequal bits over the overlap.
        seconds: length of the overlap, without quiet frames.
        is_whole: whether the overlap covers both recordings; else one is an excerpt, or both are
            overlapping stretches.
    """

    first: str
    second: str
    bit_error_rate: float
    seconds: float
    is_whole: bool


def compute_codes(wave_s: np.ndarray) -> Codes:
    """Compute the codes of a waveform (section 4.2).

    Args:
        wave_s: samples at ``RATE``, of shape (samples,).

    Returns:
        Codes of shape (1 + samples // ``HOP``,); digital silence has no code in any frame.
    """
    padded_s = np.pad(wave_s.astype(np.float32, copy=False), (WINDOW // 2 + HOP, WINDOW // 2))
    frames_nw = np.lib.stride_tricks.sliding_window_view(padded_s, WINDOW)[::HOP]
    energy_nm = np.concatenate(
        [
            _compute_band_energy(frames_nw[start : start + FRAMES_PER_BLOCK])
            for start in range(0, len(frames_nw), FRAMES_PER_BLOCK)
        ]
    )
    power_n = energy_nm.sum(axis=1)
    floor = MIN_POWER * float((HANN.astype(np.float64) ** 2).sum()) * WINDOW / 2
    active_n = power_n[1:] > max(float(power_n.max()) * ACTIVE_RANGE, floor)
    log_nm = np.log(np.maximum(energy_nm, np.finfo(np.float32).tiny))
    slope_nm = log_nm[:, :-1] - log_nm[:, 1:]
    bits_nm = slope_nm[1:] > slope_nm[:-1]
    codes_n = (bits_nm @ BIT_WEIGHTS).astype(np.uint32)
    return np.where(active_n, codes_n, np.uint32(NO_CODE))


def _compute_band_energy(frames_nw: np.ndarray) -> np.ndarray:
    spectrum_nf = np.fft.rfft(frames_nw * HANN, axis=1)[:, : EDGES[-1]]
    power_nf = spectrum_nf.real**2 + spectrum_nf.imag**2
    return np.add.reduceat(power_nf, EDGES[:-1], axis=1)


def fingerprint_audio(
    utterances: Iterable[Utterance], content_hashes: Mapping[str, str]
) -> dict[str, Codes]:
    """Return the codes of each utterance's audio, from the cache where its content is known.

    Args:
        utterances: to be read; one that cannot be read is left out, and so is one without codes.
        content_hashes: hash of the audio of each id, from ``corpora.hash_contents``; the codes of
            others are not cached.
    """
    members = list(utterances)
    keys = {u.id: content_hashes.get(u.id, f"id {u.id}") for u in members}
    cache = _Cache({key for key in keys.values() if not key.startswith("id ")})
    unknown = {keys[u.id]: u for u in members if keys[u.id] not in cache.codes}
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        computed = dict(zip(unknown, pool.map(_read_codes, unknown.values()), strict=True))
    read = {key: codes for key, codes in computed.items() if codes is not None}
    cache.add({key: codes for key, codes in read.items() if not key.startswith("id ")})
    known = cache.codes | read
    return {id_: known[key] for id_, key in keys.items() if key in known and known[key].any()}


def _read_codes(utterance: Utterance) -> Codes | None:
    try:
        wave_s = audio.load(utterance.path, RATE, start=utterance.start, end=utterance.end)
    except SereinError:
        return None  # a file that cannot be read is reported where its audio is used
    return compute_codes(wave_s)


class _Cache:
    """Codes by the hash of the audio, in 16 files by the first digit of the hash."""

    def __init__(self, keys: set[str]) -> None:
        """Read the files that may contain the codes of ``keys``."""
        self.codes: dict[str, Codes] = {}
        for digit in sorted({key[0] for key in keys}):
            self.codes |= self._read(digit)

    def add(self, codes: Mapping[str, Codes]) -> None:
        """Add codes, and write the files that they belong to; without disk space, write none."""
        self.codes |= codes
        for digit in sorted({key[0] for key in codes}):
            members = {key: codes_n for key, codes_n in self.codes.items() if key[0] == digit}
            content = BytesIO()
            np.savez(
                content,
                keys=np.array(list(members)),
                lengths=np.array([len(codes_n) for codes_n in members.values()]),
                codes=np.concatenate(list(members.values())),
            )
            with suppress(StorageError):
                write_bytes(self._path(digit), content.getbuffer())

    def _read(self, digit: str) -> dict[str, Codes]:
        try:
            with np.load(self._path(digit)) as arrays:
                ends = np.cumsum(arrays["lengths"])[:-1]
                parts = np.split(arrays["codes"].astype(np.uint32), ends)
                return dict(zip(arrays["keys"].tolist(), parts, strict=True))
        except (OSError, ValueError, KeyError, EOFError, zlib.error):
            return {}

    @staticmethod
    def _path(digit: str) -> Path:
        return cache_folder() / f"fingerprints-{CACHE_VERSION}-{digit}.npz"


def find_copies(
    utterances: Iterable[Utterance], content_hashes: Mapping[str, str]
) -> tuple[CopyPair, ...]:
    """Find all pairs of utterances that contain the same audio.

    Args:
        utterances: to be compared, each with each.
        content_hashes: as for ``fingerprint_audio``.
    """
    return match_codes(fingerprint_audio(utterances, content_hashes))


def match_codes(codes: Mapping[str, Codes]) -> tuple[CopyPair, ...]:
    """Find all pairs of recordings that contain the same audio, by their codes.

    Args:
        codes: of each id.
    """
    ids, table = list(codes), _CodeTable(list(codes.values()))
    order = np.argsort(table.code_e, kind="stable")
    code_e, owner_e, time_e = table.code_e[order], table.owner_e[order], table.time_e[order]
    candidates = []
    for step in range(1, MAX_NEIGHBOURS + 1):
        equal = (code_e[:-step] == code_e[step:]) & (owner_e[:-step] != owner_e[step:])
        at = equal.nonzero()[0]
        candidates.append(
            np.stack([owner_e[at], owner_e[at + step], time_e[at + step] - time_e[at]])
        )
    return _compare(ids, table, ids, table, np.concatenate(candidates, axis=1), 1)


def match_card(text: str, codes: Mapping[str, Codes]) -> list[str]:
    """Return the ids whose audio is among the recordings of a card.

    Args:
        text: from ``pack_card``.
        codes: of each id.

    Raises:
        ValueError: the text is not from ``pack_card``.
    """
    stored = unpack_card(text)
    ids, first, second = list(codes), _CodeTable(stored), _CodeTable(list(codes.values()))
    first.time_e *= CARD_STRIDE
    if not len(second.code_e):
        return []
    order = np.argsort(second.code_e, kind="stable")
    sorted_e = second.code_e[order]
    begin_e = np.searchsorted(sorted_e, first.code_e)
    candidates = []
    for step in range(MAX_NEIGHBOURS):
        at_e = np.minimum(begin_e + step, len(sorted_e) - 1)
        own = ((begin_e + step < len(sorted_e)) & (sorted_e[at_e] == first.code_e)).nonzero()[0]
        at = order[at_e[own]]
        lag = second.time_e[at] - first.time_e[own]
        candidates.append(np.stack([first.owner_e[own], second.owner_e[at], lag]))
    names = [str(number) for number in range(len(stored))]
    pairs = _compare(names, first, ids, second, np.concatenate(candidates, axis=1), CARD_STRIDE)
    found = {pair.second for pair in pairs}
    return [id_ for id_ in ids if id_ in found]


class _CodeTable:
    """Codes of several recordings in flat arrays.

    Attributes:
        flat_n: all frames of all recordings, one after the other.
        offset_r: where each recording begins in ``flat_n``.
        length_r: frames of each recording.
        code_e, owner_e, time_e: codes that are compared, with recording and frame.
        begin_r, count_r: first of these entries of each recording, and their number.
    """

    def __init__(self, codes: Sequence[Codes]) -> None:
        self.length_r = np.array([len(codes_n) for codes_n in codes], np.int64)
        self.flat_n = np.concatenate([*codes, np.zeros(0, np.uint32)])
        self.offset_r = np.cumsum(self.length_r) - self.length_r
        at_e = (self.flat_n != NO_CODE).nonzero()[0]
        self.code_e = self.flat_n[at_e]
        self.owner_e = np.repeat(np.arange(len(codes)), self.length_r)[at_e]
        self.time_e = at_e - self.offset_r[self.owner_e]
        self.count_r = np.bincount(self.owner_e, minlength=len(codes))
        self.begin_r = np.cumsum(self.count_r) - self.count_r


def _compare(
    first_ids: Sequence[str],
    first: _CodeTable,
    second_ids: Sequence[str],
    second: _CodeTable,
    candidates: np.ndarray,
    stride: int,
) -> tuple[CopyPair, ...]:
    """Compare pairs of recordings at candidate offsets (section 4.3).

    Args:
        first_ids: ids of the recordings in ``first``.
        first: codes that are ``stride`` frames apart.
        second_ids: ids of the recordings in ``second``.
        second: codes of every frame.
        candidates: indices of both, and the offset in frames, of shape (3, candidates).
        stride: frames between the codes of ``first``.
    """
    triples_3c = _select_lags(candidates)
    rate_c, count_c = _measure(first, second, triples_3c)
    near = triples_3c[:, rate_c < REFINE_BELOW]
    shifted = [near + np.array([[0], [0], [shift]]) for shift in (-2, -1, 0, 1, 2)]
    triples_3c = np.unique(np.concatenate(shifted, axis=1), axis=1)
    rate_c, count_c = _measure(first, second, triples_3c)
    least = np.ceil(MIN_SECONDS / FRAME_SECONDS / stride)
    seconds_c = count_c * stride * FRAME_SECONDS
    matched = (count_c >= least) & (rate_c < np.interp(seconds_c, *MAX_BIT_ERROR_RATES))
    triples_3c, rate_c, count_c = triples_3c[:, matched], rate_c[matched], count_c[matched]
    best: dict[tuple[int, int], CopyPair] = {}
    for one, two, rate, count in zip(
        *triples_3c[:2].tolist(), rate_c.tolist(), count_c.tolist(), strict=True
    ):
        known = best.get((one, two))
        if known is None or rate < known.bit_error_rate:
            longest = max(first.count_r[one], second.count_r[two] / stride)
            best[one, two] = CopyPair(
                first_ids[one],
                second_ids[two],
                rate,
                count * stride * FRAME_SECONDS,
                bool(count >= MIN_COPY_SHARE * longest),
            )
    return tuple(best[pair] for pair in sorted(best))


def _select_lags(candidates: np.ndarray) -> np.ndarray:
    """Return the offsets of each pair at which the most codes are equal, (3, candidates)."""
    if not candidates.size:
        return candidates
    owners, lag = candidates[:2], candidates[2] - candidates[2].min()
    width, span = int(owners[1].max()) + 1, int(lag.max()) + 1
    key, votes = np.unique((owners[0] * width + owners[1]) * span + lag, return_counts=True)
    pair = key // span
    order = np.lexsort((-votes, pair))
    sorted_pair = pair[order]
    is_start = np.append(True, sorted_pair[1:] != sorted_pair[:-1])
    position = np.arange(len(order))
    rank = position - np.maximum.accumulate(np.where(is_start, position, 0))
    key = np.sort(key[order[rank < LAGS_PER_PAIR]])
    pair = key // span
    return np.stack([pair // width, pair % width, key % span + candidates[2].min()])


def _measure(
    first: _CodeTable, second: _CodeTable, triples_3c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bit error rate at each offset (1 without overlap), and the codes compared."""
    count_c = first.count_r[triples_3c[0]]
    ends_c = np.cumsum(count_c)
    rates, counts = [np.zeros(0)], [np.zeros(0, np.int64)]
    start = 0
    while start < len(count_c):
        done = ends_c[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends_c, done + ENTRIES_PER_BLOCK, side="right")))
        errors, compared = _count_errors(first, second, triples_3c[:, start:end])
        rates.append(np.where(compared > 0, errors / np.maximum(compared, 1) / NUM_BITS, 1.0))
        counts.append(compared)
        start = end
    return np.concatenate(rates), np.concatenate(counts)


def _count_errors(
    first: _CodeTable, second: _CodeTable, triples_3c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of unequal bits at each offset, and of the codes compared."""
    one_c, two_c, lag_c = triples_3c
    count_c = first.count_r[one_c]
    begin_c = np.cumsum(count_c) - count_c
    entry_e = np.arange(count_c.sum()) + np.repeat(first.begin_r[one_c] - begin_c, count_c)
    time_e = first.time_e[entry_e] + np.repeat(lag_c, count_c)
    inside_e = (time_e >= 0) & (time_e < np.repeat(second.length_r[two_c], count_c))
    at_e = np.where(inside_e, np.repeat(second.offset_r[two_c], count_c) + time_e, 0)
    other_e = second.flat_n[at_e]
    both_e = inside_e & (other_e != NO_CODE)
    error_e = np.where(both_e, _count_bits(first.code_e[entry_e] ^ other_e), 0)
    return np.add.reduceat(error_e, begin_c), np.add.reduceat(both_e.astype(np.int64), begin_c)


BITS_OF_HALF = np.array([number.bit_count() for number in range(2**16)], np.int64)
"""Number of ones in each number of 16 bits; NumPy 1.26 has no ``bitwise_count``."""


def _count_bits(codes: np.ndarray) -> np.ndarray:
    return BITS_OF_HALF[codes & 0xFFFF] + BITS_OF_HALF[codes >> 16]


def pack_card(codes: Iterable[Codes]) -> str:
    """Return compact codes of recordings as text, at most 344 characters for each.

    Every fifth code is kept, of at most 4 s around the middle of a recording. EMO-DB takes
    about 130 KB.
    """
    return _encode({_shorten(codes_n) for codes_n in codes} - {b""})


def count_card(text: str) -> int:
    """Return the number of recordings whose codes ``pack_card`` kept."""
    return int.from_bytes(base64.b64decode(text[:8])[:4], "little")


def merge_cards(texts: Iterable[str]) -> str:
    """Return the codes of several cards as one text.

    Raises:
        ValueError: a text is not from ``pack_card``.
    """
    return _encode({codes.astype("<u4").tobytes() for text in texts for codes in unpack_card(text)})


def _encode(parts: set[bytes]) -> str:
    """Encode the codes of recordings: their number, the length of each, and the codes."""
    if not parts:
        return ""
    lengths = bytes(len(part) // 4 for part in sorted(parts))
    number = len(parts).to_bytes(4, "little")
    return base64.b64encode(number + lengths + b"".join(sorted(parts))).decode()


def _shorten(codes_n: Codes) -> bytes:
    kept = codes_n[::CARD_STRIDE]
    start = max(0, len(kept) - MAX_CARD_CODES) // 2
    active = (kept[start : start + MAX_CARD_CODES] != NO_CODE).nonzero()[0]
    if not len(active):
        return b""
    return kept[start + active[0] : start + active[-1] + 1].astype("<u4").tobytes()


def unpack_card(text: str) -> list[Codes]:
    """Return the codes that ``pack_card`` kept.

    Raises:
        ValueError: the text is not from ``pack_card``.
    """
    if not text:
        return []
    content = base64.b64decode(text, validate=True)
    number = int.from_bytes(content[:4], "little")
    lengths = np.frombuffer(content[4 : 4 + number], "u1").astype(np.int64)
    codes = np.frombuffer(content[4 + number :], "<u4").astype(np.uint32)
    if len(lengths) != number or len(codes) != lengths.sum():
        raise ValueError("fingerprints are cut short")
    return np.split(codes, np.cumsum(lengths)[:-1])
