"""A top-level statement in, its code out: all of it, or the expression that may begin early alone."""

from __future__ import annotations

import ast
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.compile import FUTURE_FLAGS
from pyrepl3.lang.parse import FLAGS
from pyrepl3.lang.quiet import quiet

if TYPE_CHECKING:
    from pyrepl3.lang.parallel import Statement

_HOLE = "pyrepl3: the value of a statement that began early"


class Part:
    """A statement as code, compiled as it is needed: whole, or the expression of its awaits."""

    def __init__(self, statement: Statement, at: int, filename: str, flags: int) -> None:
        self._statement, self._at = statement, at
        self._filename, self._flags = filename, flags
        self.tail = statement.tail

    @cached_property
    def whole(self) -> CodeType | None:
        """All of it; None where it does nothing."""
        node = self._statement.node
        if self.tail:
            assert isinstance(node, ast.Expr)
            return self._compile(ast.Expression(node.value))
        if self._at and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return None  # a text alone would become __doc__
        return self._compile(ast.Module([node], []))

    @cached_property
    def value(self) -> CodeType:
        """The expression of its awaits."""
        value = self._statement.value
        assert value is not None
        return self._compile(ast.Expression(value))

    @property
    def nested(self) -> list[CodeType]:
        """The code in its code."""
        codes = [self.whole, self.value if self._statement.value is not None else None]
        return [code for one in codes if one is not None for code in nested_in(one)]

    def bind(self, value: object, names: dict[str, Any]) -> None:
        """Assign ``value`` to the statement's targets."""
        targets = self._statement.targets
        if not targets:
            return
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            names[targets[0].id] = value
            return
        hole = ast.copy_location(ast.Constant(_HOLE), self._statement.value or targets[0])
        binding = ast.copy_location(ast.Assign(targets, hole), self._statement.node)
        code = self._compile(ast.Module([binding], []))
        consts = tuple(value if const == _HOLE else const for const in code.co_consts)
        eval(code.replace(co_consts=consts), names)  # noqa: S307  running code is what this is for

    def _compile(self, tree: ast.Module | ast.Expression) -> CodeType:
        mode = "eval" if isinstance(tree, ast.Expression) else "exec"
        flags = FLAGS | (self._flags & FUTURE_FLAGS)
        with quiet():  # what the whole was compiled with has told them
            code: CodeType = compile(tree, self._filename, mode, flags, dont_inherit=True)
        return code


def nested_in(code: CodeType) -> list[CodeType]:
    """The code objects in ``code``."""
    found = [const for const in code.co_consts if isinstance(const, CodeType)]
    for one in found:  # grows while it is read
        found += [const for const in one.co_consts if isinstance(const, CodeType)]
    return found
