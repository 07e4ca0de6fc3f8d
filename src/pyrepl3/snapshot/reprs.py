"""A value in, a short text out: at most 80 characters, bounded work, never an exception."""

from __future__ import annotations

import reprlib
from typing import Any

LENGTH = 80
_USER_REPR_BELOW = 16 * 1024  # bytes stored: of bigger values only the type is told

_short = reprlib.Repr()
_short.maxlevel = 3
_short.maxstring = _short.maxother = 60
_short.maxlong = 40
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = _short.maxfrozenset = 6

_PLAIN_REPR = getattr(object, "__repr__")  # noqa: B009
_BUILTIN = frozenset(
    {int, float, complex, bool, str, bytes, type(None), list, tuple, dict, set, frozenset, range}
)


def short_repr(value: object, size: int) -> str:
    """What a listing shows of ``value``, whose stored form has ``size`` bytes."""
    try:
        text = _text(value, size)
    except BaseException:  # noqa: BLE001 - the user's __repr__ may raise anything
        text = f"<{_name(value)}: its repr raised>"
    text = " ".join(text.split())
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"


def _text(value: object, size: int) -> str:
    kind: type[Any] = type(value)
    if kind is int:
        assert isinstance(value, int)
        # str() of a huge int is quadratic, and refused above sys.int_max_str_digits
        return repr(value) if value.bit_length() < 256 else f"<int of {value.bit_length()} bits>"
    if kind is str or kind is bytes:
        assert isinstance(value, (str, bytes))
        return repr(value) if len(value) <= LENGTH else repr(value[:LENGTH])
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "shape"):
        if kind.__name__ == "ndarray":
            return f"<ndarray {value.dtype} {'x'.join(map(str, value.shape)) or 'scalar'}>"
        return repr(value)
    if issubclass(kind, type):
        return f"<class {type.__getattribute__(value, '__qualname__')}>"
    if kind in _BUILTIN:
        return _short.repr(value)
    if getattr(kind, "__repr__") is _PLAIN_REPR:  # noqa: B009 - mypy takes it for a bound method
        return f"<{_name(value)}>"
    if kind.__module__ == "builtins" and kind.__name__ in ("function", "module"):
        return f"<{kind.__name__} {getattr(value, '__qualname__', None) or value.__name__}>"  # type: ignore[attr-defined] # one of the two
    if size > _USER_REPR_BELOW:
        return f"<{_name(value)}>"
    return repr(value)


def _name(value: object) -> str:
    return type(value).__qualname__
