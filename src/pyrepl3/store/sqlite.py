"""Deltas and receipts in, one directory a session out; and snapshots back.

A commit is one transaction in WAL mode with synchronous=FULL: SQLite syncs the log before COMMIT
returns, so an epoch whose number was returned is on disk, whole. What it tells of in packs was synced before.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Literal

from pyrepl3.errors import (
    SessionClosedError,
    SessionExistsError,
    StoreError,
)
from pyrepl3.records import Blob, Buffer, Collected, Delta, Epoch, KeptName, Receipt, Snapshot
from pyrepl3.store.batch import Batch
from pyrepl3.store.blobs import read_state
from pyrepl3.store.buffers import Opener
from pyrepl3.store.changes import (
    NameMap,
    encode,
    make_change,
    read_map,
    sum_epoch,
    wants_keyframe,
    write_keyframe,
)
from pyrepl3.store.chunks import Known
from pyrepl3.store.folding import Folding
from pyrepl3.store.forks import copy_line, copy_session
from pyrepl3.store.garbage import drop, give_back
from pyrepl3.store.line import (
    audit_mark,
    find_origins,
    is_audited,
    make_epochs,
    read_all,
    read_line,
    tell_names,
)
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.making import check_name, make_session
from pyrepl3.store.opening import make_directory, open_database
from pyrepl3.store.packs import Packs, sync
from pyrepl3.store.schema import connect, read_head, write_head
from pyrepl3.store.text import encode_receipt
from pyrepl3.store.trouble import border, decoding
from pyrepl3.store.verify import verify_all, verify_state


class SqliteStore:
    """Keeps the epochs of one session in the directory ``path``; ``":memory:"`` keeps them nowhere.

    ``path`` is made if it is missing (mode 0700). The session is locked until ``close``:
    SessionInUseError where another process, or another store object in this one, has it open. Any
    thread may call. Never raises sqlite3's own errors.
    """

    def __init__(self, path: Path | Literal[":memory:"]) -> None:
        self._where = str(path)
        self._path = path if isinstance(path, Path) else None
        self._calls = threading.RLock()
        self._lock: SessionLock | None = None
        self._db: sqlite3.Connection | None = None
        self._packs = Packs(self._path)
        self._folding = Folding(self._path and self._path / "session.db")
        self._known = Known()
        self._forks: set[str] = set()  # of a store in memory
        self._head = self._count = self._last_epoch = self._last_blob = 0
        # The epoch last worked with: its map, and the weight of the changes since a keyframe.
        self._at: tuple[int, NameMap, int] = (0, NameMap({}, 0), 0)
        self._engine: tuple[int, bytes] = (0, b"")  # the last one, so that it is not repeated
        with self._calls, border("open", self._where):
            try:
                if self._path is not None:
                    self._open(self._path)
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

    # --- epochs -------------------------------------------------------------------------------

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` (0: none) and make it the head. Returns its number.

        One transaction, synced before it returns. Raises StoreError; the epoch is then not there, or
        (if the disk failed at the very end) whole.
        """
        with self._calls, border("commit to", self._where):
            batch = Batch(self._use(), self._packs, delta, self._known)
            names, weight = self._map_of(parent)
            epoch, key = self._last_epoch + 1, self._last_blob
            blobs: list[tuple[int, list[str]]] = []
            for item in delta.blobs:
                key += 1
                batch.add(key, item)
                blobs.append((key, list(item.names)))
            engine = (0, b"")
            if delta.engine:
                engine = self._engine
                if delta.engine != engine[1]:
                    key += 1
                    engine = (key, delta.engine)
                    batch.add(key, Blob(names=(), data=delta.engine))
            change = make_change(delta, blobs, engine[0])
            weight += change.weight
            keyframe = None
            if wants_keyframe(weight, names):
                keyframe, weight = names.copy(), 0
                keyframe.apply(change)
            count = max(self._count, receipt.cell.n)
            packed, told = encode(change), encode_receipt(receipt)
            check = sum_epoch(epoch, parent, delta.size, packed, told)
            mark = audit_mark(epoch, audited=delta.audited)
            row = (epoch, parent, delta.size, packed, told, check, mark)
            self._write(row, count, batch, keyframe)
            # From here on nothing can fail: memory follows the disk.
            if keyframe is None:
                names.apply(change)
            self._at = (epoch, keyframe or names, weight)
            self._engine = engine
            self._head, self._last_epoch, self._last_blob = epoch, epoch, key
            self._count = count
            return epoch

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch`` (None: the head; 0: empty); all bytes but buffers' are checked.

        Raises StoreError for an unknown epoch, StoreCorruptError (which names the names it
        concerns) where the bytes are not those that were written.
        """
        with self._calls, border("load", self._where):
            db = self._use()
            number = self._head if epoch is None else epoch
            state = self._map_of(number)[0]
            found = read_state(db, self._packs, state.names, state.engine, self._where)
            blobs, lost, engine = found
            query = "SELECT audit FROM epoch WHERE id = ?", (number,)
            (mark,) = db.execute(*query).fetchone() or (0,)
            opener = Opener(blobs, self._packs, self._where)

            def open_one(buffer: Buffer) -> memoryview:
                with self._calls, border("load", self._where):
                    return opener.open(self._use(), buffer)

            def digests(buffer: Buffer) -> bytes:
                with self._calls, border("load", self._where):
                    return opener.digests(self._use(), buffer)

            def verify() -> bool:
                with self._calls, border("verify", self._where):
                    self._use()
                    return opener.verify()

            buffers = any(blob.buffers for blob in blobs)
            return Snapshot(
                epoch=number,
                count=self._count,
                blobs=blobs,
                lost=lost,
                engine=engine,
                open=open_one if buffers else None,
                verify=verify if buffers else None,
                digests=digests if buffers else None,
                audited=not number or is_audited(number, mark, self._where),
            )

    def names(self, epoch: int | None = None) -> Mapping[str, KeptName]:
        """Each name as of ``epoch`` (None: the head; 0: none) with what is known of it.

        Raises StoreError for an unknown epoch, StoreCorruptError.
        """
        with self._calls, border("read the names of", self._where), self._reading(epoch) as at:
            origins = find_origins(read_line(self._use(), at, self._where))
            return tell_names(self._use(), origins)

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first.

        Raises StoreError for an unknown epoch, StoreCorruptError.
        """
        with self._calls, border("read the history of", self._where), self._reading(epoch) as at:
            return make_epochs(read_line(self._use(), at, self._where), self._where)

    def epochs(self) -> Sequence[Epoch]:
        """All epochs, by number, also those off the line of the head. Raises StoreCorruptError."""
        with self._calls, border("read the epochs of", self._where), self._reading(None):
            return make_epochs(read_all(self._use(), self._where), self._where)

    def move(self, epoch: int) -> None:
        """Make ``epoch`` (0: none) the head, durably; nothing is deleted. Raises StoreError."""
        with self._calls, border("move the head of", self._where):
            db = self._use()
            self._check_known(epoch)
            write_head(db, epoch, self._count)
            self._head = epoch

    def audited(self, epoch: int) -> None:
        """``epoch`` holds all that had changed, durably. Idempotent. Raises StoreError."""
        with self._calls, border("mark an epoch of", self._where):
            db = self._use()
            self._check_known(epoch)
            mark = audit_mark(epoch, audited=True)
            db.execute("UPDATE epoch SET audit = ? WHERE id = ?", (mark, epoch))

    # --- the whole ----------------------------------------------------------------------------

    def verify(self, epoch: int | None = None) -> None:
        """Read every byte that ``epoch`` (None: any epoch) needs, and compare it with its checksum.

        4 GB/s at most, from memory. Raises StoreCorruptError, which names the names that it concerns.
        """
        with self._calls, border("verify", self._where):
            db = self._use()
            if epoch is None:
                with self._reading(None):
                    verify_all(db, self._packs, read_all(db, self._where), self._where)
            else:
                verify_state(db, self._packs, self._map_of(epoch)[0], self._where)

    def fork(self, name: str, epoch: int | None = None) -> SqliteStore:
        """A new session beside this one, open, with the line to ``epoch`` (None: the head).

        Packs are shared by hard links where the file system has them, so it costs no room. Raises
        SessionExistsError, ValueError for a name that is none, StoreError.
        """
        with self._calls, border("fork", self._where):
            db = self._use()
            at = self._head if epoch is None else epoch
            self._check_known(at)
            if self._path is None:
                if check_name(name) in self._forks:
                    raise SessionExistsError(name, self._where)
                store = SqliteStore(":memory:")
                copy_line(db, self._packs, store._use(), store._packs, at, self._where)
                store._look()
                self._forks.add(name)
                return store
            root = self._path.parent
            with make_session(root, name) as folder:
                copy_session(db, self._packs, folder, at, self._where)
        return SqliteStore(root / name)

    def collect(self, *, keep: int | None = None) -> Collected:
        """Drop epochs that do not lead to the head, and of those that do all but the last ``keep``.

        Needs room for what it copies: a pack more than half of which is garbage is written anew. Any
        error or crash leaves all kept epochs whole; the next collection goes on. Raises ValueError for
        ``keep`` below 1, StoreError, StoreCorruptError where it cannot be told what is needed.
        """
        if keep is not None and keep < 1:
            raise ValueError(f"keep at least one epoch, not {keep}")
        with self._calls, border("collect the garbage of", self._where):
            db = self._use()
            self._folding.wait()
            before = self._measure()
            try:
                with self._reading(None):
                    epochs = drop(db, self._packs, self._head, keep, self._where)
                give_back(db, self._packs)
            finally:
                self._look()
            return Collected(epochs=epochs, size=max(0, before - self._measure()))

    def export(self, path: Path) -> None:
        """Write the whole session to ``path``, which must not exist yet, synced.

        Raises StoreError, StoreCorruptError where a pack is not as long as it was.
        """
        from pyrepl3.store.archive import copy_steps, write_archive  # noqa: PLC0415 - zipfile

        with self._calls, border("export", self._where), copy_steps(self._path, path) as steps:
            name = self._path.name if self._path else "session"
            write_archive(self._use(), self._packs, path, name, steps)

    def close(self) -> None:
        """Let go of the session. Idempotent. Never raises StoreError."""
        with self._calls:
            db, self._db = self._db, None
            lock, self._lock = self._lock, None
            try:
                self._packs.close()
                self._folding.wait()
                if db is not None:
                    db.close()
            except sqlite3.Error:
                pass  # the log could not be folded into the file (disk full): the next open does it
            finally:
                if lock is not None:
                    lock.release()

    # --- inside -------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        grown = make_directory(path)
        self._lock = lock = SessionLock(path / "lock", session=path.name)
        self._db = open_database(path, self._packs, lock)
        if not lock.made:
            for place in grown:
                sync(place)
            lock.mark_made()

    def _look(self) -> None:
        """Take over what the disk says; at the start, and when a commit failed."""
        db = self._use()
        # sqlite_sequence outlives deleted rows, so numbers only grow.
        last = dict(db.execute("SELECT name, seq FROM sqlite_sequence"))
        self._head, self._count = read_head(db, self._where)
        self._last_epoch, self._last_blob = last.get("epoch", 0), last.get("blob", 0)
        self._at, self._engine = (0, NameMap({}, 0), 0), (0, b"")
        self._packs.look(db)
        self._known.clear()

    def _write(
        self,
        row: tuple[int, int, int, bytes, bytes, int, int],
        count: int,
        batch: Batch,
        keyframe: NameMap | None,
    ) -> None:
        db = self._use()
        batch.place()
        ending = False
        try:
            db.execute("BEGIN IMMEDIATE")
            batch.insert()
            db.execute("INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if keyframe is not None:
                write_keyframe(db, row[0], keyframe)
            write_head(db, row[0], count)
            ending = True
            db.execute("COMMIT")
        except BaseException:
            # A COMMIT that failed may have ended the transaction or not, and even have succeeded; then
            # its rows may still be found after a crash, and what they tell of must be there.
            if not ending:
                batch.undo()
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._look()
            raise
        batch.done()
        self._folding.wrote(batch.size + len(row[3]) + len(row[4]))

    def _measure(self) -> int:
        """Bytes that epochs take: packs, and the database with its log folded."""
        db = self._use()
        sizes = (db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
        return int(prod(sizes)) + sum(map(self._packs.size, self._packs.numbers()))

    def _use(self) -> sqlite3.Connection:
        if self._db is None:
            raise SessionClosedError(f"the store {self._where} is closed")
        return self._db

    def _check_known(self, epoch: int) -> None:
        known = "SELECT 1 FROM epoch WHERE id = ?"
        if epoch and not self._use().execute(known, (epoch,)).fetchone():
            newest = self._last_epoch
            raise StoreError(f"{self._where} has no epoch {epoch}; the newest is {newest}")

    def _map_of(self, epoch: int) -> tuple[NameMap, int]:
        if self._at[0] != epoch:
            self._check_known(epoch)
            self._at = (epoch, *read_map(self._use(), epoch, self._where))
        elif epoch == 0:
            return NameMap({}, 0), 0
        return self._at[1], self._at[2]

    @contextmanager
    def _reading(self, epoch: int | None) -> Iterator[int]:
        """The number of an epoch that is there; what its rows cannot be decoded with is told."""
        at = self._head if epoch is None else epoch
        self._check_known(at)
        with decoding(at, self._where):
            yield at
