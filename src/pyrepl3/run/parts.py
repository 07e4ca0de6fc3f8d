"""A top-level statement in, its code out: all of it, or the expression that may begin early alone."""

from __future__ import annotations

import ast
from functools import cached_property
from itertools import islice
from types import CodeType
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.compile import FUTURE_FLAGS
from pyrepl3.lang.parse import FLAGS
from pyrepl3.lang.quiet import quiet

if TYPE_CHECKING:
    from pyrepl3.lang.parallel import Statement

_MOST_ITEMS = 100_000
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

    def pieces(self, names: dict[str, Any], most: int) -> list[CodeType]:
        """Its expression as pieces, at most so many: each gives a list, and all in a row are the value.

        For a list or tuple that is written out, and for a list comprehension, whose first iterable is
        evaluated. [] for what has no such pieces.
        """
        value = self._statement.value
        match value:
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                if any(isinstance(part, ast.Starred) for part in parts):
                    return []
                size = -(-len(parts) // most) or 1
                lists = [parts[at : at + size] for at in range(0, len(parts), size)]
                return [
                    self._compile(
                        ast.Expression(ast.copy_location(ast.List(one, ast.Load()), value))
                    )
                    for one in lists
                ]
            case ast.ListComp(elt=element, generators=[ast.comprehension() as first, *others]):
                items = _sliceable(eval(self._compile(ast.Expression(first.iter)), names))  # noqa: S307
                size = -(-len(items) // most) or 1
                hole = ast.copy_location(ast.Constant(_HOLE), first.iter)
                loop = ast.comprehension(first.target, hole, first.ifs, first.is_async)
                whole = ast.copy_location(ast.ListComp(element, [loop, *others]), value)
                code = self._compile(ast.Expression(whole))
                return [_fill(code, items[at : at + size]) for at in range(0, len(items), size)]
            case _:
                return []

    def join(self, lists: list[list[Any]]) -> object:
        """The value, of what its pieces give."""
        every = [item for one in lists for item in one]
        return tuple(every) if isinstance(self._statement.value, ast.Tuple) else every

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
        eval(_fill(code, value), names)  # noqa: S307  running code is what this is for

    def _compile(self, tree: ast.Module | ast.Expression) -> CodeType:
        mode = "eval" if isinstance(tree, ast.Expression) else "exec"
        flags = FLAGS | (self._flags & FUTURE_FLAGS)
        with quiet():  # what the whole was compiled with has told them
            code: CodeType = compile(tree, self._filename, mode, flags, dont_inherit=True)
        return code


def _fill(code: CodeType, value: object) -> CodeType:
    return code.replace(
        co_consts=tuple(value if const == _HOLE else const for const in code.co_consts)
    )


def _sliceable(items: Any) -> Any:
    """``items``, or a list of them; () where they are too many to be looked at."""
    if type(items) in (range, list, tuple, str):
        return items
    found = list(islice(items, _MOST_ITEMS + 1))
    return found if len(found) <= _MOST_ITEMS else ()


def nested_in(code: CodeType) -> list[CodeType]:
    """The code objects in ``code``."""
    found = [const for const in code.co_consts if isinstance(const, CodeType)]
    for one in found:  # grows while it is read
        found += [const for const in one.co_consts if isinstance(const, CodeType)]
    return found
