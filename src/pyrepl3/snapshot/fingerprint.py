"""A definition in, everything that could tell whether it changed out: to compare without pickling.

Cells touch what they call, and all that it reaches; nearly always none of these functions and classes
changed. A fingerprint is the list of the objects of which a definition is made, compared by identity.
There is none where one of them could change and stay the same object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import is_
from types import (
    CellType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from pyrepl3.snapshot.definitions import Definitions, is_importable, is_importable_module
from pyrepl3.snapshot.plain import plain

_FIXED = frozenset(
    {
        bool,
        bytes,
        complex,
        float,
        int,
        str,
        type(None),
        type(...),
        type(NotImplemented),
        GetSetDescriptorType,
        MemberDescriptorType,
        WrapperDescriptorType,
    }
)
# Made once by the decorator, and left alone by everybody.
_TRUSTED = frozenset({"__dataclass_fields__", "__dataclass_params__"})
_NOTES = frozenset({"__slotnames__", "__weakref__", "__dict__"})  # copyreg's own, and descriptors


class _ChangesError(Exception):
    """Something in it could change without being replaced."""


def fingerprint(value: object, definitions: Definitions, module: str) -> list[object] | None:
    """The parts of a function, class or module; None: it must be pickled to be compared."""
    kind = type(value)
    if issubclass(kind, ModuleType):
        # Which of its submodules were imported is stored with a module.
        return [value, len(sys.modules)] if is_importable_module(value) else None
    parts: list[object] = []
    try:
        if kind is FunctionType:
            _add_function(value, parts, _Rules(definitions, module, value))
        elif kind is type:
            _add_class(value, parts, _Rules(definitions, module, value))
        else:
            return None
    except Exception:  # noqa: BLE001 - a metaclass or a lazy module; pickling will tell
        return None
    return parts


def same(old: Sequence[object], new: Sequence[object]) -> bool:
    """Whether two fingerprints of one definition are equal."""
    if len(old) != len(new):
        return False
    # Small numbers made anew (len(sys.modules)) are not the same object.
    return all(map(is_, old, new)) or (len(old) == 2 and old[0] is new[0] and old[1] == new[1])


class _Rules:
    """What may be taken by identity inside the definition ``root``."""

    __slots__ = ("definitions", "module", "root")

    def __init__(self, definitions: Definitions, module: str, root: object) -> None:
        self.definitions, self.module, self.root = definitions, module, root

    def is_fixed(self, value: Any) -> bool:
        """Nothing in it can change but what is written for itself."""
        kind = type(value)
        if kind in _FIXED or value is self.root or self.definitions.name_of(value) is not None:
            return True
        if kind is tuple or kind is frozenset:
            return all(map(self.is_fixed, value))
        if kind is FunctionType or issubclass(kind, type):
            return is_importable(value, self.module)
        if issubclass(kind, ModuleType):
            return is_importable_module(value)
        if kind.__module__ == "dataclasses":
            return True  # its markers
        return kind.__module__ == "builtins" and kind.__name__ == "builtin_function_or_method"


def _add(value: Any, parts: list[object], rules: _Rules) -> None:
    parts.append(value)
    kind = type(value)
    if rules.is_fixed(value):
        return
    if kind is FunctionType:
        _add_function(value, parts, rules)
    elif kind is CellType:
        try:
            _add(value.cell_contents, parts, rules)
        except ValueError:
            parts.append(None)  # an empty cell
    elif kind is staticmethod or kind is classmethod:
        _add(value.__func__, parts, rules)
    elif kind is property:
        for part in (value.fget, value.fset, value.fdel):
            _add(part, parts, rules)
    else:
        raise _ChangesError


def _add_function(function: Any, parts: list[object], rules: _Rules) -> None:
    if function.__dict__ or function.__kwdefaults__:
        for fields in (function.__dict__, function.__kwdefaults__ or {}):
            for key, value in fields.items():
                parts.append(key)
                _add(value, parts, rules)
    parts += (plain(function.__code__), function.__name__, function.__qualname__, function.__doc__)
    parts += (function.__module__, function.__defaults__, function.__type_params__)
    if not rules.is_fixed(function.__defaults__) or function.__type_params__:
        raise _ChangesError
    for key, value in function.__annotations__.items():
        parts += (key, value)
    if function.__globals__.get("__name__") in ("dataclasses", "reprlib"):
        return  # what dataclasses puts around __repr__: its cells hold who is running it
    for cell in function.__closure__ or ():
        _add(cell, parts, rules)


def _add_class(cls: Any, parts: list[object], rules: _Rules) -> None:
    parts += (cls.__name__, cls.__qualname__, cls.__bases__)
    for key, value in list(vars(cls).items()):
        if key in _NOTES:
            continue
        parts.append(key)
        if key in _TRUSTED:
            parts.append(value)
        elif key == "__annotations__":
            for name, hint in value.items():
                parts += (name, hint)
        else:
            _add(value, parts, rules)
