"""A cell, and the namespace that it will run in, in; how and where it should run, and why, out.

The text decides first (:mod:`pyrepl3.lang.blocking`). A plain cell that reads a name whose value
blocks when it is used (a connection, a socket, a file, a function that sleeps) is blocking too,
and one that uses a loop's objects from outside a coroutine must stay on the loop.
"""

from __future__ import annotations

import sys
from types import (
    BuiltinFunctionType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError
from pyrepl3.lang.blocking import (
    BLOCKING_IO_CALLS,
    BLOCKING_IO_MODULES,
    LOOP_CALLS,
    LOOP_PACKAGES,
    Findings,
    find_async_definitions,
    find_awaits,
    is_blocking_module,
)
from pyrepl3.lang.compile import CompiledCell, compile_cell
from pyrepl3.lang.parse import parse
from pyrepl3.records import ExecutionMode, ModeReport, Placement, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

__all__ = [
    "BLOCKING_IO_CALLS",
    "BLOCKING_IO_MODULES",
    "blocking_values",
    "explain",
    "place",
]

# What a value does to the cell that reads it.
_NOTHING, _BLOCKS, _LOOP, _LOOK = 0, 1, 2, 3

_KINDS: dict[type, int] = {
    **dict.fromkeys((int, float, complex, bool, str, bytes, bytearray, type(None)), _NOTHING),
    **dict.fromkeys((list, tuple, dict, set, frozenset, range, slice, GeneratorType), _NOTHING),
    **dict.fromkeys((FunctionType, BuiltinFunctionType, MethodType, ModuleType, type), _LOOK),
}
_MOST_KINDS = 4096

# Packages whose instances block; the modules themselves, their functions and classes do not.
_BLOCKING_OBJECTS = BLOCKING_IO_MODULES | frozenset(
    {
        *("_socket", "_sqlite3", "ssl", "select", "selectors", "_thread", "threading"),
        *("queue", "_queue", "multiprocessing", "concurrent", "tempfile", "gzip", "bz2", "lzma"),
        *("zipfile", "tarfile"),
    }
)
# Data only, though the package blocks.
_PURE = frozenset({"urllib.parse", "urllib.error", "urllib.response"})
_DATA = frozenset({"CompletedProcess", "Row"})
_BUILTIN_HOMES = frozenset({"time", "io", "_io", "builtins", "os", "posix", "nt", "select"})
_GENERIC = frozenset({"sleep", "wait", "send", "read", "write"})
_IN_MEMORY = frozenset({"stdout", "stderr", "StringIO", "BytesIO"})
_COROUTINE = 0x80 | 0x200 | 0x100  # CO_COROUTINE, CO_ASYNC_GENERATOR, CO_ITERABLE_COROUTINE
_DEEPEST = 8


def blocking_values(names: Iterable[str], namespace: Mapping[str, object]) -> list[str]:
    """Which of ``names`` hold a value that blocks when it is used, in the order given.

    That is: a module, object, class or function of a package in ``BLOCKING_IO_MODULES``, an open
    file, a lock, a thread; a function made in a cell that calls such, itself or through another.
    Never raises, and runs no code of the values.
    """
    get = namespace.get
    kind_of = _KINDS.get
    found = []
    for name in names:
        value = get(name)
        kind = kind_of(type(value))
        if kind != _NOTHING and (
            _BLOCKS == (_weigh(value, namespace) if kind is None or kind == _LOOK else kind)
        ):
            found.append(name)
    return found


def place(
    compiled: CompiledCell, namespace: Mapping[str, object]
) -> tuple[ExecutionMode, Placement]:
    """The mode and the placement of a cell that is about to run with ``namespace``."""
    mode = compiled.mode
    if compiled.is_async or (compiled.placement == "thread" and not compiled.rests_on):
        return mode, compiled.placement
    if mode is _SIMPLE and not compiled.rests_on:
        # What most cells are, and most names hold: nothing that needs a closer look.
        get, kind_of = namespace.get, _KINDS.get
        for name in compiled.names:
            if kind_of(type(get(name))) != _NOTHING:
                break
        else:
            return mode, compiled.placement
    kinds = _kinds(compiled.names, namespace)
    blocks = compiled.placement == "thread" or mode is ExecutionMode.BLOCKING_SYNC
    if compiled.rests_on and all(_is_harmless(name, namespace) for name in compiled.rests_on):
        blocks = False
    blocks = blocks or _BLOCKS in kinds
    if mode is not ExecutionMode.ASYNC_DEF:
        mode = ExecutionMode.BLOCKING_SYNC if blocks else ExecutionMode.SIMPLE_SYNC
    if compiled.needs_loop or _LOOP in kinds or not blocks:
        return mode, "loop"
    return mode, "thread"


def _kinds(names: Iterable[str], namespace: Mapping[str, object]) -> set[int]:
    get = namespace.get
    kind_of = _KINDS.get
    found = set()
    for name in names:
        value = get(name)
        kind = kind_of(type(value))
        if kind != _NOTHING:
            found.add(_weigh(value, namespace) if kind is None or kind == _LOOK else kind)
    return found


def _is_harmless(name: str, namespace: Mapping[str, object]) -> bool:
    """Whether a call of ``name``, or of a method of it, is known not to block."""
    if name not in namespace:
        return False
    value = namespace[name]
    kind = _weigh(value, namespace)
    if kind != _NOTHING:
        return kind == _LOOP
    cls = type(value)
    if cls in _KINDS and _KINDS[cls] == _NOTHING:
        return True
    if cls is FunctionType:
        return True
    home = _home(value) if cls in _KINDS else _home(cls)
    return home in _LOOP_HOMES or home == "_io"


_SIMPLE = ExecutionMode.SIMPLE_SYNC
_LOOP_HOMES = LOOP_PACKAGES | {"_asyncio"}


def _home(thing: object) -> str:
    """The top package that a class or function says it is from; empty where it does not say."""
    module = getattr(thing, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def _weigh(value: Any, namespace: Mapping[str, object], depth: int = 0) -> int:
    cls = type(value)
    kind = _KINDS.get(cls)
    if kind is None:
        return _weigh_type(value, cls, namespace)
    if kind != _LOOK:
        return kind
    if cls is FunctionType:
        return _weigh_function(value, namespace, depth)
    if cls is ModuleType:
        return _BLOCKS if is_blocking_module(value.__name__) else _NOTHING
    if cls is MethodType:
        return _weigh(value.__self__, namespace) or _weigh(value.__func__, namespace, depth)
    module = getattr(value, "__module__", None)
    if isinstance(module, str):
        if is_blocking_module(module) and module not in _PURE:
            return _NOTHING if cls is type and issubclass(value, BaseException) else _BLOCKS
        if cls is BuiltinFunctionType and module in _BUILTIN_HOMES:
            return _BLOCKS if value.__name__ in BLOCKING_IO_CALLS else _NOTHING
    if cls is BuiltinFunctionType and not isinstance(value.__self__, ModuleType | type):
        return _weigh(value.__self__, namespace)
    return _NOTHING


def _weigh_type(value: object, cls: type, namespace: Mapping[str, object]) -> int:
    module = _MODULE_OF(cls)
    if not isinstance(module, str):
        return _NOTHING
    top = module.partition(".")[0]
    if top == "_io":
        return _weigh_file(value)
    kind = _NOTHING
    if issubclass(cls, BaseException):
        pass
    elif top in _LOOP_HOMES or "asyncio" in module.split("."):
        kind = _LOOP
    elif (top in _BLOCKING_OBJECTS or is_blocking_module(module)) and module not in _PURE:
        kind = _NOTHING if cls.__name__ in _DATA else _BLOCKS
    # A class made in a cell must not be kept alive from here.
    if module != namespace.get("__name__") and top != "__main__":
        if len(_KINDS) >= _MOST_KINDS:
            for known in list(_KINDS)[_MOST_KINDS // 2 :]:
                del _KINDS[known]
        _KINDS[cls] = kind
    return kind


_MODULE_OF = type.__dict__["__module__"].__get__  # runs no code of a metaclass


def _weigh_file(value: Any) -> int:
    if type(value).__name__ in _IN_MEMORY:
        return _NOTHING
    if value in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return _NOTHING
    return _NOTHING if value.closed else _BLOCKS


def _weigh_function(function: Any, namespace: Mapping[str, object], depth: int) -> int:
    if function.__globals__ is not namespace:
        module = function.__module__
        if isinstance(module, str) and module not in _PURE and is_blocking_module(module):
            return _BLOCKS
        return _NOTHING
    return _weigh_code(function.__code__, namespace, depth)


def _weigh_code(code: CodeType, namespace: Mapping[str, object], depth: int) -> int:
    """What calling a function made in a cell does: its own names, then those of what it calls."""
    if code.co_flags & _COROUTINE:
        return _NOTHING
    names = code.co_names
    if not LOOP_CALLS.isdisjoint(names):
        return _LOOP
    if not BLOCKING_IO_MODULES.isdisjoint(names):
        return _BLOCKS
    if not BLOCKING_IO_CALLS.isdisjoint(names):
        calls = BLOCKING_IO_CALLS.intersection(names)
        # `asyncio.sleep`, `sys.stdout.write`, `StringIO().read`: the generic names are likely theirs.
        if LOOP_PACKAGES.isdisjoint(names) and _IN_MEMORY.isdisjoint(names):
            return _BLOCKS
        if calls - _GENERIC:
            return _BLOCKS
    if depth < _DEEPEST:
        for name in names:
            value = namespace.get(name)
            kind = _KINDS.get(type(value))
            if kind != _NOTHING:
                kind = _weigh(value, namespace, depth + 1)
                if kind != _NOTHING:
                    return kind
    return _NOTHING


# --- why --------------------------------------------------------------------------------------


def explain(source: str, namespace: Mapping[str, object], *, flags: int = 0) -> ModeReport:
    """How ``source`` would run with ``namespace``, and every reason for it, in the order of the text.

    ``flags`` are the inherited ``__future__`` flags. UNKNOWN, with a reason of kind ``"syntax"``, for
    what does not compile. Never raises.
    """
    try:
        compiled = compile_cell(source, "<cell>", flags=flags)
    except CompilationError as error:
        line = error.lineno or 0
        column = max((error.offset or 1) - 1, 0)
        reason = Reason(
            kind="syntax", name=type(error).__name__, line=line, column=column, text=error.msg
        )
        return ModeReport(mode=ExecutionMode.UNKNOWN, placement="loop", reasons=(reason,))
    return explain_compiled(compiled, source, namespace, flags=flags)


def explain_compiled(
    compiled: CompiledCell, source: str, namespace: Mapping[str, object], *, flags: int = 0
) -> ModeReport:
    """The same for a cell that is compiled already; ``flags`` are those that it was compiled with."""
    mode, placement = place(compiled, namespace)
    tree = parse(source, "<cell>", flags)
    reasons: list[Reason] = []
    if compiled.is_async:
        reasons += [_at("await", type(node).__name__, node) for node in find_awaits(tree)]
    reasons += [_at("async_def", node.name, node) for node in find_async_definitions(tree)]
    reasons += Findings(tree).reasons
    reasons.sort(key=lambda reason: (reason.line, reason.column))
    reasons += [
        Reason(kind="value", name=name, text=_describe(namespace[name]))
        for name in blocking_values(compiled.names, namespace)
    ]
    get = namespace.get
    reasons += [
        Reason(kind="needs_loop", name=name, text=_describe(namespace[name]))
        for name in compiled.names
        if _weigh(get(name), namespace) == _LOOP
    ]
    return ModeReport(mode=mode, placement=placement, reasons=tuple(reasons))


def _at(kind: Any, name: str, node: Any) -> Reason:
    return Reason(kind=kind, name=name, line=node.lineno, column=node.col_offset)


def _describe(value: object) -> str:
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, FunctionType):
        return f"function {value.__qualname__}"
    cls = value if isinstance(value, type) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"
