"""Deltas and receipts in, one SQLite file a session out; and snapshots back.

Two tables hold everything: ``blob`` (bytes) and ``epoch`` (what changed, and the receipt). An epoch
stores its change only; now and then a ``keyframe`` stores the whole map from name to blob, so
that neither a commit nor a load grows with the number of epochs:

    changes since the last keyframe on any line  <=  max(256, names) + one epoch

Durability: WAL with synchronous=FULL, so SQLite syncs the log before COMMIT returns.
Nothing is compressed: zlib at its fastest makes 40 to 180 MB/s here, the disk 100 to 200.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from pyrepl3.errors import SessionClosedError, StoreCorruptError, StoreError
from pyrepl3.records import Blob, Delta, Epoch, Receipt, Snapshot
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.text import encode_receipt, plain_text

SCHEMA = 1
_APPLICATION_ID = 0x70795233  # "pyR3", in the file's header
_PART = 256 * 1024 * 1024  # bytes; SQLite refuses rows above 1e9
_KEYFRAME_AFTER = 256
_MANY = 200  # blobs a query

_TABLES = """
CREATE TABLE blob (
    id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, sum INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0, data BLOB
);
CREATE TABLE part (
    blob INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (blob, n)
);
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL, size INTEGER NOT NULL,
    change BLOB NOT NULL, receipt BLOB NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE keyframe (epoch INTEGER PRIMARY KEY, map BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL);
INSERT INTO head VALUES (1, 0);
"""


class _Change(msgspec.Struct, array_like=True):
    """What an epoch did to the map; ``engine`` is the blob of the runner's own state (0: none)."""

    blobs: list[tuple[int, list[str]]]
    deleted: list[str]
    lost: dict[str, str]
    reprs: dict[str, str]
    engine: int


class _Map(msgspec.Struct, array_like=True):
    """The whole state as of an epoch: each name's blob, or the reason why it is lost."""

    names: dict[str, int | str]
    engine: int

    def apply(self, change: _Change) -> None:
        for name in change.deleted:
            self.names.pop(name, None)
        self.names.update(change.lost)
        for blob, names in change.blobs:
            for name in names:
                self.names[name] = blob
        self.engine = change.engine


_encode = msgspec.msgpack.Encoder().encode
_decode_change = msgspec.msgpack.Decoder(_Change).decode
_decode_map = msgspec.msgpack.Decoder(_Map).decode


class SqliteStore:
    """Keeps the epochs of one session in ``path/session.db``; ``":memory:"`` keeps them nowhere.

    ``path`` is the session's directory, made if it is missing (mode 0700). The session is locked
    until ``close``: SessionInUseError where another process, or another store object in this one,
    has it open. Any thread may call, one at a time. Never raises sqlite3's own errors.
    """

    def __init__(self, path: Path | Literal[":memory:"]) -> None:
        self._lock: SessionLock | None = None
        self._db: sqlite3.Connection | None = None
        self._at: tuple[int, _Map, int] | None = None  # epoch, its map, changes since a keyframe
        self._engine: tuple[int, bytes] = (
            0,
            b"",
        )  # the last engine blob, so that it is not repeated
        self._where = str(path)
        with self._translate("open"):
            if isinstance(path, Path):
                self._open(path)
            else:
                self._connect(":memory:", new=True)
            self._head: int = self._one("SELECT epoch FROM head")
            self._last_epoch: int = self._last_id("epoch")
            self._last_blob: int = self._last_id("blob")

    @property
    def head(self) -> int:
        """The epoch that ``load()`` gives; 0 where nothing was committed yet."""
        return self._head

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` (0: none) and make it the head. Returns its number.

        One transaction, synced before it returns. Raises StoreError; then the head is as it was.
        """
        with self._translate("commit"):
            db = self._use()
            _, names, since = self._map_of(parent)
            epoch, blob = self._last_epoch + 1, self._last_blob
            rows: list[tuple[int, bytes]] = []
            blobs: list[tuple[int, list[str]]] = []
            for item in delta.blobs:
                blob += 1
                rows.append((blob, item.data))
                blobs.append((blob, list(item.names)))
            engine = self._engine
            if not delta.engine:
                engine = (0, b"")
            elif delta.engine != engine[1]:
                blob += 1
                engine = (blob, delta.engine)
                rows.append(engine)
            change = _Change(
                blobs,
                sorted(delta.deleted),
                {name: plain_text(why) for name, why in delta.lost.items()},
                {name: plain_text(text) for name, text in delta.reprs.items()},
                engine[0],
            )
            packed, receipt_bytes = _encode(change), encode_receipt(receipt)
            since += 1 + len(change.deleted) + len(change.lost) + sum(len(n) for _, n in blobs)
            db.execute("BEGIN IMMEDIATE")
            try:
                for key, data in rows:
                    self._write_blob(key, data)
                db.execute(
                    "INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        epoch,
                        parent,
                        delta.size,
                        packed,
                        receipt_bytes,
                        _sum(epoch, packed, receipt_bytes, parent),
                    ),
                )
                keyframe = since > max(_KEYFRAME_AFTER, len(names.names))
                after = names
                if keyframe:
                    after = _Map(dict(names.names), names.engine)
                    after.apply(change)
                    data = _encode(after)
                    db.execute(
                        "INSERT INTO keyframe VALUES (?, ?, ?)", (epoch, data, _sum(epoch, data))
                    )
                    since = 0
                db.execute("UPDATE head SET epoch = ?", (epoch,))
                db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may or may not have ended the transaction.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            # No await and no call that can fail from here on: memory follows the disk.
            if not keyframe:
                after.apply(change)
            self._at = (epoch, after, since)
            self._engine = engine
            self._head, self._last_epoch, self._last_blob = epoch, epoch, blob
            return epoch

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch`` (None: the head; 0: empty), every byte checked.

        Raises StoreError for an unknown epoch, StoreCorruptError (which names the names it
        concerns) where the bytes are not those that were written.
        """
        with self._translate("load"):
            self._use()
            number, state, _ = self._map_of(self._head if epoch is None else epoch)
            holders: dict[int, list[str]] = {}
            lost: dict[str, str] = {}
            for name, at in state.names.items():
                if isinstance(at, int):
                    holders.setdefault(at, []).append(name)
                else:
                    lost[name] = at
            keys = sorted(holders)
            blobs = tuple(
                Blob(names=tuple(holders[key]), data=data)
                for key, data in self._read_blobs(keys, holders)
            )
            engine = b""
            if state.engine:
                ((_, engine),) = self._read_blobs([state.engine], {})
            return Snapshot(epoch=number, blobs=blobs, lost=lost, engine=engine)

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first."""
        with self._translate("read the history of"):
            at = self._head if epoch is None else epoch
            self._check_known(at)
            decode = msgspec.msgpack.Decoder(Receipt).decode
            line: list[Epoch] = []
            for number, parent, size, change, receipt, check in self._use().execute(
                "WITH RECURSIVE line AS (SELECT * FROM epoch WHERE id = ? UNION ALL "
                "SELECT epoch.* FROM epoch JOIN line ON epoch.id = line.parent) SELECT * FROM line",
                (at,),
            ):
                if check != _sum(number, change, receipt, parent):
                    raise self._corrupt(f"epoch {number}")
                line.append(
                    Epoch(
                        epoch=number,
                        parent=parent,
                        receipt=decode(receipt),
                        size=size,
                        lost=_decode_change(change).lost,
                    )
                )
            if at and (not line or line[-1].parent != 0):
                raise self._corrupt(f"the line of epochs that leads to {at}")
            line.reverse()
            return line

    def move(self, epoch: int) -> None:
        """Make ``epoch`` (0: none) the head, durably; nothing is deleted. Raises StoreError."""
        with self._translate("move the head of"):
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

    # --- opening ------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        created = not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path / "session.db"
        self._lock = SessionLock(path / "lock", session=path.name)
        try:
            size = file.stat().st_size if file.exists() else 0
            if self._lock.made and size == 0:
                what = "is empty" if file.exists() else "is missing"
                raise StoreCorruptError(
                    f"{file} {what}, though the session was in use before; put a backup in its "
                    f"place, or remove the directory {path} to start anew"
                )
            self._connect(str(file), new=not self._lock.made)
            if not self._lock.made:
                _sync_directory(path)
                if created:
                    _sync_directory(path.parent)
                self._lock.mark_made()
        except BaseException:
            self.close()
            raise

    def _connect(self, file: str, *, new: bool) -> None:
        # timeout: nobody else writes (the lock), but a backup tool may hold the file for a moment
        db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=2.0)
        self._db = db
        version = self._one("PRAGMA user_version")
        if version > SCHEMA:
            raise StoreError(
                f"{file} was written by a newer PyREPL3 (store version {version}, this one reads "
                f"up to {SCHEMA}): upgrade pyrepl3"
            )
        if version and self._one("PRAGMA application_id") != _APPLICATION_ID:
            raise StoreCorruptError(
                f"{file} is a database, but not a PyREPL3 session; move it away"
            )
        if version == 0 and self._one("SELECT count(*) FROM sqlite_master"):
            raise StoreCorruptError(
                f"{file} is a database, but not a PyREPL3 session; move it away"
            )
        if version == 0 and not new:
            raise StoreCorruptError(f"{file} holds no session; put a backup in its place")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cell_size_check = ON")
        if version == 0:
            db.executescript(
                f"BEGIN IMMEDIATE;{_TABLES}PRAGMA application_id = {_APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA};COMMIT;"
            )

    # --- reading ------------------------------------------------------------------------------

    def _use(self) -> sqlite3.Connection:
        if self._db is None:
            raise SessionClosedError(f"the store {self._where} is closed")
        return self._db

    def _one(self, query: str, *values: object) -> int:
        row = self._use().execute(query, values).fetchone()
        if row is None:
            raise self._corrupt(query)
        found: int = row[0]
        return found

    def _last_id(self, table: str) -> int:
        # sqlite_sequence outlives deleted rows, so numbers only grow
        found = self._use().execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        row = found.fetchone()
        return int(row[0]) if row else 0

    def _check_known(self, epoch: int) -> None:
        if (
            epoch
            and not self._use().execute("SELECT 1 FROM epoch WHERE id = ?", (epoch,)).fetchone()
        ):
            raise StoreError(
                f"{self._where} has no epoch {epoch}; the newest is {self._last_epoch}"
            )

    def _map_of(self, epoch: int) -> tuple[int, _Map, int]:
        """The map as of ``epoch``, and the changes since its keyframe. Cached for the last one."""
        if self._at is not None and self._at[0] == epoch:
            return self._at
        self._check_known(epoch)
        db = self._use()
        changes: list[_Change] = []
        state, at = _Map({}, 0), epoch
        while at:
            row = db.execute(
                "SELECT parent, change, receipt, epoch.sum, map, keyframe.sum FROM epoch "
                "LEFT JOIN keyframe ON keyframe.epoch = epoch.id WHERE id = ?",
                (at,),
            ).fetchone()
            if row is None:
                raise self._corrupt(f"epoch {at}")
            parent, change, receipt, check, keyframe, keyframe_sum = row
            if keyframe is not None:
                if keyframe_sum != _sum(at, keyframe):
                    raise self._corrupt(f"the names of epoch {at}")
                state = _decode_map(keyframe)
                break
            if check != _sum(at, change, receipt, parent) or parent >= at:
                raise self._corrupt(f"epoch {at}")
            changes.append(_decode_change(change))
            at = parent
        since = 0
        for item in reversed(changes):
            state.apply(item)
            since += 1 + len(item.deleted) + len(item.lost) + sum(len(n) for _, n in item.blobs)
        self._at = (epoch, state, since)
        return self._at

    def _write_blob(self, key: int, data: bytes) -> None:
        db = self._use()
        whole = len(data) <= _PART
        db.execute(
            "INSERT INTO blob (id, size, sum, data) VALUES (?, ?, ?, ?)",
            (key, len(data), _sum(key, data), data if whole else None),
        )
        if not whole:
            view = memoryview(data)
            for n in range(0, len(data), _PART):
                db.execute("INSERT INTO part VALUES (?, ?, ?)", (key, n, view[n : n + _PART]))

    def _read_blobs(
        self, keys: list[int], holders: dict[int, list[str]]
    ) -> Iterator[tuple[int, bytes]]:
        db = self._use()
        for start in range(0, len(keys), _MANY):
            some = keys[start : start + _MANY]
            marks = ",".join("?" * len(some))
            try:
                found = {
                    row[0]: row
                    for row in db.execute(
                        f"SELECT id, size, sum, data FROM blob WHERE id IN ({marks})",  # noqa: S608
                        some,
                    )
                }
            except sqlite3.DatabaseError as error:
                names = sorted(name for key in some for name in holders.get(key, ()))
                raise self._corrupt(_of(names)) from error
            for key in some:
                row = found.get(key)
                data = row[3] if row else b""
                if row and data is None:
                    parts = db.execute("SELECT data FROM part WHERE blob = ? ORDER BY n", (key,))
                    data = b"".join(part for (part,) in parts)
                if row is None or len(data) != row[1] or _sum(key, data) != row[2]:
                    raise self._corrupt(_of(holders.get(key, ())))
                yield key, data

    # --- errors -------------------------------------------------------------------------------

    def _corrupt(self, what: str) -> StoreCorruptError:
        return StoreCorruptError(
            f"{self._where}: {what} cannot be read back as written; an older epoch may still load "
            f"(see its history), else put a backup in its place"
        )

    @contextmanager
    def _translate(self, action: str) -> Iterator[None]:
        """The border: sqlite3's and the system's errors become ours, with the cure."""
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeEncodeError) as error:
            if action == "open":
                self.close()
            raise _explain(error, action, self._where) from error
        except msgspec.MsgspecError as error:
            raise self._corrupt("an epoch") from error
        except StoreError:
            if action == "open":
                self.close()
            raise


_CURES: dict[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: make it writable, or choose another store",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its directory exists and is yours",
    sqlite3.SQLITE_PERM: "permission denied: make it writable, or choose another store",
    sqlite3.SQLITE_BUSY: "another program holds the file: close it there",
    sqlite3.SQLITE_LOCKED: "another program holds the file: close it there",
    sqlite3.SQLITE_IOERR: "the disk reported an error: check it, and the space left on it",
    sqlite3.SQLITE_TOOBIG: "a value is too big for one row: split it, or keep it in a file",
}


def _explain(error: Exception, action: str, where: str) -> StoreError:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorruptError(
                f"cannot {action} the session at {where}: {error}; put a backup in its place, or "
                f"remove it to start anew"
            )
        cure = _CURES.get(code, str(error))
    elif isinstance(error, (NotADirectoryError, FileExistsError)):
        cure = "it is a file, where a directory is needed: choose another path"
    elif isinstance(error, OSError):
        cure = f"{error.strerror or error}: check the path, the rights and the space left"
    else:
        cure = f"a name or a value cannot be written: {error}"
    return StoreError(f"cannot {action} the session at {where}: {cure}")


def _of(names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return "the session's own state"
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return "the value of " + ", ".join(repr(name) for name in listed[:8]) + more


def _sum(key: int, data: bytes, more: bytes = b"", salt: int = 0) -> int:
    # The key is part of it, so that a row in another row's place is found too.
    return zlib.crc32(more, zlib.crc32(data, (key * 2654435761 + salt) & 0xFFFFFFFF))


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
