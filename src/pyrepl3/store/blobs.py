"""Bytes under a number in, the same bytes out, checked; in rows that SQLite accepts.

Nothing is compressed: zlib at its fastest makes 40 to 180 MB/s on the machine where this was measured,
its disk 100 to 200. ``codec`` leaves room to change that.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence

from pyrepl3.store.trouble import ODD, corrupt, value_of

_PART = 256 * 1024 * 1024  # bytes; SQLite refuses rows above 1e9
_MANY = 200  # blobs a query


def checksum(key: int, data: bytes, *more: bytes) -> int:
    """CRC-32 of the bytes and of ``key``, so that a row in another row's place is found as well.

    2.2 GB/s where blake2b makes 0.5; it is against accidents, not against people.
    """
    found = zlib.crc32(data, key * 2654435761 & 0xFFFFFFFF)
    for item in more:
        found = zlib.crc32(item, found)
    return found


def write_blob(db: sqlite3.Connection, key: int, data: bytes) -> None:
    """Insert ``data`` as blob ``key``."""
    whole = len(data) <= _PART
    db.execute(
        "INSERT INTO blob (id, size, sum, data) VALUES (?, ?, ?, ?)",
        (key, len(data), checksum(key, data), data if whole else None),
    )
    if not whole:
        view = memoryview(data)
        for n in range(0, len(data), _PART):
            db.execute("INSERT INTO part VALUES (?, ?, ?)", (key, n, view[n : n + _PART]))


def read_blobs(
    db: sqlite3.Connection, keys: Sequence[int], names: Mapping[int, list[str]], where: str
) -> Iterator[tuple[int, bytes]]:
    """Each key with its bytes, in the order of ``keys``.

    Raises StoreCorruptError, which tells the ``names`` of the key, where they are not those written.
    """
    for start in range(0, len(keys), _MANY):
        some = keys[start : start + _MANY]
        found = _read_rows(db, some, names, where)
        for key in some:
            row = found.get(key)
            if row is None or len(row[1]) != row[0] or checksum(key, row[1]) != row[2]:
                raise corrupt(where, value_of(names.get(key, ())))
            yield key, row[1]


def _read_rows(
    db: sqlite3.Connection, keys: Sequence[int], names: Mapping[int, list[str]], where: str
) -> dict[int, tuple[int, bytes, int]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT id, size, data, sum FROM blob WHERE id IN ({marks})"  # noqa: S608 - only marks
    try:
        rows = {}
        for key, size, data, check in db.execute(query, keys):
            rows[key] = size, data if data is not None else _read_parts(db, key), check
            if type(rows[key][1]) is not bytes:
                raise TypeError(key)
    except (sqlite3.DatabaseError, *ODD) as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        concerned = sorted(name for key in keys for name in names.get(key, ()))
        raise corrupt(where, value_of(concerned)) from error
    return rows


def _read_parts(db: sqlite3.Connection, key: int) -> bytes:
    parts = db.execute("SELECT data FROM part WHERE blob = ? ORDER BY n", (key,))
    return b"".join(part for (part,) in parts)
