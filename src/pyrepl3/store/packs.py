"""Big pieces in, places in append-only files out; and back, the bytes at a place.

A pack (``pack-000001``, …) is only ever appended to: what a commit has put there never changes, so it may be
mapped, and shared with a fork by a hard link (a pack with two links gets no more). Each piece begins at
a multiple of ``PAGE``. What lies behind the last commit belongs to nobody; the next piece comes after it.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

PAGE = 4096
"""Bytes; where it is less than the machine's own page, nothing is mapped."""
FULL = 256 * 1024 * 1024
"""Bytes after which the next pack is begun, so that a collection rewrites no more at a time."""
_GROUP = 256  # pieces in one writev(); IOV_MAX is 1024, and a padding may follow each

type Piece = bytes | memoryview
"""Some bytes; views are flat, of items of one byte."""
type Place = tuple[int, int]
"""Number of a pack, and the offset in it."""

_sync_data = getattr(os, "fdatasync", os.fsync)


class Packs:
    """The packs of one session: in ``folder``, or (None) in memory.

    ``ends`` has where each ends that rows tell of, as of the last commit; ``last`` is the highest number
    ever used. Raises OSError.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.ends: dict[int, int] = {}
        self.last = 0
        self._fds: dict[int, int] = {}

    def look(self, db: sqlite3.Connection) -> None:
        """Take over what the rows say."""
        self.ends = dict(db.execute("SELECT id, size FROM pack"))
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'pack'").fetchone()
        self.last = max(self.last, *(row or ()), 0)

    def begin(self, db: sqlite3.Connection) -> None:
        """Make the first pack, not yet synced: a commit that begins one must sync the directory too."""
        self.look(db)
        if self.last == 0:
            with suppress(FileExistsError):
                os.close(self._open_to_write(1, new=True))
            db.execute("INSERT INTO pack VALUES (1, 0)")

    def path(self, number: int) -> Path:
        """Where a pack lies."""
        assert self.folder is not None
        return self.folder / f"pack-{number:06}"

    def write(self, pieces: Iterable[Piece], *, avoid: int = 0) -> tuple[list[Place], int]:
        """Append ``pieces`` to one pack (not to ``avoid``) and sync it. Their places, and where it ends now.

        They count only once rows tell of them. If it fails the pack is as before.
        """
        number, start, new = self._choose(avoid)
        places: list[Place] = []
        at = start
        fd = self._open_to_write(number, new=new)
        try:
            os.lseek(fd, start, os.SEEK_SET)
            rest = iter(pieces)
            while group := list(islice(rest, _GROUP)):
                vector: list[Piece] = []
                for piece in group:
                    places.append((number, at))
                    padding = -len(piece) % PAGE
                    vector += [piece, bytes(padding)] if padding else [piece]
                    at += len(piece) + padding
                _write_all(fd, vector)
            if self.folder is not None:
                _sync_data(fd)
                if new:
                    sync(self.folder)
        except BaseException:
            if new and self.folder is not None:
                self.path(number).unlink()
            else:
                os.ftruncate(fd, start)
            raise
        finally:
            if self.folder is not None:
                os.close(fd)
        self.last = max(self.last, number)
        return places, at

    def undo(self, place: Place) -> None:
        """Cut off what was written from ``place`` on; only for what no row can tell of."""
        number, start = place
        if self.folder is None:
            os.ftruncate(self._fds[number], start)
        else:
            os.truncate(self.path(number), start)

    def read_into(self, place: Place, view: memoryview) -> bool:
        """Fill ``view`` with the bytes at a place; False where the pack does not have as many."""
        fd = self.find(place[0])
        if fd is None:
            return False
        os.lseek(fd, place[1], os.SEEK_SET)
        while len(view):
            count = os.readv(fd, [view])
            if count == 0:
                return False
            view = view[count:]
        return True

    def find(self, number: int) -> int | None:
        """A descriptor to read a pack with, open until ``close``; None where there is no such pack."""
        if number not in self._fds:
            if self.folder is None:
                return None
            try:
                self._fds[number] = os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        return self._fds[number]

    def size(self, number: int) -> int:
        """The length of a pack in bytes; 0 where there is none."""
        fd = self.find(number)
        return 0 if fd is None else os.fstat(fd).st_size

    def numbers(self) -> list[int]:
        """The packs that are there, with those that no row tells of."""
        if self.folder is None:
            return sorted(self._fds)
        found = (re.fullmatch(r"pack-(\d{6,})", path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def remove(self, number: int) -> None:
        """Delete a pack. What is mapped of it stays."""
        fd = self._fds.pop(number, None)
        if fd is not None:
            os.close(fd)
        if self.folder is not None:
            self.path(number).unlink(missing_ok=True)

    def copy_to(self, other: Packs, ends: Mapping[int, int]) -> None:
        """Give ``other`` these packs, up to ``ends``; by a link where both are files and that works."""
        for number, end in ends.items():
            if self.folder is not None and other.folder is not None:
                try:
                    os.link(self.path(number), other.path(number))
                except FileNotFoundError:
                    pass  # whoever reads it is told
                except OSError:  # another file system, or one without links
                    shutil.copyfile(self.path(number), other.path(number))
                    sync(other.path(number))
            elif (source := self.find(number)) is not None:
                other.fill(number, source, end)

    def fill(self, number: int, source: int, end: int) -> None:
        """Make pack ``number`` of what descriptor ``source`` holds, up to ``end``. In memory only."""
        fd = self._fds[number] = _make_memory()
        at = 0
        while at < end and (part := os.pread(source, min(end - at, 1 << 24), at)):
            os.pwrite(fd, part, at)
            at += len(part)

    def close(self) -> None:
        """Close the descriptors. What is mapped stays. Idempotent."""
        fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)

    def _choose(self, avoid: int) -> tuple[int, int, bool]:
        """The pack to append to, where, and whether it is to be made."""
        number = max(self.ends, default=0)
        if number and number != avoid and self.ends[number] < FULL:
            fd = self.find(number)
            stat = None if fd is None else os.fstat(fd)
            # Shorter than its rows say: it was cut. With two links it belongs to a fork as well.
            if stat and stat.st_size >= self.ends[number] and stat.st_nlink <= 1:
                return number, stat.st_size + -stat.st_size % PAGE, False
        # Never a number again, nor the file of a commit that did not come to its end.
        return max(self.last, *self.numbers(), 0) + 1, 0, True

    def _open_to_write(self, number: int, *, new: bool) -> int:
        if self.folder is None:
            if new:
                self._fds[number] = _make_memory()
            return self._fds[number]
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        return os.open(self.path(number), flags, 0o600)


def sync(path: Path) -> None:
    """Bring a file or a directory to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, vector: list[Piece]) -> None:
    while vector:
        count = os.writev(fd, vector)
        done = 0
        while done < len(vector) and count >= len(vector[done]):
            count -= len(vector[done])
            done += 1
        vector = vector[done:]
        if count:
            vector[0] = memoryview(vector[0])[count:]


def _make_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pyrepl3-pack", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
