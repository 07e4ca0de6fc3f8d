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

from pyrepl3.lang.parse import COMPILER_ERRORS, FLAGS, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

RETURN_OUTSIDE = "'return' outside function"
"""The compiler's message for a cell that must be wrapped."""

# No identifier, so no name of the user's can be meant by it, and it is easy to take off again.
_NAME = "<cell>"
_PREFIX = f"{_NAME}.<locals>."
_ANNOTATIONS = __future__.annotations.compiler_flag
_GENERATOR = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR


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
        _refuse_at(scope.star, message, source, filename, first_line)
    statements = _Plain(scope.annotations_run(flags)).convert(tree.body)
    head: list[ast.stmt] = []
    if scope.names:
        head.append(_on_line_one(ast.Global(sorted(scope.names))))
    # The function has the future imports too, since they bind names; the compiler wants them on top.
    futures = [s for s in statements if isinstance(s, ast.ImportFrom) and _is_future(s)]
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
            _refuse_at(place, "'yield' outside function", source, filename, first_line)
        return _as_module(code)
    assert error is not None
    refuse(error, source, filename, first_line)


def _is_about_await(error: BaseException) -> bool:
    return isinstance(error, SyntaxError) and "outside" in error.msg and "async" in error.msg


def _is_future(node: ast.ImportFrom) -> bool:
    return node.module == "__future__" and node.level == 0


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


def _refuse_at(
    node: ast.stmt | ast.expr, message: str, source: str, filename: str, first_line: int
) -> NoReturn:
    place = (filename, node.lineno, node.col_offset + 1, None, node.end_lineno, None)
    refuse(SyntaxError(message, place), source, filename, first_line)


class _Scope:
    """The names that statements bind or delete in their own scope, and what cannot be wrapped."""

    def __init__(self, statements: Iterable[ast.stmt]) -> None:
        self.names: set[str] = set()
        self.star: ast.stmt | None = None
        self.yields: ast.expr | None = None
        self.futures: set[str] = set()
        stack: list[ast.AST] = [*statements]
        while stack:
            self._visit(stack.pop(), stack)

    def annotations_run(self, flags: int) -> bool:
        """Whether annotations of names are evaluated."""
        return not ("annotations" in self.futures or flags & _ANNOTATIONS)

    def _visit(self, node: ast.AST, stack: list[ast.AST]) -> None:
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                self.names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.names.add(node.name)
            stack += node.decorator_list
            if node.returns is not None:
                stack.append(node.returns)
            self._visit_arguments(node.args, stack)
        elif isinstance(node, ast.Lambda):
            self._visit_arguments(node.args, stack)
        elif isinstance(node, ast.ClassDef):
            self.names.add(node.name)
            stack += [*node.decorator_list, *node.bases, *node.keywords]
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            # Its targets are its own; a walrus in it, however deep, binds outside.
            self.names.update(_walruses(node))
        elif isinstance(node, ast.TypeAlias):
            self.names.add(node.name.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._visit_import(node)
        else:
            if isinstance(node, ast.Yield | ast.YieldFrom):
                self.yields = self.yields or node
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
                self._add(node.name)
            elif isinstance(node, ast.MatchMapping):
                self._add(node.rest)
            stack += ast.iter_child_nodes(node)

    def _add(self, name: str | None) -> None:
        if name is not None:
            self.names.add(name)

    def _visit_arguments(self, arguments: ast.arguments, stack: list[ast.AST]) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        stack += [arg.annotation for arg in every if arg.annotation is not None]
        stack += arguments.defaults
        stack += [default for default in arguments.kw_defaults if default is not None]

    def _visit_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.star = node
            else:
                self.names.add(alias.asname or alias.name.partition(".")[0])
        if isinstance(node, ast.ImportFrom) and _is_future(node):
            self.futures.update(alias.name for alias in node.names)


def _walruses(node: ast.AST) -> Iterator[str]:
    """What the walruses in a comprehension bind, but for those in lambdas."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.NamedExpr):
            yield node.target.id
        if isinstance(node, ast.Lambda):
            stack += node.args.defaults
            stack += [default for default in node.args.kw_defaults if default is not None]
        else:
            stack += ast.iter_child_nodes(node)


class _Plain:
    """Rewrites what a function may not have: annotations of global names, a docstring."""

    def __init__(self, annotations_run: bool) -> None:
        self._annotations_run = annotations_run

    def convert(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements of a cell, ready to stand in a function."""
        result = self._block(statements)
        first = result[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
            and sys.flags.optimize < 2
        ):
            target = ast.copy_location(ast.Name("__doc__", ast.Store()), first)
            result[0] = ast.copy_location(ast.Assign([target], first.value), first)
        return result

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            if isinstance(statement, ast.AnnAssign):
                result += self._annotated(statement)
                continue
            result.append(statement)
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for parent in (
                statement,
                *getattr(statement, "handlers", ()),
                *getattr(statement, "cases", ()),
            ):
                for field in ("body", "orelse", "finalbody"):
                    inner = getattr(parent, field, None)
                    if isinstance(inner, list) and inner:
                        setattr(parent, field, self._block(inner))
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
