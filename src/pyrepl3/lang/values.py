"""A value from the namespace in; whether code that uses it blocks, or belongs on the loop, out.

It looks at types, and at the code of functions, never at what the values say of themselves: no code
of theirs runs. What a container or an attribute holds is not seen.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.blocking import (
    BLOCKING_IO_CALLS,
    BLOCKING_IO_MODULES,
    LOOP_CALLS,
    LOOP_CALLS_OF_PACKAGE,
    LOOP_PACKAGES,
    LOOP_STARTERS,
    STARTERS_OF_PACKAGE,
    is_blocking_module,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

# What a value does to a cell that uses it, as bits. LOOP: it belongs to a loop and its thread.
NOTHING, BLOCKS, LOOP, HARMLESS = 0, 1, 2, 4
_LOOK = 8  # the value itself must be looked at, its type says nothing

_DATA = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
_FIXED: dict[type, int] = {
    **dict.fromkeys((*_DATA, bool, type(None), range, slice, GeneratorType), NOTHING),
    **dict.fromkeys((FunctionType, BuiltinFunctionType, MethodType, ModuleType, type), _LOOK),
}
_kinds = _FIXED.copy()  # of types seen; never of types made in cells, which it would keep alive
_MOST_KINDS = 4096

# Packages whose objects block, though the modules themselves, their functions and classes do not.
_HOMES = BLOCKING_IO_MODULES | frozenset(
    {
        *("_socket", "_sqlite3", "ssl", "select", "selectors", "_thread", "threading"),
        *("queue", "_queue", "multiprocessing", "concurrent", "tempfile", "gzip", "bz2", "lzma"),
        *("zipfile", "tarfile"),
    }
)
_LOOP_HOMES = LOOP_PACKAGES | {"_asyncio"}
# Not even those: they only compute, or are what is left after the call.
_PURE_MODULES = frozenset({"urllib.parse", "urllib.error", "urllib.response"})
_PURE_TYPES = frozenset({"CompletedProcess", "Row", "CompletedCommand"})
_BUILTIN_HOMES = frozenset({"time", "io", "_io", "builtins", "os", "posix", "nt", "select"})

_GENERIC_CALLS = frozenset({"sleep", "wait", "send", "read", "write"})
_IN_MEMORY = frozenset({"StringIO", "BytesIO"})
_HARMLESS_HOLDERS = _IN_MEMORY | LOOP_PACKAGES | {"stdout", "stderr"}
_LAZY = 0x80 | 0x100 | 0x200  # CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR
_MOST_SEEN = 64  # functions made in cells, and the like, that one look goes through
# Called by syntax, so no cell names them.
_IMPLICIT = ("__init__", "__call__", "__enter__", "__exit__", "__iter__", "__next__", "__getitem__")


def declare_blocking(cls: type) -> None:
    """From now on plain code that names an object of ``cls`` counts as waiting for something."""
    _FIXED[cls] = _kinds[cls] = BLOCKS


_module_of = type.__dict__["__module__"].__get__  # runs no code of a metaclass
_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__


def blocking_values(names: Iterable[str], namespace: Mapping[str, object]) -> list[str]:
    """Which of ``names`` hold a value that blocks when it is used, in the order given.

    That is: a module, object, class or function of a package in ``BLOCKING_IO_MODULES``, an open
    file, a lock, a thread; a function, class or object made in a cell whose code uses such, itself or
    through another. Any thread. Never raises, and runs no code of the values.
    """
    get = namespace.get
    kind_of = _kinds.get
    found = []
    for name in names:
        value = get(name)
        kind = kind_of(type(value))
        if kind != NOTHING:
            if kind is None or kind == _LOOK:
                kind = weigh(value, namespace, names)
            if kind == BLOCKS:
                found.append(name)
    return found


def weigh_names(names: Iterable[str], namespace: Mapping[str, object]) -> int:
    """What the values of ``names`` do, all together: bits."""
    get = namespace.get
    kind_of = _kinds.get
    found = NOTHING
    for name in names:
        value = get(name)
        kind = kind_of(type(value))
        if kind != NOTHING:
            if kind is None or kind == _LOOK:
                kind = weigh(value, namespace, names)
            found |= kind
    return found


def weigh(value: Any, namespace: Mapping[str, object], names: Iterable[str] = ()) -> int:
    """NOTHING, BLOCKS or LOOP: what using ``value`` does. ``names``: what the using code names."""
    kind = _kinds.get(type(value))
    if kind is None or kind == _LOOK:
        return _Look(namespace).weigh(value, names)
    return kind


def weigh_call(value: Any, namespace: Mapping[str, object]) -> int:
    """HARMLESS where a call of ``value`` or of its methods is known not to block, however it is named.

    Something else where nobody knows: a DataFrame's ``to_csv`` blocks, though a DataFrame does not.
    """
    kind = weigh(value, namespace)
    cls = type(value)
    if kind == LOOP or _FIXED.get(cls) == NOTHING:
        return HARMLESS
    if kind == BLOCKS:
        return BLOCKS
    if cls is FunctionType and value.__globals__ is namespace:
        return HARMLESS  # its own code was looked at
    if cls is ModuleType:
        home = value.__dict__.get("__name__")
    elif cls is FunctionType or cls is BuiltinFunctionType:
        home = value.__module__
    else:
        home = _module_of(cls)
    top = home.partition(".")[0] if isinstance(home, str) else ""
    if top in _LOOP_HOMES or (top == "_io" and cls.__name__ in _IN_MEMORY):
        return HARMLESS
    return HARMLESS if value is sys.stdout or value is sys.stderr else kind


def _is_blocking_home(module: object) -> bool:
    return isinstance(module, str) and module not in _PURE_MODULES and is_blocking_module(module)


def _weigh_foreign(module: object, name: str) -> int:
    """A function or class of a library, by where it is from."""
    if not isinstance(module, str):
        return NOTHING
    if module.partition(".")[0] in LOOP_PACKAGES:
        if name in STARTERS_OF_PACKAGE:
            return BLOCKS
        return LOOP if name in LOOP_CALLS or name in LOOP_CALLS_OF_PACKAGE else NOTHING
    return BLOCKS if _is_blocking_home(module) else NOTHING


class _Look:
    """One look at a value, and at the functions made in cells that using it calls."""

    __slots__ = ("_module", "_namespace", "_seen")

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self._namespace = namespace
        self._module = namespace.get("__name__", "__main__")
        self._seen: set[int] = set()  # ids of code and classes, which live longer than the look

    def weigh(self, value: Any, names: Iterable[str]) -> int:
        cls = type(value)
        kind = _kinds.get(cls)
        if kind is None:
            kind = self._weigh_type(value, cls, names)
        if kind != _LOOK:
            return kind
        if cls is FunctionType:
            return self._weigh_function(value)
        if cls is ModuleType:
            name = value.__dict__.get("__name__")
            return BLOCKS if isinstance(name, str) and is_blocking_module(name) else NOTHING
        if cls is MethodType:
            return self._weigh_method(value)
        if cls is BuiltinFunctionType:
            return self._weigh_builtin(value)
        if issubclass(value, BaseException):
            return NOTHING
        if _module_of(value) == self._module:
            return self._weigh_class(value, names)
        if issubclass(value, _DATA):
            return NOTHING
        return _weigh_foreign(_module_of(value), value.__name__)

    def _enter(self, thing: object) -> bool:
        """Whether to look at this too: once, and not for ever."""
        if id(thing) in self._seen or len(self._seen) >= _MOST_SEEN:
            return False
        self._seen.add(id(thing))
        return True

    def _weigh_type(self, value: Any, cls: type, names: Iterable[str]) -> int:
        module = _module_of(cls)
        if not isinstance(module, str):
            return NOTHING
        if module == self._module:
            return self._weigh_class(cls, names)
        top = module.partition(".")[0]
        if top == "_io":
            return _weigh_file(value)
        if top == "functools":
            # A partial, or a function with a cache.
            inner = getattr(value, "func", None) or getattr(value, "__wrapped__", None)
            return self.weigh(inner, names) if self._enter(value) else NOTHING
        kind = NOTHING
        if issubclass(cls, type):
            kind = _LOOK  # a class of another metaclass
        elif issubclass(cls, (BaseException, *_DATA)):
            pass
        elif top in _LOOP_HOMES or "asyncio" in module.split("."):
            kind = BLOCKS if cls.__name__ in STARTERS_OF_PACKAGE else LOOP
        elif (top in _HOMES or is_blocking_module(module)) and module not in _PURE_MODULES:
            kind = NOTHING if cls.__name__ in _PURE_TYPES else BLOCKS
        if top != "__main__":
            if len(_kinds) >= _MOST_KINDS:
                _kinds.clear()
                _kinds.update(_FIXED)
            _kinds[cls] = kind
        return kind

    def _weigh_method(self, method: Any) -> int:
        function = method.__func__
        if not self._enter(method):
            return NOTHING
        kind = self.weigh(method.__self__, (getattr(function, "__name__", ""),))
        return kind or self.weigh(function, ())

    def _weigh_builtin(self, value: Any) -> int:
        owner = value.__self__
        if owner is not None and not isinstance(owner, ModuleType):
            return self.weigh(owner, ())
        module = value.__module__
        if _is_blocking_home(module) or module in {"_socket", "_sqlite3"}:
            return BLOCKS
        known = module in _BUILTIN_HOMES and value.__name__ in BLOCKING_IO_CALLS
        return BLOCKS if known else NOTHING

    def _weigh_function(self, function: Any) -> int:
        if function.__globals__ is not self._namespace:
            return _weigh_foreign(function.__module__, function.__name__)
        code = function.__code__
        if not self._enter(code):
            return NOTHING
        kind = self._weigh_code(code)
        if kind == NOTHING and "__wrapped__" in function.__dict__:
            kind = self.weigh(function.__dict__["__wrapped__"], ())
        return kind

    def _weigh_class(self, cls: type, names: Iterable[str]) -> int:
        """A class made in a cell: the methods that the using code names, and those that syntax calls."""
        for base in _mro_of(cls):
            home = _module_of(base)
            if home != self._module:
                blocks = isinstance(home, str) and home.partition(".")[0] in _HOMES
                if blocks and not issubclass(base, (BaseException, *_DATA)):
                    return BLOCKS
                continue
            members = _dict_of(base)
            for name in (*_IMPLICIT, *names):
                member = members.get(name)
                if isinstance(member, staticmethod | classmethod):
                    member = member.__func__
                elif isinstance(member, property):
                    member = member.fget
                if type(member) is FunctionType:
                    kind = self._weigh_function(member)
                    if kind != NOTHING:
                        return kind
        return NOTHING

    def _weigh_code(self, code: CodeType) -> int:
        """What calling a function made in a cell does: its own names, then those of what it calls."""
        if code.co_flags & _LAZY:
            return NOTHING
        names = code.co_names
        if not LOOP_STARTERS.isdisjoint(names):
            return BLOCKS
        if not (STARTERS_OF_PACKAGE.isdisjoint(names) or LOOP_PACKAGES.isdisjoint(names)):
            return BLOCKS
        if not LOOP_CALLS.isdisjoint(names):
            return LOOP
        if not BLOCKING_IO_MODULES.isdisjoint(names):
            return BLOCKS
        if not BLOCKING_IO_CALLS.isdisjoint(names):
            calls = BLOCKING_IO_CALLS.intersection(names)
            # Beside `asyncio`, `stdout`, `StringIO`, … the generic names are most likely theirs.
            if not calls <= _GENERIC_CALLS or _HARMLESS_HOLDERS.isdisjoint(names):
                return BLOCKS
        get = self._namespace.get
        for name in names:
            value = get(name)
            kind = _kinds.get(type(value))
            if kind is None or kind == _LOOK:
                kind = self.weigh(value, names)
            if kind != NOTHING:
                return kind
        return NOTHING


def _weigh_file(file: Any) -> int:
    if any(file is one for one in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
        return NOTHING
    try:
        closed = file.closed
    except ValueError:  # detached, or never opened
        return NOTHING
    return NOTHING if closed or type(file).__name__ in _IN_MEMORY else BLOCKS


def describe(value: object) -> str:
    """What a value is, in a few words, by its type."""
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, FunctionType):
        return f"function {value.__qualname__}"
    cls = value if isinstance(value, type) else type(value)
    return f"{_module_of(cls)}.{cls.__qualname__}"
