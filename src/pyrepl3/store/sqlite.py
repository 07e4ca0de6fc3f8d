"""Deltas and receipts in, one SQLite file a session out; and snapshots back.

A commit is one transaction in WAL mode with synchronous=FULL: SQLite syncs the log before COMMIT
returns, so an epoch whose number was returned is on disk, whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from pyrepl3.errors import SessionClosedError, StoreCorruptError, StoreError
from pyrepl3.records import Blob, Delta, Epoch, Receipt, Snapshot
from pyrepl3.store.blobs import read_blobs, write_blob
from pyrepl3.store.changes import (
    Change,
    NameMap,
    decode_change,
    encode,
    read_map,
    sum_epoch,
    wants_keyframe,
    write_keyframe,
)
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.schema import connect
from pyrepl3.store.text import encode_receipt, plain_text
from pyrepl3.store.trouble import FOREIGN, ODD, corrupt, explain


class SqliteStore:
    """Keeps the epochs of one session in ``path/session.db``; ``":memory:"`` keeps them nowhere.

    ``path`` is the session's directory, made if it is missing (mode 0700). The session is locked
    until ``close``: SessionInUseError where another process, or another store object in this one,
    has it open. Any thread may call, one at a time. Never raises sqlite3's own errors.
    """

    def __init__(self, path: Path | Literal[":memory:"]) -> None:
        self._where = str(path)
        self._lock: SessionLock | None = None
        self._db: sqlite3.Connection | None = None
        self._head = self._count = self._last_epoch = self._last_blob = 0
        # The epoch last worked with: its map, and the weight of the changes since a keyframe.
        self._at: tuple[int, NameMap, int] = (0, NameMap({}, 0), 0)
        self._engine: tuple[int, bytes] = (0, b"")  # the last one, so that it is not repeated
        with self._border("open"):
            try:
                if isinstance(path, Path):
                    self._open(path)
                else:
                    self._db = connect(":memory:", new=True)
                self._look()
            except BaseException:
                self.close()
                raise

    @property
    def head(self) -> int:
        """The epoch that ``load()`` gives; 0 where nothing was committed yet."""
        return self._head

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` (0: none) and make it the head. Returns its number.

        One transaction, synced before it returns. Raises StoreError; the epoch is then not there, or
        (if the disk failed at the very end) whole.
        """
        with self._border("commit to"):
            self._use()
            names, weight = self._map_of(parent)
            epoch, blob = self._last_epoch + 1, self._last_blob
            rows: list[tuple[int, bytes]] = []
            blobs: list[tuple[int, list[str]]] = []
            for item in delta.blobs:
                blob += 1
                rows.append((blob, item.data))
                blobs.append((blob, list(item.names)))
            engine = (0, b"")
            if delta.engine:
                engine = self._engine
                if delta.engine != engine[1]:
                    blob += 1
                    engine = (blob, delta.engine)
                    rows.append(engine)
            change = Change(
                blobs,
                sorted(delta.deleted),
                {name: plain_text(why) for name, why in delta.lost.items()},
                {name: plain_text(text) for name, text in delta.reprs.items()},
                engine[0],
            )
            weight += change.weight
            keyframe = None
            if wants_keyframe(weight, names):
                keyframe, weight = names.copy(), 0
                keyframe.apply(change)
            count = max(self._count, receipt.cell.n)
            packed = encode_receipt(receipt)
            self._write(epoch, parent, delta.size, count, change, packed, rows, keyframe)
            # From here on nothing can fail: memory follows the disk.
            if keyframe is None:
                names.apply(change)
            self._at = (epoch, keyframe or names, weight)
            self._engine = engine
            self._head, self._last_epoch, self._last_blob = epoch, epoch, blob
            self._count = count
            return epoch

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch`` (None: the head; 0: empty), every byte checked.

        Raises StoreError for an unknown epoch, StoreCorruptError (which names the names it
        concerns) where the bytes are not those that were written.
        """
        with self._border("load"):
            db = self._use()
            number = self._head if epoch is None else epoch
            state, _ = self._map_of(number)
            holders: dict[int, list[str]] = {}
            lost: dict[str, str] = {}
            for name, at in state.names.items():
                if isinstance(at, int):
                    holders.setdefault(at, []).append(name)
                else:
                    lost[name] = at
            found = read_blobs(db, sorted(holders), holders, self._where)
            blobs = tuple(Blob(names=tuple(holders[key]), data=data) for key, data in found)
            engine = b""
            if state.engine:
                ((_, engine),) = read_blobs(db, [state.engine], {}, self._where)
            count = self._count
            return Snapshot(epoch=number, count=count, blobs=blobs, lost=lost, engine=engine)

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first.

        Raises StoreError for an unknown epoch, StoreCorruptError.
        """
        with self._border("read the history of"):
            at = self._head if epoch is None else epoch
            self._check_known(at)
            try:
                return self._read_line(at)
            except ODD as error:
                what = f"the line of epochs that leads to {at}"
                raise corrupt(self._where, what) from error

    def move(self, epoch: int) -> None:
        """Make ``epoch`` (0: none) the head, durably; nothing is deleted. Raises StoreError."""
        with self._border("move the head of"):
            db = self._use()
            self._check_known(epoch)
            db.execute("UPDATE head SET epoch = ?", (epoch,))  # a transaction of its own
            self._head = epoch

    def close(self) -> None:
        """Let go of the session. Idempotent. Never raises StoreError."""
        db, self._db = self._db, None
        lock, self._lock = self._lock, None
        try:
            if db is not None:
                db.close()
        except sqlite3.Error:
            pass  # the log could not be folded into the file (disk full): the next open does it
        finally:
            if lock is not None:
                lock.release()

    # --- inside -------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        missing = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path / "session.db"
        self._lock = lock = SessionLock(path / "lock", session=path.name)
        if lock.made and not (file.exists() and file.stat().st_size):
            what = "is empty" if file.exists() else "is missing"
            raise StoreCorruptError(
                f"{file} {what}, though the session was in use before: put a backup in its place, "
                f"or remove the directory {path} to start anew"
            )
        if lock.begun:  # a making that was cut short: nothing in it was ever promised
            for name in ("session.db", "session.db-wal", "session.db-shm", "session.db-journal"):
                (path / name).unlink(missing_ok=True)
        _check_header(file)
        self._db = connect(str(file), new=not lock.made)
        if not lock.made:
            _sync(file)
            _sync(path)
            for place in missing:
                _sync(place.parent)
            lock.mark_made()

    def _look(self) -> None:
        """Take over what the disk says; at the start, and when a commit failed."""
        db = self._use()
        row = db.execute("SELECT epoch, count FROM head").fetchone()
        if row is None:
            raise corrupt(self._where, "the number of the last epoch")
        # sqlite_sequence outlives deleted rows, so numbers only grow.
        last = dict(db.execute("SELECT name, seq FROM sqlite_sequence"))
        self._head, self._count = row
        self._last_epoch, self._last_blob = last.get("epoch", 0), last.get("blob", 0)
        self._at, self._engine = (0, NameMap({}, 0), 0), (0, b"")

    def _write(
        self,
        epoch: int,
        parent: int,
        size: int,
        count: int,
        change: Change,
        receipt: bytes,
        blobs: list[tuple[int, bytes]],
        keyframe: NameMap | None,
    ) -> None:
        db = self._use()
        packed = encode(change)
        row = (epoch, parent, size, packed, receipt, sum_epoch(epoch, parent, packed, receipt))
        try:
            db.execute("BEGIN IMMEDIATE")
            for key, data in blobs:
                write_blob(db, key, data)
            db.execute("INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?)", row)
            if keyframe is not None:
                write_keyframe(db, epoch, keyframe)
            db.execute("UPDATE head SET epoch = ?, count = ?", (epoch, count))
            db.execute("COMMIT")
        except BaseException:
            # A COMMIT that failed may have ended the transaction or not, and even have succeeded.
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._look()
            raise

    def _read_line(self, at: int) -> list[Epoch]:
        decode_receipt = msgspec.msgpack.Decoder(Receipt).decode  # a millisecond, not at the start
        line: list[Epoch] = []
        for number, parent, size, change, receipt, check in self._use().execute(
            "WITH RECURSIVE line AS (SELECT * FROM epoch WHERE id = ? UNION ALL "
            "SELECT epoch.* FROM epoch JOIN line ON epoch.id = line.parent "
            "WHERE line.parent < line.id) SELECT * FROM line",
            (at,),
        ):
            if check != sum_epoch(number, parent, change, receipt):
                raise corrupt(self._where, f"epoch {number}")
            what = decode_change(change)
            found = Epoch(
                epoch=number,
                parent=parent,
                receipt=decode_receipt(receipt),
                size=size,
                stored=frozenset(name for _, names in what.blobs for name in names),
                deleted=frozenset(what.deleted),
                lost=what.lost,
            )
            line.append(found)
        if at and (not line or line[-1].parent != 0):
            raise corrupt(self._where, f"the line of epochs that leads to {at}")
        line.reverse()
        return line

    def _use(self) -> sqlite3.Connection:
        if self._db is None:
            raise SessionClosedError(f"the store {self._where} is closed")
        return self._db

    def _check_known(self, epoch: int) -> None:
        known = "SELECT 1 FROM epoch WHERE id = ?"
        if epoch and not self._use().execute(known, (epoch,)).fetchone():
            raise StoreError(
                f"{self._where} has no epoch {epoch}; the newest is {self._last_epoch}"
            )

    def _map_of(self, epoch: int) -> tuple[NameMap, int]:
        if self._at[0] != epoch:
            self._check_known(epoch)
            self._at = (epoch, *read_map(self._use(), epoch, self._where))
        elif epoch == 0:
            return NameMap({}, 0), 0
        return self._at[1], self._at[2]

    @contextmanager
    def _border(self, action: str) -> Iterator[None]:
        """Errors of sqlite3 and of the system become ours, with the cure."""
        try:
            yield
        except FOREIGN as error:
            raise explain(error, action, self._where) from error


def _check_header(file: Path) -> None:
    """SQLite takes a file of a few bytes for an empty database, and overwrites it."""
    if file.exists() and file.stat().st_size:
        with file.open("rb") as opened:
            if opened.read(16) != b"SQLite format 3\0":
                raise StoreCorruptError(
                    f"{file} is not a database: put a backup in its place, or move it away"
                )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
