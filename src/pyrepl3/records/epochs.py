"""What a checkpoint writes, what a restore reads, and what history tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pyrepl3.records.cells import Cell, Record
from pyrepl3.records.outcomes import Display, Output

CHUNK = 65_536
"""Bytes in a chunk of a buffer; its last one may be shorter."""
FANOUT = 256
"""Digests in a chunk that lists chunks (32 bytes each); the last list of a buffer may be shorter."""


class Buffer(Record, frozen=True, kw_only=True):
    """Many bytes beside a blob (pickle 5, out of band), kept as content-addressed chunks.

    Two levels of lists: ``root`` is the BLAKE3 digest of the concatenated digests of its lists, a list
    the concatenated digests of up to ``FANOUT`` chunks, a chunk ``CHUNK`` bytes of the buffer.
    """

    size: int
    root: bytes


class Blob(Record, frozen=True, kw_only=True):
    """Some names pickled together, because they share objects. ``data`` is opaque to a store.

    ``buffers``: what the pickle takes from out of band, in its order.
    """

    names: tuple[str, ...]
    data: bytes
    buffers: tuple[Buffer, ...] = ()


class Delta(Record, frozen=True, kw_only=True):
    """What changed since the last marked epoch.

    A name is in one of: a blob (its new value), ``deleted``, or ``lost`` (bound, but it could not be
    stored: the reason). ``reprs`` has a short repr for each stored name, so that a difference can
    be shown without objects. ``engine`` is the runner's own state (opaque bytes), whole each time.
    ``chunks`` has the chunks and lists that the store may not have yet, by digest; it may read them
    only until its commit returns. What is in no delta since, the store has from an earlier epoch: from
    the one marked last, not from any, since old epochs may be collected.
    ``audited``: it is certain that nothing else changed; if not, ``Store.audited`` may say so later.
    ``late``: the names that changed behind those that cells used, and were found by an audit.
    ``dropped``: parts of the runner's own state that could not be stored: path to reason.
    ``same``: names in blobs whose values are what they were: what they share objects with has changed.
    """

    blobs: tuple[Blob, ...] = ()
    deleted: frozenset[str] = frozenset()
    lost: Mapping[str, str] = {}
    reprs: Mapping[str, str] = {}
    engine: bytes = b""
    chunks: Mapping[bytes, bytes | memoryview] = {}
    audited: bool = True
    late: frozenset[str] = frozenset()
    dropped: Mapping[str, str] = {}
    same: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Bytes in all blobs and chunks."""
        return sum(len(blob.data) for blob in self.blobs) + sum(map(len, self.chunks.values()))


class Snapshot(Record, frozen=True, kw_only=True):
    """A whole namespace as of ``epoch``: each live name in exactly one blob, or in ``lost``.

    A blob may hold more names than those it is still current for; ``names`` of each says which count.
    Blobs are in the order of the epochs that wrote them. ``count`` is the highest cell count of any
    epoch in the store, so that no cell id is used twice. ``open`` gives the bytes of a buffer: writable,
    private to the caller, mapped lazily where the store can; it works until the store is closed, what
    it gave lasts as long as somebody holds it. Raises StoreError. What it has not compared with its
    checksums at once ``verify`` compares, a few ms of work a call, which tells whether there is more
    to do; it raises StoreCorruptError, and may be called again. ``digests`` (optional) gives those of the
    chunks of a buffer, one after the other. ``audited`` is that of the epoch.
    ``makers`` has, for names in ``lost``, the number of the cell that made them.
    """

    epoch: int = 0
    count: int = 0
    blobs: tuple[Blob, ...] = ()
    lost: Mapping[str, str] = {}
    engine: bytes = b""
    open: Callable[[Buffer], memoryview] | None = None
    verify: Callable[[], bool] | None = None
    digests: Callable[[Buffer], bytes] | None = None
    audited: bool = True
    makers: Mapping[str, int] = {}


type ReceiptStatus = Literal["done", "failed", "interrupted"]


class Receipt(Record, frozen=True, kw_only=True):
    """What a finished cell records beside its epoch.

    ``events`` are its outputs (cut to a bound, ``cut`` says so), ``error`` the text of the traceback.
    ``at`` is seconds since the epoch, ``duration`` in seconds.
    """

    cell: Cell
    status: ReceiptStatus
    at: float = 0.0
    duration: float = 0.0
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}
    events: tuple[Output | Display, ...] = ()
    cut: bool = False
    error: str = ""


class Epoch(Record, frozen=True, kw_only=True):
    """One entry of a session's history: ``parent`` is 0 for the first.

    ``size`` is that of its delta in bytes; ``stored`` and ``deleted`` are the names that it wrote and
    removed, as ``lost`` has those that it could not store; ``same`` those of ``stored`` whose values are what
    they were. ``audited``: it is certain that it holds all that had changed.
    """

    epoch: int
    parent: int
    receipt: Receipt
    size: int = 0
    stored: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    lost: Mapping[str, str] = {}
    audited: bool = True
    same: frozenset[str] = frozenset()


class KeptName(Record, frozen=True, kw_only=True):
    """What a store knows of a name without its object: to tell how two epochs differ.

    ``epoch`` wrote the value (a name has changed between two epochs where these numbers differ),
    ``size`` is in bytes and that of all names of its blob, ``text`` a short repr. ``lost`` is the reason
    why there is no value, "" where there is one.
    """

    epoch: int
    size: int = 0
    text: str = ""
    lost: str = ""


class Collected(Record, frozen=True, kw_only=True):
    """What a collection of garbage has dropped: how many epochs, and how many bytes on disk."""

    epochs: int = 0
    size: int = 0
