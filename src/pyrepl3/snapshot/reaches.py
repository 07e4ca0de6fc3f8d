"""Names in, names out: which global names the code behind some names may use when it runs.

A superset: attribute names stand in the same table of a code object as global names.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from pyrepl3.snapshot.plain import plain

ESCAPES = frozenset(
    {
        "__dict__",
        "__globals__",
        "__import__",
        "__main__",
        "_getframe",
        "currentframe",
        "eval",
        "exec",
        "execfile",
        "f_globals",
        "f_locals",
        "get_objects",
        "get_referents",
        "get_referrers",
        "globals",
        "import_module",
        "locals",
        "modules",
        "run_module",
        "run_path",
        "vars",
    }
)
"""Names by which code gets at globals that it does not name: with one of these in the cell or in
what it reaches, any name may have changed."""


def reaches(names: Collection[str], namespace: Mapping[str, object]) -> frozenset[str]:
    """``names``, and every name that stands in the code which a use of them may run.

    Follows functions, classes, methods, partials, wrappers and instances of classes made in cells,
    and the globals that these name in turn. Names that are not in ``namespace`` are in the answer
    too (attributes, builtins), so that it can be compared with ``ESCAPES``.
    """
    found: set[str] = set()
    pending = list(names)
    done: set[int] = set()
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        if name in namespace:
            for code in _codes(namespace[name], namespace, done):
                pending.extend(code_names(code))
    return frozenset(found)


def code_names(code: CodeType) -> set[str]:
    """Every name that ``code`` mentions, and the code inside it."""
    names = set(code.co_names)
    for const in code.co_consts:
        if type(const) is CodeType:
            names |= code_names(const)
    return names


def _codes(start: object, namespace: Mapping[str, object], done: set[int]) -> Iterator[CodeType]:
    """The code objects behind a value; ``done`` holds the ids of what was followed."""
    stack = [start]
    while stack:
        item = stack.pop()
        if id(item) in done:
            continue
        done.add(id(item))
        # A base of the type, not isinstance: that asks the object for its __class__, user code.
        kind = type(item)
        bases = kind.__mro__
        value: Any = item
        if kind is FunctionType:
            if value.__globals__ is namespace or value.__closure__:
                yield plain(value.__code__)
                stack.extend(value.__closure__ or ())
                stack.extend(value.__defaults__ or ())
                stack.extend((value.__kwdefaults__ or {}).values())
                stack.extend(value.__dict__.values())
        elif kind is CellType:
            try:
                stack.append(value.cell_contents)
            except ValueError:
                continue  # an empty cell
        elif kind is MethodType:
            stack += (value.__func__, value.__self__)
        elif classmethod in bases or staticmethod in bases:
            stack.append(value.__func__)
        elif property in bases:
            stack += (value.fget, value.fset, value.fdel)
        elif functools.partial in bases:
            stack += (value.func, *value.args, *value.keywords.values())
        elif type in bases:
            if value.__flags__ & 1 << 9:  # made at run time, not built in
                if vars(value).get("__module__") == namespace.get("__name__"):
                    stack.extend(list(vars(value).values()))
                stack += (*type.__dict__["__bases__"].__get__(value), kind)
        else:
            stack.append(kind)
            if kind.__module__ == "functools":  # lru_cache, singledispatchmethod, partialmethod, …
                stack.extend(getattr(value, "__dict__", {}).values())
