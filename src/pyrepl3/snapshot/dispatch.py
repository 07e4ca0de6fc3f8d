"""A type in, the reducer for objects of that type out; asked once a type and delta."""

from __future__ import annotations

import sys
import types
from typing import Any

from pyrepl3.snapshot import arrays, classes, exceptions, files, functions, reducers, tables
from pyrepl3.snapshot.commons import HEAP, Handler
from pyrepl3.snapshot.definitions import is_importable, is_other_kind
from pyrepl3.snapshot.reasons import find_words

_plain: Any = object
_REDUCE, _REDUCE_EX, _GETSTATE = _plain.__reduce__, _plain.__reduce_ex__, _plain.__getstate__


def find_handler(kind: type[Any], session: str) -> Handler | None:
    """How objects of type ``kind`` are stored in a session of this module name; None: pickle's way."""
    if issubclass(kind, type):
        return classes.reduce_class
    known = _find_known(kind)
    if known is not None:
        return known
    if kind is types.FunctionType:
        return functions.reduce_function
    if kind is types.CellType:
        return functions.reduce_cell
    if kind is types.CodeType:
        return functions.reduce_code
    if is_other_kind(kind):
        return reducers.reduce_definition
    if issubclass(kind, types.ModuleType):
        return reducers.reduce_module
    if issubclass(kind, property):
        return reducers.reduce_property
    if issubclass(kind, (classmethod, staticmethod)):
        return reducers.reduce_wrapped
    if issubclass(kind, BaseException):
        return exceptions.reduce_exception
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return classes.reduce_member
    if find_words(kind) is not None:
        return reducers.refuse
    if kind.__module__ == "itertools":
        return reducers.reduce_quietly
    return _find_instance_handler(kind, session)


def _find_known(kind: type[Any]) -> Handler | None:
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return arrays.reduce_array
    if kind.__module__ == "numpy.dtypes":
        return arrays.reduce_dtype
    if kind.__module__.partition(".")[0] == "pandas":
        return tables.find_table_handler(kind)
    return _EXACT.get(f"{kind.__module__}.{kind.__qualname__}")


def _find_instance_handler(kind: type[Any], session: str) -> Handler | None:
    looked_up: Any = kind  # mypy takes kind.__reduce__ for a bound method
    if looked_up.__reduce__ is not _REDUCE or looked_up.__reduce_ex__ is not _REDUCE_EX:
        made_here = kind.__flags__ & HEAP and not is_importable(kind, session)
        return reducers.reduce_own_way if made_here else None
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__ == session or looked_up.__getstate__ is not _GETSTATE:
        return None
    singles = {id(value) for value in list(vars(module).values()) if type(value) is kind}
    return reducers.reduce_single if singles else None


_EXACT: dict[str, Handler] = {
    "_io.BufferedRandom": files.reduce_file,
    "_io.BufferedReader": files.reduce_file,
    "_io.BufferedWriter": files.reduce_file,
    "_io.FileIO": files.reduce_file,
    "_io.TextIOWrapper": files.reduce_file,
    "builtins.dict_items": reducers.reduce_view,
    "builtins.dict_keys": reducers.reduce_view,
    "builtins.dict_values": reducers.reduce_view,
    "builtins.getset_descriptor": reducers.reduce_descriptor,
    "builtins.mappingproxy": reducers.reduce_mapping_proxy,
    "builtins.member_descriptor": reducers.reduce_descriptor,
    "builtins.memoryview": reducers.reduce_memoryview,
    "builtins.method": reducers.reduce_method,
    "builtins.odict_items": reducers.reduce_view,
    "builtins.odict_keys": reducers.reduce_view,
    "builtins.odict_values": reducers.reduce_view,
    "builtins.weakref": reducers.reduce_weakref,
    "weakref.ReferenceType": reducers.reduce_weakref,
    "dataclasses._FIELD_BASE": reducers.reduce_constant,
    "functools._lru_cache_wrapper": reducers.reduce_lru_cache,
    "weakref.WeakKeyDictionary": reducers.reduce_weakdict,
    "weakref.WeakSet": reducers.reduce_weakset,
    "_weakrefset.WeakSet": reducers.reduce_weakset,
    "weakref.WeakValueDictionary": reducers.reduce_weakdict,
}
