"""What blobs call when they are loaded: parts in, functions, classes and other odd objects out.

The names and the arguments of these functions are the storage format: blobs name them. To change
one, add another beside it. All that belongs to one session comes in through a ``Builder``.
"""

from __future__ import annotations

import abc
import enum
import marshal
import sys
import types
import typing
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
        raise ValueError(
            f"its code was compiled by {maker}, and this is {MAKER}; recompute makes it again"
        )
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
    # Interned as the compiler does: a pickle tells strings apart that are equal and not the same.
    function.__name__, function.__qualname__ = map(sys.intern, names)
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
