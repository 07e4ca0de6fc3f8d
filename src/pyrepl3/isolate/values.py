"""A value of a worker to bytes and parts beside them, and back: for ``session.fetch``.

Plain values (``run/plain.py``), arrays without objects, and tables (``tables``). No pickle unless the host
trusts the worker: what it sends must not run code in the host. Many bytes go beside the message, and into
the host's memory without another copy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.errors import NamespaceError
from pyrepl3.isolate import tables
from pyrepl3.run import plain

if TYPE_CHECKING:
    from pyrepl3.isolate.channel import Part

_BYTES, _BYTEARRAY, _ARRAY, _TABLE = range(plain.OTHER, plain.OTHER + 4)
_KINDS = "biufcmMSU"
"""Kinds of arrays whose bytes are all of them: numbers, times, texts of one length."""
_ALIGN = 64
_MANY = 4096  # bytes from which on they go beside the message

type Packed = tuple[bytes, list[Part]]


def pack_value(value: Any, name: str) -> Packed:
    """The value as bytes, and parts. Raises NamespaceError, which says what cannot cross and what to do."""
    beside = _Beside(name)
    try:
        return plain.pack_value(value, beside.take), beside.parts
    except plain.NotPlainError as error:
        raise NamespaceError(
            f"{name!r} cannot be fetched: {error} does not cross from the worker process; make plain "
            "values, lists, tuples, sets, dicts, arrays of numbers or tables of it in a cell first, or "
            "say fetch(…, trusted=True) if you trust the cells like your own code"
        ) from None


def unpack_value(data: bytes, parts: memoryview) -> Any:
    """The value. Raises NamespaceError for a library that is not here, others for no value; runs no code."""

    def other(code: int, content: list[Any]) -> Any:
        *form, place = content
        found = _cut(parts, *place)
        if code == _BYTES:
            return bytes(found)
        if code == _BYTEARRAY:
            return bytearray(found)
        if code == _ARRAY:
            dtype, shape = form
            return _array(dtype, shape, found)
        if code == _TABLE:
            [kind] = form
            return tables.unpack(kind, found)
        raise ValueError(f"a value of unknown code {code}")

    return plain.unpack_value(data, other)


def pickle_value(value: Any, name: str) -> Packed:
    """The value as a pickle and its buffers. Raises NamespaceError where it has none."""
    beside = _Beside(name)
    import pickle  # noqa: PLC0415  few values are asked for as a pickle

    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    except Exception as error:
        raise NamespaceError(f"{name!r} cannot be fetched: {error}") from error
    places = [beside.put(buffer.raw()) for buffer in buffers]
    return msgspec.msgpack.encode([beside.put(data), *places]), beside.parts


def unpickle_value(data: bytes, parts: memoryview) -> Any:
    """The value, by running what the worker says. Raises whatever that raises."""
    import pickle  # noqa: PLC0415

    pickled, *buffers = msgspec.msgpack.decode(data, type=list[tuple[int, int]])
    return pickle.loads(_cut(parts, *pickled), buffers=[_cut(parts, *place) for place in buffers])


class _Beside:
    """What goes beside the message."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.parts: list[Part] = []
        self._size = 0

    def put(self, data: Part) -> tuple[int, int]:
        """Put bytes there. Returns where: offset and size."""
        place = self._size, len(data)
        padding = bytes(-len(data) % _ALIGN)
        self.parts += (data, padding)
        self._size += len(data) + len(padding)
        return place

    def take(self, value: Any) -> msgspec.msgpack.Ext | None:
        """What stands for the value in the message; None where it goes as it is."""
        kind = type(value)
        if kind in (bytes, bytearray):
            if len(value) < _MANY:
                return None
            return _ext(_BYTES if kind is bytes else _BYTEARRAY, self.put(bytes(value)))
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is numpy.ndarray and value.dtype.kind in _KINDS:
            flat = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8)
            return _ext(_ARRAY, value.dtype.str, value.shape, self.put(flat.data))
        made = tables.pack(value, self._name)
        return None if made is None else _ext(_TABLE, made[0], self.put(made[1]))


def _ext(code: int, *content: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content))


def _cut(parts: memoryview, offset: int, size: int) -> memoryview:
    if offset < 0 or size < 0 or offset + size > len(parts):
        raise ValueError("bytes are missing beside a value")
    found = parts[offset : offset + size]
    # What is mapped may be written, as the original; what came with the message is copied once.
    return memoryview(bytearray(found)) if found.readonly else found


def _array(dtype: str, shape: list[int], data: memoryview) -> Any:
    import numpy as np  # noqa: PLC0415  only where arrays are fetched

    kind = np.dtype(str(dtype))
    if kind.kind not in _KINDS:
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(data, kind).reshape(shape)
