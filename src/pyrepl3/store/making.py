"""A name in, a directory to fill out; whole sessions appear under that name at once, or not at all.

It is filled under a hidden name, synced, and renamed. What a crash leaves is removed the next time.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyrepl3.errors import SessionExistsError, SessionInUseError
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.packs import sync

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}", re.ASCII)
_HIDDEN = ".new-"


def check_name(name: str) -> str:
    """``name``, if it may name a session; else ValueError."""
    if not is_session_name(name):
        raise ValueError(
            f"{name!r} cannot name a session: use 1 to 64 letters, digits, '-', '_' and '.', "
            f"and no '.' at the start"
        )
    return name


def is_session_name(name: str) -> bool:
    """Whether a session may be called so."""
    return _NAME.fullmatch(name) is not None


def is_session(path: Path) -> bool:
    """Whether a session lies at ``path``."""
    return (path / "session.db").exists() or (path / "lock").exists()


@contextmanager
def make_session(root: Path, name: str) -> Iterator[Path]:
    """A directory, locked, for ``session.db`` and packs; left without an error it is session ``name``.

    Raises SessionExistsError, ValueError for a name that is none, OSError.
    """
    target = root / check_name(name)
    if is_session(target):
        raise SessionExistsError(name, str(root))
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(root)
    path = Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=root))  # mode 0700
    try:
        lock = SessionLock(path / "lock", session=name)
        try:
            yield path
            for file in path.iterdir():
                sync(file)
            lock.mark_made()
            sync(path)
            try:
                path.rename(target)
            except OSError as error:
                if is_session(target):  # somebody was faster
                    raise SessionExistsError(name, str(root)) from error
                raise
            sync(root)
        finally:
            lock.release()
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _sweep(root: Path) -> None:
    """Remove what makings left that were cut short; those at work hold their lock."""
    for path in root.glob(f"{_HIDDEN}*"):
        with suppress(SessionInUseError, OSError):
            lock = SessionLock(path / "lock", session=path.name)
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                lock.release()
