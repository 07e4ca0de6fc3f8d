"""An exception of a worker in, plain values out; and in the host an exception again, without unpickling.

The builtin classes and our own come back as themselves, where their arguments are plain values. Of any
other the host has no class: it comes back as RemoteError, which says what it was.
"""

from __future__ import annotations

import builtins
from typing import Any

import pyrepl3.errors
from pyrepl3.errors import CompilationError, RemoteError
from pyrepl3.isolate.messages import WireError

_MOST = 64 * 1024  # characters and bytes of arguments, and of each text
_SYNTAX = ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset")
_OURS = ("proposal", "changes")
_PLAIN = (type(None), bool, float, str, bytes)


def to_wire(error: BaseException) -> WireError:
    """What can be said of an exception. Never raises, whatever its own methods do."""
    kind = type(error)
    args = error.args if _all_plain(error.args) else None
    extra: dict[str, Any] = {}
    if isinstance(error, SyntaxError):
        args = (str(error.msg),)
        found = {name: getattr(error, name, None) for name in (*_SYNTAX, *_OURS)}
        extra = {name: value for name, value in found.items() if _all_plain((value,))}
        if isinstance(found["changes"], tuple) and _all_plain(found["changes"]):
            extra["changes"] = list(found["changes"])
    elif isinstance(error, NameError | ImportError | AttributeError):
        name = getattr(error, "name", None)
        extra = {"name": name} if isinstance(name, str) else {}
    return WireError(
        module=str(kind.__module__)[:_MOST],
        name=str(kind.__qualname__)[:_MOST],
        args=args,
        shown=_say(repr, error),
        text=_say(str, error),
        extra=extra,
    )


def from_wire(wire: WireError) -> BaseException:
    """The exception again. Never raises."""
    kind = _find(wire)
    if kind is not None and wire.args is not None:
        try:
            error = kind(*wire.args)
            for name, value in wire.extra.items():
                if name in _SYNTAX or name in _OURS or name == "name":
                    setattr(error, name, tuple(value) if name == "changes" else value)
        except Exception:  # noqa: BLE001  arguments that the class does not take: a worker may say anything
            return _remote(wire)
        return error
    return _remote(wire)


def _remote(wire: WireError) -> RemoteError:
    module = "" if wire.module in ("builtins", "__main__") else f"{wire.module}."
    return RemoteError(f"{module}{wire.name}", wire.text, wire.shown)


def _find(wire: WireError) -> type[BaseException] | None:
    if wire.module == "builtins":
        found = getattr(builtins, wire.name, None)
    elif wire.module == "pyrepl3.errors":
        found = getattr(pyrepl3.errors, wire.name, None)
    else:
        return None
    if isinstance(found, type) and issubclass(found, BaseException):
        # A SyntaxError needs its attributes; whatever else is one has been compiled from it.
        return CompilationError if found is CompilationError else found
    return None


def _all_plain(args: tuple[Any, ...]) -> bool:
    size = 0
    for arg in args:
        if type(arg) is int:
            if not -(1 << 63) <= arg < 1 << 64:
                return False
        elif type(arg) not in _PLAIN:
            return False
        elif type(arg) in (str, bytes):
            size += len(arg)
            if type(arg) is str and not _encodes(arg):
                return False
    return size <= _MOST


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return True


def _say(how: Any, error: BaseException) -> str:
    try:
        text = how(error)
    except BaseException:  # noqa: BLE001  the user's own method
        return f"<{type(error).__name__}>"
    return str(text)[:_MOST].encode("utf-8", "backslashreplace").decode()
