"""A value of a worker to bytes that are safe to read, and back: for ``session.fetch``.

None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, and numpy arrays of
numbers; of exactly these types, since of others something would be lost. No pickle: what a worker sends
must not run code in the host.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from pyrepl3.errors import NamespaceError

_TUPLE, _SET, _FROZEN, _INT, _COMPLEX, _ARRAY, _DICT, _BYTEARRAY = range(1, 9)
_DEPTH = 100
_SCALARS = (type(None), bool, float, str, bytes)


def pack_value(value: Any, name: str) -> bytes:
    """The value as bytes. Raises NamespaceError, which says what cannot cross and what to do."""
    return msgspec.msgpack.encode(_Packer(name).pack(value, 0))


def unpack_value(data: bytes) -> Any:
    """The value. Raises ValueError, TypeError or msgspec's errors for what is none; runs no code."""
    return msgspec.msgpack.decode(data, ext_hook=_unpack, strict=True)


class _Packer:
    def __init__(self, name: str) -> None:
        self._name = name

    def pack(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if depth > _DEPTH:
            self._refuse("a value that is nested so deeply, or holds itself,")
        if kind is int:
            if -(1 << 63) <= value < 1 << 64:
                return value
            size = value.bit_length() // 8 + 1
            return msgspec.msgpack.Ext(_INT, value.to_bytes(size, "little", signed=True))
        if kind in _SCALARS:
            return value
        if kind is list:
            return [self.pack(item, depth + 1) for item in value]
        if kind is dict:
            if all(type(key) is str for key in value):
                return {key: self.pack(item, depth + 1) for key, item in value.items()}
            pairs = [self.pack(part, depth + 1) for item in value.items() for part in item]
            return _ext(_DICT, pairs)
        if kind is tuple:
            return _ext(_TUPLE, [self.pack(item, depth + 1) for item in value])
        if kind in (set, frozenset):
            code = _SET if kind is set else _FROZEN
            return _ext(code, [self.pack(item, depth + 1) for item in value])
        if kind is bytearray:
            return msgspec.msgpack.Ext(_BYTEARRAY, bytes(value))
        if kind is complex:
            return _ext(_COMPLEX, [value.real, value.imag])
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is numpy.ndarray and value.dtype.kind in "biufc":
            return _ext(_ARRAY, [value.dtype.str, list(value.shape), value.tobytes()])
        return self._refuse(f"a {kind.__module__}.{kind.__qualname__}".replace("a builtins.", "a "))

    def _refuse(self, what: str) -> Any:
        raise NamespaceError(
            f"{self._name!r} cannot be fetched: {what} does not cross from the worker process; "
            "make plain values, lists, tuples, sets, dicts or arrays of numbers of it in a cell first"
        )


def _ext(code: int, content: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content))


def _unpack(code: int, data: memoryview) -> Any:
    if code == _INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _BYTEARRAY:
        return bytearray(data)
    content = msgspec.msgpack.decode(data, ext_hook=_unpack)
    if not isinstance(content, list):
        raise TypeError(f"a value of code {code} that is no list")
    match code:
        case 1:
            return tuple(content)
        case 2:
            return set(content)
        case 3:
            return frozenset(content)
        case 5:
            return complex(*content)
        case 6:
            return _array(*content)
        case 7:
            return dict(zip(content[::2], content[1::2], strict=True))
        case _:
            raise ValueError(f"a value of unknown code {code}")


def _array(dtype: str, shape: list[int], data: bytes) -> Any:
    import numpy as np  # noqa: PLC0415  only where arrays are fetched

    kind = np.dtype(str(dtype))
    if kind.kind not in "biufc":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(bytearray(data), kind).reshape(shape)
