"""A file name in, an open SQLite connection with our tables out, or an error that says what the file is.

``blob`` and ``part`` hold bytes, ``epoch`` what changed and the receipt, ``keyframe`` now and then the
whole map from name to blob, ``head`` the epoch that is current and the highest cell count so far.
"""

from __future__ import annotations

import sqlite3

from pyrepl3.errors import StoreCorruptError, StoreError

VERSION = 1
_APPLICATION_ID = 0x70795233  # "pyR3", in the file's header

_TABLES = f"""
BEGIN IMMEDIATE;
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
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, count INTEGER NOT NULL
);
INSERT INTO head VALUES (1, 0, 0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""  # noqa: S608 - only our own numbers are put in


def connect(file: str, *, new: bool) -> sqlite3.Connection:
    """An open connection; with ``new`` a file without tables gets them, not yet synced.

    Every commit on it is synced before it returns (WAL with synchronous=FULL). Raises StoreError,
    StoreCorruptError and sqlite3's own errors.
    """
    # timeout: nobody else writes (the lock), but a backup tool may hold the file for a moment
    db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=2.0)
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
            f"{file} was written by a newer PyREPL3 (store version {version}, this one reads up to "
            f"{VERSION}): upgrade pyrepl3"
        )
    if not version and not new:
        raise StoreCorruptError(f"{file} holds no session any more: put a backup in its place")
    if not version:
        # Nothing is promised yet, so nothing is synced: the store does that once, at the end.
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(_TABLES)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cell_size_check = ON")


def _ask(db: sqlite3.Connection, query: str) -> int:
    found: int = db.execute(query).fetchone()[0]
    return found
