"""Bytes that went to the log of a database in; the log folded into the file now and then, beside the commits.

SQLite would do that inside a commit, which then waits for two more syncs: 10 ms where others take 0.3.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

_LOG = 4 * 1024 * 1024  # bytes; SQLite's own 1000 pages
_COMMIT = 32 * 1024  # bytes that any commit writes, about: the pages that its rows are in


class Folding:
    """Folds the log of ``file`` on a thread of its own, one at a time. None: there is no log."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._size = 0
        self._thread: threading.Thread | None = None

    def wrote(self, size: int) -> None:
        """A commit has put about ``size`` bytes into the log."""
        self._size += size + _COMMIT
        if self._file is None or self._size < _LOG:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._size = 0
        self._thread = threading.Thread(target=self._fold, name="pyrepl3-fold", daemon=True)
        with suppress(RuntimeError):  # no more threads, or the interpreter ends: the next time
            self._thread.start()

    def wait(self) -> None:
        """Until nothing is being folded."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.ident is not None:
            thread.join()

    def _fold(self) -> None:
        assert self._file is not None
        # What fails is done the next time, or by the next open; nothing is lost in between.
        with suppress(sqlite3.Error):
            db = sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=rw", uri=True)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                db.close()
