"""A pickler's memo in, the objects out whose identity matters: by them it is known what names share.

Everything that pickle may meet twice is in its memo. Of that, atoms do not count (equal is as good as
same), nor does what was made for the pickling only and is gone afterwards.
"""

from __future__ import annotations

import sys
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

from pyrepl3.snapshot.definitions import is_other_kind

ATOM, SHARED, DEFINED = 0, 1, 2
_ATOMS: frozenset[str] = frozenset(
    {
        "builtins.NoneType", "builtins.NotImplementedType", "builtins.bool",
        "builtins.builtin_function_or_method", "builtins.bytes", "builtins.code",
        "builtins.complex", "builtins.ellipsis", "builtins.float", "builtins.frozenset",
        "builtins.int", "builtins.method_descriptor", "builtins.range",
        "builtins.slice", "builtins.str", "builtins.tuple", "builtins.types.GenericAlias",
        "builtins.wrapper_descriptor", "dataclasses._FIELD_BASE", "dataclasses._MISSING_TYPE",
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta",
        "datetime.timezone", "decimal.Decimal", "fractions.Fraction", "ipaddress.IPv4Address",
        "logging.Logger", "logging.RootLogger", "pathlib.Path", "pathlib.PosixPath",
        "pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath",
        "pathlib._local.Path", "pathlib._local.PosixPath", "pathlib._local.PurePath",
        "pathlib._local.PurePosixPath", "re.Pattern", "types.GenericAlias", "types.UnionType",
        "typing._GenericAlias", "typing._SpecialForm", "typing._UnionGenericAlias",
        "uuid.UUID", "zoneinfo.ZoneInfo",
    }
)  # fmt: skip
_PLAIN = frozenset({list, dict, set, bytearray})


def find_reach(
    memo: dict[int, tuple[int, Any]],
    kinds: Kinds,
    *,
    by_value: set[int],
    skip: set[int],
    only_builtins: bool,
) -> tuple[set[int], bool]:
    """The ids of the objects in ``memo`` that live on, and whether all are plain containers.

    ``memo`` is a pickler's, which has let go of it; it is emptied. Of classes and functions only
    those ``by_value`` count. ``only_builtins``: nothing was made for the pickling but what is in ``skip``.
    """
    objects = [obj for _, obj in memo.values() if kinds[type(obj)]]
    memo.clear()
    if only_builtins:
        reach = set(map(id, objects))
        return reach - skip, _PLAIN.issuperset(map(type, objects))
    while True:  # what nobody else holds was made for this pickling, and so was what only it holds
        live = [obj for obj in objects if sys.getrefcount(obj) > _TEMPORARY]
        if len(live) == len(objects):
            break
        objects = live
    reach = {id(obj) for obj in live if kinds[type(obj)] == SHARED}
    reach |= by_value
    plain = not by_value and _PLAIN.issuperset(map(type, live))
    return reach - skip, plain


def _sort(kind: type[Any]) -> int:
    if issubclass(kind, (type, ModuleType)) or kind is FunctionType or is_other_kind(kind):
        return DEFINED
    if f"{kind.__module__}.{kind.__qualname__}" in _ATOMS or issubclass(kind, Enum):
        return ATOM
    if kind.__module__ == "numpy" and kind.__name__ != "ndarray":
        import numpy as np

        if issubclass(kind, (np.generic, np.dtype)):
            return ATOM
    if kind.__module__ == "numpy.dtypes":
        return ATOM
    return SHARED


class Kinds(dict[type, int]):
    """Whether objects of a type have an identity to lose; found out at the first of them."""

    def __missing__(self, kind: type) -> int:
        self[kind] = sort = _sort(kind)
        return sort


def _count_temporary() -> int:
    objects = [object()]  # one that only the list holds
    return [sys.getrefcount(obj) for obj in objects][0]  # noqa: RUF015 - as in _find_reach


_TEMPORARY = _count_temporary()
