"""Values in, deltas and receipts made of them out: what checks of a store are written with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pyrepl3.errors import StoreError
from pyrepl3.ports import Store
from pyrepl3.records import (
    CHUNK,
    FANOUT,
    Blob,
    Buffer,
    Cell,
    Delta,
    Display,
    Output,
    Receipt,
    Snapshot,
)

type Place = Callable[[], Store]
"""Opens the same place again at each call; for a store in memory it can be called once only."""

type Fresh = Callable[[], Place]
"""A place where nothing was stored yet."""


def make_receipt(n: int, source: str = "x = 1") -> Receipt:
    """A receipt of cell ``n`` with something of everything."""
    cell = Cell(id=f"demo-c{n}", n=n, source=source, filename=f"<demo {n}>", first_line=2)
    return Receipt(
        cell=cell,
        status="done",
        at=1.5,
        duration=0.25,
        shown=True,
        text="3",
        data={"text/plain": "3", "image/png": b"\x89PNG", "application/json": {"a": [1, None]}},
        events=(
            Output(cell_id=cell.id, stream="stdout", text="hello\n"),
            Display(cell_id=cell.id, data={"text/html": "<b>"}, metadata={"w": 1}),
        ),
    )


def make_delta(
    values: dict[str, bytes] | None = None,
    *,
    groups: dict[tuple[str, ...], bytes] | None = None,
    deleted: tuple[str, ...] = (),
    lost: dict[str, str] | None = None,
    engine: bytes = b"",
    buffers: dict[str, list[bytes]] | None = None,
    audited: bool = True,
) -> Delta:
    """A delta with a blob for each of ``values``, ``groups`` and ``buffers``, and their chunks."""
    blobs = [Blob(names=(name,), data=data) for name, data in (values or {}).items()]
    blobs += [Blob(names=names, data=data) for names, data in (groups or {}).items()]
    chunks: dict[bytes, bytes | memoryview] = {}
    for name, contents in (buffers or {}).items():
        made = [make_buffer(content) for content in contents]
        data = b"pickle of " + name.encode()
        blobs.append(Blob(names=(name,), data=data, buffers=tuple(buffer for buffer, _ in made)))
        for _, some in made:
            chunks |= some
    return Delta(
        blobs=tuple(blobs),
        deleted=frozenset(deleted),
        lost=lost or {},
        reprs={name: f"<{name}>" for blob in blobs for name in blob.names},
        engine=engine,
        chunks=chunks,
        audited=audited,
    )


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not repeat, the same for the same seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def make_buffer(
    data: bytes | bytearray | memoryview,
) -> tuple[Buffer, dict[bytes, bytes | memoryview]]:
    """``data`` as a buffer, and all its chunks and lists by digest."""
    from blake3 import blake3  # noqa: PLC0415 - not all who use this module need it

    found: dict[bytes, bytes | memoryview] = {}

    def put(piece: bytes | memoryview) -> bytes:
        digest = blake3(piece).digest()
        found[digest] = piece
        return digest

    view = memoryview(data)
    leaves = [put(view[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
    nodes = [put(b"".join(leaves[n : n + FANOUT])) for n in range(0, len(leaves), FANOUT)]
    return Buffer(size=len(data), root=put(b"".join(nodes))), found


def read_values(snapshot: Snapshot) -> dict[str, bytes]:
    """Each live name with the bytes of its blob; a name in two blobs is an AssertionError."""
    found: dict[str, bytes] = {}
    for blob in snapshot.blobs:
        for name in blob.names:
            assert name not in found, f"{name!r} is in two blobs"
            assert name not in snapshot.lost, f"{name!r} is stored and lost"
            found[name] = blob.data
    return found


def refused(call: Callable[[], object], error: type[Exception] = StoreError) -> None:
    """``call`` raises ``error``, with a message; else an AssertionError."""
    try:
        call()
    except error as refusal:
        assert str(refusal), "an error must say what happened"  # noqa: PT017 - no pytest here
    else:
        raise AssertionError(f"{error.__name__} expected")
