"""A directory in, its lock and its open database out; made if there is none, told if it is not whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pyrepl3.errors import StoreCorruptError
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.packs import Packs, sync
from pyrepl3.store.schema import connect


def open_database(path: Path, packs: Packs, lock: SessionLock) -> sqlite3.Connection:
    """The database of the session at ``path``, which ``lock`` is for.

    A making that was cut short is begun anew. Raises StoreCorruptError, OSError, sqlite3.Error.
    """
    file = path / "session.db"
    if lock.made and not (file.exists() and file.stat().st_size):
        what = "is empty" if file.exists() else "is missing"
        raise StoreCorruptError(
            f"{file} {what}, though the session was in use before: put a backup in its place, "
            f"or remove the directory {path} to start anew"
        )
    if lock.begun:  # nothing in it was ever promised
        for name in ("session.db", "session.db-wal", "session.db-shm", "session.db-journal"):
            (path / name).unlink(missing_ok=True)
        for number in packs.numbers():
            packs.remove(number)
    _check_header(file)
    db = connect(str(file), new=not lock.made)
    try:
        if not lock.made:
            sync(file)
            packs.begin(db)
            sync(path)
    except BaseException:
        db.close()
        raise
    return db


def make_directory(path: Path) -> list[Path]:
    """Make ``path`` and what is above it; the directories that have a new entry now."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [place.parent for place in missing]


def _check_header(file: Path) -> None:
    """SQLite takes a file of a few bytes for an empty database, and overwrites it."""
    if file.exists() and file.stat().st_size:
        with file.open("rb") as opened:
            if opened.read(16) != b"SQLite format 3\0":
                raise StoreCorruptError(
                    f"{file} is not a database: put a backup in its place, or move it away"
                )
