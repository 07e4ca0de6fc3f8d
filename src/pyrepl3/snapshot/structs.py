"""A class of ``msgspec.Struct`` in, what it can be made of again out: fields, defaults and settings.

Its metaclass, in C, lays the class out by its fields. So it is made by the same statement once more;
methods are set on it later, like those of any class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrepl3.snapshot.commons import BUILDER

if TYPE_CHECKING:
    from pyrepl3.snapshot.commons import Pickling
    from pyrepl3.snapshot.rebuild import Builder

_MADE = frozenset(
    {"__annotations__", "__match_args__", "__post_init__", "__slots__", "__weakref__", "__dict__"}
)
_SETTINGS = (
    "frozen", "eq", "order", "array_like", "gc", "repr_omit_defaults", "omit_defaults",
    "forbid_unknown_fields", "weakref", "dict", "cache_hash", "tag", "tag_field",
)  # fmt: skip


def is_struct(cls: type[Any]) -> bool:
    """Whether the metaclass of ``cls`` is msgspec's."""
    kind = type(cls)
    return kind.__module__ == "msgspec._core" and kind.__qualname__ == "StructMeta"


def is_made(key: str) -> bool:
    """Whether the metaclass makes this attribute, or must find it in the class statement."""
    return key in _MADE or key.startswith("__struct_")


def bare(pickler: Pickling, cls: Any, name: str | None) -> tuple[Any, ...]:
    """The arguments of ``make_struct``."""
    own = vars(cls)
    annotations = dict(own.get("__annotations__", {}))
    fields = {}
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__
    encoded = dict(zip(names, cls.__struct_encode_fields__, strict=True))
    first = len(names) - len(defaults)
    for n, field in enumerate(names):
        if field in annotations:
            default = defaults[n - first : n - first + 1] if n >= first else ()
            fields[field] = (tuple(map(_split, default)), encoded[field])
    config = cls.__struct_config__
    settings = {key: getattr(config, key) for key in _SETTINGS if hasattr(config, key)}
    keyword = tuple(n for n in names if n in annotations and n not in cls.__match_args__)
    body: dict[str, Any] = {"__qualname__": cls.__qualname__, "__annotations__": annotations}
    module = own.get("__module__")
    body["__module__"] = True if module == pickler.commons.name else module
    for key in ("__doc__", "__post_init__"):
        if own.get(key) is not None:
            body[key] = own[key]
    pickler.keep += (body, fields, settings, annotations)
    number = pickler.key(cls)
    return (
        BUILDER,
        number,
        name,
        type(cls),
        cls.__name__,
        cls.__bases__,
        body,
        fields,
        settings,
        keyword,
    )


def _split(default: Any) -> tuple[str, Any]:
    """A default, and what it is: msgspec has markers of its own for factories and for "none"."""
    kind = type(default)
    if kind.__module__ == "msgspec._core" and kind.__name__ == "Factory":
        return "factory", default.factory
    if kind.__module__ == "msgspec._core" and kind.__name__ == "NODEFAULTType":
        return "none", None
    return "value", default


def make_struct(
    builder: Builder,
    key: int,
    name: str | None,
    metaclass: Any,
    title: str,
    bases: tuple[type[Any], ...],
    body: dict[str, Any],
    fields: dict[str, tuple[tuple[Any, ...], str]],
    settings: dict[str, Any],
    keyword: tuple[str, ...],
) -> Any:
    """What blobs call: the class without its methods."""
    import msgspec

    def make() -> Any:
        if body["__module__"] is True:
            body["__module__"] = builder.module
        for field, (default, encoded) in fields.items():
            given: dict[str, Any] = {"name": encoded} if encoded != field else {}
            for kind, value in default:
                if kind == "factory":
                    given["default_factory"] = value
                elif kind == "value":
                    given["default"] = value
            if given:
                body[field] = msgspec.field(**given)
        if keyword:
            settings["kw_only"] = True
        return metaclass(title, bases, body, **settings)

    return builder.made(key, name, make)
