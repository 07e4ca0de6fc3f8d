"""What blobs call when they are loaded: parts in, functions, classes and other odd objects out.

The names and the arguments of these functions are the storage format: blobs name them. To change
one, add another beside it. All that belongs to one session comes in through a ``Builder``.
"""

from __future__ import annotations

import abc
import enum
import gc
import importlib
import marshal
import sys
import types
import typing
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Protocol

MAKER = sys.implementation.cache_tag  # bytecode of another version cannot run here


class Builder(Protocol):
    """The side of a loader that blobs see."""

    namespace: dict[str, object]
    module: str

    def find(self, name: str) -> object:
        """The object that the session's ``name`` is bound to, loaded now if need be."""

    def made(self, key: int, name: str | None, make: Callable[[], Any]) -> Any:
        """What this blob made under ``key``, else ``make()``; ``name`` is what it is bound to."""

    def saw_code(self, code: types.CodeType) -> None:
        """A function with ``code`` was made."""

    def note(self, text: str) -> None:
        """Something about the restore that the user should know."""


class Call:
    """Pickled, it is the call itself; so a blob can do one thing before another."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


def by_name(builder: Builder, name: str) -> object:
    """A function, class, … that another blob holds under ``name``."""
    return builder.find(name)


# --- functions --------------------------------------------------------------------------------


def make_code(maker: str, data: bytes) -> types.CodeType:
    if maker != MAKER:
        raise ValueError(f"its code was compiled by {maker}, and this is {MAKER}")
    code: types.CodeType = marshal.loads(data)  # noqa: S302 - from the user's own store
    return code


def make_cell() -> types.CellType:
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[object]) -> None:
    (cell.cell_contents,) = contents


def make_function(
    builder: Builder,
    key: int,
    name: str | None,
    code: types.CodeType,
    namespace: dict[str, Any],
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    builder.saw_code(code)
    return typing.cast(
        types.FunctionType,
        builder.made(key, name, lambda: types.FunctionType(code, namespace, None, None, closure)),
    )


def set_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    builder, names, module, defaults, kwdefaults, annotations, doc, fields, params, cells = state
    # The cells first: what follows may call methods that need their __class__ cell.
    if function.__closure__ is not None:
        for cell, contents in zip(function.__closure__, cells, strict=True):
            if contents:
                (cell.cell_contents,) = contents
    function.__name__, function.__qualname__ = names
    function.__module__ = builder.module if module is True else module
    function.__defaults__, function.__kwdefaults__ = defaults, kwdefaults
    if annotations:
        function.__annotations__ = annotations
    function.__doc__ = doc
    if params:
        function.__type_params__ = params
    if fields:
        function.__dict__.update(fields)


# --- classes ----------------------------------------------------------------------------------


class _Shield:
    """Stands first among the bases while a class is made, so that no __init_subclass__ runs."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        pass


class _DictShield:
    """The same with the memory layout of an ordinary class: ``__bases__`` may then be replaced."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        pass


_PLAIN_MAKERS = frozenset({"abc", "builtins", "enum", "typing", "typing_extensions", "_py_abc"})


def is_plain_maker(maker: type[Any]) -> bool:
    """Whether what the metaclass ``maker`` does to a class is all in the class's own attributes."""
    if maker.__module__ in _PLAIN_MAKERS:
        return True
    made: Any = maker
    new = made.__new__ is type.__new__ or made.__new__ is abc.ABCMeta.__new__
    return new and made.__init__ is _TYPE_INIT


_type: Any = type
_TYPE_INIT = _type.__init__


def make_class(
    builder: Builder,
    key: int,
    name: str | None,
    metaclass: type[Any],
    maker: type[Any],
    title: str,
    bases: tuple[type[Any], ...],
    body: dict[str, Any],
) -> type[Any]:
    """A class without its attributes: ``finish_class`` brings them.

    Neither a metaclass from a cell runs nor any ``__init_subclass__``. ``maker`` is the
    nearest imported metaclass: those of libraries do run, since they keep registers of their own.
    """

    def make() -> type[Any]:
        if body["__module__"] is True:
            body["__module__"] = builder.module
        if not is_plain_maker(maker):
            made: type[Any] = maker.__new__(metaclass, title, bases, body)
            maker.__init__(made, title, bases, body)
            return made
        create: Any = abc.ABCMeta.__new__ if issubclass(maker, abc.ABCMeta) else type.__new__
        if all(
            "__init_subclass__" not in vars(kind)
            for base in bases
            for kind in base.__mro__
            if kind is not object
        ):
            return typing.cast("type[Any]", create(metaclass, title, bases, body))
        return _make_shielded(create, metaclass, title, bases, body)

    return typing.cast("type[Any]", builder.made(key, name, make))


def _make_shielded(
    create: Any,
    metaclass: type[Any],
    title: str,
    bases: tuple[type[Any], ...],
    body: dict[str, Any],
) -> type[Any]:
    set_bases = type.__dict__["__bases__"].__set__
    for shield in (_Shield, _DictShield):
        made: type[Any] = create(metaclass, title, (shield, *bases), dict(body))
        try:
            set_bases(made, bases)
        except TypeError:
            continue  # the layouts differ
        return made
    return typing.cast("type[Any]", create(metaclass, title, bases, body))


def set_attributes(cls: type[Any], attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        try:
            type.__setattr__(cls, name, value)
        except TypeError:
            setattr(cls, name, value)  # a metaclass written in C keeps its own table (ctypes)


def finish_class(
    cls: type[Any],
    state: tuple[Builder, None, None, dict[str, Any], type[Any] | None, list[type[Any]]],
) -> None:
    """Runs when the attributes are there: registers, and the hook of an imported base, once."""
    builder, _, _, own, hook_owner, registered = state
    for subclass in registered:
        abc.ABCMeta.register(typing.cast(abc.ABCMeta, cls), subclass)
    if hook_owner is not None:
        try:
            hook_owner.__dict__["__init_subclass__"].__get__(None, cls)()
        except Exception as error:  # noqa: BLE001 - it may want keywords that the class statement had
            builder.note(
                f"{hook_owner.__qualname__}.__init_subclass__ did not run again for "
                f"{cls.__qualname__}: {type(error).__name__}: {error}"
            )
        set_attributes(cls, own)  # what the hook set anew is not what was stored


def make_member(cls: type[enum.Enum], name: str, args: tuple[Any, ...]) -> enum.Enum:
    """A member of an enum that is being rebuilt; its fields follow."""
    kind: Any = getattr(cls, "_member_type_", object)
    if kind is object:
        for base in cls.__mro__:
            if "__new__" in vars(base) and not issubclass(base, enum.Enum):
                kind = base
                break
    member: enum.Enum = kind.__new__(cls, *args)
    member._name_ = name
    return member


def set_member(member: enum.Enum, fields: dict[str, Any]) -> None:
    member.__dict__.update(fields)


def find_member(cls: type[enum.Enum], name: str) -> enum.Enum:
    return cls._member_map_[name]


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
    import functools

    return functools.lru_cache(maxsize, bool(typed))(function)


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


def make_array(data: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
    """An array that owns its memory, in which the bytes ``data`` are."""
    import numpy as np

    made: Any = np.empty(shape, dtype, order)  # type: ignore[call-overload] # "C" or "F"
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
