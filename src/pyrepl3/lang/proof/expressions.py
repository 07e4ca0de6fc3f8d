"""An expression in; whether its value is plain data out, or that what it does cannot be told."""

from __future__ import annotations

import ast
import builtins
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, NoReturn

from pyrepl3.lang.proof.inputs import MISSING, Proof, Refused, Written, is_fixed, is_plain, made_of
from pyrepl3.lang.proof.known import is_declared, is_pure_builtin, is_sleep, method_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrepl3.lang.proof.inputs import Define, Definition, Look

_METHODS = frozenset(
    "as_integer_ratio bit_length capitalize casefold center conjugate copy count decode difference "
    "encode endswith expandtabs find format get hex index intersection is_integer isalnum isalpha "
    "isdigit isdisjoint islower isnumeric isspace issubset issuperset isupper items join keys ljust "
    "lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit "
    "rstrip split splitlines startswith strip swapcase title union upper values zfill".split()
)
_FILLING = frozenset(
    "add append clear discard extend insert pop popitem remove reverse setdefault sort update".split()
)

KINDS: dict[type[ast.AST], str] = {
    ast.While: "a while loop may run for ever",
    ast.Try: "a try statement sees when it is dropped",
    ast.TryStar: "a try statement sees when it is dropped",
    ast.With: "with runs code that cannot be told",
    ast.AsyncWith: "async with runs code that cannot be told",
    ast.AsyncFor: "async for runs code that cannot be told",
    ast.Global: "it binds names of the session",
    ast.Nonlocal: "it binds names of a function around it",
    ast.Import: "an import runs code",
    ast.ImportFrom: "an import runs code",
    ast.FunctionDef: "it makes a function",
    ast.AsyncFunctionDef: "it makes a function",
    ast.ClassDef: "it makes a class",
    ast.Lambda: "it makes a function",
    ast.NamedExpr: "it binds a name in an expression",
    ast.Await: "what it awaits is no call that could begin early",
    ast.Yield: "it is a generator",
    ast.YieldFrom: "it is a generator",
    ast.Delete: "it deletes something",
}


