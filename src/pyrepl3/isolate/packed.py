"""Deltas and snapshots to a message and parts beside it, and back: their bytes stay opaque.

Small blobs go in the message, the rest as parts: one after the other, so that offsets suffice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import StoreError
from pyrepl3.isolate.frames import FrameError
from pyrepl3.records import Blob, Buffer, Delta, Snapshot

if TYPE_CHECKING:
    from pyrepl3.isolate.channel import Part

_ALIGN = 64  # where arrays that are mapped in place have to start


class _WireBlob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: tuple[str, ...]
    size: int
    buffers: tuple[Buffer, ...] = ()


class WireDelta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Delta; the bytes of its blobs and then of its chunks are the parts, in order."""

    blobs: tuple[_WireBlob, ...]
    deleted: frozenset[str]
    lost: Mapping[str, str]
    reprs: Mapping[str, str]
    engine: bytes
    chunks: tuple[tuple[bytes, int], ...]
    audited: bool = True
    late: frozenset[str] = frozenset()
    dropped: Mapping[str, str] = {}


class WireSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Snapshot; the bytes of its buffers, each padded, and then of its blobs are the parts, in order."""

    epoch: int
    count: int
    blobs: tuple[_WireBlob, ...]
    lost: Mapping[str, str]
    engine: bytes
    buffers: tuple[Buffer, ...]
    audited: bool = True


def _wire_blobs(blobs: tuple[Blob, ...]) -> tuple[_WireBlob, ...]:
    return tuple(
        _WireBlob(names=blob.names, size=len(blob.data), buffers=blob.buffers) for blob in blobs
    )


def pack_delta(delta: Delta) -> tuple[WireDelta, list[Part]]:
    """A delta as a message and its parts. Nothing is copied."""
    wire = WireDelta(
        blobs=_wire_blobs(delta.blobs),
        deleted=delta.deleted,
        lost=delta.lost,
        reprs=delta.reprs,
        engine=delta.engine,
        chunks=tuple((digest, len(chunk)) for digest, chunk in delta.chunks.items()),
        audited=delta.audited,
        late=delta.late,
        dropped=delta.dropped,
    )
    parts: list[Part] = [blob.data for blob in delta.blobs]
    return wire, [*parts, *delta.chunks.values()]


def unpack_delta(wire: WireDelta, parts: memoryview) -> Delta:
    """The delta again; its chunks are views of ``parts``. Raises FrameError if that does not fit."""
    cut = _Cut(parts)
    blobs = _blobs(wire.blobs, cut)
    chunks: dict[bytes, bytes | memoryview] = {}
    for digest, size in wire.chunks:
        chunks[digest] = cut.take(size)
    cut.end()
    return Delta(
        blobs=blobs,
        deleted=wire.deleted,
        lost=wire.lost,
        reprs=wire.reprs,
        engine=wire.engine,
        chunks=chunks,
        audited=wire.audited,
        late=wire.late,
        dropped=wire.dropped,
    )


def pack_snapshot(snapshot: Snapshot) -> tuple[WireSnapshot, list[Part]]:
    """A snapshot as a message and its parts; buffers are opened here. Raises StoreError."""
    buffers = {buffer: None for blob in snapshot.blobs for buffer in blob.buffers if buffer.size}
    if buffers and snapshot.open is None:
        raise StoreError("a snapshot with buffers, and nothing to open them by")
    wire = WireSnapshot(
        epoch=snapshot.epoch,
        count=snapshot.count,
        blobs=_wire_blobs(snapshot.blobs),
        lost=snapshot.lost,
        engine=snapshot.engine,
        buffers=tuple(buffers),
        audited=snapshot.audited,
    )
    parts: list[Part] = []
    for buffer in buffers:
        assert snapshot.open is not None
        parts += (snapshot.open(buffer), bytes(-buffer.size % _ALIGN))
    return wire, [*parts, *(blob.data for blob in snapshot.blobs)]


def unpack_snapshot(wire: WireSnapshot, parts: memoryview) -> Snapshot:
    """The snapshot again; its buffers are views of ``parts``. Raises FrameError if that does not fit."""
    cut = _Cut(parts)
    found: dict[Buffer, memoryview] = {}
    for buffer in wire.buffers:
        found[buffer] = cut.take(buffer.size)
        cut.take(-buffer.size % _ALIGN)
    blobs = _blobs(wire.blobs, cut)
    cut.end()

    def open_buffer(buffer: Buffer) -> memoryview:
        if not buffer.size:
            return memoryview(bytearray())
        view = found[buffer]
        return memoryview(bytearray(view)) if view.readonly else view

    return Snapshot(
        epoch=wire.epoch,
        count=wire.count,
        blobs=blobs,
        lost=wire.lost,
        engine=wire.engine,
        open=open_buffer,
        audited=wire.audited,
    )


def _blobs(wires: tuple[_WireBlob, ...], cut: _Cut) -> tuple[Blob, ...]:
    return tuple(
        Blob(names=wire.names, data=bytes(cut.take(wire.size)), buffers=wire.buffers)
        for wire in wires
    )


class _Cut:
    """Gives the parts one after the other."""

    def __init__(self, parts: memoryview) -> None:
        self._parts = parts
        self._at = 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self._at + size > len(self._parts):
            raise FrameError("parts are missing beside a message")
        self._at += size
        return self._parts[self._at - size : self._at]

    def end(self) -> None:
        if self._at != len(self._parts):
            raise FrameError("more parts than a message names")
