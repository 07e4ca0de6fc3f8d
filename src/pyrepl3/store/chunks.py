"""Digests in, the bytes that have them out, checked: from rows where they are few, from packs where many.

A chunk or a list of chunks is stored once, whoever refers to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping

from pyrepl3.errors import StoreError
from pyrepl3.records import CHUNK, Buffer, Delta
from pyrepl3.store.packs import Packs, Piece, Place

DIGEST = 32  # bytes of a BLAKE3 digest
PLACES = 1 << 40  # more than a pack is long
_MANY = 500  # digests a query
_SCAN = 4  # so many times as many rows are read in the time that looking up one takes
_KNOWN = 1 << 16  # digests that are remembered: of 4 GiB, in 7 MB


class Absent(Exception):  # noqa: N818 - not an error yet: the caller knows which names it concerns
    """Something is not there, or not what was written."""


def split(listed: bytes | memoryview) -> list[bytes]:
    """The digests in a list. Raises Absent if it cannot be one."""
    data = bytes(listed)
    if len(data) % DIGEST:
        raise Absent
    return [data[n : n + DIGEST] for n in range(0, len(data), DIGEST)]


def digest_of(data: Piece) -> bytes:
    """The BLAKE3 digest."""
    from blake3 import blake3  # noqa: PLC0415 - 5 ms, for sessions with buffers only

    return blake3(data).digest()


class Known:
    """Digests of which it is known that they are stored, so that each commit need not look them up."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, digests: Collection[bytes]) -> None:
        """These are committed."""
        if len(self._digests) + len(digests) > _KNOWN:
            self._digests.clear()
        if len(digests) <= _KNOWN:
            self._digests.update(digests)

    def clear(self) -> None:
        """Something may have been deleted."""
        self._digests.clear()

    def without(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of ``digests`` of which nothing is known."""
        return set(digests) - self._digests


def find_new(
    db: sqlite3.Connection, delta: Delta, known: Known
) -> tuple[dict[bytes, Piece], dict[bytes, Piece], set[bytes]]:
    """The lists and the chunks of ``delta`` that are not stored yet, in the order of their buffers.

    The third: the digests of those that are. Raises StoreError where one is neither stored nor in the delta.
    """
    # By level: bytes that are a list here may be a chunk there.
    roots: dict[bytes, Piece] = {}
    nodes: dict[bytes, Piece] = {}
    chunks: dict[bytes, Piece] = {}
    elsewhere: set[bytes] = set()  # these must be stored already

    def take(digests: Iterable[bytes], into: dict[bytes, Piece]) -> Iterator[bytes]:
        """Those of ``digests`` that came with the delta and were not seen yet."""
        for digest in digests:
            piece = delta.chunks.get(digest)
            if piece is None:
                elsewhere.add(digest)
            elif digest not in into:
                into[digest] = piece
                yield digest

    try:
        for blob in delta.blobs:
            for root in take((buffer.root for buffer in blob.buffers), roots):
                for node in take(split(roots[root]), nodes):
                    for _ in take(split(nodes[node]), chunks):
                        pass
    except Absent:
        raise StoreError("a list of chunks in the delta is none: its length is odd") from None
    lists = roots | nodes
    for digest in lists:
        chunks.pop(digest, None)
    stored: set[bytes] = set()
    if lists or chunks or elsewhere:
        asked = {*lists, *chunks, *elsewhere}
        unknown = known.without(asked)
        stored = asked - unknown
        stored.update(find_places(db, unknown))
        if not elsewhere <= stored:
            raise StoreError(
                f"{len(elsewhere - stored)} chunks are neither in the delta nor in the store: what "
                "a delta leaves out must belong to the epoch that was marked last"
            )
        for digest in stored:
            lists.pop(digest, None)
            chunks.pop(digest, None)
    return lists, chunks, stored


def settle(digest: bytes, piece: Piece) -> bytes:
    """A chunk that nobody can change any more. Raises StoreError where somebody already has.

    A view is the user's own memory, and a thread of the user may write to it after it was hashed.
    """
    if type(piece) is bytes:
        return piece
    data = bytes(piece)
    if digest_of(data) != digest:
        raise StoreError(
            "a value changed while it was being stored (a thread writes to it?): the next cell stores it"
        )
    return data


def find_places(
    db: sqlite3.Connection, digests: Iterable[bytes]
) -> dict[bytes, tuple[int, int, int]]:
    """Size, pack (0: a row of ``piece``) and place in it, of those ``digests`` that are stored."""
    wanted = list(digests)
    found: dict[bytes, tuple[int, int, int]] = {}
    if len(wanted) > _MANY:
        (count,) = db.execute("SELECT count(*) FROM chunk").fetchone()
        if count <= _SCAN * len(wanted):
            asked = set(wanted)
            rows = db.execute("SELECT digest, size, pack, at FROM chunk")
            return {digest: (size, pack, at) for digest, size, pack, at in rows if digest in asked}
    for start in range(0, len(wanted), _MANY):
        some = wanted[start : start + _MANY]
        marks = ",".join("?" * len(some))
        query = f"SELECT digest, size, pack, at FROM chunk WHERE digest IN ({marks})"  # noqa: S608 - marks
        found.update((row[0], row[1:]) for row in db.execute(query, some))
    return found


def find_full(db: sqlite3.Connection, count: int) -> dict[bytes, int]:
    """``pack * PLACES + at`` of all chunks in packs that are ``CHUNK`` long, by digest.

    For whoever asks for ``count`` chunks; empty where it costs less to look up each of them.
    """
    if count <= _MANY or count * _SCAN < db.execute("SELECT count(*) FROM chunk").fetchone()[0]:
        return {}
    query = "SELECT digest, pack * ? + at FROM chunk WHERE pack > 0 AND at >= 0 AND size = ?"
    return dict(db.execute(query, (PLACES, CHUNK)))  # from C to C: 1 µs a chunk


def insert_rows(db: sqlite3.Connection, pieces: Mapping[bytes, Piece]) -> None:
    """Store pieces as rows."""
    for digest, data in pieces.items():
        row = db.execute("INSERT INTO piece (data) VALUES (?)", (data,))
        db.execute("INSERT INTO chunk VALUES (?, ?, 0, ?)", (digest, len(data), row.lastrowid))


def insert_places(
    db: sqlite3.Connection, pieces: Mapping[bytes, Piece], places: Iterable[Place]
) -> None:
    """Store where pieces lie in packs."""
    rows = zip(pieces.items(), places, strict=True)
    db.executemany(
        "INSERT INTO chunk VALUES (?, ?, ?, ?)",
        ((digest, len(data), pack, at) for (digest, data), (pack, at) in rows),
    )


def read_chunk(
    db: sqlite3.Connection, packs: Packs, digest: bytes, place: tuple[int, int, int]
) -> bytes:
    """The bytes of a chunk, compared with their digest. Raises Absent."""
    size, pack, at = place
    if pack:
        if not 0 <= size <= packs.size(pack) or at < 0:
            raise Absent
        data = bytearray(size)
        if not packs.read_into((pack, at), memoryview(data)):
            raise Absent
        found = bytes(data)
    else:
        row = db.execute("SELECT data FROM piece WHERE id = ?", (at,)).fetchone()
        if row is None or type(row[0]) is not bytes:
            raise Absent
        found = row[0]
    if len(found) != size or digest_of(found) != digest:
        raise Absent
    return found


def read_tree(
    db: sqlite3.Connection, packs: Packs, buffer: Buffer
) -> tuple[list[bytes], list[bytes]]:
    """The lists of a buffer (its root first), and its chunks in order. Raises Absent."""
    lists, chunks, nodes = [buffer.root], [], [buffer.root]
    for level in range(2):
        places = find_places(db, nodes)
        below: list[bytes] = []
        for node in nodes:
            if node not in places:
                raise Absent
            below += split(read_chunk(db, packs, node, places[node]))
        if level == 0:
            lists += below
        nodes = below
    chunks = nodes
    return lists, chunks
