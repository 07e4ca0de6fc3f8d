"""The parts of a row in, one number out that tells whether they are still those that were written."""

from __future__ import annotations

import zlib


def checksum(key: int, data: bytes | memoryview, *more: bytes) -> int:
    """CRC-32 of the bytes and of ``key``, so that a row in another row's place is found as well.

    2.2 GB/s where blake2b makes 0.5; it is against accidents, not against people.
    """
    found = zlib.crc32(data, key * 2654435761 & 0xFFFFFFFF)
    for item in more:
        found = zlib.crc32(item, found)
    return found
