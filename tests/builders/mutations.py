"""Files as a bad disk, a broken download or an enemy would leave them; the same for each seed.

Every change is a function of (content, other, chance): the file, one of another kind, and where
the dice come from.
"""

import struct
from collections.abc import Callable
from random import Random

from builders.checksums import resealed_flac, resealed_ogg

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
"""Where a length or a count stands, in bytes from what marks it."""
HEAD = 256


def flipped(content: bytes, other: bytes, chance: Random) -> bytes:
    """Some bits are the other way round."""
    return _flipped(content, len(content), chance)


def flipped_head(content: bytes, other: bytes, chance: Random) -> bytes:
    """Some bits of what a decoder believes first."""
    return _flipped(content, HEAD, chance)


def _flipped(content: bytes, within: int, chance: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(1 << chance.randrange(6)):
        changed[chance.randrange(min(within, len(changed)))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content: bytes, other: bytes, chance: Random) -> bytes:
    """The end is missing."""
    return content[: chance.randrange(1, len(content))]


def beheaded(content: bytes, other: bytes, chance: Random) -> bytes:
    """The beginning is missing."""
    return content[chance.randrange(1, len(content)) :]


def removed(content: bytes, other: bytes, chance: Random) -> bytes:
    """A stretch is missing."""
    first, last = _stretch(content, chance)
    return content[:first] + content[last:] or b"\0"


def doubled(content: bytes, other: bytes, chance: Random) -> bytes:
    """A stretch is there twice, or more often."""
    first, last = _stretch(content, chance)
    return content[:last] + content[first:last] * chance.choice((1, 1, 2, 9)) + content[last:]


def overwritten(content: bytes, other: bytes, chance: Random) -> bytes:
    """A stretch is noise, or all zeros or ones."""
    first, last = _stretch(content, chance)
    fill = chance.choice((b"\0", b"\xff", None))
    size = last - first
    return content[:first] + (fill * size if fill else chance.randbytes(size)) + content[last:]


def spliced(content: bytes, other: bytes, chance: Random) -> bytes:
    """It goes on as another file."""
    return content[: chance.randrange(1, len(content))] + other[chance.randrange(len(other)) :]


def extreme(content: bytes, other: bytes, chance: Random) -> bytes:
    """A number in the head is as none should be."""
    place = chance.randrange(min(HEAD, len(content)))
    return _laid(content, place, _number(chance))


def lying(content: bytes, other: bytes, chance: Random) -> bytes:
    """A length or a count is another; in files that have none, a number in the head."""
    places = [
        found + offset
        for tag, offset in TAGS.items()
        if (found := content.find(tag)) >= 0 and found + offset >= 0
    ]
    if not places:
        return extreme(content, other, chance)
    place = chance.choice(places)
    return _laid(content, place, struct.pack(chance.choice("<>") + "I", _extreme(chance) % 2**32))


def resealed(content: bytes, other: bytes, chance: Random) -> bytes:
    """Bits are flipped, and the checksums over them are right; of files that have some."""
    if content.startswith(b"OggS"):
        return resealed_ogg(content, chance)
    if content.startswith(b"fLaC"):
        return resealed_flac(content, chance)
    return flipped(content, other, chance)


def several(content: bytes, other: bytes, chance: Random) -> bytes:
    """Two or three of these at once."""
    for change in chance.choices(CHANGES[:-2], k=chance.choice((2, 3))):
        content = change(content, other, chance) if len(content) > 1 else content
    return content


CHANGES: tuple[Change, ...] = (
    *(flipped, flipped_head, cut, beheaded, removed, doubled, overwritten, spliced),
    *(extreme, lying, resealed, several),
)


def mutated(content: bytes, other: bytes, chance: Random) -> tuple[str, bytes]:
    """One change, and its name."""
    change = chance.choice(CHANGES)
    return change.__name__, change(content, other, chance)


def _stretch(content: bytes, chance: Random) -> tuple[int, int]:
    first = chance.randrange(len(content))
    return first, min(
        len(content), first + 1 + (chance.randrange(len(content)) >> chance.randrange(8))
    )


def _extreme(chance: Random) -> int:
    return chance.choice(EXTREMES) if chance.random() < 0.7 else chance.randrange(2**32)


def _number(chance: Random) -> bytes:
    size = chance.choice("BHIQ")
    limit = 2 ** (8 * struct.calcsize(size))
    return struct.pack(chance.choice("<>") + size, _extreme(chance) % limit)


def _laid(content: bytes, place: int, number: bytes) -> bytes:
    return content[:place] + number + content[place + len(number) :]
