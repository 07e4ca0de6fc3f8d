"""A directory in, its sessions out: open one by name, list them, remove one.

Each session is a directory of its own (``session.db``, ``lock``), so two sessions of one store can be
open in two processes. Names become directory names as they are: where the file system ignores
case, ``Demo`` and ``demo`` are one session.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from pyrepl3.errors import SessionNotFoundError, StoreError
from pyrepl3.records import Record
from pyrepl3.store.lock import SessionLock, find_owner
from pyrepl3.store.making import check_name, is_session, is_session_name
from pyrepl3.store.reading import SqliteReader
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.store.trouble import FOREIGN


class SessionInfo(Record, frozen=True, kw_only=True):
    """What a listing tells of a session.

    ``epochs`` is how many were ever committed (None: the file cannot be read), ``size`` in bytes on
    disk, ``last_used`` in seconds since the epoch, ``in_use_pid`` the process that has it open.
    """

    name: str
    epochs: int | None = None
    size: int = 0
    last_used: float = 0.0
    in_use_pid: int | None = None


class SessionDirectory:
    """The sessions under ``root`` (None: ``find_default_root()``). Nothing is created until ``open``."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = find_default_root() if root is None else root

    def open(self, name: str) -> SqliteStore:
        """The store of session ``name``, made if it is new, locked until it is closed.

        Raises ValueError for a name that is none, SessionInUseError, StoreError.
        """
        return SqliteStore(self.root / check_name(name))

    def path_of(self, name: str) -> Path:
        """Where session ``name`` is, or would be. Raises ValueError for a name that is none."""
        return self.root / check_name(name)

    def list(self) -> list[SessionInfo]:
        """All sessions, by name. Only reads; takes no lock, so open sessions are listed too."""
        try:
            found = sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot list {self.root}: {error.strerror}") from error
        return [_look(path) for path in found if is_session_name(path.name) and is_session(path)]

    def find(self, name: str) -> SqliteStore:
        """As ``open``, for a session that must be there. Raises SessionNotFoundError as well."""
        path = self.root / check_name(name)
        if not is_session(path):
            raise SessionNotFoundError(name, str(self.root))
        return SqliteStore(path)

    def read(self, name: str) -> SqliteReader:
        """What session ``name`` holds now, to be read without its lock, also while somebody has it open.

        Raises SessionNotFoundError, ValueError for a name that is none, StoreError.
        """
        path = self.root / check_name(name)
        if not is_session(path):
            raise SessionNotFoundError(name, str(self.root))
        return SqliteReader(path)

    def export(self, name: str, path: Path) -> None:
        """Write session ``name`` as it is now to ``path``, a single file that must not exist yet.

        Raises SessionNotFoundError, StoreError.
        """
        store = self.read(name)
        try:
            store.export(path)
        finally:
            store.close()

    def take_in(self, path: Path, name: str | None = None) -> str:
        """Make the session that ``path`` was exported from one of these; its name (None: as it was).

        All of the file is checked first. It holds pickles: take in only what you trust. Raises
        SessionExistsError, ValueError for a name that is none, StoreCorruptError, StoreError.
        """
        from pyrepl3.store.archive import read_archive  # noqa: PLC0415 - zipfile

        try:
            return read_archive(path, self.root, name)
        except FOREIGN as error:
            raise StoreError(
                f"cannot import {path} into {self.root}: {getattr(error, 'strerror', None) or error}"
            ) from error

    def remove(self, name: str) -> None:
        """Delete session ``name`` with all its epochs.

        Raises SessionNotFoundError, SessionInUseError while somebody has it open, StoreError.
        """
        path = self.root / check_name(name)
        if not is_session(path):
            raise SessionNotFoundError(name, str(self.root))
        try:
            lock = SessionLock(path / "lock", session=name)
            try:
                # The database first: a removal cut short leaves a session that says it is broken.
                for file in ("session.db-wal", "session.db-shm", "session.db"):
                    (path / file).unlink(missing_ok=True)
                shutil.rmtree(path)
            finally:
                lock.release()
        except OSError as error:
            raise StoreError(f"cannot remove {path}: {error.strerror or error}") from error


def find_default_root() -> Path:
    """Where sessions live: ``$PYREPL3_STORE``, else the user's data directory."""
    chosen = os.environ.get("PYREPL3_STORE")
    if chosen:
        return Path(chosen)
    import platformdirs  # noqa: PLC0415 - a program with a store of its own does not need it

    return platformdirs.user_data_path("pyrepl3") / "sessions"


def _look(path: Path) -> SessionInfo:
    size, times = 0, dict[str, float]()
    for file in path.iterdir():
        try:
            stat = file.stat()
        except FileNotFoundError:
            continue  # the log was folded in meanwhile
        size += stat.st_size
        times[file.name] = stat.st_mtime
    of_db = [time for name, time in times.items() if name.startswith("session.db")]
    # A lock alone is of somebody who was killed before, or could not make, the database.
    begun = times.keys() != {"lock"}
    return SessionInfo(
        name=path.name,
        epochs=_count_epochs(path / "session.db") if begun else 0,
        size=size,
        last_used=max(of_db or times.values(), default=0.0),
        in_use_pid=find_owner(path / "lock"),
    )


def _count_epochs(file: Path) -> int | None:
    # Immutable writes nothing beside the file, and needs no right to; but it does not read the log.
    modes = ["mode=ro&immutable=1"]
    if file.with_name("session.db-wal").exists():
        modes.insert(0, "mode=ro")
    for mode in modes:
        try:
            db = sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True, timeout=0.2)
            try:
                found: int = db.execute("SELECT count(*) FROM epoch").fetchone()[0]
                return found
            finally:
                db.close()
        except sqlite3.Error:
            continue
    return None
