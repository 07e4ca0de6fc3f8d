"""A pickler's memo in, the objects out whose identity matters: by them it is known what names share.

Everything that pickle may meet twice is in its memo. Of that, atoms do not count (equal is as good as
same), nor does what was made for the pickling only and is gone afterwards.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from enum import Enum
from itertools import compress
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
_HOLDERS = _PLAIN | {tuple, frozenset}
# There is no weak reference to these.
_UNSEEN = frozenset({list, dict, bytearray, tuple, str, bytes})
_BATCH = 8192  # objects a step: between two of them other threads run


def find_reach(
    memo: dict[int, tuple[int, Any]],
    kinds: Kinds,
    *,
    by_value: set[int],
    skip: set[int],
    only_builtins: bool,
) -> tuple[set[int], bool]:
    """The ids of the objects in ``memo`` that live on, and whether nobody could tell that they do.

    ``memo`` is a pickler's, which has let go of it; it is emptied. Of classes and functions only
    those ``by_value`` count. ``only_builtins``: nothing was made for the pickling but what is in ``skip``.
    """
    if only_builtins:
        own = [obj for key, (_, obj) in memo.items() if key not in skip]
        memo.clear()
        reach = {id(obj) for obj in own if kinds[type(obj)]}
        return reach, _UNSEEN.issuperset(map(type, own))
    objects = [obj for _, obj in memo.values() if kinds[type(obj)]]
    memo.clear()
    while True:  # what nobody else holds was made for this pickling, and so was what only it holds
        live = [obj for obj in objects if sys.getrefcount(obj) > _TEMPORARY]
        if len(live) == len(objects):
            break
        objects = live
    reach = {id(obj) for obj in live if kinds[type(obj)] == SHARED}
    reach |= by_value
    return reach - skip, False


def walk_reach(values: Iterable[object], skip: set[int]) -> set[int]:
    """What ``find_reach`` finds where nothing but builtin containers and atoms was pickled, by a walk.

    Cheaper by far than a pickler's memo of many objects. What only one container refers to is left
    out: nobody can share it yet, and whoever comes to share it has touched it.
    """
    seen = set(skip)
    loose: set[int] = set()  # tuples: walked through, but equal is as good as same
    level: list[object] = [tuple(values)]
    while level:
        following: list[object] = []
        for start in range(0, len(level), _BATCH):
            inside = gc.get_referents(*level[start : start + _BATCH])
            for at in range(0, len(inside), _BATCH):
                holders, counts = _look(inside[at : at + _BATCH])
                shared = list(compress(holders, map(_LONE.__lt__, counts)))
                if shared:
                    following += compress(holders, map(_LONE.__ge__, counts))
                    found = {id(holder): holder for holder in shared if id(holder) not in seen}
                    seen.update(found)
                    following += found.values()
                    loose.update(key for key, holder in found.items() if type(holder) not in _PLAIN)
                else:
                    following += holders
        level = following
    return seen - skip - loose


def _look(objects: list[object]) -> tuple[list[object], list[int]]:
    """The containers among ``objects``, which another list holds as well, and their reference counts."""
    holders = list(compress(objects, map(_HOLDERS.__contains__, map(type, objects))))
    return holders, list(map(sys.getrefcount, holders))


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


def _count_lone() -> int:
    parent: list[object] = [[]]
    inside = gc.get_referents(parent)
    return _look(inside[0:1])[1][0]


_LONE = _count_lone()
