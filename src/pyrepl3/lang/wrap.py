"""A cell with a top-level ``return`` in, the code of a function that runs it out.

What stays as it would be without the function: lines, columns and the name ``<module>`` in
tracebacks, where names land (all are declared global), their values and the order of evaluation.

What differs, because the code runs in a function: ``locals()``, ``vars()`` and ``dir()`` without
arguments see the function's own names (none), so ``exec("x = 1")`` binds nothing; annotations of
plain names are evaluated but not recorded in ``__annotations__``; ``from m import *`` is refused.
"""

from __future__ import annotations
import __future__

import ast
import sys
from types import CodeType
from typing import TYPE_CHECKING

from pyrepl3.lang.parse import (
    COMPILER_ERRORS,
    DEFINITIONS,
    FLAGS,
    column_of,
    line_of,
    parts_outside,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyrepl3.errors import CompilationError

# No identifier, so no name of the user's can be meant by it, and it is easy to take off again.
_NAME = "<cell>"
_PREFIX = f"{_NAME}.<locals>."
_ANNOTATIONS = __future__.annotations.compiler_flag
_GENERATOR = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR


def has_return(statements: list[ast.stmt]) -> bool:
    """Whether there is a ``return`` outside functions and classes, so that the cell must be wrapped."""
    stack = [*statements]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return):
            return True
        if not isinstance(node, DEFINITIONS):
            for block in _blocks(node):
                stack += block
    return False


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of a compound statement."""
    parts = [statement, *getattr(statement, "handlers", ()), *getattr(statement, "cases", ())]
    for part in parts:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(part, field, None)
            if block:
                yield block


def wrap(tree: ast.Module, source: str, filename: str, flags: int, first_line: int) -> CodeType:
    """The code of a function of no arguments and no closure whose call runs the cell.

    To be called as ``types.FunctionType(code, namespace)()``; where the code has CO_COROUTINE the
    call gives a coroutine. Returns None where the cell ends without ``return``. The tree is used up.
    Raises CompilationError.
    """
    scope = _Scope(tree.body)
    if scope.star is not None:
        message = (
            "'import *' cannot stand in a cell with a top-level 'return'; "
            "move the import to a cell of its own"
        )
        raise _refusal_at(scope.star, message, source, filename, first_line)
    annotations_run = not ("annotations" in scope.futures or flags & _ANNOTATIONS)
    # Python drops it too when told to (-OO).
    has_docstring = _is_docstring(tree.body[0]) and sys.flags.optimize < 2
    if has_docstring:
        scope.names.add("__doc__")
    plain = _Plain(annotations_run=annotations_run, has_docstring=has_docstring)
    statements = plain.convert(tree.body)
    head: list[ast.stmt] = []
    if scope.names:
        head.append(_on_line_one(ast.Global(sorted(scope.names))))
    # The function has the future imports too, since they bind names; the compiler wants them on top.
    futures = list(_leading_futures(tree.body))
    error: BaseException | None = None
    for kind in (ast.FunctionDef, ast.AsyncFunctionDef):
        # Whether the cell is async only the compiler decides: first without, then with.
        function = _on_line_one(kind(_NAME, _no_arguments(), head + statements, [], None, None, []))
        module = ast.Module([*futures, function], [])
        try:
            outer = compile(module, filename, "exec", FLAGS | flags, dont_inherit=True)
        except COMPILER_ERRORS as failure:
            if error is None or not _is_about_await(failure):
                error = failure
            if not _is_about_await(failure):
                break
            continue
        code = next(
            const
            for const in outer.co_consts
            if isinstance(const, CodeType) and const.co_name == _NAME
        )
        if code.co_flags & _GENERATOR:
            place = scope.yields or tree.body[0]
            raise _refusal_at(place, "'yield' outside function", source, filename, first_line)
        return _as_module(code)
    assert error is not None
    raise refusal(error, source, filename, first_line) from None


def _is_about_await(error: BaseException) -> bool:
    return isinstance(error, SyntaxError) and "outside" in error.msg and "async" in error.msg


def _is_future(node: ast.ImportFrom) -> bool:
    return node.module == "__future__" and node.level == 0


def _leading_futures(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that are at the beginning; the compiler refuses the others where they stand."""
    for index, statement in enumerate(statements):
        if isinstance(statement, ast.ImportFrom) and _is_future(statement):
            yield statement
        elif index or not _is_docstring(statement):
            return


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _no_arguments() -> ast.arguments:
    return ast.arguments([], [], None, [], [], None, [])


def _on_line_one[N: ast.stmt](node: N) -> N:
    node.lineno = node.end_lineno = 1
    node.col_offset = node.end_col_offset = 0
    return node


