"""What blobs call for odd values when they are loaded: parts in, the value out.

The second half of ``rebuild``, and under the same rule: names and arguments are the storage format.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import types
import typing
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from pyrepl3.snapshot.rebuild import Builder

# --- exceptions -------------------------------------------------------------------------------


class StoredError(Exception):
    """Stands for an exception that could not be stored; its class is made to look like it."""


class StoredBaseError(BaseException):
    """The same for exceptions that are no ``Exception``."""


def make_exception(
    cls: type[BaseException], args: tuple[Any, ...], text: tuple[Any, ...]
) -> BaseException:
    """An exception without running the ``__init__`` of its class, which may want other arguments."""
    base = next(kind for kind in cls.__mro__ if not kind.__flags__ & 1 << 9)
    try:
        error: BaseException = base.__new__(cls, *args)
        base.__init__(error, *args)  # type: ignore[misc] # it fills the fields that C code reads
    except Exception:  # noqa: BLE001 - whatever it is, the text can still be shown
        return make_standin(*text)
    error.args = args
    return error


def call_exception(
    function: Callable[..., Any], args: tuple[Any, ...], text: tuple[Any, ...]
) -> BaseException:
    """An exception as its own ``__reduce__`` wants it, else one that shows the same text."""
    try:
        return typing.cast(BaseException, function(*args))
    except Exception:  # noqa: BLE001 - whatever it is, the text can still be shown
        return make_standin(*text)


def make_standin(module: str, qualname: str, plain: int, text: str) -> BaseException:
    """An exception whose type's name and text are those of one that could not be stored."""
    base = StoredError if plain else StoredBaseError
    kind = type(qualname.rpartition(".")[2], (base,), {"__module__": module})
    kind.__qualname__ = qualname
    made: BaseException = kind(text)
    return made


def set_exception(error: BaseException, state: tuple[Any, ...]) -> None:
    fields, cause, context, suppress = state
    if fields is not None:
        error.__setstate__(fields)
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = suppress


# --- the rest ---------------------------------------------------------------------------------


def import_module(name: str, submodules: tuple[str, ...] = ()) -> types.ModuleType:
    """The module, and those of its submodules that had been imported beside it."""
    module = importlib.import_module(name)
    for submodule in submodules:
        if submodule not in sys.modules:
            try:
                importlib.import_module(submodule)
            except Exception:  # noqa: BLE001, S112 - whoever needs it will say so
                continue
    return sys.modules.get(name, module)


def make_module(name: str) -> types.ModuleType:
    return types.ModuleType(name)


def set_module(module: types.ModuleType, fields: dict[str, Any]) -> None:
    vars(module).update(fields)


def call_quietly(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """``function(*args)``, for iterators of itertools: what pickle does with them is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return function(*args)


def set_state_quietly(value: Any, state: Any) -> None:
    call_quietly(value.__setstate__, (state,))


def bind_method(owner: Any, name: str) -> Any:
    """The bound method ``owner.name``, without running ``__getattr__`` of the owner."""
    for kind in type(owner).__mro__:
        if name in vars(kind):
            return vars(kind)[name].__get__(owner, type(owner))
    return getattr(owner, name)


def make_view(owner: dict[Any, Any], kind: str) -> Any:
    return getattr(owner, kind)()


def make_lru_cache(function: Any, maxsize: int | None, typed: int) -> Any:
    return functools.lru_cache(maxsize, bool(typed))(function)


def make_cache(builder: Builder, function: Any, maxsize: int | None, typed: int, used: int) -> Any:
    """The same, telling that what it knew is gone."""
    if used:
        builder.note(f"the cache of {getattr(function, '__name__', 'a function')} starts empty")
    return make_lru_cache(function, maxsize, typed)


def set_fields(value: Any, fields: dict[str, Any]) -> None:
    value.__dict__.update(fields)


def dead_reference() -> weakref.ref[Any]:
    reference = weakref.ref(type("gone", (), {})())
    gc.collect()  # PyPy and free-threaded builds do not free at once
    return reference


def make_variable(
    builder: Builder, key: int, name: str | None, title: str, default: tuple[Any, ...]
) -> Any:
    import contextvars

    options = {"default": default[0]} if default else {}
    return builder.made(key, name, lambda: contextvars.ContextVar(title, **options))


def make_typevar(
    builder: Builder,
    key: int,
    name: str | None,
    kind: type[Any],
    title: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    module: Any,
) -> Any:
    def make() -> Any:
        made = kind(title, *args, **options)
        made.__module__ = builder.module if module is True else module
        return made

    return builder.made(key, name, make)


def make_alias(
    builder: Builder, key: int, name: str | None, title: str, value: Any, params: tuple[Any, ...]
) -> Any:
    return builder.made(key, name, lambda: typing.TypeAliasType(title, value, type_params=params))


# --- numpy ------------------------------------------------------------------------------------


def make_array(data: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
    """An array in the memory ``data`` if that comes from a store, else one that owns its memory."""
    import numpy as np

    # A pickle makes a copy of a type that numpy has one object for, which its own scalars refer to.
    single = np.dtype(dtype.char) if dtype.isbuiltin == 1 else dtype
    dtype = single if single == dtype else dtype
    if type(data) is memoryview:
        return np.ndarray(shape, dtype, data, order=order)
    made: Any = np.empty(shape, dtype, order)
    flat = (made if order == "C" else made.T).reshape(-1).view(np.uint8)
    flat[:] = np.frombuffer(data, np.uint8)
    return made


def make_array_view(
    owner: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Any:
    """An array in memory that ``owner`` (an array, a bytearray, …) keeps."""
    import numpy as np

    if dtype.hasobject:
        flat = owner.reshape(-1, order="A")
        first = flat[offset // dtype.itemsize :]
        return np.lib.stride_tricks.as_strided(first, shape, strides)
    if isinstance(owner, np.ndarray) and not owner.flags.c_contiguous:
        owner = owner.T
    return np.ndarray(shape, dtype, owner, offset, strides)


def freeze_array(array: Any, _: tuple[()]) -> None:
    array.flags.writeable = False


def set_frozen_array(array: Any, state: tuple[Any, ...]) -> None:
    array.__setstate__(state)
    array.flags.writeable = False
