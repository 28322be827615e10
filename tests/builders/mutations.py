"""Mutations of files, as from a bad disk, a broken download or an attacker; seeded.

Every mutation is a function of (content, other, rng): the file, a file of another kind, and the
random generator.
"""

import struct
from collections.abc import Callable
from random import Random

from builders.checksums import flip_flac_bits, flip_ogg_bits

Change = Callable[[bytes, bytes, Random], bytes]

EXTREMES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1, 2**63)
TAGS = {
    **dict.fromkeys((b"RIFF", b"FORM", b"fmt ", b"data", b"fact", b"COMM", b"SSND", b"fLaC"), 4),
    **dict.fromkeys((b"moov", b"mdat", b"trak", b"mdia", b"stbl", b"stsd", b"esds", b"ftyp"), -4),
    **dict.fromkeys((b"stsz", b"stco", b"stts", b"stsc", b"elst"), 8),
    **dict.fromkeys((b"Xing", b"Info"), 8),
    **dict.fromkeys((b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x15I\xa9f", b"\x16T\xaek"), 4),
    b"\x1fC\xb6u": 4,
    b"OggS": 26,
    b"ID3": 6,
}
"""Offset of a length or a count from its tag, in bytes."""
HEADER_BYTES = 256


def flip_bits(content: bytes, other: bytes, rng: Random) -> bytes:
    """Flip some bits."""
    return _flip_bits(content, len(content), rng)


def flip_header_bits(content: bytes, other: bytes, rng: Random) -> bytes:
    """Flip some bits of the header."""
    return _flip_bits(content, HEADER_BYTES, rng)


def _flip_bits(content: bytes, within: int, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(1 << rng.randrange(6)):
        changed[rng.randrange(min(within, len(changed)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_end(content: bytes, other: bytes, rng: Random) -> bytes:
    """Remove the end."""
    return content[: rng.randrange(1, len(content))]


def cut_start(content: bytes, other: bytes, rng: Random) -> bytes:
    """Remove the beginning."""
    return content[rng.randrange(1, len(content)) :]


def remove_section(content: bytes, other: bytes, rng: Random) -> bytes:
    """Remove a section."""
    first, last = _choose_section(content, rng)
    return content[:first] + content[last:] or b"\0"


def repeat_section(content: bytes, other: bytes, rng: Random) -> bytes:
    """Repeat a section once or more."""
    first, last = _choose_section(content, rng)
    return content[:last] + content[first:last] * rng.choice((1, 1, 2, 9)) + content[last:]


def overwrite_section(content: bytes, other: bytes, rng: Random) -> bytes:
    """Overwrite a section with noise, zeros or ones."""
    first, last = _choose_section(content, rng)
    fill = rng.choice((b"\0", b"\xff", None))
    size = last - first
    return content[:first] + (fill * size if fill else rng.randbytes(size)) + content[last:]


def splice(content: bytes, other: bytes, rng: Random) -> bytes:
    """Replace the end by the end of another file."""
    return content[: rng.randrange(1, len(content))] + other[rng.randrange(len(other)) :]


def set_extreme_number(content: bytes, other: bytes, rng: Random) -> bytes:
    """Overwrite a number in the header with an extreme one."""
    position = rng.randrange(min(HEADER_BYTES, len(content)))
    return _overwrite(content, position, _pack_number(rng))


def set_wrong_length(content: bytes, other: bytes, rng: Random) -> bytes:
    """Overwrite a length or a count; in files without any, a number in the header."""
    positions = [
        start + offset
        for tag, offset in TAGS.items()
        if (start := content.find(tag)) >= 0 and start + offset >= 0
    ]
    if not positions:
        return set_extreme_number(content, other, rng)
    position = rng.choice(positions)
    return _overwrite(
        content, position, struct.pack(rng.choice("<>") + "I", _choose_number(rng) % 2**32)
    )


def flip_checksummed_bits(content: bytes, other: bytes, rng: Random) -> bytes:
    """Flip bits and correct the checksums, in files that have any."""
    if content.startswith(b"OggS"):
        return flip_ogg_bits(content, rng)
    if content.startswith(b"fLaC"):
        return flip_flac_bits(content, rng)
    return flip_bits(content, other, rng)


def apply_several(content: bytes, other: bytes, rng: Random) -> bytes:
    """Apply two or three mutations."""
    for change in rng.choices(CHANGES[:-2], k=rng.choice((2, 3))):
        content = change(content, other, rng) if len(content) > 1 else content
    return content


CHANGES: tuple[Change, ...] = (
    *(
        flip_bits,
        flip_header_bits,
        cut_end,
        cut_start,
        remove_section,
        repeat_section,
        overwrite_section,
        splice,
    ),
    *(set_extreme_number, set_wrong_length, flip_checksummed_bits, apply_several),
)


def mutate(content: bytes, other: bytes, rng: Random) -> tuple[str, bytes]:
    """Apply a random mutation, and return its name and the result."""
    change = rng.choice(CHANGES)
    return change.__name__, change(content, other, rng)


def _choose_section(content: bytes, rng: Random) -> tuple[int, int]:
    first = rng.randrange(len(content))
    return first, min(len(content), first + 1 + (rng.randrange(len(content)) >> rng.randrange(8)))


def _choose_number(rng: Random) -> int:
    return rng.choice(EXTREMES) if rng.random() < 0.7 else rng.randrange(2**32)


def _pack_number(rng: Random) -> bytes:
    size = rng.choice("BHIQ")
    limit = 2 ** (8 * struct.calcsize(size))
    return struct.pack(rng.choice("<>") + size, _choose_number(rng) % limit)


def _overwrite(content: bytes, position: int, number: bytes) -> bytes:
    return content[:position] + number + content[position + len(number) :]
