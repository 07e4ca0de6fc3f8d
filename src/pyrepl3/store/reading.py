"""The directory of a session in, what its store tells out, without its lock: also while its owner writes.

What is read is one state of the session, that of the moment it was opened: later commits are not seen. (WAL:
readers and the writer do not wait for each other. Packs are only appended to.)
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyrepl3.errors import SessionClosedError, StoreError
from pyrepl3.records import Epoch, KeptName
from pyrepl3.store.changes import read_map
from pyrepl3.store.line import find_origins, make_epochs, read_all, read_line, tell_names
from pyrepl3.store.packs import Packs
from pyrepl3.store.schema import connect, read_head
from pyrepl3.store.trouble import border, decoding
from pyrepl3.store.verify import verify_all, verify_state


class SqliteReader:
    """A session as it was when this was made; changes nothing, and needs no right to. Any thread.

    Raises StoreError where there is nothing to read.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._name = path.name
        self._calls = threading.RLock()
        self._packs = Packs(path)
        self._db: sqlite3.Connection | None = None
        with self._calls, border("open", self._where):
            self._db = _connect(path / "session.db")
            try:
                self._db.execute("BEGIN")  # one state from here on
                self._head = read_head(self._db, self._where)[0]
                self._packs.look(self._db)
            except BaseException:
                self.close()
                raise

    def names(self, epoch: int | None = None) -> Mapping[str, KeptName]:
        """Each name as of ``epoch`` (None: the head; 0: none) with what is known of it."""
        with self._calls, border("read the names of", self._where), self._at(epoch) as (db, at):
            return tell_names(db, find_origins(read_line(db, at, self._where)))

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first."""
        with self._calls, border("read the history of", self._where), self._at(epoch) as (db, at):
            return make_epochs(read_line(db, at, self._where), self._where)

    def epochs(self) -> Sequence[Epoch]:
        """All epochs, by number, also those off the line of the head."""
        with self._calls, border("read the epochs of", self._where), self._at(None) as (db, _):
            return make_epochs(read_all(db, self._where), self._where)

    def verify(self, epoch: int | None = None) -> None:
        """Read every byte that ``epoch`` (None: any epoch) needs, and compare it with its checksum.

        Raises StoreCorruptError, which names the names that it concerns.
        """
        with self._calls, border("verify", self._where), self._at(epoch) as (db, at):
            if epoch is None:
                verify_all(db, self._packs, read_all(db, self._where), self._where)
            else:
                verify_state(db, self._packs, read_map(db, at, self._where)[0], self._where)

    def export(self, path: Path) -> None:
        """Write the whole session to ``path``, which must not exist yet, synced."""
        from pyrepl3.store.archive import copy_steps, write_archive  # noqa: PLC0415 - zipfile

        with (
            self._calls,
            border("export", self._where),
            copy_steps(self._packs.folder, path) as steps,
            self._at(None) as (db, _),
        ):
            write_archive(db, self._packs, path, self._name, steps)

    def close(self) -> None:
        """Let go. Idempotent."""
        with self._calls:
            db, self._db = self._db, None
            self._packs.close()
            if db is not None:
                db.close()

    @contextmanager
    def _at(self, epoch: int | None) -> Iterator[tuple[sqlite3.Connection, int]]:
        """The number of an epoch that is there; what its rows cannot be decoded with is told."""
        at = self._head if epoch is None else epoch
        if self._db is None:
            raise SessionClosedError(f"the store {self._where} is closed")
        if at and not self._db.execute("SELECT 1 FROM epoch WHERE id = ?", (at,)).fetchone():
            raise StoreError(f"{self._where} has no epoch {at}")
        with decoding(at, self._where):
            yield self._db, at


def _connect(file: Path) -> sqlite3.Connection:
    if not file.exists():
        raise StoreError(
            f"{file} is missing: the session was never completed, or put a backup there"
        )
    try:
        return connect(str(file), new=False, mode="ro")
    except sqlite3.OperationalError:
        # Where nothing can be written, not even the index of the log, and there is no log.
        if file.with_name(file.name + "-wal").exists():
            raise
        return connect(str(file), new=False, mode="ro&immutable=1")
