"""A cell's tree in, the same tree whose loops find their names as functions do out.

The compiler looks a name at the top of a module up in the locals, then the globals, then the builtins,
with three hash tables and no memory; where the name is declared ``global`` it takes the instruction that
functions have, which remembers the place (PEP 659). Cells run with globals *as* locals, so both find the
same, store to the same dict, and raise the same errors. A ``global`` statement is no code of its own.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pyrepl3.lang.optimize.places import FUNCTIONS, blocks_of

if TYPE_CHECKING:
    from pyrepl3.lang.optimize.places import Conditions

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
# They run elsewhere, and look names up as functions do already, or in a class's own dict.
_ELSEWHERE = (*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.GeneratorExp)


def _may_follow(statement: ast.stmt, index: int) -> bool:
    """Whether a statement may stand before this one, the ``index``-th of its module."""
    match statement:
        case ast.ImportFrom(module="__future__"):
            return False
        case ast.Expr(value=ast.Constant(value=str())):
            return index > 0
        case _:
            return True


CONDITIONS: Conditions = {
    # A docstring and `from __future__` imports come first.
    "after the head": _may_follow,
    # It is an error at the top of a module, which would be told as another one.
    "no nonlocal": lambda node: not isinstance(node, ast.Nonlocal),
}


def declare(tree: ast.AST, conditions: Conditions = CONDITIONS) -> ast.AST:
    """Declare global in ``tree``, a module, which is changed, what its top-level loops name.

    Run the code with one dict as globals and locals.
    """
    if not isinstance(tree, ast.Module):
        return tree
    loops: list[ast.AST] = []
    stack = [(statement, False) for statement in tree.body]
    while stack:
        statement, inner = stack.pop()
        if not conditions["no nonlocal"](statement):
            return tree
        if isinstance(statement, _LOOPS) and not inner:
            loops.append(statement)
            inner = True
        stack += [(child, inner) for block in blocks_of(statement) for child in block]
    named: set[str] = set()
    for node in loops:  # grows while it is read
        if isinstance(node, ast.Name):
            named.add(node.id)
        elif not isinstance(node, _ELSEWHERE):
            loops += ast.iter_child_nodes(node)
    if named:
        head = 0
        while not conditions["after the head"](tree.body[head], head):
            head += 1
        declared = ast.copy_location(ast.Global(sorted(named)), tree.body[head])
        tree.body.insert(head, declared)
    return tree
