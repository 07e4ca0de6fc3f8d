"""Objects in, the name by which blobs refer to them out: functions, classes and their like.

A *definition* is an object that other values refer to by its name, so that it stays the same object in
all of them: a function or class made in a cell, a ContextVar, a type variable. Of several
names of one definition the first bound is the one that counts, until it is bound to something
else: blobs refer to it.
"""

from __future__ import annotations

import importlib
import sys
from types import FunctionType
from typing import Any

from pyrepl3.snapshot.reasons import UnstorableError

OTHER_KINDS = frozenset(
    {
        "_contextvars.ContextVar", "contextvars.ContextVar", "typing.NewType", "typing.ParamSpec",
        "typing.TypeAliasType", "typing.TypeVar", "typing.TypeVarTuple",
    }
)  # fmt: skip
CELLS = "pyrepl3.cells."


class Definitions:
    """Which definitions have a name, by identity. The namespace keeps them alive."""

    __slots__ = ("_names",)

    def __init__(self, names: dict[int, tuple[str, ...]] | None = None) -> None:
        self._names = names or {}

    def copy(self) -> Definitions:
        return Definitions(dict(self._names))

    def name_of(self, value: object) -> str | None:
        """The name that counts, or None for what is no named definition."""
        names = self._names.get(id(value))
        return names[0] if names else None

    def has(self, key: int) -> bool:
        """Whether the object with id ``key`` is a named definition."""
        return key in self._names

    def add(self, name: str, value: object) -> None:
        """``name`` is now bound to ``value``, a definition."""
        names = self._names.get(id(value), ())
        if name not in names:
            self._names[id(value)] = (*names, name)

    def remove(self, name: str, key: int) -> bool:
        """``name`` is no longer bound to the object with id ``key``. True if it was the one that counts."""
        names = self._names.get(key, ())
        if name not in names:
            return False
        rest = tuple(other for other in names if other != name)
        if rest:
            self._names[key] = rest
        else:
            del self._names[key]
        return names[0] == name


def is_definition(value: object, module: str) -> bool:
    """Whether ``value`` may be referred to by name in the session whose module is ``module``."""
    kind = type(value)  # never isinstance: it asks the value for its __class__, which is user code
    if kind is FunctionType or issubclass(kind, type) or is_other_kind(kind):
        try:
            return not is_importable(value, module)
        except UnstorableError:
            return False
    return False


def is_other_kind(kind: type[Any]) -> bool:
    """Whether objects of type ``kind`` are definitions without being functions or classes."""
    return f"{kind.__module__}.{kind.__name__}" in OTHER_KINDS


def is_importable(value: Any, module: str) -> bool:
    """Whether a new process finds this very object by importing the module that it names.

    Raises UnstorableError for what belongs to another session of this process.
    """
    try:
        home = value.__module__
    except Exception:  # noqa: BLE001 - a metaclass may raise anything
        return False
    if type(home) is not str or home == module:
        return False
    if home.startswith(CELLS):
        raise UnstorableError("something of another session", value)
    found: Any = sys.modules.get(home) or _import_inside(home)
    if found is None or not _has_file(found, home):
        return False
    path = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if type(path) is not str or "<locals>" in path:
        return False
    for step in path.split("."):
        try:
            found = getattr(found, step)
        except Exception:  # noqa: BLE001 - a lazy module may raise anything
            return False
    return found is value


def _import_inside(home: str) -> Any:
    """A module of a package that is loaded, like numpy.rec: some load parts when they are used."""
    if "." not in home or home.partition(".")[0] not in sys.modules:
        return None
    try:
        return importlib.import_module(home)
    except Exception:  # noqa: BLE001 - then it cannot be imported in a new process either
        return None


def _has_file(module: Any, name: str) -> bool:
    """False for modules that were made by hand, with ``types.ModuleType``."""
    return (
        getattr(module, "__spec__", None) is not None
        or getattr(module, "__file__", None) is not None
        or "." in name
        or name in ("__main__", "builtins")
    )


def is_importable_module(module: Any) -> bool:
    """Whether a new process can import ``module`` by its name."""
    name = module.__name__
    return sys.modules.get(name) is module and _has_file(module, name)
