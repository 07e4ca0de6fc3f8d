"""Epochs in; an error that names the names, where something is not what was written, out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from pyrepl3.records import CHUNK, Buffer
from pyrepl3.store.blobs import read_blobs
from pyrepl3.store.buffers import find_stretches
from pyrepl3.store.changes import NameMap, decode_change
from pyrepl3.store.chunks import Absent, digest_of, read_chunk
from pyrepl3.store.line import Row, make_epochs
from pyrepl3.store.packs import Packs
from pyrepl3.store.sums import checksum
from pyrepl3.store.trouble import corrupt, value_of


def verify_state(db: sqlite3.Connection, packs: Packs, state: NameMap, where: str) -> None:
    """Read all that a state needs, every byte. Raises StoreCorruptError."""
    holders: dict[int, list[str]] = {}
    for name, at in state.names.items():
        if isinstance(at, int):
            holders.setdefault(at, []).append(name)
    _verify_blobs(db, packs, holders, {state.engine}, where)


def verify_all(db: sqlite3.Connection, packs: Packs, rows: Iterable[Row], where: str) -> None:
    """Read all that these epochs need; they are all that there are. Raises StoreCorruptError."""
    rows = list(rows)
    make_epochs(rows, where)
    for epoch, data, check in db.execute("SELECT epoch, map, sum FROM keyframe"):
        if check != checksum(epoch, data):
            raise corrupt(where, f"the list of names of epoch {epoch}")
    holders: dict[int, list[str]] = {}
    engines: set[int] = set()
    for row in rows:
        change = decode_change(row[3])
        for blob, names in change.blobs:
            known = holders.setdefault(blob, [])
            known += [name for name in names if name not in known]
        engines.add(change.engine)
    _verify_blobs(db, packs, holders, engines, where)


def _verify_blobs(
    db: sqlite3.Connection,
    packs: Packs,
    holders: Mapping[int, list[str]],
    engines: set[int],
    where: str,
) -> None:
    seen: set[bytes] = set()
    for key, _, buffers in read_blobs(db, packs, sorted(holders), holders, where):
        try:
            for buffer in buffers:
                _verify_buffer(db, packs, buffer, seen)
        except Absent:
            raise corrupt(where, value_of(holders[key])) from None
    for _ in read_blobs(db, packs, sorted(engines - {0}), {}, where):
        pass


def _verify_buffer(db: sqlite3.Connection, packs: Packs, buffer: Buffer, seen: set[bytes]) -> None:
    room = memoryview(bytearray(CHUNK))  # one for all: a new one a chunk costs more than its hash
    for stretch in find_stretches(db, packs, buffer):
        for digest, start, size in stretch.pieces():
            if digest not in seen:
                seen.add(digest)
                part, at = room[:size], stretch.at + start
                if not stretch.pack:
                    read_chunk(db, packs, digest, (size, 0, at))
                elif (
                    at < 0
                    or not packs.read_into((stretch.pack, at), part)
                    or digest_of(part) != digest
                ):
                    raise Absent
