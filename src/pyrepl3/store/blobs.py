"""Bytes under a number in, the same bytes out, checked: in a row that SQLite accepts, or in a pack.

Nothing is compressed: zlib at its fastest makes 40 to 180 MB/s on the machine where this was measured,
its disk 100 to 200. ``codec`` leaves room to change that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyrepl3.records import Blob, Buffer
from pyrepl3.store.chunks import DIGEST
from pyrepl3.store.packs import Packs, Place
from pyrepl3.store.sums import checksum
from pyrepl3.store.trouble import ODD, corrupt, value_of

_MANY = 200  # blobs a query
_SIZE = 8  # bytes of a buffer's size, before its root


def pack_buffers(buffers: Iterable[Buffer]) -> bytes:
    """The buffers of a blob as a column."""
    return b"".join(each.size.to_bytes(_SIZE, "big") + each.root for each in buffers)


def unpack_buffers(column: bytes) -> tuple[Buffer, ...]:
    """And back. Raises ValueError."""
    step = _SIZE + DIGEST
    if len(column) % step:
        raise ValueError("buffers of a blob")
    return tuple(
        Buffer(size=int.from_bytes(column[n : n + _SIZE], "big"), root=column[n + _SIZE : n + step])
        for n in range(0, len(column), step)
    )


def write_blob(
    db: sqlite3.Connection, key: int, data: bytes, buffers: bytes, place: Place | None
) -> None:
    """Insert ``data`` as blob ``key``; it lies at ``place`` already, or in the row (None)."""
    pack, at = place or (0, 0)
    db.execute(
        "INSERT INTO blob (id, size, sum, buffers, pack, at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            len(data),
            checksum(key, data, buffers),
            buffers,
            pack,
            at,
            None if place else data,
        ),
    )


def read_blobs(
    db: sqlite3.Connection,
    packs: Packs,
    keys: Sequence[int],
    names: Mapping[int, list[str]],
    where: str,
) -> Iterator[tuple[int, bytes, tuple[Buffer, ...]]]:
    """Each key with its bytes and buffers, in the order of ``keys``.

    Raises StoreCorruptError, which tells the ``names`` of the key, where they are not those written.
    """
    for start in range(0, len(keys), _MANY):
        some = keys[start : start + _MANY]
        found = _read_rows(db, packs, some, names, where)
        for key in some:
            row = found.get(key)
            if row is None or checksum(key, row[0], row[1]) != row[2]:
                raise corrupt(where, value_of(names.get(key, ())))
            yield key, row[0], unpack_buffers(row[1])


def read_state(
    db: sqlite3.Connection, packs: Packs, names: Mapping[str, int | str], engine: int, where: str
) -> tuple[tuple[Blob, ...], dict[str, str], bytes]:
    """The blobs of ``names``, the names that are lost with the reason, and the engine's own state.

    Raises StoreCorruptError, which tells the names that it concerns.
    """
    holders: dict[int, list[str]] = {}
    lost: dict[str, str] = {}
    for name, at in names.items():
        if isinstance(at, int):
            holders.setdefault(at, []).append(name)
        else:
            lost[name] = at
    blobs = tuple(
        Blob(names=tuple(holders[key]), data=data, buffers=buffers)
        for key, data, buffers in read_blobs(db, packs, sorted(holders), holders, where)
    )
    states = [data for _, data, _ in read_blobs(db, packs, [engine] if engine else [], {}, where)]
    return blobs, lost, b"".join(states)


def _read_rows(
    db: sqlite3.Connection,
    packs: Packs,
    keys: Sequence[int],
    names: Mapping[int, list[str]],
    where: str,
) -> dict[int, tuple[bytes, bytes, int]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT id, size, sum, buffers, pack, at, data FROM blob WHERE id IN ({marks})"  # noqa: S608 - only marks
    try:
        rows: dict[int, tuple[bytes, bytes, int]] = {}
        for key, size, check, buffers, pack, at, row in db.execute(query, keys):
            data = _read_pack(packs, (pack, at), size) if pack else row
            if type(data) is not bytes or type(buffers) is not bytes or len(data) != size:
                continue  # told as missing
            rows[key] = data, buffers, check
    except (sqlite3.DatabaseError, *ODD) as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        concerned = sorted(name for key in keys for name in names.get(key, ()))
        raise corrupt(where, value_of(concerned)) from error
    return rows


def _read_pack(packs: Packs, place: Place, size: int) -> bytes | None:
    if not 0 <= size <= packs.size(place[0]) or place[1] < 0:
        return None
    data = bytearray(size)
    return bytes(data) if packs.read_into(place, memoryview(data)) else None
