"""A tree in, the same tree without code that can never run out.

That is a branch of ``if`` or ``while`` by a constant, and what follows ``return``, ``raise``, ``break``
and ``continue``. The statement that decides stays, since a trace sees its line. What may go is said in
:mod:`pyrepl3.lang.optimize.remains`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pyrepl3.lang.optimize import remains
from pyrepl3.lang.optimize.places import find_places

if TYPE_CHECKING:
    from pyrepl3.lang.optimize.places import Conditions

_JUMPS = (ast.Return, ast.Raise, ast.Break, ast.Continue)


CONDITIONS: Conditions = {
    "constant": lambda test: isinstance(test, ast.Constant),
    # `while False` never runs its body; `while True` is left by break only, past its else.
    "never": lambda test: not getattr(test, "value", True),
    "jump": lambda statement: isinstance(statement, _JUMPS),
    # The last statement of a cell says what the cell shows.
    "in a block": lambda parent: not isinstance(parent, ast.Module),
}


def remove_dead(
    tree: ast.AST,
    conditions: Conditions = CONDITIONS,
    leaving: Conditions = remains.CONDITIONS,
) -> ast.AST:
    """Take out of ``tree``, which is changed, what never runs. ``leaving``: when it may go."""
    declared: frozenset[str] | None = None
    # Inner blocks first: what is left of them may be able to go with the outer ones.
    for node, parent, field, index, inner in reversed(find_places(tree, _STATEMENTS)):
        dead = _dead_field(node, conditions)
        jumps = index is not None and conditions["jump"](node) and conditions["in a block"](parent)
        if dead is None and not jumps:
            continue
        if declared is None:
            declared = remains.declared_names(tree)
        if dead is not None:
            block = getattr(node, dead)
            if block and remains.may_go(block, inner=inner, declared=declared, conditions=leaving):
                rest = [ast.copy_location(ast.Pass(), block[0])] if dead == "body" else []
                setattr(node, dead, rest)
        if jumps:
            block = getattr(parent, field)
            after = block[index + 1 :]
            if after and remains.may_go(after, inner=inner, declared=declared, conditions=leaving):
                del block[index + 1 :]
    return tree


_STATEMENTS = frozenset({ast.If, ast.While, *_JUMPS})


def _dead_field(node: ast.stmt, conditions: Conditions) -> str | None:
    """Which block of ``node`` never runs."""
    if isinstance(node, ast.If) and conditions["constant"](node.test):
        return "body" if conditions["never"](node.test) else "orelse"
    if (
        isinstance(node, ast.While)
        and conditions["constant"](node.test)
        and conditions["never"](node.test)
    ):
        return "body"
    return None
