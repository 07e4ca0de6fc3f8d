"""A function's text and the kinds of its arguments in, the same as machine arithmetic out, or why not.

The rule: whatever is accepted computes the same bits when Python's floats become float64 and its integers
int64. Floats only by operations that IEEE 754 defines exactly; integers only as counters and what is made of
them, with a bound on their bits that never passes 62; arrays are only read; no other names, no calls, no
effects. So an exception, or a result that is not finite, may be answered by running the original again.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import msgspec

from pyrepl3.lang.numbers import (
    BOOL,
    EITHER,
    FLOAT,
    FLOATS,
    NUMPY,
    Kind,
    both,
    ends_with_return,
    join,
    refuse,
    word,
)

_LENGTH = 47  # bits of the length of what fits into memory
_INT = 62  # bits that an int may have
_EXACT = 53  # bits that a float holds exactly

MATH = frozenset({"pi", "e", "tau", "inf"})
SQRT = "_pyrepl3_sqrt"
"""What ``math.sqrt`` is called in the result: it must raise for what is below zero."""


class Numeric(msgspec.Struct, frozen=True):
    """A function that may be compiled.

    ``result`` is what it returns, ``constants`` the global names that it rests on, ``tree`` its definition
    with ``math.sqrt`` called ``SQRT``.
    """

    result: Kind
    constants: frozenset[str]
    tree: ast.FunctionDef


def judge(tree: ast.FunctionDef, arguments: tuple[Kind, ...], names: Mapping[str, Any]) -> Numeric:
    """The function as machine arithmetic. ``names``: the globals and builtins that it sees.

    ``tree`` is changed. Raises RefusedError. Pure; any thread.
    """
    return _Judge(tree, arguments, names).numeric


class _Judge:
    """One pass over a function, with the kinds of its locals so far; loops until nothing changes."""

    def __init__(
        self, tree: ast.FunctionDef, arguments: tuple[Kind, ...], names: Mapping[str, Any]
    ) -> None:
        self.numeric: Numeric
        self._names = names
        self._rests_on: set[str] = set()
        self._result: Kind | None = None
        self._counters: set[str] = set()
        self._left: list[list[dict[str, Kind]]] = []
        """What is known where the loops around are left or gone on with, a list a loop."""
        formal = tree.args
        if tree.decorator_list:
            refuse(tree, "it has decorators")
        if formal.vararg or formal.kwarg or formal.kwonlyargs or formal.posonlyargs:
            refuse(tree, "it takes more than plain arguments")
        self._env = {one.arg: kind for one, kind in zip(formal.args, arguments, strict=True)}
        self._fixed = {one for one, kind in self._env.items() if kind.name in ("int", "array")}
        self._locals = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        } | self._env.keys()
        body = tree.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        if not body or not isinstance(body[-1], ast.Return):
            refuse(tree, "it may end without a result")
        for statement in body:
            self._run(statement)
        assert self._result is not None
        tree.body = body
        tree.returns = None
        for one in formal.args:
            one.annotation = None
        self.numeric = Numeric(self._result, frozenset(self._rests_on), tree)

    # --- statements -----------------------------------------------------------------------------------

    def _run(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name() as target], value=value):
                self._bind(target, self._of(value))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if len(
                targets
            ) == len(values):
                found = [self._of(value) for value in values]
                for one, kind in zip(targets, found, strict=True):
                    self._bind(one, kind)
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                self._bind(target, self._combine(node, self._read(target), op, self._of(value)))
            case ast.If(test=test, body=body, orelse=orelse):
                self._test(test)
                before = dict(self._env)
                self._block(body)
                after, self._env = self._env, before
                self._block(orelse)
                self._env = both(
                    node, after, self._env, ends=(ends_with_return(body), ends_with_return(orelse))
                )
            case ast.While(test=test, body=body, orelse=[]):
                self._loop(node, body, test)
            case ast.For(target=ast.Name() as target, iter=over, body=body, orelse=[]):
                self._loop(node, body, None, target, self._element(over))
            case ast.Return(value=ast.expr() as value):
                self._return(node, self._of(value))
            case ast.Break() | ast.Continue():
                self._left[-1].append(dict(self._env))
            case ast.Pass():
                pass
            case _:
                refuse(node, f"{word(node)} is none of the statements that can be compiled safely")

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self._run(statement)

    def _loop(
        self,
        node: ast.stmt,
        body: list[ast.stmt],
        test: ast.expr | None,
        target: ast.Name | None = None,
        element: Kind | None = None,
    ) -> None:
        if target is not None and (target.id in self._env or target.id in self._fixed):
            refuse(node, f"the loop's {target.id!r} is bound before it, too")
        for _ in range(4):
            before = dict(self._env)
            if test is not None:
                self._test(test)
            if target is not None and element is not None:
                self._env[target.id] = element
                self._fixed.add(target.id)
            self._left.append([])
            self._block(body)
            # What the loop binds first may be unbound after it, and its counter is another one then.
            ways = [self._env, *self._left.pop()]
            self._env = before
            for way in ways:
                after = {name: kind for name, kind in way.items() if name in before}
                self._env = both(node, self._env, after, ends=(False, False))
            if target is not None:
                self._fixed.discard(target.id)
            if self._env == before:
                return
        refuse(node, "its values grow from round to round: ints are counters here, nothing else")

    def _bind(self, target: ast.expr, kind: Kind) -> None:
        if not isinstance(target, ast.Name):
            refuse(target, "it writes into something")
        if target.id in self._fixed:
            refuse(target, f"it binds {target.id!r} anew, a counter or an argument")
        if kind.name not in (*FLOATS, "int"):
            refuse(target, f"{target.id!r} is no number")
        known = self._env.get(target.id)
        if known is not None and (known.name == "int") != (kind.name == "int"):
            refuse(target, f"{target.id!r} is an int and a float: begin with 0.0, not 0")
        self._env[target.id] = kind

    def _return(self, node: ast.Return, kind: Kind) -> None:
        if kind.name not in ("float", "numpy", "int"):
            what = (
                "a float or a numpy.float64, as it comes: return float(…)"
                if kind == EITHER
                else "no number"
            )
            refuse(node, f"its result is {what}")
        if self._result is not None and self._result.name != kind.name:
            refuse(node, "its results are of several types")
        self._result = kind

    def _element(self, over: ast.expr) -> Kind:
        """What a ``for`` loop gives."""
        if (
            isinstance(over, ast.Call)
            and self._is_builtin(over.func, "range")
            and not over.keywords
        ):
            bits = 0
            for bound in over.args:
                kind = self._of(bound)
                if kind.name != "int":
                    refuse(bound, "range() of what is no int")
                bits = max(bits, kind.bits)
            return Kind("int", bits=bits)
        kind = self._of(over)
        if kind.name == "array" and kind.dimensions == 1:
            return NUMPY
        return refuse(over, "a loop over neither range() nor an array of one dimension")

    # --- expressions ----------------------------------------------------------------------------------

    def _of(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name():
                return self._read(node)
            case ast.BinOp(left=left, op=op, right=right):
                return self._combine(node, self._of(left), op, self._of(right))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self._number(operand)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._test(test)
                return join(node, self._number(body), self._number(orelse))
            case ast.Compare():
                self._test(node)
                return BOOL
            case ast.Subscript(value=value, slice=index):
                return self._subscript(node, value, index)
            case ast.Attribute(value=ast.Name(id="math", ctx=ast.Load()), attr=attr):
                if attr in MATH and self._is_math():
                    return FLOAT
            case ast.Attribute(value=value, attr="size") if self._of(value).name == "array":
                return Kind("int", bits=_LENGTH)
            case ast.Call(func=function, args=[argument], keywords=[]):
                return self._call(node, function, argument)
        return refuse(node, f"{word(node)} is none of the expressions that can be compiled safely")

    def _constant(self, node: ast.expr, value: object) -> Kind:
        if type(value) is float:
            return FLOAT
        if type(value) is int:
            return Kind("int", bits=max(1, value.bit_length()))
        return refuse(node, f"{value!r} is no number")

    def _read(self, node: ast.Name) -> Kind:
        name = node.id
        if name in self._locals:
            if name not in self._env:
                refuse(node, f"{name!r} may be unbound here, or a loop's that is over")
            return self._env[name]
        if name not in self._names:
            refuse(node, f"{name!r} is not defined")
        self._rests_on.add(name)
        value = self._names[name]
        if type(value) not in (float, int):
            refuse(node, f"it reads the global {name!r}, which is no float or int")
        return self._constant(node, value)

    def _number(self, node: ast.expr) -> Kind:
        kind = self._of(node)
        if kind.name not in (*FLOATS, "int"):
            refuse(node, f"{ast.unparse(node)} is no number")
        return kind

    def _combine(self, node: ast.AST, left: Kind, op: ast.operator, right: Kind) -> Kind:
        for kind in (left, right):
            if kind.name not in (*FLOATS, "int"):
                refuse(node, "an operation on what is no number")
        ints = (left.name == "int") + (right.name == "int")
        if ints == 2:
            return self._ints(node, left.bits, op, right.bits)
        if not isinstance(op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            refuse(
                node,
                f"{word(op)} of floats is not exact in the same way (or fails in another) on machines",
            )
        if ints and max(left.bits, right.bits) > _EXACT:
            refuse(node, "an int that a float may not hold exactly")
        kinds = {kind.name for kind in (left, right)}
        return NUMPY if "numpy" in kinds else EITHER if "either" in kinds else FLOAT

    def _ints(self, node: ast.AST, left: int, op: ast.operator, right: int) -> Kind:
        match op:
            case ast.Add() | ast.Sub():
                bits = max(left, right) + 1
            case ast.Mult():
                bits = left + right
            case ast.FloorDiv():
                bits = left + 1
            case ast.Mod():
                bits = right
            case ast.Div():
                if max(left, right) > _EXACT:
                    refuse(node, "a quotient of ints that floats may not hold exactly")
                return FLOAT
            case _:
                refuse(node, f"{word(op)} of ints may need more than 64 bits")
        if bits > _INT:
            refuse(node, "an int here may need more than 64 bits")
        return Kind("int", bits=bits)

    def _subscript(self, node: ast.Subscript, value: ast.expr, index: ast.expr) -> Kind:
        if isinstance(value, ast.Attribute) and value.attr == "shape":
            held = self._of(value.value)
            if held.name == "array" and isinstance(index, ast.Constant):
                if type(index.value) is int and 0 <= index.value < held.dimensions:
                    return Kind("int", bits=_LENGTH)
            refuse(node, "a shape is asked for one of its sides only")
        kind = self._of(value)
        if kind.name != "array":
            refuse(node, "it looks into something that is no array of float64")
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        if len(parts) != kind.dimensions:
            refuse(node, "it takes a part of an array, not an element")
        for part in parts:
            if self._of(part).name != "int":
                refuse(part, "an index that is no int")
        return NUMPY

    def _call(self, node: ast.Call, function: ast.expr, argument: ast.expr) -> Kind:
        if self._is_builtin(function, "len"):
            if self._of(argument).name == "array":
                return Kind("int", bits=_LENGTH)
        elif self._is_builtin(function, "abs"):
            return self._number(argument)
        elif self._is_builtin(function, "float"):
            kind = self._number(argument)
            if kind.name == "int" and kind.bits > _EXACT:
                refuse(node, "an int that a float may not hold exactly")
            return FLOAT
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if function.value.id == "math" and function.attr == "sqrt" and self._is_math():
                kind = self._number(argument)
                if kind.name == "int" and kind.bits > _EXACT:
                    refuse(node, "an int that a float may not hold exactly")
                node.func = ast.copy_location(ast.Name(SQRT, ast.Load()), function)
                return FLOAT
        elif isinstance(function, ast.Name) and function.id == SQRT:
            self._number(argument)  # a loop that is gone through again
            return FLOAT
        return refuse(node, f"it calls {ast.unparse(function)}")

    def _test(self, node: ast.expr) -> None:
        """A condition: comparisons, and what ``and``, ``or`` and ``not`` make of them."""
        match node:
            case ast.BoolOp(values=values):
                for value in values:
                    self._test(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._test(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                if any(isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in ops):
                    refuse(node, "a comparison of other things than numbers")
                kinds = [self._number(one) for one in (left, *others)]
                mixed = len({kind.name == "int" for kind in kinds}) > 1
                if mixed and max(kind.bits for kind in kinds) > _EXACT:
                    refuse(node, "an int that a float may not hold exactly")
            case ast.Constant(value=bool()):
                pass
            case _:
                refuse(node, "a condition that is no comparison")

    def _is_builtin(self, function: ast.expr, name: str) -> bool:
        if not (isinstance(function, ast.Name) and function.id == name) or name in self._locals:
            return False
        self._rests_on.add(name)
        import builtins  # noqa: PLC0415  only here

        return self._names.get(name) is getattr(builtins, name)

    def _is_math(self) -> bool:
        import math  # noqa: PLC0415  only here

        self._rests_on.add("math")
        return "math" not in self._locals and self._names.get("math") is math
