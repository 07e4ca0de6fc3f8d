"""A class or a member of an enum in, what pickle is to write for it out.

First the bare class (metaclass, bases, slots), then what has behaviour, then the other attributes:
these may be instances of the class itself.
"""

from __future__ import annotations

import types
from typing import Any

from pyrepl3.snapshot import rebuild, structs
from pyrepl3.snapshot.commons import BUILDER, HEAP, Pickling, one_of_its_kind
from pyrepl3.snapshot.definitions import is_importable
from pyrepl3.snapshot.reasons import UnstorableError
from pyrepl3.snapshot.structs import is_struct

_IN_BODY = ("__doc__", "__firstlineno__", "__static_attributes__")
# "__slotnames__" is copyreg's own note, made when the first instance is pickled.
_NEVER = frozenset({"__module__", "__slotnames__", "_abc_impl", *_IN_BODY[1:]})
_MAY_BE_SET = frozenset(  # descriptors of ``type`` that write into the class's own dict
    {"__abstractmethods__", "__annotations__", "__doc__", "__module__", "__type_params__"}
)
_FIRST = {"__slots__": 0, "__doc__": 1}
# Their hooks only set attributes of the class itself, and those are stored.
_HARMLESS_HOOKS = frozenset({"typing", "typing_extensions", "enum", "abc"})
_SINGLETONS = frozenset({id(type(None)), id(type(...)), id(type(NotImplemented))})
_NAMES_IN_TYPES = {
    id(value): name for name, value in vars(types).items() if isinstance(value, type)
}


def reduce_class(pickler: Pickling, cls: type[Any]) -> Any:
    """By name if another blob holds it, by import if it can be, else by value."""
    session = pickler.commons
    name = session.definitions.name_of(cls)
    if name is not None and id(cls) not in pickler.roots:
        return pickler.refer(name)
    if name is None:
        if id(cls) in _SINGLETONS or is_importable(cls, session.name):
            return NotImplemented
        if id(cls) in _NAMES_IN_TYPES:
            return getattr, (types, _NAMES_IN_TYPES[id(cls)])
        if not cls.__flags__ & HEAP:
            raise UnstorableError("a built-in type that no module names", cls)
    pickler.by_value.add(id(cls))
    make: Any
    if is_struct(cls):
        make, args = structs.make_struct, structs.bare(pickler, cls, name)
    else:
        make, args = rebuild.make_class, _bare(pickler, cls, name)
    if pickler.bare:
        pickler.unfinished.append(cls)
        return make, args
    return make, args, _state_of(pickler, cls), None, None, rebuild.finish_class


def finish_call(pickler: Pickling, cls: type[Any]) -> object:
    """Pickled, it completes a class that was written bare."""
    return rebuild.Call(rebuild.finish_class, cls, _state_of(pickler, cls))


def _bare(pickler: Pickling, cls: type[Any], name: str | None) -> tuple[Any, ...]:
    session = pickler.commons.name
    own = vars(cls)
    body: dict[str, Any] = {"__qualname__": one_of_its_kind(cls.__qualname__)}
    module = own.get("__module__")
    body["__module__"] = True if module == session else one_of_its_kind(module)
    if "__slots__" in own:
        slots = [k for k, v in own.items() if _is_slot(cls, v)]
        slots += [k for k in ("__dict__", "__weakref__") if k in own and _is_mine(cls, own[k])]
        body["__slots__"] = tuple(map(one_of_its_kind, slots))
    for key in own:
        if key in _IN_BODY or _only_in_body(cls, key):
            body[one_of_its_kind(key)] = own[key]
    pickler.keep.append(body)
    metaclass = type(cls)
    if metaclass.__module__ == "_ctypes":
        raise UnstorableError("a class of ctypes, which C code has laid out,", cls)
    maker: Any = next(kind for kind in metaclass.__mro__ if is_importable(kind, session))
    if type(maker.__new__) is types.BuiltinFunctionType and not rebuild.is_plain_maker(maker):
        # Made in C from its fields: nothing can be set on it later (ctypes).
        raise UnstorableError(f"a class made by {maker.__module__}.{maker.__qualname__}", cls)
    if maker.__module__.partition(".")[0] == "sqlalchemy":
        # Its instrumentation, tables and registry refer to each other and to engines: nobody can store them.
        raise UnstorableError("a class mapped by SQLAlchemy", cls)
    called = one_of_its_kind(cls.__name__)
    return (BUILDER, pickler.key(cls), name, metaclass, maker, called, cls.__bases__, body)


