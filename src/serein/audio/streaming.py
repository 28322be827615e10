"""Read, convert and resample audio block by block: long files and live streams."""

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
    CancellationCheck,
    Samples,
    Source,
    check_channel,
    check_finite,
    check_length,
    check_rate,
    parse_part,
    source_name,
    to_mono,
)
from serein.errors import AudioError

Block = bytes | bytearray | memoryview | npt.NDArray[Any]
"""A block of a stream: 16-bit little-endian PCM of one channel, or an array of (n,) or
(n, channels), whose integers are scaled to [-1, 1)."""

SAMPLES_PER_READ = 2**20
"""Samples blocks at once, summed over all channels."""


def iter_blocks(
    source: Source,
    *,
    block_seconds: float = 60.0,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> Iterator[tuple[Samples, float]]:
    """Read a recording, or a part of it, in blocks; memory use does not grow with its length.

    Args:
        source: as for ``load``.
        block_seconds: minimum duration of every block but the last.
        start: start of the part in seconds, rounded to the nearest sample of the file.
        end: end of the part in seconds; None, or a time after the end, is the end of the file.
        channel: number of the channel to read, from 1; None is the mean of all channels.

    Yields:
        Samples of shape (n,) at the file's own rate, and that rate in Hz (see ``Resampler``).

    Raises:
        AudioError: as for ``load``, once the reading reaches the fault; or there is no such
            channel.
    """
    name = source_name(source)
    start, end = parse_part(name, start, end)
    part, count = describe_part(name, start, end), 0
    with ExitStack() as stack:
        with translate_decoding_errors(name):
            reader = stack.enter_context(open_audio(source, name))
            check_channel(reader, name, channel)
        size = max(1, round(block_seconds * reader.rate))
        read_size = max(1, min(size, SAMPLES_PER_READ // reader.channels))
        blocks = reader.read_blocks(*sample_range(reader, start, end), read_size)
        pending: list[Samples] = []
        check = CancellationCheck()
        while True:
            # Not around the yield, or the caller would get numpy's error settings.
            with translate_decoding_errors(name):
                block = next(blocks, None)
                if block is None:
                    break
                pending.append(to_mono(block, channel))
                if channel is None:
                    check.add(block, pending[-1])
                check_finite(pending[-1], reader.rate, part, start + count / reader.rate)
            count += len(pending[-1])
            if sum(map(len, pending)) >= size:
                yield np.concatenate(pending), reader.rate
                pending = []
        check_length(count, reader, part, start)
        check.finish(part)
        if pending:
            yield np.concatenate(pending), reader.rate


def convert_block(block: Block, rate: float, start: float = 0.0) -> Samples:
    """Convert a block of a stream to mono float32.

    Args:
        block: 16-bit little-endian PCM of one channel, or an array of (n,) or (n, channels).
        rate: in Hz.
        start: start of the block in the stream in seconds, for error messages.

    Returns:
        Samples of shape (n,), a copy.

    Raises:
        AudioError: the block ends within a sample, has a shape or type that audio cannot have,
            or has samples that are not finite.
    """
    if isinstance(block, bytes | bytearray | memoryview):
        if len(block) % 2:
            raise AudioError(
                f"a block of {len(block)} bytes ends within a sample; expected 16-bit PCM, two "
                "bytes a sample. Send whole samples."
            )
        block = np.frombuffer(block, "<i2")
    with translate_decoding_errors("the block"):
        reader = ArrayReader(block, rate)
        parts = [
            to_mono(part)
            for part in reader.read_blocks(0, MAX_FRAMES_PER_READ, MAX_FRAMES_PER_READ)
        ]
        samples = parts[0] if parts else np.zeros(0, np.float32)
        check_finite(samples, rate, "the stream", start)
    return samples


class Resampler:
    """Resample a stream block by block, with the same result as resampling it at once."""

    def __init__(self, rate: float, target_rate: float) -> None:
        """Resample from ``rate`` to ``target_rate``, both in Hz.

        Raises:
            AudioError: a rate is outside ``RATE_RANGE``.
        """
        check_rate(rate, "the rate")
        check_rate(target_rate, "the target rate")
        self._stream = None
        if rate != target_rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: Samples, *, last: bool = False) -> Samples:
        """Add samples (n,) and return those that are ready; ``last`` also returns the rest."""
        if self._stream is None:
            return samples
        return cast(Samples, self._stream.resample_chunk(samples, last=last))
