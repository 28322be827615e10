"""Correct the checksums of changed Ogg and FLAC files, so that decoders do not reject them."""

from random import Random


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table, top, mask = [], 1 << (bits - 1), (1 << bits) - 1
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return table


OGG, FLAC, HEADER = _crc_table(0x04C11DB7, 32), _crc_table(0x8005, 16), _crc_table(0x07, 8)


def crc(content: bytes | bytearray, table: list[int], bits: int) -> int:
    """Compute a cyclic redundancy check with the initial value 0 and without reflection.

    >>> hex(crc(b"123456789", FLAC, 16)), hex(crc(b"123456789", HEADER, 8))
    ('0xfee8', '0xf4')
    """
    value, mask = 0, (1 << bits) - 1
    for byte in content:
        value = (value << 8 ^ table[(value >> (bits - 8) ^ byte) & 255]) & mask
    return value


def flip_ogg_bits(content: bytes, rng: Random) -> bytes:
    """Flip bits of pages, and correct their checksums."""
    return b"".join(
        _fix_checksum(_flip_bits(page, 27, len(page), rng)) for page in _split_pages(content)
    )


def reset_ogg_serial(content: bytes) -> bytes:
    """Set the serial number of a stream to 1, since writers choose a random one."""
    return b"".join(
        _fix_checksum(bytearray(page[:14] + b"\1\0\0\0" + page[18:]))
        for page in _split_pages(content)
    )


def _split_pages(content: bytes) -> list[bytes]:
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def _fix_checksum(page: bytearray) -> bytearray:
    page[22:26] = bytes(4)
    page[22:26] = crc(page, OGG, 32).to_bytes(4, "little")
    return page


def flip_flac_bits(content: bytes, rng: Random) -> bytes:
    """Flip bits of frames, and correct their checksums."""
    starts = _find_frames(content)
    whole = bytearray(content[: starts[0]])
    for first, last in zip(starts, [*starts[1:], len(content)], strict=True):
        changed = _flip_bits(content[first:last], 6, last - first - 2, rng)
        changed[-2:] = crc(changed[:-2], FLAC, 16).to_bytes(2, "big")
        whole += changed
    return bytes(whole)


def _find_frames(content: bytes) -> list[int]:
    """Return the positions of frames: a mark, then a valid header checksum within sixteen bytes."""
    marks = [i for i in range(42, len(content) - 16) if content[i : i + 2] in MARKS]
    return [
        mark
        for mark in marks
        if any(
            crc(content[mark : mark + size], HEADER, 8) == content[mark + size]
            for size in range(5, 16)
        )
    ]


MARKS = (b"\xff\xf8", b"\xff\xf9")


def _flip_bits(piece: bytes, first: int, last: int, rng: Random) -> bytearray:
    changed = bytearray(piece)
    for _ in range(rng.randrange(4)):
        changed[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return changed