def _state_of(pickler: Pickling, cls: type[Any]) -> tuple[Any, ...]:
    session = pickler.commons.name
    struct = is_struct(cls)
    behaviour: dict[str, Any] = {}
    data: dict[str, Any] = {}
    # Of a named tuple: one string for the field and the attribute, as it made them; a restore has two.
    listed = vars(cls).get("_fields")
    texts = listed if type(listed) is tuple else ()
    fields = {text: text for text in texts if type(text) is str}
    # A class that was restored has first what a body without statements leaves: the bytes are to be the same.
    for key, value in sorted(vars(cls).items(), key=lambda item: _FIRST.get(item[0], len(_FIRST))):
        if key in _NEVER or _is_slot(cls, value) or _is_mine(cls, value):
            continue
        if _only_in_body(cls, key) or (struct and structs.is_made(key)):
            continue
        if issubclass(type(value), _BEHAVIOUR):
            behaviour[one_of_its_kind(key)] = value
        else:
            slots = key == "__slots__" and type(value) is tuple
            name = fields.get(key, one_of_its_kind(key))
            data[name] = tuple(map(one_of_its_kind, value)) if slots else value
    registered: list[type[Any]] = []
    if "_abc_impl" in vars(cls):
        import _abc  # type: ignore[import-not-found,unused-ignore] # what abc itself is made of

        registry = _abc._get_dump(cls)[0]  # noqa: SLF001 - there is no public way
        registered = [sub for ref in registry if (sub := ref()) is not None]
    hook = _find_hook(cls, session)
    own = {**behaviour, **data} if hook is not None else {}
    pickler.keep += (behaviour, data, registered, own)
    call = rebuild.Call
    return (
        BUILDER,
        call(rebuild.set_attributes, cls, behaviour),
        call(rebuild.set_attributes, cls, data),
        own,
        hook,
        registered,
    )


_BEHAVIOUR = (types.FunctionType, classmethod, staticmethod, property, types.WrapperDescriptorType)


def _is_slot(cls: type[Any], value: object) -> bool:
    return type(value) is types.MemberDescriptorType and value.__objclass__ is cls


def _only_in_body(cls: type[Any], key: str) -> bool:
    """Whether setting ``key`` on the class would do something else: the metaclass knows the name."""
    if key in _MAY_BE_SET:
        return False
    for kind in type(cls).__mro__:
        if key in vars(kind):
            return hasattr(type(vars(kind)[key]), "__set__") and not _is_mine(cls, vars(cls)[key])
    return False


def _is_mine(cls: type[Any], value: Any) -> bool:
    return type(value) is types.GetSetDescriptorType and value.__objclass__ is cls


def _find_hook(cls: type[Any], session: str) -> type[Any] | None:
    """The imported base whose ``__init_subclass__`` must see the class once in a new process."""
    for maker in type(cls).__mro__:
        if is_importable(maker, session):
            if not rebuild.is_plain_maker(maker):
                return None  # it runs when the class is made
            break
    for base in cls.__mro__[1:-1]:
        if "__init_subclass__" in vars(base) and is_importable(base, session):
            return None if base.__module__ in _HARMLESS_HOOKS else base
    return None


def reduce_member(pickler: Pickling, member: Any) -> Any:
    """A member of an enum: by its name, or whole where the enum is in this blob."""
    cls: Any = type(member)
    session = pickler.commons
    if session.definitions.name_of(cls) is None and is_importable(cls, session.name):
        return NotImplemented
    name = member._name_
    if session.definitions.name_of(cls) is not None and id(cls) not in pickler.roots:
        if cls._member_map_.get(name) is member:
            return rebuild.find_member, (cls, name)
        return cls, (member._value_,)  # several flags at once
    pickler.by_value.add(id(member))
    getnewargs = getattr(cls._member_type_, "__getnewargs__", None)
    given = getnewargs(member) if getnewargs is not None else ()
    fields = {"_name_": name, **member.__dict__}  # in the order in which a restore makes them
    pickler.keep.append(fields)
    return rebuild.make_member, (cls, name, given), fields, None, None, rebuild.set_member
