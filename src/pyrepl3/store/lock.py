"""A path in, an exclusive lock on it out, with the owner's pid written inside for others to read.

The lock is ``flock``: the kernel drops it when the owner dies, however it dies. The pid is only
for people: who holds the lock is decided by the kernel, never by the text.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from pyrepl3.errors import SessionInUseError

# A forked child shares the open file and would keep the lock alive after its parent died.
_open_locks: weakref.WeakSet[SessionLock] = weakref.WeakSet()


class SessionLock:
    """Holds ``path`` for this process until ``release`` or the end of the process.

    ``made`` tells whether a session was ever completed here (``mark_made``), ``begun`` whether a making
    was cut short: so that a store can tell a session being made from one whose file was emptied.
    """

    __slots__ = ("__weakref__", "_fd", "begun", "made", "path")

    def __init__(self, path: Path, *, session: str) -> None:
        self.path = path
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise SessionInUseError(session, _read(path)[1]) from None
            except BaseException:
                os.close(fd)
                raise
            # The session may have been removed between open and flock: then this file has no name.
            if _same_file(fd, path):
                break
            os.close(fd)
        self._fd: int | None = fd
        word = _read(path)[0]
        self.made, self.begun = word == "made", word == "new"
        self._write(f"{os.getpid()} {_started(os.getpid())}")
        _open_locks.add(self)

    def mark_made(self) -> None:
        """Remember, durably, that the session's file was created whole."""
        self.made = True
        self._write(f"{os.getpid()} {_started(os.getpid())}")
        if self._fd is not None:
            os.fsync(self._fd)

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._fd is not None:
            self._write("")
            os.close(self._fd)
            self._fd = None
            _open_locks.discard(self)

    def _write(self, owner: str) -> None:
        if self._fd is not None:
            text = f"{'made' if self.made else 'new'}\n{owner}\n".encode()
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))

    def _forget_in_child(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def find_owner(path: Path) -> int | None:
    """The pid of the living process that holds the lock at ``path``; takes no lock itself.

    None: nobody, or nobody who can be seen from here.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[str, int | None]:
    """The word of the file (made, new, or none), and the living owner."""
    try:
        word, owner, *_ = (path.read_text(errors="replace") + "\n\n").split("\n")
    except OSError:
        return "", None
    pid, _, started = owner.partition(" ")
    if not pid.isdecimal() or _started(int(pid)) not in (started, None):
        return word, None
    return word, int(pid) if _alive(int(pid)) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it lives, and belongs to somebody else
    return True


def _started(pid: int) -> str | None:
    """When the process started, so that a reused pid is not taken for the owner (Linux only)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): field 22; the name in field 2 may hold spaces and brackets
    return stat.rpartition(")")[2].split()[19]


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _forget_all_in_child() -> None:
    for lock in list(_open_locks):
        lock._forget_in_child()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_forget_all_in_child)