def _as_module(code: CodeType) -> CodeType:
    """``code`` and what is nested in it, under the names that they would have without the function."""
    return _without_prefix(code).replace(co_name="<module>", co_qualname="<module>")


def _without_prefix(code: CodeType) -> CodeType:
    consts = tuple(_without_prefix(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_qualname=code.co_qualname.removeprefix(_PREFIX), co_consts=consts)


def _refusal_at(
    node: ast.stmt | ast.expr, message: str, source: str, filename: str, first_line: int
) -> CompilationError:
    end_line = node.end_lineno or node.lineno
    ends = ((node.lineno, node.col_offset), (end_line, node.end_col_offset or 0))
    start, end = (column_of(line_of(source, line - first_line), at) + 1 for line, at in ends)
    error = SyntaxError(message, (filename, node.lineno, start, None, end_line, end))
    return refusal(error, source, filename, first_line)


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that these bind or delete in their own scope, or declare to be of another and bind."""
    return _Scope(nodes).names


class _Scope:
    """The names that statements bind or delete in their own scope, and what cannot be wrapped."""

    def __init__(self, statements: Iterable[ast.AST]) -> None:
        self.names: set[str] = set()
        self.star: ast.stmt | None = None
        self.yields: ast.expr | None = None
        self.futures: set[str] = set()
        stack: list[ast.AST] = [*statements]
        while stack:
            node = stack.pop()
            self._note(node)
            if isinstance(node, DEFINITIONS):
                stack += parts_outside(node)
            elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
                # Its targets are its own; a walrus in it, however deep, binds outside.
                self.names.update(_walruses(node))
            elif not isinstance(node, ast.TypeAlias):
                stack += ast.iter_child_nodes(node)

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self.names.add(name)
            case ast.TypeAlias(name=ast.Name(id=name)):
                self.names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.names.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                self.names.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                self.names.add(name)
            case ast.MatchMapping(rest=str(name)):
                self.names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                self._note_import(node, aliases)
            case ast.Yield() | ast.YieldFrom():
                self.yields = self.yields or node
            case _:
                pass

    def _note_import(self, node: ast.Import | ast.ImportFrom, aliases: list[ast.alias]) -> None:
        for alias in aliases:
            if alias.name == "*":
                self.star = node
            else:
                self.names.add(alias.asname or alias.name.partition(".")[0])
        if isinstance(node, ast.ImportFrom) and _is_future(node):
            self.futures.update(alias.name for alias in aliases)


def _walruses(comprehension: ast.AST) -> Iterator[str]:
    """What the walruses in a comprehension bind, but for those in lambdas."""
    stack = [comprehension]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.NamedExpr):
            yield node.target.id
        stack += parts_outside(node) if isinstance(node, ast.Lambda) else ast.iter_child_nodes(node)


class _Plain:
    """Rewrites what a function may not have: annotations of global names, a docstring."""

    def __init__(self, *, annotations_run: bool, has_docstring: bool) -> None:
        self._annotations_run = annotations_run
        self._has_docstring = has_docstring

    def convert(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements of a cell, ready to stand in a function."""
        result = self._block(statements)
        if self._has_docstring:
            first = result[0]
            assert isinstance(first, ast.Expr)
            target = ast.copy_location(ast.Name("__doc__", ast.Store()), first.value)
            result[0] = ast.copy_location(ast.Assign([target], first.value), first.value)
        return result

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            if isinstance(statement, ast.AnnAssign):
                result += self._annotated(statement)
                continue
            if not isinstance(statement, DEFINITIONS):
                for block in _blocks(statement):
                    block[:] = self._block(block)
            result.append(statement)
        return result

    def _annotated(self, node: ast.AnnAssign) -> list[ast.stmt]:
        """At the top of a module the annotation is evaluated last, simple target or not."""
        result: list[ast.stmt] = []
        if node.value is not None:
            result.append(ast.copy_location(ast.Assign([node.target], node.value), node))
        elif not isinstance(node.target, ast.Name):
            # Nothing is assigned, but the parts of the target are evaluated.
            parts = ast.copy_location(ast.Tuple(_parts(node.target), ast.Load()), node)
            result.append(ast.copy_location(ast.Expr(parts), node))
        if self._annotations_run:
            result.append(ast.copy_location(ast.Expr(node.annotation), node.annotation))
        return result or [ast.copy_location(ast.Pass(), node)]


def _parts(target: ast.expr) -> list[ast.expr]:
    """What is evaluated of an attribute or subscript before the last step."""
    if isinstance(target, ast.Attribute):
        return [target.value]
    assert isinstance(target, ast.Subscript)
    indices = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
    parts = [target.value]
    for index in indices:
        if isinstance(index, ast.Slice):
            parts += [bound for bound in (index.lower, index.upper, index.step) if bound]
        else:
            parts.append(index)
    return parts
