"""A buffer in, its bytes out as one writable view: mapped where they lie in packs side by side, else read.

What is read is compared with its digest. What is mapped is read by whoever touches it, so of each stretch
only the first chunk is compared at once; ``verify`` compares the rest. A bit that flipped there is found by
``verify``, a pack that was cut or is missing at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from pyrepl3.records import CHUNK, Blob, Buffer
from pyrepl3.store.chunks import Absent, digest_of, find_places, read_chunk, read_tree
from pyrepl3.store.packs import PAGE, Packs

MAP_FROM = 1024 * 1024
"""Bytes; smaller buffers are read and checked at once, since a mapping costs more than it saves."""
_STRETCH = 4 * CHUNK  # shorter ones are copied: the kernel allows 65,530 mappings a process


class Stretch(msgspec.Struct):
    """Chunks that lie side by side in a pack (0: one chunk in a row), and where they go."""

    start: int
    size: int
    pack: int
    at: int
    chunks: list[tuple[bytes, int]]  # digest and size


def find_stretches(db: sqlite3.Connection, packs: Packs, buffer: Buffer) -> list[Stretch]:
    """Where the bytes of a buffer are, in order. Raises Absent."""
    _, chunks = read_tree(db, packs, buffer)
    if len(chunks) != -(-buffer.size // CHUNK):
        raise Absent
    places = find_places(db, set(chunks))
    last = buffer.size - (len(chunks) - 1) * CHUNK if chunks else 0
    found: list[Stretch] = []
    now, after = Stretch(0, 0, -1, 0, []), (-1, 0)  # the pack and the place that would continue it
    for n, digest in enumerate(chunks):
        size, pack, at = places.get(digest, (-1, 0, 0))
        if size != (CHUNK if n < len(chunks) - 1 else last):
            raise Absent
        if (pack, at) != after or not pack:
            now = Stretch(n * CHUNK, 0, pack, at, [])
            found.append(now)
        now.size += size
        now.chunks.append((digest, size))
        after = (pack, at + size)
    return found


def find_holders(blobs: Iterable[Blob]) -> dict[bytes, list[str]]:
    """The names that each buffer is part of, by its root."""
    found: dict[bytes, list[str]] = {}
    for blob in blobs:
        for buffer in blob.buffers:
            names = found.setdefault(buffer.root, [])
            names += [name for name in blob.names if name not in names]
    return found


def open_buffer(db: sqlite3.Connection, packs: Packs, buffer: Buffer) -> memoryview:
    """The bytes of a buffer: writable, private, checked as far as they are read. Raises Absent, OSError."""
    stretches = find_stretches(db, packs, buffer)
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
                digest, size = each.chunks[0]
                if digest_of(view[each.start : each.start + size]) != digest:
                    raise Absent
            else:
                return view
    view = memoryview(bytearray(buffer.size))
    for each in stretches:
        _copy(db, packs, each, view)
    return view


def _is_long(stretch: Stretch) -> bool:
    return stretch.pack > 0 and stretch.size >= _STRETCH and not stretch.at % PAGE


def _copy(db: sqlite3.Connection, packs: Packs, stretch: Stretch, view: memoryview) -> None:
    if not stretch.pack:
        ((digest, size),) = stretch.chunks
        data = read_chunk(db, packs, digest, (size, 0, stretch.at))
        view[stretch.start : stretch.start + size] = data
        return
    part = view[stretch.start : stretch.start + stretch.size]
    if stretch.at < 0 or not packs.read_into((stretch.pack, stretch.at), part):
        raise Absent
    at = 0
    for digest, size in stretch.chunks:
        if digest_of(part[at : at + size]) != digest:
            raise Absent
        at += size
