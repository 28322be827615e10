"""Audio that is too long to be held, or that is not all there yet: block by block."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from serein.audio.decoding import (
    MAX_FRAMES_PER_READ,
    describe_part,
    open_audio,
    sample_range,
    translate_decoding_errors,
)
from serein.audio.samples import (
    ArrayReader,
    Samples,
    Source,
    check_channel,
    check_finite,
    check_length,
    check_part,
    check_rate,
    source_name,
    to_mono,
)
from serein.errors import AudioError

Block = bytes | bytearray | memoryview | npt.NDArray[Any]
"""A block of a stream: 16-bit little-endian PCM of one channel, or an array of (n,) or
(n, channels) of which whole numbers are brought to [-1, 1)."""

SAMPLES_PER_READ = 2**20
"""Samples that are decoded at a time, of all channels together."""


def iter_blocks(
    source: Source,
    *,
    block_seconds: float = 60.0,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> Iterator[tuple[Samples, float]]:
    """Read a recording, or a part of it, piece by piece; memory does not grow with its length.

    Args:
        source: as for ``load``.
        block_seconds: of a block, at least, but for the last one.
        start: where the part begins, in seconds; to the nearest sample of the file.
        end: where it ends, in seconds; None, or beyond the end, is the end of the file.
        channel: one of them, counted from 1; None is the mean of all.

    Yields:
        Samples of shape (n,), and the file's own rate in Hz, at which ``Resampler`` takes them.

    Raises:
        AudioError: as for ``load``, where the reading meets it; there is no such channel.
    """
    name = source_name(source)
    check_part(name, start, end)
    part, count = describe_part(name, start, end), 0
    with ExitStack() as stack:
        with translate_decoding_errors(name):
            sound = stack.enter_context(open_audio(source, name))
            check_channel(sound, name, channel)
        size = max(1, round(block_seconds * sound.rate))
        decoded = sound.read_blocks(
            *sample_range(sound, start, end), max(1, SAMPLES_PER_READ // sound.channels)
        )
        held: list[Samples] = []
        while True:
            with translate_decoding_errors(
                name
            ):  # not around the yield: numpy's settings would reach the caller
                block = next(decoded, None)
                if block is None:
                    break
                held.append(to_mono(block, channel))
                check_finite(held[-1], sound.rate, part, start + count / sound.rate)
            count += len(held[-1])
            if sum(map(len, held)) >= size:
                yield np.concatenate(held), sound.rate
                held = []
        check_length(count, sound, part, start)
        if held:
            yield np.concatenate(held), sound.rate


def convert_block(block: Block, rate: float, start: float = 0.0) -> Samples:
    """A block of a stream as mono float32.

    Args:
        block: 16-bit little-endian PCM of one channel, or an array of (n,) or (n, channels).
        rate: in Hz.
        start: where it begins in the stream, in seconds; errors tell of it.

    Returns:
        Samples of shape (n,), a copy.

    Raises:
        AudioError: half a sample, a shape or type that no audio has, or samples that are no
            numbers.
    """
    if isinstance(block, bytes | bytearray | memoryview):
        if len(block) % 2:
            raise AudioError(
                f"a block of {len(block)} bytes ends within a sample; expected 16-bit PCM, two "
                "bytes a sample. Send whole samples."
            )
        block = np.frombuffer(block, "<i2")
    with translate_decoding_errors("the block"):
        sound = ArrayReader(block, rate)
        pieces = [
            to_mono(piece)
            for piece in sound.read_blocks(0, MAX_FRAMES_PER_READ, MAX_FRAMES_PER_READ)
        ]
        samples = pieces[0] if pieces else np.zeros(0, np.float32)
        check_finite(samples, rate, "the stream", start)
    return samples


class Resampler:
    """Samples from one rate to another, block by block, as if they had come at once."""

    def __init__(self, rate: float, target_rate: float) -> None:
        """Take both rates in Hz.

        Raises:
            AudioError: a rate that no recording has.
        """
        check_rate(rate, "the rate")
        check_rate(target_rate, "the wanted rate")
        self._stream = None
        if rate != target_rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: Samples, *, last: bool = False) -> Samples:
        """What is ready of (n,) samples and those before them; all of it with the last ones."""
        if self._stream is None:
            return samples
        return cast(Samples, self._stream.resample_chunk(samples, last=last))
