"""An object of an odd built-in type in, what pickle is to write for it out.

A reducer takes the pickler and the object and returns a reduction (see ``object.__reduce__``), or
NotImplemented: pickle's own way is right.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import types
import weakref
from typing import Any

from pyrepl3.snapshot import rebuild_values
from pyrepl3.snapshot.commons import BUILDER, Pickling, one_of_its_kind
from pyrepl3.snapshot.definitions import CELLS, is_importable, is_importable_module
from pyrepl3.snapshot.reasons import UnstorableError, find_words

# --- objects that are what they are -----------------------------------------------------------


def refuse(pickler: Pickling, value: Any) -> Any:
    del pickler
    raise UnstorableError(find_words(type(value)) or "a value", value)


def reduce_own_way(pickler: Pickling, value: Any) -> Any:
    """An object whose class, made in a cell, says how it is reduced."""
    import copyreg

    known = copyreg.dispatch_table.get(type(value))
    reduced = known(value) if known is not None else value.__reduce_ex__(5)
    if isinstance(reduced, str):  # "I am the global of this name"
        if pickler.commons.namespace.get(reduced) is value:
            if reduced in pickler.names:  # this is the blob that holds it
                # Not object.__reduce_ex__: it would ask __reduce__ again.
                return copyreg.__newobj__, (type(value),), value.__getstate__()  # type: ignore[attr-defined] # typeshed hides it
            return pickler.refer(reduced)
        if getattr(value, "__module__", None) != pickler.commons.name:
            return reduced
        raise UnstorableError(f"an object that calls itself {reduced!r}, and is not", value)
    return reduced


def reduce_single(pickler: Pickling, value: Any) -> Any:
    """A marker like ``dataclasses.MISSING``: without state, told by its identity."""
    return NotImplemented if value.__getstate__() is not None else reduce_constant(pickler, value)


def reduce_constant(pickler: Pickling, value: Any) -> Any:
    """An object that is told by its identity: what its module calls it."""
    del pickler
    module = sys.modules[type(value).__module__]
    for name, found in list(vars(module).items()):
        if found is value:
            return getattr, (module, name)
    return NotImplemented


def reduce_quietly(pickler: Pickling, value: Any) -> Any:
    """Iterators of itertools: pickling them is deprecated since 3.12 and gone in 3.14."""
    import warnings

    del pickler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        function, args, *state = value.__reduce__()
    if not state:
        return rebuild_values.call_quietly, (function, args)
    state_args = rebuild_values.call_quietly, (function, args), state[0], None, None
    return (*state_args, rebuild_values.set_state_quietly)


# --- modules and names ------------------------------------------------------------------------


def reduce_module(pickler: Pickling, module: Any) -> Any:
    # Interned as the names in code are, so that the same bytes come out after a restore.
    name = sys.intern(module.__name__)
    if name.startswith(CELLS):
        raise UnstorableError("the module of another session", module)
    if is_importable_module(module):
        inside = f"{name}."
        found = tuple(sorted(k for k in list(sys.modules) if k.startswith(inside)))
        return rebuild_values.import_module, (name, found)
    pickler.by_value.add(id(module))
    fields = {k: v for k, v in vars(module).items() if k != "__builtins__"}
    return rebuild_values.make_module, (name,), fields, None, None, rebuild_values.set_module


def reduce_definition(pickler: Pickling, value: Any) -> Any:
    """ContextVars, type variables, type aliases, NewTypes."""
    session = pickler.commons
    name = session.definitions.name_of(value)
    if name is not None and id(value) not in pickler.roots:
        return pickler.refer(name)
    kind = type(value).__name__
    if kind == "ContextVar":
        found = _find_variable(value) if name is None else None
        if found is not None:
            return getattr, found
        if pickler.lone:
            raise UnstorableError("a context variable without a name", value)
        pickler.by_value.add(id(value))
        try:
            default: tuple[object, ...] = (contextvars.Context().run(value.get),)
        except LookupError:
            default = ()
        args = (BUILDER, pickler.key(value), name, value.name, default)
        return rebuild_values.make_variable, args
    if is_importable(value, session.name):
        return NotImplemented
    pickler.by_value.add(id(value))
    key, title = pickler.key(value), value.__name__
    if kind == "TypeAliasType":
        alias = (BUILDER, key, name, title, value.__value__, value.__type_params__)
        return rebuild_values.make_alias, alias
    module = True if value.__module__ == session.name else value.__module__
    given, options = _type_arguments(kind, value)
    return (
        rebuild_values.make_typevar,
        (BUILDER, key, name, type(value), title, given, options, module),
    )


def _type_arguments(kind: str, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if kind == "NewType":
        return (value.__supertype__,), {}
    options: dict[str, Any] = {}
    given: tuple[Any, ...] = ()
    if kind != "TypeVarTuple":
        options = {
            "covariant": value.__covariant__,
            "contravariant": value.__contravariant__,
            "infer_variance": value.__infer_variance__,
        }
        if value.__bound__ is not None:
            options["bound"] = value.__bound__
        if kind == "TypeVar":
            given = value.__constraints__
    if getattr(value, "has_default", bool)():
        options["default"] = value.__default__
    return given, options


_variables: dict[int, tuple[Any, int, tuple[types.ModuleType, str] | None]] = {}


def _find_variable(value: Any) -> tuple[types.ModuleType, str] | None:
    """The importable module that holds a ContextVar, and its name there: the var does not know.

    Looking through all modules takes milliseconds, so answers are kept until modules are added.
    """
    known, size, place = _variables.get(id(value), (None, 0, None))
    if known is not value or size != len(sys.modules):
        place = _search_variable(value)
        if len(_variables) > 1000:
            _variables.clear()
        _variables[id(value)] = value, len(sys.modules), place
    return place


def _search_variable(value: Any) -> tuple[types.ModuleType, str] | None:
    modules: list[Any] = list(sys.modules.values())  # some put other things there
    for module in modules:
        if isinstance(module, types.ModuleType) and is_importable_module(module):
            for name, found in list(vars(module).items()):
                if found is value and not module.__name__.startswith((CELLS, "__main__")):
                    return module, name
    return None


# --- small built-in types ---------------------------------------------------------------------


def reduce_method(pickler: Pickling, method: Any) -> Any:
    owner, function = method.__self__, method.__func__
    name: Any = getattr(function, "__name__", None)
    if type(name) is str and _class_holds(type(owner), name, function):
        return rebuild_values.bind_method, (owner, name)
    if type(name) is str and issubclass(type(owner), type):
        for base in owner.__mro__:
            held = vars(base).get(name)
            if held is not None:
                if isinstance(held, classmethod) and held.__func__ is function:
                    return getattr, (owner, name)
                break
    return types.MethodType, (function, owner)


def _class_holds(kind: type[Any], name: str, function: object) -> bool:
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name] is function
    return False


def reduce_property(pickler: Pickling, value: Any) -> Any:
    args = (value.fget, value.fset, value.fdel, value.__doc__)
    fields = getattr(value, "__dict__", None)
    if fields:
        return type(value), args, dict(fields), None, None, rebuild_values.set_fields
    return type(value), args


def reduce_wrapped(pickler: Pickling, value: Any) -> Any:
    return type(value), (value.__func__,)


def reduce_mapping_proxy(pickler: Pickling, value: Any) -> Any:
    inside = gc.get_referents(value)[0]
    return types.MappingProxyType, (inside,)


def reduce_view(pickler: Pickling, value: Any) -> Any:
    kind = type(value).__name__.rpartition("_")[2]
    owner = gc.get_referents(value)[0]
    if type(owner) is types.MappingProxyType:
        owner = gc.get_referents(owner)[0]
    return rebuild_values.make_view, (owner, kind)


def reduce_descriptor(pickler: Pickling, value: Any) -> Any:
    return getattr, (value.__objclass__, value.__name__)


def reduce_memoryview(pickler: Pickling, value: Any) -> Any:
    owner = value.obj
    if type(owner) in (bytes, bytearray) and value.contiguous and value.format == "B":
        whole = len(owner)
        if value.ndim == 1 and value.nbytes == whole:
            return memoryview, (owner,)
    raise UnstorableError("a view of a part of another object's memory", value)


def reduce_weakref(pickler: Pickling, value: Any) -> Any:
    target = value()
    if target is None:
        return rebuild_values.dead_reference, ()
    callback = value.__callback__
    return type(value), (target,) if callback is None else (target, callback)


def reduce_weakset(pickler: Pickling, value: Any) -> Any:
    items = list(value)
    pickler.keep.append(items)
    return weakref.WeakSet, (items,)


def reduce_weakdict(pickler: Pickling, value: Any) -> Any:
    return type(value), (), None, None, iter(list(value.items()))


def reduce_lru_cache(pickler: Pickling, value: Any) -> Any:
    if is_importable(value, pickler.commons.name):
        return NotImplemented
    settings = value.cache_parameters()
    fields = {
        one_of_its_kind(key): one_of_its_kind(field)
        for key, field in vars(value).items()
        if key != "__wrapped__"
    }
    # What it remembers is not stored: nobody can put it back, and it can be computed again.
    used = value.cache_info().currsize > 0
    args = (BUILDER, value.__wrapped__, settings["maxsize"], settings["typed"], used)
    return rebuild_values.make_cache, args, fields, None, None, rebuild_values.set_fields
