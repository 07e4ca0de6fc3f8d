"""A value to bytes that are safe to read, and back: what crosses between a host and its cells.

None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, and numpy arrays of
numbers; of exactly these types, since of others something would be lost. No pickle: what a worker sends
must not run code in the host.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    type Aside = Callable[[Any], msgspec.msgpack.Ext | None]
    type Other = Callable[[int, list[Any]], Any]

OTHER = 32
"""Codes from here on are for who brings more: see ``isolate/values.py``."""
_TUPLE, _SET, _FROZEN, _INT, _COMPLEX, _ARRAY, _DICT, _BYTEARRAY = range(1, 9)
_DEPTH = 100
_SCALARS = (type(None), bool, float, str, bytes)
_FEW = 1000  # members that may have any hash
_ALIKE = 64  # members that may have the same one, where there are more


class NotPlainError(Exception):
    """A value that does not cross; the text names the type, or says what is wrong with it."""


def pack_value(value: Any, aside: Aside | None = None) -> bytes:
    """The value as bytes. Raises NotPlainError; UnicodeEncodeError for a lone surrogate.

    ``aside`` is asked of each value first, and may give what stands for it, by a code from OTHER on.
    """
    return msgspec.msgpack.encode(_pack(value, 0, aside))


def unpack_value(data: bytes | memoryview, other: Other | None = None) -> Any:
    """The value. Raises ValueError, TypeError or msgspec's errors for what is none; runs no code.

    ``other(code, content)`` gives the value of a code from OTHER on.
    """

    def unpack(code: int, data: memoryview) -> Any:
        return _unpack(code, data, other, unpack)

    return msgspec.msgpack.decode(data, ext_hook=unpack, strict=True)


def _pack(value: Any, depth: int, aside: Aside | None) -> Any:
    kind = type(value)
    if depth > _DEPTH:
        raise NotPlainError("a value that is nested so deeply, or holds itself,")
    if aside is not None and (instead := aside(value)) is not None:
        return instead
    if kind is int:
        if -(1 << 63) <= value < 1 << 64:
            return value
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_INT, value.to_bytes(size, "little", signed=True))
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_pack(item, depth + 1, aside) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: _pack(item, depth + 1, aside) for key, item in value.items()}
        return _ext(
            _DICT, [_pack(part, depth + 1, aside) for item in value.items() for part in item]
        )
    if kind is tuple:
        return _ext(_TUPLE, [_pack(item, depth + 1, aside) for item in value])
    if kind in (set, frozenset):
        code = _SET if kind is set else _FROZEN
        return _ext(code, [_pack(item, depth + 1, aside) for item in value])
    if kind is bytearray:
        return msgspec.msgpack.Ext(_BYTEARRAY, bytes(value))
    if kind is complex:
        return _ext(_COMPLEX, [value.real, value.imag])
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and value.dtype.kind in "biufc":
        return _ext(_ARRAY, [value.dtype.str, list(value.shape), value.tobytes()])
    raise NotPlainError(f"a {kind.__module__}.{kind.__qualname__}".replace("a builtins.", "a "))


def _ext(code: int, content: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content))


def _unpack(
    code: int, data: memoryview, other: Other | None, again: Callable[[int, memoryview], Any]
) -> Any:
    if code == _INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _BYTEARRAY:
        return bytearray(data)
    content = msgspec.msgpack.decode(data, ext_hook=again)
    if not isinstance(content, list):
        raise TypeError(f"a value of code {code} that is no list")
    match code:
        case 1:
            return tuple(content)
        case 2:
            return set(_spread(content))
        case 3:
            return frozenset(_spread(content))
        case 5:
            return complex(*content)
        case 6:
            return _array(*content)
        case 7:
            return dict(zip(_spread(content[::2]), content[1::2], strict=True))
        case _ if other is not None and code >= OTHER:
            return other(code, content)
        case _:
            raise ValueError(f"a value of unknown code {code}")


def _spread(members: list[Any]) -> list[Any]:
    """The members, unless so many have one hash that a set of them would take minutes to make.

    Whoever sends them chooses their hashes: those of numbers and tuples are no secret.
    """
    if len(members) > _FEW:
        hashes = sorted(map(hash, members))
        if any(one == other for one, other in zip(hashes, hashes[_ALIKE:], strict=False)):
            raise ValueError("members that were chosen to have the same hash")
    return members


def _array(dtype: str, shape: list[int], data: bytes) -> Any:
    import numpy as np  # noqa: PLC0415  only where arrays are fetched

    kind = np.dtype(str(dtype))
    if kind.kind not in "biufc":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(bytearray(data), kind).reshape(shape)
