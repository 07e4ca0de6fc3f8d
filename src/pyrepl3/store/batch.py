"""What one commit adds beside its epoch: blobs and chunks in; rows, and pieces of a pack, out.

Many bytes go to a pack (written once, and can be mapped), at the cost of a sync of its own; few go into
rows, which the log of the database syncs anyway. So a cell costs one sync, or two if it made much.
"""

from __future__ import annotations

import sqlite3
from itertools import chain

from pyrepl3.records import Blob, Delta
from pyrepl3.store.blobs import pack_buffers, write_blob
from pyrepl3.store.chunks import Known, find_new, insert_places, insert_rows, settle
from pyrepl3.store.packs import Packs, Place

_BIG = 16 * 1024  # bytes; a smaller piece would waste too much of its last page
_MUCH = 256 * 1024  # bytes in big pieces; below it the log is as fast, and one sync is saved


class Batch:
    """The blobs and chunks of one commit. ``place`` first, then ``insert`` inside the transaction."""

    def __init__(self, db: sqlite3.Connection, packs: Packs, delta: Delta, known: Known) -> None:
        self._db, self._packs, self._known = db, packs, known
        self._lists, chunks, self._stored = find_new(db, delta, known)
        self._rows = {digest: data for digest, data in chunks.items() if len(data) < _BIG}
        self._packed = {digest: data for digest, data in chunks.items() if len(data) >= _BIG}
        self._blobs: list[tuple[int, bytes, bytes]] = []
        self._places: list[Place] = []
        self._end = 0

    def add(self, key: int, blob: Blob) -> None:
        """Store the bytes of ``blob`` under ``key``."""
        self._blobs.append((key, blob.data, pack_buffers(blob.buffers)))

    def place(self) -> None:
        """Write what goes to a pack, synced. Raises OSError, StoreError; nothing is then left of it."""
        blobs = [data for _, data, _ in self._blobs if len(data) >= _BIG]
        if sum(map(len, self._packed.values())) + sum(map(len, blobs)) < _MUCH:
            self._rows |= self._packed
            self._packed = {}
        else:
            pieces = (settle(digest, piece) for digest, piece in self._packed.items())
            self._places, self._end = self._packs.write(chain(pieces, blobs))
        self._rows = {digest: settle(digest, piece) for digest, piece in self._rows.items()}

    @property
    def size(self) -> int:
        """Bytes in rows."""
        pieces = sum(map(len, self._lists.values())) + sum(map(len, self._rows.values()))
        packed = bool(self._places)
        return pieces + sum(
            len(data) for _, data, _ in self._blobs if not packed or len(data) < _BIG
        )

    def insert(self) -> None:
        """Write the rows. Raises sqlite3.Error."""
        db = self._db
        at = len(self._packed)
        insert_rows(db, self._lists)
        insert_rows(db, self._rows)
        insert_places(db, self._packed, self._places[:at])
        for key, data, buffers in self._blobs:
            place = None
            if self._places and len(data) >= _BIG:
                place, at = self._places[at], at + 1
            write_blob(db, key, data, buffers, place)
        if self._places:
            pack = self._places[0][0]
            db.execute("INSERT OR REPLACE INTO pack VALUES (?, ?)", (pack, self._end))

    def undo(self) -> None:
        """Take back what ``place`` wrote; only while no row can tell of it."""
        if self._places:
            self._packs.undo(self._places[0])

    def done(self) -> None:
        """The rows are committed."""
        self._known.add({*self._lists, *self._rows, *self._packed, *self._stored})
        if self._places:
            self._packs.ends[self._places[0][0]] = self._end