class Expressions:
    """Goes through expressions; True: the value is plain data, False: it may be anything."""

    def __init__(
        self,
        proof: Proof,
        look: Look,
        define: Define,
        names: Mapping[str, object],
        above: tuple[tuple[object, bool], ...] = (),
    ) -> None:
        self._proof, self._look, self._define, self._names = proof, look, define, names
        self._above = above
        self.locals: dict[str, bool] | None = None
        """In a function: whether each local is plain; None at the top of a cell."""
        self.fresh: set[str] = set()
        """Locals that only ever hold containers which the function has made itself."""
        self.returns = True
        self.apart = False

    # --- expressions --------------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> bool:  # noqa: C901  one case a kind
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.Await(value=ast.Call() as call):
                return self._call(call, awaited=True)
            case ast.Call():
                return self._call(node, awaited=False)
            case ast.UnaryOp(operand=operand):
                return self._plain(operand)
            case ast.BinOp(left=left, right=right):
                return self._plain(left) and self._plain(right)
            case ast.BoolOp(values=values):
                return all(self._plain(value) for value in values)
            case ast.Compare(left=left, ops=ops, comparators=others):
                if all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
                    for part in (left, *others):
                        self.expression(part)
                    return True
                return all(self._plain(part) for part in (left, *others))
            case ast.IfExp(test=test, body=one, orelse=other):
                self._plain(test)
                return self._every([one, other])
            case ast.JoinedStr(values=values):
                return self._every(values)
            case ast.FormattedValue(value=value, format_spec=spec):
                return self._plain(value) and (spec is None or self.expression(spec))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self._every(parts)
            case ast.Set(elts=parts):
                return all(self._plain(inner(part)) for part in parts)
            case ast.Dict(keys=keys, values=values):
                for key in keys:
                    if key is not None:
                        self._plain(key)
                return self._every(values)
            case ast.Subscript(value=value, slice=index):
                return self._plain(value) and self._plain(index)
            case ast.Slice(lower=lower, upper=upper, step=step):
                return all(self._plain(part) for part in (lower, upper, step) if part is not None)
            case ast.Attribute():
                return self._is_plain_input(self._attribute(node))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._comprehension(node)
            case _:
                return self._refuse(node, KINDS.get(type(node), "what it does cannot be told"))

    def _every(self, nodes: Sequence[ast.expr]) -> bool:
        """Whether all are plain; each is looked at."""
        found = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                self._plain(node.value)
            found.append(self.expression(inner(node)))
        return all(found)

    def _plain(self, node: ast.expr) -> bool:
        """The same, where an operator, a loop or the like would run code of the value's class."""
        if not self.expression(node):
            self._refuse(node, f"{short(node)} may be of a class whose operators do anything")
        return True

    def _name(self, name: str, node: ast.AST) -> bool:
        if self.locals is not None and name in self.locals:
            return self.locals[name]
        return self._is_plain_input(self._global(name, node))

    def _global(self, name: str, node: ast.AST) -> object:
        value = self._look(name)
        if value is MISSING:
            if name in vars(builtins):
                self._proof.inputs[name] = MISSING
                there = vars(builtins)[name]
                self._proof.attributes.append((vars(builtins), name, there))
                return there
            self._refuse(node, f"{name} is not bound yet")
        self._proof.inputs[name] = value
        return value

    def _is_plain_input(self, value: object) -> bool:
        if is_plain(value):
            self._proof.mutable = self._proof.mutable or not is_fixed(value)
            return True
        known = (FunctionType, BuiltinFunctionType, ModuleType, type, Written)
        if type(value) not in known:
            self._proof.mutable = True
        return False

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> bool:
        outer, fresh = self.locals, self.fresh
        self.locals = dict(outer or {})
        self._proof.loops = self._proof.loops or bool(self._above)
        try:
            for generator in node.generators:
                if generator.is_async:
                    self._refuse(node, "it has an async for")
                self._plain(generator.iter)
                for name in self._targets(generator.target):
                    self.locals[name] = True
                    self.fresh = self.fresh - {name}
                for test in generator.ifs:
                    self._plain(test)
            if isinstance(node, ast.DictComp):
                return self._plain(node.key) and self.expression(node.value)
            if isinstance(node, ast.SetComp):
                return self._plain(node.elt)
            return self.expression(node.elt)
        finally:
            if outer is not None:  # what was appended to containers of the function
                outer |= {n: known and self.locals[n] for n, known in outer.items() if n in fresh}
            self.locals, self.fresh = outer, fresh

    # --- calls --------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, *, awaited: bool) -> bool:
        function = node.func
        if isinstance(function, ast.Attribute) and not self._is_module(function.value):
            return self._method(node, function, awaited=awaited)
        if isinstance(function, ast.Name):
            name = function.id
            if self.locals is not None and name in self.locals:
                self._refuse(node, f"what {name} is here cannot be told")
            value = self._global(name, function)
        elif isinstance(function, ast.Attribute):
            value = self._attribute(function)
        else:
            self._refuse(node, "what it calls cannot be told")
        return self._apply(value, node, awaited=awaited)

    def _apply(self, value: object, node: ast.Call, *, awaited: bool) -> bool:
        words = short(node.func)
        if is_declared(value):
            if not awaited:
                self._refuse(node, f"{words} is declared independent, but not awaited here")
            self._arguments(node)
            self._proof.declared = True
            self._note_code(value)
            return False
        if isinstance(value, Written):
            return self._enter(value.node, value, node, awaited=awaited)
        if awaited and is_sleep(value):
            return all(self._arguments(node))
        if not awaited and is_pure_builtin(value):
            return self._builtin(node)
        if type(value) is FunctionType:
            if value.__globals__ is not self._names:
                self._refuse(node, f"{words} is from a library: declare what calls it @independent")
            if value.__closure__ or "__wrapped__" in vars(value):
                self._refuse(node, f"{words} holds what is around it: declare it @independent")
            self._note_code(value)
            return self._enter(self._written(value, node), value, node, awaited=awaited)
        return self._refuse(node, f"what {words} does cannot be told")

    def _builtin(self, node: ast.Call) -> bool:
        for argument in node.args:
            self._plain(inner(argument))
        for word in node.keywords:
            if word.arg == "file":
                self._refuse(node, "it prints into a file")
            self._plain(word.value)
        return True

    def _arguments(self, node: ast.Call) -> list[bool]:
        found = [self._every(node.args)]
        for word in node.keywords:
            if word.arg is None:
                self._plain(word.value)
            found.append(self.expression(word.value))
        return found

    def _method(self, node: ast.Call, function: ast.Attribute, *, awaited: bool) -> bool:
        name = function.attr
        if not awaited and name in _FILLING and isinstance(function.value, ast.Name):
            holder = function.value.id
            if holder in self.fresh and self.locals is not None:
                if (
                    name != "append"
                ):  # it iterates, compares or hashes what it is given, or what is there
                    return self._plain(function.value) and self._builtin(node)
                self.locals[holder] = all(self._arguments(node)) and self.locals[holder]
                return True
        if not awaited and name in _METHODS and self.expression(function.value):
            return self._builtin(node)
        if isinstance(function.value, ast.Name) and (
            self.locals is None or function.value.id not in self.locals
        ):
            method = method_of(self._global(function.value.id, function.value), name)
            if is_declared(method) and awaited:
                self._proof.mutable = self._proof.declared = True
                self._arguments(node)
                self._note_code(method)
                return False
        return self._refuse(node, f"what {short(function)} does cannot be told")

    def _is_module(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            inside = self.locals is not None and node.id in self.locals
            return not inside and type(self._look(node.id)) is ModuleType
        return isinstance(node, ast.Attribute) and self._is_module(node.value)

    def _attribute(self, node: ast.Attribute) -> object:
        if not self._is_module(node.value):
            self._refuse(node, f"{short(node)} may run code to give its value")
        holder = (
            self._global(node.value.id, node)
            if isinstance(node.value, ast.Name)
            else self._attribute(node.value)  # type: ignore[arg-type]  # a module's, as was seen
        )
        inside = vars(holder)
        value = inside.get(node.attr, MISSING)
        if value is MISSING:
            self._refuse(node, f"{short(node)} is not there yet")
        self._proof.attributes.append((inside, node.attr, value))
        return value

    def _note_code(self, value: object) -> None:
        if type(value) is FunctionType:
            self._proof.codes.append((value, made_of(value)))

    def _written(self, function: FunctionType, node: ast.AST) -> Definition:
        """The definition of a function of a cell."""
        raise NotImplementedError

    def _enter(self, definition: Definition, key: object, node: ast.Call, *, awaited: bool) -> bool:
        """Whether a call of it gives plain data."""
        raise NotImplementedError

    def _targets(self, target: ast.expr) -> list[str]:
        match target:
            case ast.Name(id=name):
                return [name]
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return [name for part in parts for name in self._targets(part)]
            case ast.Starred(value=value):
                return self._targets(value)
            case _:
                return self._refuse(target, f"{short(target)} = … changes an object")

    def _refuse(self, node: ast.AST, why: str) -> NoReturn:
        raise Refused(why, getattr(node, "lineno", 0) if self._above else 0)


def inner(node: ast.expr) -> ast.expr:
    """``x`` of ``*x``."""
    return node.value if isinstance(node, ast.Starred) else node


def short(node: ast.AST) -> str:
    """Its text, for people."""
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:39] + "…"
