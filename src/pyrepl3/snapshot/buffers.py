"""Memory in, its Buffer record and the chunks that the store lacks out; only what was written is hashed.

The digests of every chunk are kept (32 bytes for 64 KiB). Where the system tells which pages were written
(``pages``), only their chunks are hashed again; elsewhere all are, and only those that differ are stored.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

from pyrepl3.records import CHUNK, FANOUT, Buffer
from pyrepl3.snapshot.pages import Watch
from pyrepl3.snapshot.pages import watch as watch_pages

_DIGEST = 32  # bytes
_LIST = FANOUT * _DIGEST
_COPY_BELOW = 8 << 20  # bytes changed: that much is copied, so that nobody can change it meanwhile

type Key = tuple[object, ...]


class Content:
    """What some bytes were: the digest of each chunk, of each list of them, and the root.

    ``key`` says which bytes: a range of memory, or their place in a blob.
    """

    __slots__ = ("digests", "key", "lists", "record")

    def __init__(self, key: Key, record: Buffer, digests: bytes, lists: bytes) -> None:
        self.key, self.record, self.digests, self.lists = key, record, digests, lists


class Pieces:
    """Bytes cut into chunks, and their place in a blob. Other bytes come as a view of their memory."""

    __slots__ = ("key", "pieces", "size")

    def __init__(self, key: Key, pieces: Sequence[bytes | memoryview]) -> None:
        self.key, self.pieces, self.size = key, pieces, sum(map(len, pieces))


class Buffers:
    """The buffers of one Snapshotter. ``begin`` a delta, ``add`` what it has, ``commit`` at the mark."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes | memoryview] = {}
        """What the store may not have of the buffers added since ``begin``, by digest."""
        self._stored: dict[Key, Content] = {}
        self._ranges: dict[Key, _Range] = {}
        self._seen: dict[Key, Content] = {}  # in this delta
        self._views: list[memoryview] = []  # in this delta: their addresses are keys
        self._room = _COPY_BELOW

    def begin(self, *, again: bool = False) -> None:
        """Start a delta. ``again``: the last one failed, perhaps since memory changed under it."""
        self.chunks, self._seen, self._views = {}, {}, []
        self._room = sys.maxsize if again else _COPY_BELOW

    def add(self, raw: memoryview | Pieces) -> Content:
        """What ``raw`` holds now; its new chunks go to ``chunks``."""
        return self._add_pieces(raw) if isinstance(raw, Pieces) else self._add_memory(raw)

    def commit(self, contents: Iterable[Content]) -> None:
        """The store has these, and need not have any other."""
        self._stored = {content.key: content for content in contents}
        self.chunks, self._seen, self._views = {}, {}, []
        for key in self._ranges.keys() - self._stored.keys():
            self._ranges.pop(key).close()

    def adopt(
        self, record: Buffer, digests: bytes, *, view: memoryview | None = None, key: Key = ()
    ) -> Content:
        """What a store has: under ``key``, or (``view``) in private memory that was opened from it.

        To be followed by ``commit``.
        """
        parts = [digests[at : at + _LIST] for at in range(0, len(digests), _LIST)]
        place: _Range | None = None
        if view is not None:
            address = address_of(view)
            key = ("memory", address, len(view))
            place = self._ranges[key] = _Range(address, len(view))
        content = Content(key, record, digests, b"".join(map(_hash, parts)))
        if place is not None:
            place.content = content
            place.start(private=True)
        return content

    def find_doubtful(self, view: memoryview, content: Content) -> Collection[int] | None:
        """The chunks of ``view`` that may not be as in ``content``, which the store has; None: any.

        Nothing counts as looked at by this. Any thread.
        """
        place = self._ranges.get(("memory", address_of(view), len(view)))
        if place is None or place.content is not content:
            return None
        return place.find_doubtful()

    def close(self) -> None:
        """Stop watching memory; to be called before this object is dropped."""
        self.commit(())

    # --- inside -------------------------------------------------------------------------------

    def _add_pieces(self, raw: Pieces) -> Content:
        old = self._stored.get(raw.key)
        before = old.digests if old is not None else b""
        digests = bytearray()
        for piece in raw.pieces:
            if type(piece) is memoryview and not piece.readonly:
                piece = bytes(piece)  # noqa: PLW2901 - of a bytearray: it must be free to grow again
            digest = _hash(piece)
            if before[len(digests) : len(digests) + _DIGEST] != digest:
                self.chunks[digest] = piece
            digests += digest
        return self._finish(raw.key, raw.size, bytes(digests), old)

    def _add_memory(self, view: memoryview) -> Content:
        address, total = address_of(view), -(-len(view) // CHUNK)
        key = ("memory", address, len(view))
        seen = self._seen.get(key)
        if seen is not None:
            return seen
        self._views.append(view)
        old, place = self._stored.get(key), self._ranges.get(key)
        if place is None:
            place = self._ranges[key] = _Range(address, len(view))
        elif old is None:
            place.content = None  # the store had it once, or never had it: all of it has to come
        written = place.find_written()
        look: Collection[int] = range(total) if written is None else written
        known = place.content or old
        digests = bytearray(known.digests if known is not None else _DIGEST * total)
        differ = set(_differences(digests, old.digests)) if old is not None else set()
        changed = 0
        for index in sorted(differ.union(look)):
            piece: bytes | memoryview = view[index * CHUNK : (index + 1) * CHUNK]
            digest, at = _hash(piece), slice(index * _DIGEST, (index + 1) * _DIGEST)
            changed += digests[at] != digest
            if old is None or old.digests[at] != digest:
                if self._room > 0:  # then nobody can change it before it is stored
                    piece = bytes(piece)
                    digest = _hash(piece)
                    self._room -= len(piece)
                self.chunks[digest] = piece
            digests[at] = digest
        place.settle(changed, total)
        content = self._finish(key, len(view), bytes(digests), old)
        place.content = self._seen[key] = content
        return content

    def _finish(self, key: Key, size: int, digests: bytes, old: Content | None) -> Content:
        lists = bytearray()
        for start in range(0, len(digests), _LIST):
            part = digests[start : start + _LIST]
            if old is not None and old.digests[start : start + _LIST] == part:
                lists += old.lists[len(lists) : len(lists) + _DIGEST]
            else:
                digest = _hash(part)
                self.chunks[digest] = part
                lists += digest
        if old is not None and old.lists == lists and old.record.size == size:
            return old
        root = _hash(bytes(lists))
        self.chunks[root] = bytes(lists)
        return Content(key, Buffer(size=size, root=root), digests, bytes(lists))


class _Range:
    """A range of memory: what it held at the last look, and whether it is watched.

    Whose memory it is does not matter, so that nobody need be referred to (an array with a weak
    reference cannot be resized): a watch tells of everything that can become of memory.
    """

    __slots__ = ("_address", "_calm", "_size", "_watch", "content")

    def __init__(self, address: int, size: int) -> None:
        self.content: Content | None = None
        self._address, self._size = address, size
        self._calm = True
        self._watch: Watch | None = None

    def start(self, *, private: bool = False) -> None:
        """Watch from now on, where that is possible."""
        self._watch = watch_pages(self._address, self._size, private=private)
        if self._watch is not None:
            self._watch.written()  # protects the pages

    def find_written(self) -> Collection[int] | None:
        """The chunks that may have changed since the last look; None: any. The next look begins here."""
        if self._watch is None:
            if self._calm:
                self.start()
            return None
        watch, ranges = self._watch, self._watch.written()
        if ranges is None:
            self._watch = None
        return None if ranges is None or self.content is None else self._chunks_in(watch, ranges)

    def find_doubtful(self) -> Collection[int] | None:
        """The same, and the next look begins where it would have."""
        watch = self._watch
        ranges = None if watch is None else watch.written_so_far()
        return None if watch is None or ranges is None else self._chunks_in(watch, ranges)

    def _chunks_in(self, watch: Watch, ranges: list[tuple[int, int]]) -> set[int]:
        # The parts of pages at both ends are not watched.
        edges = (self._address, watch.start), (watch.stop, self._address + self._size)
        found: set[int] = set()
        for start, stop in (*edges, *ranges):
            if start < stop:
                end = (stop - 1 - self._address) // CHUNK + 1
                found.update(range((start - self._address) // CHUNK, end))
        return found

    def settle(self, changed: int, total: int) -> None:
        """Watching makes the first write to a page slow: not worth it where most of them are written."""
        self._calm = self.content is None or changed * 4 <= total
        if not self._calm:
            self.close()

    def close(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _hash(data: bytes | memoryview) -> bytes:
    from blake3 import blake3

    return blake3(data).digest()


def digest_chunk(piece: bytes | memoryview) -> bytes:
    """The digest by which a chunk is known."""
    return _hash(piece)


def record_of(digests: bytes, size: int) -> Buffer:
    """The record of the buffer of ``size`` bytes whose chunks have these digests."""
    lists = [_hash(digests[at : at + _LIST]) for at in range(0, len(digests), _LIST)]
    return Buffer(size=size, root=_hash(b"".join(lists)))


def _differences(one: bytes | bytearray, other: bytes) -> Iterator[int]:
    """The indices of the digests that differ."""
    for start in range(0, len(one), _LIST):
        if one[start : start + _LIST] != other[start : start + _LIST]:
            for at in range(start, min(start + _LIST, len(one)), _DIGEST):
                if one[at : at + _DIGEST] != other[at : at + _DIGEST]:
                    yield at // _DIGEST


def address_of(view: memoryview) -> int:
    """Where the bytes of a view are."""
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        return buffer.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


class _PyBuffer(ctypes.Structure):
    """``Py_buffer`` of CPython's ``object.h``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )
