"""Names of the live namespace in, a stub file and imports that tell a type checker what they are out.

Made where the objects are, and only of the names that a cell reads. No code of the values runs.
"""

from __future__ import annotations

import dis
import enum
import keyword
import types
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.checks import check_cell
from pyrepl3.lang.names import names_of
from pyrepl3.records import Looked
from pyrepl3.run.typetext import ANY, TypeTexts, bases_of, contents, find, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_CLASSES = 100
_MOST_MEMBERS = 400
_ANYTHING = "    def __getattr__(self, name: str, /) -> Any: ...\n"
_SKIPPED = frozenset({"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__"})
_DYNAMIC = frozenset({"setattr", "__dict__", "__setattr__"})


def look_at(source: str, namespace: Mapping[str, Any], *, flags: int = 0) -> Looked:
    """What a cell looks like before it runs, to ourselves and for a type checker. Any thread."""
    diagnostics, compiled = check_cell(source, namespace, flags=flags)
    if compiled is None:
        return Looked(diagnostics=diagnostics)
    names = names_of(compiled)
    stubs = Stubs(namespace)
    for name in sorted(names.reads):
        if name in namespace:
            stubs.add(name, namespace[name])
    binds = tuple(sorted(name for name in names.binds if name != "*" and name[:2] != "__"))
    return Looked(
        diagnostics=diagnostics,
        imports="; ".join(stubs.imports),
        stub=stubs.text(),
        names=tuple(stubs.names),
        binds=binds,
    )


class Stubs:
    """The stub file so far. ``imports``: statements for the cell itself; ``names``: what the stub has."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._texts = TypeTexts(namespace, loose=True)
        self._namespace = namespace
        self._lines: list[str] = []
        self.imports: list[str] = []
        self.names: list[str] = []

    def add(self, name: str, value: Any) -> None:
        """Say what ``name`` is."""
        if name.startswith("__") or not name.isidentifier() or keyword.iskeyword(name):
            return
        cls = type(value)
        if cls is types.ModuleType:
            home = value.__dict__.get("__name__")
            if isinstance(home, str) and find(home, "__name__") == home and _is_dotted(home):
                if self._namespace.get("__name__") != home:
                    self.imports.append(
                        f"import {home}" if home == name else f"import {home} as {name}"
                    )
                    return
        elif issubclass(cls, type):
            text = self._texts.name_of(value)
            if value in self._texts.own:
                if text != name:
                    self._lines.append(f"{name} = {text}\n")
                self.names.append(name)
                return
            if self._import(name, value):
                return
        elif cls is types.FunctionType:
            if value.__globals__ is self._namespace:
                if "__wrapped__" not in value.__dict__ and "__signature__" not in value.__dict__:
                    self._lines.append(self._function(name, value, ""))
                    self.names.append(name)
                    return
            elif self._import(name, value):
                return
        elif cls is types.BuiltinFunctionType and self._import(name, value):
            return
        self._lines.append(f"{name}: {self._texts.of(value)}\n")
        self.names.append(name)

    def _import(self, name: str, value: Any) -> bool:
        if isinstance(value, type):
            module, qualname = text_of(value, "__module__"), text_of(value, "__qualname__")
        else:
            module, qualname = value.__module__, value.__qualname__
        if type(module) is not str or not (_is_dotted(module) and qualname.isidentifier()):
            return False
        if module == self._namespace.get("__name__") or find(module, qualname) is not value:
            return False
        self.imports.append(f"from {module} import {qualname} as {name}")
        return True

    def text(self) -> str:
        """The stub file, with the classes made in cells that it needs."""
        classes: list[str] = []
        done: set[type] = set()
        instances = self._instances()
        while len(done) < min(len(self._texts.own), _MOST_CLASSES):
            for cls, name in list(self._texts.own.items()):
                if cls not in done:
                    done.add(cls)
                    classes.append(self._class(cls, name, instances.get(cls, {})))
        modules = [f"import {name}\n" for name in sorted(self._texts.modules)]
        return "".join(["from typing import Any\n", *modules, *classes, *self._lines])

    def _instances(self) -> dict[type, dict[str, Any]]:
        """What live instances hold, by class: attributes that no method of theirs sets."""
        found: dict[type, dict[str, Any]] = {}
        for value in list(self._namespace.values()):
            cls = type(value)
            line = type.__dict__["__mro__"].__get__(cls)
            slot = next((contents(c)["__dict__"] for c in line if "__dict__" in contents(c)), None)
            if type(slot) is types.GetSetDescriptorType:
                held = slot.__get__(value)
                found.setdefault(cls, {}).update(dict(held))
        return found

    # --- classes and functions ----------------------------------------------------------------------

    def _class(self, cls: type, name: str, held: dict[str, Any]) -> str:
        if "." in name:
            return ""  # a class in a class: its outer one has it
        bases = [self._texts.name_of(base) for base in bases_of(cls) if base is not object]
        if type(cls) not in (type, enum.EnumMeta) and not issubclass(type(cls), enum.EnumMeta):
            if text_of(type(cls), "__module__") != "abc":
                bases = [ANY]  # its metaclass may do anything
        members = list(self._members(cls, held))
        head = (
            f"class {name}({', '.join(dict.fromkeys(bases))}):\n" if bases else f"class {name}:\n"
        )
        return head + ("".join(members) or "    ...\n")

    def _members(self, cls: type, held: dict[str, Any]) -> Iterator[str]:
        own = dict(contents(cls))
        hints = own.get("__annotations__", {})
        is_enum = issubclass(type(cls), enum.EnumMeta)
        told: set[str] = set()
        dynamic = False
        set_by_methods: set[str] = set()
        for name, value in list(own.items())[:_MOST_MEMBERS]:
            if name in _SKIPPED or not name.isidentifier() or keyword.iskeyword(name):
                continue
            if is_enum and type(value) is cls:
                told.add(name)
                literal = value.__dict__.get("_value_")
                yield (
                    f"    {name} = {literal!r}\n"
                    if type(literal) in (int, str)
                    else f"    {name} = ...\n"
                )
                continue
            if is_enum and name.startswith("_"):
                continue
            function = _function_in(value)
            if function is not None:
                set_by_methods |= _stored_by(function.__code__)
                dynamic = dynamic or not _DYNAMIC.isdisjoint(function.__code__.co_names)
            line = self._member(name, value, function)
            if line and name not in hints:
                told.add(name)
                yield line
        for name, hint in hints.items():
            told.add(name)
            yield f"    {name}: {self._texts.hint(hint)}\n"
        others = {name: self._texts.of(value) for name, value in held.items()}
        for name in sorted((set_by_methods | others.keys()) - told):
            if name.isidentifier() and not keyword.iskeyword(name):
                # What one instance holds says what others may hold, not what they must.
                known = "" if name in set_by_methods else f"{others[name]} | "
                yield f"    {name}: {known}{ANY}\n"
        if dynamic and "__getattr__" not in told:
            yield _ANYTHING

    def _member(self, name: str, value: Any, function: types.FunctionType | None) -> str:
        if type(value) is property:
            hint = (function.__annotations__ if function else {}).get("return", ANY)
            return f"    {name}: {self._texts.hint(hint)}\n"
        if function is None:
            if name.startswith("__"):
                return ""
            own = type(value).__module__ == "builtins" and not hasattr(type(value), "__get__")
            return f"    {name}: {f'{self._texts.of(value)} | ' if own else ''}{ANY}\n"
        if "__wrapped__" in function.__dict__ or "__signature__" in function.__dict__:
            return f"    {name}: {ANY}\n"
        mark = f"    @{type(value).__name__}\n" if type(value) is not types.FunctionType else ""
        return mark + self._function(name, function, "    ")

    def _function(self, name: str, function: types.FunctionType, indent: str) -> str:
        word = "async def" if function.__code__.co_flags & 0x80 else "def"
        return f"{indent}{word} {name}{self._texts.signature(function)}: ...\n"


def _function_in(value: Any) -> types.FunctionType | None:
    if type(value) is property:
        value = value.fget
    elif type(value) in (staticmethod, classmethod):
        value = value.__func__
    return value if type(value) is types.FunctionType else None


def _stored_by(code: types.CodeType) -> set[str]:
    """The attributes that a method sets, of whatever object."""
    names, bytecode, op = set(), code.co_code, dis.opmap["STORE_ATTR"]
    extended = 0
    for at in range(0, len(bytecode), 2):
        arg = bytecode[at + 1] | extended
        extended = arg << 8 if bytecode[at] == dis.opmap["EXTENDED_ARG"] else 0
        if bytecode[at] == op:
            names.add(code.co_names[arg])
    return names


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))
