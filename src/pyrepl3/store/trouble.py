"""An error of SQLite or the system in, one of ours out that says what happened and what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyrepl3.errors import StoreCorruptError, StoreError

FOREIGN = (sqlite3.Error, OSError, OverflowError, UnicodeError)
"""What is translated at the border of a store."""

ODD = (TypeError, ValueError)
"""What reading raises besides where a row holds another type or garbage."""

_CURES: dict[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: make it writable, or choose another store",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its directory exists and is yours",
    sqlite3.SQLITE_PERM: "permission denied: make it writable, or choose another store",
    sqlite3.SQLITE_BUSY: "another program holds the file: close it there",
    sqlite3.SQLITE_LOCKED: "another program holds the file: close it there",
    sqlite3.SQLITE_IOERR: "the disk reported an error: check it, and the space left on it",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_TOOBIG: "a value is too big for one row: split it, or keep it in a file",
}

_SYSTEM: dict[int | None, str] = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota of the disk is used up: free some space",
    errno.EFBIG: "the disk or a limit allows no bigger file: free some space, or raise the limit",
    errno.EROFS: "the disk is read-only: make it writable, or choose another store",
    errno.EIO: "the disk reported an error: check it, and the space left on it",
    errno.ENOMEM: "there is not enough memory",
}


@contextmanager
def border(action: str, where: str) -> Iterator[None]:
    """Errors of sqlite3 and of the system that come out of ``action`` become ours, with the cure."""
    try:
        yield
    except FOREIGN as error:
        raise explain(error, action, where) from error


@contextmanager
def decoding(epoch: int, where: str) -> Iterator[None]:
    """What the rows of the line that leads to ``epoch`` cannot be decoded with is told as damage."""
    try:
        yield
    except ODD as error:
        raise corrupt(where, f"the line of epochs that leads to {epoch}") from error


def explain(error: Exception, action: str, where: str) -> StoreError:
    """The StoreError for ``error``, which came while we did ``action`` to the session at ``where``."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorruptError(
                f"cannot {action} the session at {where}: {error}; put a backup in its place, or "
                f"remove it to start anew"
            )
        if not code and "decode" in str(error):  # raised by the module: text that is none
            return corrupt(where, "a row")
        cure = _CURES.get(code, str(error))
    elif isinstance(error, UnicodeDecodeError):
        return corrupt(where, "the list of tables")
    elif isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
        cure = "a file stands where a directory is needed: choose another path"
    elif isinstance(error, OSError) and error.errno in _SYSTEM:
        cure = _SYSTEM[error.errno]
    elif isinstance(error, OSError):
        cure = f"{error.strerror or error}: check the path, the rights and the space left"
    else:
        cure = f"a name or a value cannot be written: {error}"
    return StoreError(f"cannot {action} the session at {where}: {cure}")


def corrupt(where: str, what: str) -> StoreCorruptError:
    """For ``what`` was read from the session at ``where`` and is not what was written."""
    return StoreCorruptError(
        f"{where}: {what} cannot be read back as written; an older epoch may still load (see its "
        f"history), else put a backup in its place"
    )


def value_of(names: Iterable[str]) -> str:
    """How to speak of the bytes of ``names``; of none, they are the engine's."""
    listed = list(names)
    if not listed:
        return "the session's own state"
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return "the value of " + ", ".join(repr(name) for name in listed[:8]) + more
