"""Files of a session's own directory: bytes in, bytes out, whatever its cells have put there.

Cells may plant anything: links that lead out, pipes that block, files without end. So every path is walked
from the directory itself, name by name, and no link is followed; only plain files are read, up to a length.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyrepl3.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 64 * 1024 * 1024
"""Bytes that are read of a file, unless its reader says otherwise."""
_NAMES = 10_000  # entries of a directory that are listed
_PIECE = 1024 * 1024
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK | getattr(os, "O_CLOEXEC", 0)
# Without O_NONBLOCK the open of a pipe waits for somebody at its other end.
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK

type _Names = list[str]


class Files:
    """The files below ``root``, by paths relative to it. Each method is to be awaited, on any loop.

    All raise ValueError for a path that is absolute, empty or has ``..`` in it, and OSError as ``open``
    does; a symbolic link in a path is an OSError, too (PermissionError or NotADirectoryError).
    """

    def __init__(self, root: str) -> None:
        self.root = root

    async def write(self, path: str, data: bytes | str) -> None:
        """Make a file, or replace what has its name; missing directories are made. A str as UTF-8."""
        content = data.encode() if isinstance(data, str) else bytes(data)
        await asyncio.to_thread(self._write, split_path(path), content)

    async def read(self, path: str, *, most: int = MOST) -> bytes:
        """What is in a file. Raises ValueError where that is more than ``most`` bytes."""
        return await asyncio.to_thread(self._read, split_path(path), most)

    async def list(self, path: str = "") -> tuple[str, ...]:
        """The names in a directory (``""``: the session's own), sorted, those of directories with a ``/``.

        At most 10,000 of them.
        """
        return await asyncio.to_thread(self._list, split_path(path) if path else [])

    async def remove(self, path: str) -> None:
        """Remove a file, or a link as such. Raises IsADirectoryError or PermissionError for a directory."""
        await asyncio.to_thread(self._remove, split_path(path))

    # --- on a thread ------------------------------------------------------------------------------

    @contextmanager
    def _parent(self, names: _Names, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the directory of these names."""
        at = os.open(self.root, _DIRECTORY)
        try:
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=at)
                with _no_links(name):
                    inner = os.open(name, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = inner
            yield at
        finally:
            os.close(at)

    def _write(self, names: _Names, data: bytes) -> None:
        *parents, name = names
        temporary = f".pyrepl3-{os.urandom(8).hex()}"
        with self._parent(parents, make=True) as at:
            fd = os.open(temporary, _WRITE, 0o600, dir_fd=at)
            try:
                with open(fd, "wb", buffering=0) as file:  # noqa: PTH123  a descriptor
                    rest = memoryview(data)
                    while rest:
                        rest = rest[file.write(rest) :]
                # A link or a pipe of that name is replaced, not written through.
                os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=at)
                raise

    def _read(self, names: _Names, most: int) -> bytes:
        *parents, name = names
        path = "/".join(names)
        with self._parent(parents) as at, _no_links(name):
            fd = os.open(name, _READ, dir_fd=at)
        with open(fd, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(found.st_mode):
                raise PermissionError(errno.EPERM, "no plain file", path)
            data = bytearray()
            while len(data) <= most and (piece := file.read(min(_PIECE, most + 1 - len(data)))):
                data += piece
        if len(data) > most:
            size = max(found.st_size, len(data))
            raise ValueError(f"{path} has {size:,} bytes; {most:,} are read: read(..., most=...)")
        return bytes(data)

    def _list(self, names: _Names) -> tuple[str, ...]:
        found: _Names = []
        with self._parent(names) as at, os.scandir(at) as entries:
            for entry in entries:
                if len(found) >= _NAMES:
                    break
                found.append(
                    f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                )
        return tuple(sorted(found))

    def _remove(self, names: _Names) -> None:
        *parents, name = names
        with self._parent(parents) as at:
            os.unlink(name, dir_fd=at)


def split_path(path: str) -> _Names:
    """The names of a relative path. Raises ValueError for one that could lead elsewhere."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/") or ".." in names or "\0" in path or not names:
        raise ValueError(f"{path!r} is no path inside of the session's directory")
    return names


@contextmanager
def _no_links(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise PermissionError(
            errno.EPERM, "a symbolic link, and none is followed here", name
        ) from None


class WithFiles:
    """The part of a Session that its files go through."""

    _files: Files | None = None

    @property
    def files(self) -> Files:
        """The files of the session's own directory. Raises SessionError where it has none."""
        if self._files is None:
            raise SessionError(
                "this session has no directory of its own: its cells use that of the process; "
                'isolation="confined" gives it one'
            )
        return self._files

    def use_files(self, root: str) -> None:
        """Its directory is ``root``."""
        self._files = Files(root)
