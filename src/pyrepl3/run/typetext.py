"""Live values in, their types as text that a type checker reads out. No code of the values runs."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import types
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANY = "Any"
_LOOK = 64  # elements of a container that are looked at
_DEPTH = 3  # containers in containers
_UNION = 3  # members of a union; with more of them it says nothing
_LONGEST = 400  # characters of one type
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_IN_TYPES = {
    value: f"types.{name}"
    for name, value in vars(types).items()
    if isinstance(value, type) and not name.startswith("_")
}
_HINTS = ("typing", "types", "builtins", "typing_extensions")


class TypeTexts:
    """Types as text, for one namespace. ``loose``: what is put into a container later may be anything.

    ``modules`` are those that the texts name so far, ``own`` the classes made in cells that they name.
    """

    def __init__(self, namespace: Mapping[str, Any], *, loose: bool = False) -> None:
        self._namespace = namespace
        self._loose = loose
        self.modules: set[str] = set()
        self.own: dict[type, str] = {}

    def of(self, value: Any, depth: int = 0) -> str:
        """The type of a value: ``dict[str, list[int]]``, ``numpy.ndarray``, ``(a, b: int = ...) -> str``."""
        cls = type(value)
        if value is None:
            return "None"
        if cls is types.FunctionType:
            return ANY if self._loose else self.signature(value)
        if cls is types.ModuleType:
            return "types.ModuleType" if self._loose else f"module {value.__dict__.get('__name__')}"
        if issubclass(cls, type):
            return f"type[{self.name_of(value)}]"
        if cls in (list, set, frozenset, dict, tuple):
            return self._container(value, cls, depth)
        return self.name_of(cls)

    def name_of(self, cls: type) -> str:
        """A class by a name under which a checker finds it; ``Any`` where there is none."""
        module, qualname = text_of(cls, "__module__"), text_of(cls, "__qualname__")
        if cls in _IN_TYPES:
            self.modules.add("types")
            return _IN_TYPES[cls]
        if not (_DOTTED.fullmatch(module) and _DOTTED.fullmatch(qualname)):
            return ANY
        if module == "builtins":
            return qualname if vars(builtins).get(qualname) is cls else ANY
        if self._namespace.get(qualname) is cls and module == self._namespace.get("__name__"):
            self.own[cls] = qualname
            return qualname
        if find(module, qualname) is not cls:
            return ANY if self._loose else qualname
        self.modules.add(module)
        return f"{module}.{qualname}"

    def _container(self, value: Any, cls: type, depth: int) -> str:
        name = cls.__name__
        if depth >= _DEPTH:
            return f"{name}[Any, Any]" if cls is dict else name
        try:
            if cls is dict:
                items = list(islice(value.items(), _LOOK))
            else:
                items = [(None, item) for item in islice(value, _LOOK)]
        except RuntimeError:  # a cell changes it just now
            return name
        if cls is tuple:
            if len(value) <= 8:
                return f"tuple[{', '.join(self.of(i, depth + 1) for _, i in items) or '()'}]"
            whole = len(value) <= _LOOK
            return f"tuple[{self._union(items, depth, more=not whole)}, ...]"
        values = self._union(items, depth, more=self._loose and cls is not frozenset)
        if cls is not dict:
            return f"{name}[{values}]"
        keys = self._union([(None, k) for k, _ in items], depth, more=self._loose)
        return f"dict[{keys}, {values}]"

    def _union(self, items: list[tuple[Any, Any]], depth: int, *, more: bool) -> str:
        found = list(dict.fromkeys(self.of(item, depth + 1) for _, item in items))
        if not found or len(found) > _UNION or ANY in found:
            return ANY
        if more:
            found.append(ANY)
        text = " | ".join(found)
        return text if len(text) <= _LONGEST else ANY

    # --- functions --------------------------------------------------------------------------------

    def signature(self, function: types.FunctionType) -> str:
        """``(a, b: int = ...) -> str``, as the function was written."""
        code = function.__code__
        names = code.co_varnames
        hints = function.__annotations__
        defaults = len(function.__defaults__ or ())
        positional, only = code.co_argcount, code.co_kwonlyargcount
        parts = []
        for at, name in enumerate(names[:positional]):
            parts.append(self._parameter(name, hints, default=at >= positional - defaults))
            if at + 1 == code.co_posonlyargcount:
                parts.append("/")
        at = positional + only
        if code.co_flags & 0x04:
            parts.append("*" + self._parameter(names[at], hints, default=False))
            at += 1
        elif only:
            parts.append("*")
        given = function.__kwdefaults__ or ()
        parts += [
            self._parameter(name, hints, default=name in given)
            for name in names[positional : positional + only]
        ]
        if code.co_flags & 0x08:
            parts.append("**" + self._parameter(names[at], hints, default=False))
        text = f"({', '.join(parts)})"
        if "return" in hints:
            return f"{text} -> {self.hint(hints['return'])}"
        # Without a word on it a checker takes an `async def` of a stub to give None.
        return f"{text} -> Any" if code.co_flags & 0x80 else text

    def _parameter(self, name: str, hints: Mapping[str, Any], *, default: bool) -> str:
        name = name if name.isidentifier() else "_"
        text = f"{name}: {self.hint(hints[name])}" if name in hints else name
        if not default:
            return text
        return f"{text} = ..." if name in hints else f"{text}=..."

    def hint(self, hint: Any) -> str:
        """An annotation, an object or a string, as text; ``Any`` where it cannot be said."""
        if hint is None:
            return "None"
        if issubclass(type(hint), type):
            return self.name_of(hint)
        if type(hint) is str:
            text = hint
        elif text_of(type(hint), "__module__") in _HINTS:
            text = repr(hint).replace(f"{self._namespace.get('__name__')}.", "")
        else:
            return ANY
        if len(text) > _LONGEST or "\n" in text:
            return ANY
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError):
            return ANY
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                self._note_module(ast.unparse(node.value))
            elif isinstance(node, ast.Name):
                cls = self._namespace.get(node.id)
                if issubclass(type(cls), type):
                    self.name_of(cast("type", cls))
        return text

    def _note_module(self, dotted: str) -> None:
        while dotted:
            if dotted in sys.modules and _DOTTED.fullmatch(dotted):
                self.modules.add(dotted)
                return
            dotted = dotted.rpartition(".")[0]


def find(module: str, qualname: str) -> Any:
    """What ``module`` has under ``qualname``, looked up without running code; None: nothing."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        if type(found) is types.ModuleType:
            found = found.__dict__.get(name)
        elif issubclass(type(found), type):
            found = contents(found).get(name)
        else:
            return None
    return found


def contents(cls: Any) -> Mapping[str, Any]:
    """What a class itself has, whatever its metaclass says."""
    found: Mapping[str, Any] = type.__dict__["__dict__"].__get__(cls)
    return found


def bases_of(cls: type) -> tuple[type, ...]:
    """The bases of a class, whatever its metaclass says."""
    found: tuple[type, ...] = type.__dict__["__bases__"].__get__(cls)
    return found


def text_of(cls: type, name: str) -> str:
    """A class's own ``__module__`` or ``__qualname__``, whatever its metaclass says."""
    try:
        found = type.__dict__[name].__get__(cls)
    except AttributeError:
        return ""
    return found if type(found) is str else ""


def describe_types(namespace: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The types of ``names``, for people, in their order."""
    texts = TypeTexts(namespace)
    return {name: texts.of(namespace[name]) for name in list(names) if name in namespace}
