"""Code that never runs in, whether the rest would be the same without it out.

What never runs still makes a function a generator or its names local, is captured by a closure, and is
warned of. What may go can do none of this.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.lang.optimize.places import Conditions

# Binds nothing, suspends nothing, has no scope of its own, is allowed everywhere.
_HARMLESS = (
    *(ast.Expr, ast.Pass, ast.If, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.JoinedStr),
    *(ast.FormattedValue, ast.Tuple, ast.List, ast.expr_context, ast.operator, ast.unaryop),
    *(ast.boolop, ast.cmpop),
)
_UNJUDGED = (ast.Name, ast.Attribute, ast.Call)


def _warns(node: ast.AST) -> bool:
    """Whether the compiler may warn of ``node``: ``x is 1``, ``1()``, ``"a"["b"]``."""
    match node:
        case ast.Compare(ops=ops):
            return any(isinstance(op, ast.Is | ast.IsNot) for op in ops)
        case ast.Call(func=value) | ast.Subscript(value=value):
            return not isinstance(value, _UNJUDGED)
        case _:
            return False


CONDITIONS: Conditions = {
    # No yield, await, assignment, import, definition, comprehension, break, assert, ...
    "harmless": lambda node, _inner, _declared: isinstance(node, _HARMLESS),
    # In a function a name may be a closure's, kept by it and alive with it.
    "captures nothing": lambda node, inner, _declared: not (inner and isinstance(node, ast.Name)),
    # `global x` after a use of x is an error, also where that use never runs.
    "declared nowhere": lambda node, _inner, declared: (
        not (isinstance(node, ast.Name) and node.id in declared)
    ),
    "no warning": lambda node, _inner, _declared: not _warns(node),
}


def declared_names(tree: ast.AST) -> frozenset[str]:
    """What ``global`` and ``nonlocal`` statements anywhere in ``tree`` name."""
    return frozenset(
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Global | ast.Nonlocal)
        for name in node.names
    )


def may_go(
    nodes: Iterable[ast.AST], *, inner: bool, declared: frozenset[str], conditions: Conditions
) -> bool:
    """Whether ``nodes``, which never run, leave no trace. ``inner``: in a function or class."""
    return all(
        holds(node, inner, declared)
        for top in nodes
        for node in ast.walk(top)
        for holds in (conditions[name] for name in CONDITIONS)
    )
