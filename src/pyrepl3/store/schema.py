"""A file name in, an open SQLite connection with our tables out, or an error that says what the file is.

``blob`` holds bytes, or tells where in a pack they are, and which buffers lie beside them; ``chunk`` tells
where a piece of a buffer is, in a pack or (pack 0) a row of ``piece``; ``pack`` where each ends. ``epoch``
has what changed and the receipt, ``keyframe`` now and then the whole map from name to blob, ``head`` the
epoch that is current and the highest cell count so far.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pyrepl3.errors import StoreCorruptError, StoreError
from pyrepl3.store.sums import checksum
from pyrepl3.store.trouble import corrupt

VERSION = 2
_APPLICATION_ID = 0x70795233  # "pyR3", in the file's header


def sum_head(epoch: int, count: int) -> int:
    """The checksum of the table ``head``."""
    return checksum(epoch, b"%d" % count)


_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE blob (
    id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, sum INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0, buffers BLOB NOT NULL, pack INTEGER NOT NULL,
    at INTEGER NOT NULL, data BLOB
);
CREATE TABLE chunk (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, pack INTEGER NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE piece (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE pack (id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL);
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL, size INTEGER NOT NULL,
    change BLOB NOT NULL, receipt BLOB NOT NULL, sum INTEGER NOT NULL, audit INTEGER NOT NULL
);
CREATE TABLE keyframe (epoch INTEGER PRIMARY KEY, map BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, count INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, {sum_head(0, 0)});
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""  # noqa: S608 - only our own numbers are put in


def write_head(db: sqlite3.Connection, epoch: int, count: int) -> None:
    """Make ``epoch`` the head, ``count`` the highest cell count; a transaction of its own outside one."""
    row = (epoch, count, sum_head(epoch, count))
    db.execute("UPDATE head SET epoch = ?, count = ?, sum = ?", row)


def read_head(db: sqlite3.Connection, where: str) -> tuple[int, int]:
    """The head and the highest cell count. Raises StoreCorruptError."""
    row = db.execute("SELECT epoch, count, sum FROM head").fetchone()
    if row is None or set(map(type, row)) != {int} or row[2] != sum_head(row[0], row[1]):
        raise corrupt(where, "the number of the last epoch")
    return row[0], row[1]


def connect(file: str, *, new: bool, mode: str = "") -> sqlite3.Connection:
    """An open connection; with ``new`` a file without tables gets them, not yet synced.

    ``mode`` is that of an SQLite URI: ``"ro"`` to read only.
    Every commit on it is synced before it returns (WAL with synchronous=FULL). Raises StoreError,
    StoreCorruptError and sqlite3's own errors.
    """
    # timeout: nobody else writes (the lock), but a backup tool may hold the file for a moment
    place = f"{Path(file).absolute().as_uri()}?mode={mode}" if mode else file
    db = sqlite3.connect(
        place, uri=bool(mode), isolation_level=None, check_same_thread=False, timeout=2.0
    )
    try:
        _prepare(db, file, new=new)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, file: str, *, new: bool) -> None:
    version = _ask(db, "PRAGMA user_version")
    ours = _ask(db, "PRAGMA application_id") == _APPLICATION_ID
    if (version and not ours) or (not version and _ask(db, "SELECT count(*) FROM sqlite_master")):
        raise StoreCorruptError(f"{file} is a database, but not a PyREPL3 session: move it away")
    if version > VERSION:
        raise StoreError(
            f"{file} was written by a newer PyREPL3 (store version {version}, this one reads "
            f"{VERSION}): upgrade pyrepl3"
        )
    if 0 < version < VERSION:
        raise StoreError(
            f"{file} was written by an older PyREPL3 (store version {version}, this one reads "
            f"{VERSION}): move it away, or use the version that wrote it"
        )
    if not version and not new:
        raise StoreCorruptError(f"{file} holds no session any more: put a backup in its place")
    if not version:
        # Nothing is promised yet, so nothing is synced: the store does that once, at the end.
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(_TABLES)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # folding.py does it
    db.execute("PRAGMA cell_size_check = ON")


def _ask(db: sqlite3.Connection, query: str) -> int:
    found: int = db.execute(query).fetchone()[0]
    return found
