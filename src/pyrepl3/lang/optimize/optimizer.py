"""ASTOptimizer: a cell's source or tree in, a tree that does the same out.

docs/explanation/optimizer.md has what each pass gains over CPython's own optimiser.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal, get_args

from pyrepl3.lang.optimize.common import share
from pyrepl3.lang.optimize.dead import remove_dead
from pyrepl3.lang.optimize.folding import fold
from pyrepl3.lang.optimize.loops import declare
from pyrepl3.lang.parse import parse

if TYPE_CHECKING:
    from collections.abc import Collection

type Pass = Literal["folding", "dead", "common", "loops"]
PASSES: tuple[Pass, ...] = get_args(Pass.__value__)
"""All passes, in the order in which they run."""

PAYING: tuple[Pass, ...] = ("loops",)
"""What cells get: the others cost more when they compile than they gain when they run."""


class ASTOptimizer:
    """Changes trees, never what they do: values, exceptions, bindings, lines, ``locals()`` stay.

    For code that runs as a module does: one dict as globals and locals. Each pass states its conditions
    in its own module, and leaves alone what does not meet them. ``passes``: those that run, in any
    order. Any thread; it keeps nothing between two trees.
    """

    def __init__(self, passes: Collection[Pass] = PASSES) -> None:
        unknown = set(passes) - set(PASSES)
        if unknown:
            raise ValueError(f"no such pass: {sorted(unknown)}; there are {', '.join(PASSES)}")
        self._passes = frozenset(passes)

    def optimize[T: ast.AST](self, tree: T | str) -> T | ast.Module:
        """The optimised tree of a source, or ``tree`` itself, which is changed.

        Raises CompilationError for source that does not parse; nothing for a tree that compiles.
        """
        found: T | ast.Module = parse(tree, "<cell>") if isinstance(tree, str) else tree
        if "folding" in self._passes:
            self._constant_folding(found)
        if "dead" in self._passes:
            self._dead_code_elimination(found)
        if "common" in self._passes:
            self._common_subexpressions(found)
        if "loops" in self._passes:
            self._global_names(found)
        return found

    def _constant_folding(self, tree: ast.AST) -> ast.AST:
        return fold(tree)

    def _dead_code_elimination(self, tree: ast.AST) -> ast.AST:
        return remove_dead(tree)

    def _common_subexpressions(self, tree: ast.AST) -> ast.AST:
        return share(tree)

    def _global_names(self, tree: ast.AST) -> ast.AST:
        return declare(tree)
