"""A buffer in, its bytes out as one writable view: mapped where they lie in packs side by side, else read.

What is read is compared with its digest. What is mapped is read by whoever touches it: the first 32 MiB of a
snapshot, and the first chunk of each stretch, are compared at once, the rest slice by slice when there is
time. A pack that was cut or is missing is told at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from types import MappingProxyType

import msgspec

from pyrepl3.errors import StoreCorruptError
from pyrepl3.records import CHUNK, Blob, Buffer
from pyrepl3.store.chunks import (
    PLACES,
    Absent,
    digest_of,
    find_full,
    find_places,
    read_chunk,
    read_tree,
)
from pyrepl3.store.packs import PAGE, Packs
from pyrepl3.store.trouble import corrupt, value_of

MAP_FROM = 1024 * 1024
"""Bytes; smaller buffers are read and checked at once, since a mapping costs more than it saves."""
CHECK_FIRST = 32 * 1024 * 1024
"""Bytes of what a snapshot maps that are compared at once: 20 ms, and most sessions have no more."""
SLICE = 8 * 1024 * 1024
"""Bytes compared at a time later: a commit may have to wait for one, 5 ms."""
_STRETCH = 4 * CHUNK  # shorter ones are copied: the kernel allows 65,530 mappings a process


class Stretch(msgspec.Struct):
    """Chunks that lie side by side in a pack (0: one chunk in a row), and where they go."""

    start: int
    size: int
    pack: int
    at: int
    chunks: list[bytes]  # digests; only the last chunk of a buffer is shorter

    def pieces(self) -> Iterator[tuple[bytes, int, int]]:
        """The digest of each chunk, where it begins in the stretch, and its size."""
        for at, digest in zip(range(0, self.size, CHUNK), self.chunks, strict=True):
            yield digest, at, min(CHUNK, self.size - at)

    def equals(self, view: memoryview) -> bool:
        """Whether these are the bytes that were written."""
        return all(digest_of(view[at : at + size]) == digest for digest, at, size in self.pieces())

    def cut(self, size: int) -> tuple[Stretch, Stretch | None]:
        """The first chunks, ``size`` bytes or a little more, and the others."""
        count = -(-size // CHUNK)
        if count >= len(self.chunks):
            return self, None
        size = count * CHUNK  # only the last chunk is shorter
        first = Stretch(self.start, size, self.pack, self.at, self.chunks[:count])
        rest = self.size - size
        return first, Stretch(
            self.start + size, rest, self.pack, self.at + size, self.chunks[count:]
        )


def find_stretches(
    db: sqlite3.Connection,
    packs: Packs,
    buffer: Buffer,
    full: Mapping[bytes, int] = MappingProxyType({}),
) -> list[Stretch]:
    """Where the bytes of a buffer are, in order; ``full`` has what ``find_full`` found. Raises Absent."""
    _, chunks = read_tree(db, packs, buffer)
    if len(chunks) != -(-buffer.size // CHUNK):
        raise Absent
    places = [full.get(digest) for digest in chunks]
    others = find_places(db, {d for d, place in zip(chunks, places, strict=True) if place is None})
    # Chunks side by side in a pack have the same difference of place and position. 1 GiB has 16,384 chunks.
    starts = [None if place is None else place - n * CHUNK for n, place in enumerate(places)]
    found: list[Stretch] = []
    at = 0
    for start, run in groupby(starts):
        here = chunks[at // CHUNK : at // CHUNK + len(list(run))]
        if start is not None:
            pack, place = divmod(start + at, PLACES)
            at = _append(found, Stretch(at, len(here) * CHUNK, pack, place, here))
            continue
        for digest in here:
            size, pack, place = others.get(digest, (-1, 0, 0))
            if size != min(CHUNK, buffer.size - at):
                raise Absent
            at = _append(found, Stretch(at, size, pack, place, [digest]))
    if at != buffer.size:
        raise Absent
    return found


def _append(found: list[Stretch], stretch: Stretch) -> int:
    """Add a stretch, to the last one if it lies behind that; where it ends."""
    last = found[-1] if found else stretch
    if stretch.pack and (last.pack, last.at + last.size) == (stretch.pack, stretch.at):
        last.size += stretch.size
        last.chunks += stretch.chunks
    else:
        found.append(stretch)
    return stretch.start + stretch.size


class Opener:
    """Opens the buffers of one snapshot, and compares what it has mapped with the digests, bit by bit.

    Both raise StoreCorruptError, which names the names that it concerns, and OSError.
    """

    def __init__(self, blobs: Iterable[Blob], packs: Packs, where: str) -> None:
        self._packs, self._where = packs, where
        self._names: dict[bytes, list[str]] = {}  # by the root of a buffer
        self._count = 0  # chunks of all buffers
        self._full: Mapping[bytes, int] | None = None
        self._ends: object = None  # of the packs when that was found
        for blob in blobs:
            for buffer in blob.buffers:
                self._count += -(-buffer.size // CHUNK)
                names = self._names.setdefault(buffer.root, [])
                names += [name for name in blob.names if name not in names]
        self._now = CHECK_FIRST  # bytes that may still be compared at once
        self._later: list[tuple[Stretch, bytes]] = []  # mapped, not compared yet; with the root

    def open(self, db: sqlite3.Connection, buffer: Buffer) -> memoryview:
        """The bytes of a buffer: writable, private."""
        try:
            return self._open(db, buffer)
        except Absent:
            raise self._corrupt(buffer.root) from None

    def digests(self, db: sqlite3.Connection, buffer: Buffer) -> bytes:
        """The digests of its chunks, one after the other."""
        try:
            return b"".join(read_tree(db, self._packs, buffer)[1])
        except Absent:
            raise self._corrupt(buffer.root) from None

    def verify(self) -> bool:
        """Compare some more of what is mapped, a few ms of work; whether there is more to compare.

        What was wrong is told once. A pack that was collected meanwhile is left out: no epoch needs it.
        """
        left = SLICE
        while self._later and left > 0:
            stretch, root = self._later.pop()
            if stretch.pack not in self._packs.ends:
                continue
            some, rest = stretch.cut(left)
            if rest is not None:
                self._later.append((rest, root))
            left -= some.size
            room = memoryview(bytearray(some.size))
            if not self._packs.read_into((some.pack, some.at), room) or not some.equals(room):
                raise self._corrupt(root)
        return bool(self._later)

    def _corrupt(self, root: bytes) -> StoreCorruptError:
        return corrupt(self._where, value_of(self._names.get(root, ())))

    def _open(self, db: sqlite3.Connection, buffer: Buffer) -> memoryview:
        packs = self._packs
        if self._full is None or self._ends is not packs.ends:  # the first, or chunks were moved
            self._full, self._ends = find_full(db, self._count), packs.ends
        stretches = find_stretches(db, packs, buffer, self._full)
        mapped: list[tuple[Stretch, bytes]] = []
        if buffer.size >= MAP_FROM and any(_is_long(each) for each in stretches):
            from pyrepl3.store import mapping  # noqa: PLC0415 - ctypes, for big buffers only

            if mapping.can_overlay():
                memory = mapping.reserve(buffer.size)
                view = memoryview(memory)[: buffer.size]
                for each in stretches:
                    if not _is_long(each):
                        _copy(db, packs, each, view)
                        continue
                    fd = packs.find(each.pack)
                    end = each.at + each.size + -each.size % PAGE
                    if fd is None or packs.size(each.pack) < end:
                        raise Absent  # touching it would end the process with SIGBUS
                    if not mapping.overlay(memory, each.start, each.size, fd, each.at):
                        break  # the kernel refuses more mappings: start anew, and read all
                    # The first chunk at least: it tells whether the pack is the right one.
                    now, later = each.cut(max(self._now, 1))
                    if not now.equals(view[now.start : now.start + now.size]):
                        raise Absent
                    self._now -= now.size
                    if later is not None:
                        mapped.append((later, buffer.root))
                else:
                    self._later += mapped
                    return view
        view = memoryview(bytearray(buffer.size))
        for each in stretches:
            _copy(db, packs, each, view)
        return view


def _is_long(stretch: Stretch) -> bool:
    return stretch.pack > 0 and stretch.size >= _STRETCH and not stretch.at % PAGE


def _copy(db: sqlite3.Connection, packs: Packs, stretch: Stretch, view: memoryview) -> None:
    if not stretch.pack:
        (digest,) = stretch.chunks
        data = read_chunk(db, packs, digest, (stretch.size, 0, stretch.at))
        view[stretch.start : stretch.start + stretch.size] = data
        return
    part = view[stretch.start : stretch.start + stretch.size]
    if stretch.at < 0 or not packs.read_into((stretch.pack, stretch.at), part):
        raise Absent
    if not stretch.equals(part):
        raise Absent
