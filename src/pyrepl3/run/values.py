"""Results and errors of steps to bytes and back; a call to a mark by which it is known again.

Values are pickled here, so that nothing below ever sees one: the first byte of the bytes says whether
a value, an error or only the text of an error follows.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import StepError, StepValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VALUE, _ERROR, _TEXT, _UNFIT = b"v", b"e", b"t", b"u"
_SHOWN = 60  # characters of one argument in a mark
_MOST = 10_000  # items of a container that are looked at for its digest
_DEEPEST = 20

type Ending = tuple[bool, Any]
"""(True, value) or (False, error)."""


# --- results ------------------------------------------------------------------------------------------


def encode_value(value: object, what: str) -> tuple[bytes, StepValueError | None]:
    """The bytes of a result, and the error that they stand for if it cannot be kept."""
    try:
        return _VALUE + pickle.dumps(value, protocol=5), None
    except Exception as error:  # noqa: BLE001  whatever the value's own code raises
        why = str(error) or type(error).__name__
        text = (
            f"the result of {what}, of type {type(value).__qualname__}, cannot be kept: {why}; return "
            "plain data from a step, and make connections, files and functions outside of it"
        )
        return _UNFIT + text.encode("utf-8", "replace"), StepValueError(text)


def encode_error(error: Exception, what: str) -> bytes:
    """The bytes of what a step raised; its text where it cannot be pickled, or not be read again."""
    try:
        data = pickle.dumps(error, protocol=5)
        pickle.loads(data)
    except Exception:  # noqa: BLE001  a class of the user's, whatever it raises
        try:
            text = f"{what} raised {type(error).__qualname__}: {error}"
        except Exception:  # noqa: BLE001  its __str__ does
            text = f"{what} raised {type(error).__qualname__}"
        return _TEXT + text.encode("utf-8", "replace")
    return _ERROR + data


def decode(data: bytes, what: str) -> Ending:
    """The value, or the error to raise. Never raises for what the bytes hold."""
    kind, body = data[:1], data[1:]
    if kind == _TEXT:
        return False, StepError(body.decode())
    if kind == _UNFIT:
        return False, StepValueError(body.decode())
    try:
        value = pickle.loads(body)
    except Exception as error:  # noqa: BLE001  the class is gone, or its code raises
        text = f"what {what} came to is kept, but cannot be read: {type(error).__name__}: {error}"
        return False, StepValueError(text)
    if kind == _VALUE:
        return True, value
    value.add_note(f"kept from when {what} ran first")
    return False, value


# --- marks --------------------------------------------------------------------------------------------


def mark_call(
    name: str | None, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """A call in one line: what is called with what, and a digest of the arguments.

    Objects of which nothing stable is known count by their type.
    """
    called = name or name_of(fn)
    inner: Any = fn
    while isinstance(inner, functools.partial):
        args, kwargs = (*inner.args, *args), {**inner.keywords, **kwargs}
        inner = inner.func
    shown = [_show(arg) for arg in args]
    shown += [f"{key}={_show(value)}" for key, value in kwargs.items()]
    if not shown:
        return f"{called}()"
    hashed = hashlib.blake2b(digest_size=4)
    for arg in args:
        _feed(hashed, arg, 0)
    for key in sorted(kwargs):
        _feed(hashed, key, 0)
        _feed(hashed, kwargs[key], 0)
    text = ", ".join(shown)
    if len(text) > 4 * _SHOWN:
        text = text[: 4 * _SHOWN] + "…"
    return f"{called}({text}) #{hashed.hexdigest()}"


def name_of(fn: Callable[..., Any]) -> str:
    """What a function is called, for people."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def _show(value: object) -> str:
    """A short text that is the same in every process."""
    if type(value) in _PLAIN:
        text = repr(value[: _SHOWN + 1] if isinstance(value, (str, bytes)) else value)
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    if type(value) in (list, tuple, dict, set, frozenset):
        size = len(value)  # type: ignore[arg-type]
        return f"<{type(value).__name__} of {size}>"
    return f"<{type(value).__qualname__}>"


_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def _feed(hashed: hashlib.blake2b, value: Any, depth: int) -> None:
    """Add what is stable of ``value``: plain data whole, sets without their order, others by type."""
    cls = type(value)
    hashed.update(cls.__qualname__.encode("utf-8", "replace") + b"\0")
    if depth > _DEEPEST:
        return
    if cls is str:
        hashed.update(value.encode("utf-8", "surrogatepass") + b"\0")
    elif cls is bytes:
        hashed.update(value + b"\0")
    elif cls in _PLAIN:
        hashed.update(repr(value).encode() + b"\0")
    elif cls in (list, tuple):
        hashed.update(b"%d\0" % len(value))
        for item in value[:_MOST]:
            _feed(hashed, item, depth + 1)
    elif cls is dict:
        hashed.update(b"%d\0" % len(value))
        for key, item in [*value.items()][:_MOST]:
            _feed(hashed, key, depth + 1)
            _feed(hashed, item, depth + 1)
    elif cls in (set, frozenset):
        if len(value) > _MOST:  # which of them would be looked at has no order
            hashed.update(b"%d\0" % len(value))
            return
        hashed.update(b"".join(sorted(map(_digest, value))))
    elif callable(value):
        hashed.update(name_of(value).encode("utf-8", "replace") + b"\0")


def _digest(value: Any) -> bytes:
    hashed = hashlib.blake2b(digest_size=8)
    _feed(hashed, value, 1)
    return hashed.digest()
