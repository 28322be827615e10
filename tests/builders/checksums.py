"""Checksums made right again, so that a changed file gets past them and into its decoder."""

from random import Random


def _table(polynomial: int, bits: int) -> list[int]:
    table, top, mask = [], 1 << (bits - 1), (1 << bits) - 1
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return table


OGG, FLAC, HEADER = _table(0x04C11DB7, 32), _table(0x8005, 16), _table(0x07, 8)


def checksum(content: bytes | bytearray, table: list[int], bits: int) -> int:
    """A cyclic redundancy check that begins with 0 and mirrors nothing.

    >>> hex(checksum(b"123456789", FLAC, 16)), hex(checksum(b"123456789", HEADER, 8))
    ('0xfee8', '0xf4')
    """
    value, mask = 0, (1 << bits) - 1
    for byte in content:
        value = (value << 8 ^ table[(value >> (bits - 8) ^ byte) & 255]) & mask
    return value


def resealed_ogg(content: bytes, chance: Random) -> bytes:
    """Flip bits of pages, and make their checksums right."""
    return b"".join(_sealed(_flipped(page, 27, len(page), chance)) for page in _pages(content))


def renumbered_ogg(content: bytes) -> bytes:
    """The same stream under the number 1, where writers take one by chance."""
    return b"".join(
        _sealed(bytearray(page[:14] + b"\1\0\0\0" + page[18:])) for page in _pages(content)
    )


def _pages(content: bytes) -> list[bytes]:
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def _sealed(page: bytearray) -> bytearray:
    page[22:26] = bytes(4)
    page[22:26] = checksum(page, OGG, 32).to_bytes(4, "little")
    return page


def resealed_flac(content: bytes, chance: Random) -> bytes:
    """Flip bits of frames, and make their checksums right."""
    starts = _frames(content)
    whole = bytearray(content[: starts[0]])
    for first, last in zip(starts, [*starts[1:], len(content)], strict=True):
        changed = _flipped(content[first:last], 6, last - first - 2, chance)
        changed[-2:] = checksum(changed[:-2], FLAC, 16).to_bytes(2, "big")
        whole += changed
    return bytes(whole)


def _frames(content: bytes) -> list[int]:
    """Where frames begin: a mark, and within sixteen bytes the right checksum of the header."""
    marks = [i for i in range(42, len(content) - 16) if content[i : i + 2] in MARKS]
    return [
        mark
        for mark in marks
        if any(
            checksum(content[mark : mark + size], HEADER, 8) == content[mark + size]
            for size in range(5, 16)
        )
    ]


MARKS = (b"\xff\xf8", b"\xff\xf9")


def _flipped(piece: bytes, first: int, last: int, chance: Random) -> bytearray:
    changed = bytearray(piece)
    for _ in range(chance.randrange(4)):
        changed[chance.randrange(first, last)] ^= 1 << chance.randrange(8)
    return changed
