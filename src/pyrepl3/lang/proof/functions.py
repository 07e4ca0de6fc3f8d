"""Functions of cells: their statements in; whether a call shows anywhere but in its result out."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from pyrepl3.lang.proof.expressions import KINDS, Expressions, inner, short
from pyrepl3.lang.proof.inputs import MISSING, Proof, Refused, is_fixed
from pyrepl3.lang.proof.known import makes_new

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FunctionType

    from pyrepl3.lang.proof.inputs import Definition

    type Seen = dict[tuple[object, bool, bool], tuple[Proof, bool]]

_DEEPEST = 12  # calls in each other
_FRESH = (
    ast.Constant,
    ast.JoinedStr,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
)
# In place these change no builtin container; those below none, where a number stands on the right.
_NEVER = (ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift)
_BY_NUMBERS = (ast.Add, ast.Sub, ast.BitAnd, ast.BitOr, ast.BitXor)


class Functions(Expressions):
    """Goes into the functions that an expression calls."""

    seen: Seen
    """What was proved of functions so far; it counts while it holds."""
    open: set[tuple[object, bool]]
    """Calls of functions from inside themselves, taken to give plain data until that is found out."""

    def _written(self, function: FunctionType, node: ast.AST) -> Definition:
        found = self._define(function.__code__)
        if found is None:
            self._refuse(node, f"the text of {function.__name__} is not there")
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not is_fixed(default):
                self._refuse(node, f"{function.__name__} has a default that could change")
        return found

    def _enter(
        self,
        definition: ast.FunctionDef | ast.AsyncFunctionDef,
        key: object,
        node: ast.Call,
        *,
        awaited: bool,
    ) -> bool:
        name = definition.name
        if isinstance(definition, ast.AsyncFunctionDef) != awaited:
            self._refuse(node, f"{name} is {'not ' if awaited else ''}a coroutine function")
        inside = any(key is one for one, _ in self._above)
        if (inside and not self.apart) or len(self._above) >= _DEEPEST:
            self._refuse(node, f"{name} calls itself")
        plain = all(self._arguments(node))
        here = key, plain
        if here in self._above:
            self.open.add(here)
            self._proof.loops = True
            return True
        known = self.seen.get((key, plain, self.apart))
        if known is None or not known[0].holds(self._look):
            proof = Proof()
            below = Functions(proof, self._look, self._define, self._names, (*self._above, here))
            below.seen, below.open, below.apart = self.seen, self.open, self.apart
            try:
                known = proof, below.body(definition, plain=plain)
            except Refused as refused:
                if refused.line:
                    raise Refused(f"{name}, line {refused.line}: {refused.why}") from None
                raise
            if here in self.open:
                self.open.remove(here)
                if not known[1]:
                    self._refuse(node, f"{name} calls itself, and may give an object of any class")
            if not self.open:  # else it rests on what is not found out yet
                self.seen[key, plain, self.apart] = known
        self._proof.add(known[0])
        return known[1]

    def body(self, definition: ast.FunctionDef | ast.AsyncFunctionDef, *, plain: bool) -> bool:
        """Whether the function gives plain data. ``plain``: its arguments are. Raises Refused."""
        arguments = definition.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        self.locals = {one.arg: plain for one in every}
        assigned: dict[str, list[ast.expr | None]] = {}
        for part in _inside(definition.body):
            if isinstance(part, ast.Assign) and len(part.targets) == 1:
                target = part.targets[0]
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(part.value)
                    continue
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                assigned.setdefault(part.id, [])
        for part in _inside(definition.body):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.locals.setdefault(part.id, True)
        once = _once_stored(definition.body)
        self.fresh = {
            name
            for name, values in assigned.items()
            if values
            and name not in {one.arg for one in every}
            and len(values) == once.get(name, 0)
            and all(map(self._is_new, values))
        }
        while True:  # until no local is found to hold something else: each can be so once
            before = dict(self.locals)
            self.returns = True
            self._block(definition.body)
            if before == self.locals:
                return self.returns

    def _is_new(self, value: ast.expr | None) -> bool:
        match value:
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return isinstance(left, ast.List) or isinstance(right, ast.List)
            case ast.Call(func=ast.Name(id=name)):
                inside = self.locals is not None and name in self.locals
                return not inside and makes_new(name) and self._look(name) is MISSING
            case _:
                return isinstance(value, _FRESH)

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:  # noqa: C901  one case a kind
        match node:
            case ast.Expr(value=value):
                self.expression(value)
            case ast.Assign(targets=targets, value=value):
                plain = self.expression(value)
                for target in targets:
                    self._store(target, value, plain=plain)
            case ast.AnnAssign(target=ast.Name() as target, value=value):
                if value is not None:
                    self._store(target, value, plain=self.expression(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self._changes(name, node)
                if not self._plain(value) or (name not in self.fresh and not _is_new(op, value)):
                    self._refuse(node, f"{name} may be a list that others hold, which this changes")
            case ast.AugAssign(
                target=ast.Subscript(value=ast.Name(id=name), slice=index), op=op, value=value
            ):
                self._changes(name, node)
                new = self._plain(index) and self._plain(value) and _is_new(op, value)
                if not (new and name in self.fresh):
                    what = f"{name}[…]" if name in self.fresh else name
                    self._refuse(node, f"{what} may be a list that others hold, which this changes")
            case ast.Return(value=value):
                if value is not None:
                    self.returns = self.expression(value) and self.returns
            case ast.If(test=test, body=body, orelse=other):
                self._plain(test)
                self._block(body)
                self._block(other)
            case ast.While(test=test, body=body, orelse=other) if self.apart:
                self._proof.loops = True
                self._plain(test)
                self._block(body)
                self._block(other)
            case ast.For(target=target, iter=source, body=body, orelse=other):
                self._proof.loops = True
                self._plain(source)
                for name in self._targets(target):
                    assert self.locals is not None
                    self.locals.setdefault(name, True)
                self._block(body)
                self._block(other)
            case ast.Raise(exc=error, cause=None):
                self._raise(error, node)
            case ast.Assert(test=test, msg=message):
                self._plain(test)
                if message is not None:
                    self._plain(message)
            case ast.Pass() | ast.Break() | ast.Continue():
                pass
            case ast.Try() | ast.TryStar() if self.apart:
                self._refuse(node, "a try statement may see that there is less memory")
            case _:
                self._refuse(node, KINDS.get(type(node), "what it does cannot be told"))

    def _changes(self, name: str, node: ast.AST) -> None:
        """Refuse where ``name`` may be of a class whose ``+=`` does anything."""
        if self.locals is None or not self.locals.get(name):
            self._refuse(node, f"{name} may be of a class whose operators do anything")

    def _store(self, target: ast.expr, value: ast.expr, *, plain: bool) -> None:
        assert self.locals is not None
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            name = target.value.id
            if name in self.fresh and (plain or not isinstance(target.slice, ast.Slice)):
                self._plain(target.slice)
                self.locals[name] = self.locals[name] and plain
                return
        if isinstance(target, ast.Tuple | ast.List) and not plain:
            self._refuse(
                target, f"{short(value)} may be of a class that does anything when unpacked"
            )
        for name in self._targets(target):
            self.locals[name] = self.locals.get(name, True) and plain

    def _raise(self, error: ast.expr | None, node: ast.stmt) -> None:
        called = error.func if isinstance(error, ast.Call) else error
        if not isinstance(called, ast.Name):
            self._refuse(node, "what it raises cannot be told")
        value = self._global(called.id, node)
        known = vars(builtins).get(called.id)
        if not isinstance(known, type) or known is not value:
            self._refuse(node, f"{called.id} is a class of its own")
        if not issubclass(known, Exception):
            self._refuse(node, f"{called.id} is no ordinary error")
        if isinstance(error, ast.Call):
            for argument in error.args:
                self._plain(inner(argument))


def _is_new(op: ast.operator, value: ast.expr) -> bool:
    """Whether ``x op= value`` gives a new object, whatever builtin value ``x`` is."""
    number = isinstance(value, ast.Constant) and isinstance(value.value, int | float | complex)
    return isinstance(op, _NEVER) or (number and isinstance(op, _BY_NUMBERS))


def _inside(statements: Sequence[ast.AST]) -> list[ast.AST]:
    """All nodes of a function's own body, but for those of comprehensions' targets, which are their own."""
    found: list[ast.AST] = []
    rest: list[ast.AST] = [*statements]
    while rest:
        node = rest.pop()
        found.append(node)
        if isinstance(node, ast.comprehension):
            rest += [node.iter, *node.ifs]
        else:
            rest += ast.iter_child_nodes(node)
    return found


def _once_stored(statements: Sequence[ast.AST]) -> dict[str, int]:
    """How often each name is stored, but for ``x += …``."""
    found: dict[str, int] = {}
    inside = _inside(statements)
    added_to = {id(part.target) for part in inside if isinstance(part, ast.AugAssign)}
    for part in inside:
        if id(part) in added_to:
            continue
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found[part.id] = found.get(part.id, 0) + 1
    return found
