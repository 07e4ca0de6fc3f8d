"""A piece of a syntax tree in; the global names that it reads, binds, deletes and changes in place out.

By the text alone. What is read or bound is never missed, but for what ``unsure`` tells of (``exec`` and
the like). What is changed in place is found as well as a text can say it: ``mutates`` is certain to try,
what is handed to code that nobody can see is left for whoever knows what the names hold.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pyrepl3.lang.flow.effects import Call, Effects
from pyrepl3.lang.flow.known import MUTATORS, OPAQUE, PURE_CALLS, PURE_METHODS, PURE_ROOTS
from pyrepl3.lang.flow.roots import called_in, flat, is_used_up, path_of, plain_given, roots
from pyrepl3.lang.wrap import bound_names

if TYPE_CHECKING:
    from collections.abc import Iterable

type Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def find_effects(statement: ast.stmt) -> Effects:
    """What a top-level statement does when it runs; its functions are in ``code``."""
    walk = _Walk(Effects(), frozenset(), frozenset())
    walk.visit(statement)
    if not isinstance(
        statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.TypeAlias
    ):
        walk.found.now = walk.found.code  # whatever it defines it may call, too
    return walk.found


class _Walk(ast.NodeVisitor):
    """Fills ``found``. ``locals``: names that are not global here; ``mine``: the parameters among them."""

    def __init__(self, found: Effects, hidden: frozenset[str], mine: frozenset[str]) -> None:
        self.found, self.hidden, self.mine = found, hidden, mine

    # --- names --------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        name = node.id
        if name in self.hidden:
            return
        if isinstance(node.ctx, ast.Load):
            self.found.reads.add(name)
            if name in OPAQUE:
                self.found.unsure.add(name)
        elif isinstance(node.ctx, ast.Store):
            self.found.binds.add(name)
        else:
            self.found.deletes.add(name)

    def _bind(self, name: str) -> None:
        if name not in self.hidden:
            self.found.binds.add(name)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.found.unsure.add("import *")
            else:
                name = alias.asname or alias.name.partition(".")[0]
                self._bind(name)
                if isinstance(node, ast.ImportFrom):
                    self.found.imports[name] = f"{node.module or ''}.{alias.name}"
                else:
                    self.found.imports[name] = alias.name if alias.asname else name

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name)
            if node.name not in self.hidden:
                self.found.deletes.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self._bind(node.rest)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not self.found.name:
            self.found.binds.add("__annotations__")
        if node.value is None and isinstance(node.target, ast.Name):
            self.visit(node.annotation)
            return
        self._share([node.target], node.value)
        self.generic_visit(node)

    def visit_TypeAlias(self, node: ast.TypeAlias) -> None:
        assert isinstance(node.name, ast.Name)
        self._bind(node.name.id)
        inner = Effects(node.name.id)
        _Walk(inner, self.hidden, self.mine).visit(node.value)
        self.found.code.append(inner)
        self.found.shares.append((frozenset({node.name.id}), *_NOTHING))

    # --- assignments --------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self._share(node.targets, node.value)
        given = plain_given(node.value)
        if given is not None:
            for part in node.targets:
                if isinstance(part, ast.Name):
                    self.found.plain[part.id] = given
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._share([node.target], node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            if node.target.id not in self.hidden:
                self.found.reads.add(node.target.id)
                self.found.augments.add(node.target.id)
                given = plain_given(node.value)
                if given is not None:
                    self.found.plain[node.target.id] = given | {node.target.id}
            elif node.target.id in self.mine:
                self.found.changed.add(node.target.id)
        self._share([node.target], node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._share([node.target], node.iter)
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def visit_withitem(self, node: ast.withitem) -> None:
        if not isinstance(node.context_expr, ast.Call):
            self._mutate(roots(node.context_expr))
        if node.optional_vars is not None:
            self._share([node.optional_vars], node.context_expr)
        self.generic_visit(node)

    def _share(self, targets: list[ast.expr], value: ast.expr | None) -> None:
        names = {
            part.id
            for target in targets
            for part in ast.walk(target)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        # `a[0] = b` makes a hold b.
        for target in targets:
            names |= {
                name
                for part in flat(target)
                if isinstance(part, ast.Attribute | ast.Subscript)
                for name in roots(part)
            }
        if value is not None and names:
            held = roots(value)
            if len(targets) > 1 or (len(names) > 1 and not isinstance(value, ast.Tuple | ast.List)):
                held |= names  # of each other
            if held & self.hidden:
                self.found.keeps = True
            called = called_in(value)
            self.found.shares.append((frozenset(names), held, called, is_used_up(value)))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._mutate(roots(node.value))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._mutate(roots(node.value))
        self.generic_visit(node)

    def _mutate(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.mine:
                self.found.changed.add(name)
            elif name not in self.hidden:
                self.found.mutates.add(name)

    # --- calls --------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        path, root = path_of(node.func)
        arguments: list[tuple[int | str, frozenset[str]]] = [
            (at, roots(argument)) for at, argument in enumerate(node.args)
        ]
        arguments += [(word.arg or "**", roots(word.value)) for word in node.keywords]
        if root is None:
            holders = roots(node.func)
            self._call("", path, [(-1, holders), *arguments])
        elif path == () and root in {"setattr", "delattr", "next", "anext"} and node.args:
            self._mutate(roots(node.args[0]))
            held = frozenset[str]().union(*(names for _, names in arguments[1:]))
            self.found.keeps = True
            self.found.shares.append((roots(node.args[0]), held, frozenset(), False))
        elif path and path[-1] in MUTATORS and root in self.hidden:
            self._mutate({root})
            self._hand_over(arguments)
        elif root in self.hidden:
            if path and path[-1] not in PURE_METHODS:
                self._mutate({root} & self.mine)
            self._call("", path, arguments)
        else:
            self._call(root, path, arguments)
        if path and path[-1] in MUTATORS and root is not None:
            # What goes into it, it holds from now on.
            held = frozenset[str]().union(*(names for _, names in arguments))
            if held:
                self.found.keeps = True
                self.found.shares.append((frozenset({root}), held, frozenset(), False))
        self.generic_visit(node)

    def _call(
        self, root: str, path: tuple[str, ...], arguments: list[tuple[int | str, frozenset[str]]]
    ) -> None:
        pure = root in PURE_CALLS if path == () else path[-1] in PURE_METHODS or root in PURE_ROOTS
        if not pure:
            self._hand_over(arguments)
        self.found.calls.append(
            Call(
                root,
                path,
                [
                    (at, frozenset(n for n in names if n not in self.hidden))
                    for at, names in arguments
                ],
            )
        )

    def _hand_over(self, arguments: list[tuple[int | str, frozenset[str]]]) -> None:
        for _, names in arguments:
            self.found.changed |= names & self.mine
            self.found.keeps = self.found.keeps or bool(names & self.hidden)

    # --- scopes -------------------------------------------------------------------------------------

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.found.returns |= {n for n in roots(node.value) if n not in self.hidden}
            self.found.results |= called_in(node.value)
        self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        self.found.lazy = True
        self.generic_visit(node)

    visit_YieldFrom = visit_Yield

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name)
        inner = self._function(node, node.body)
        self.found.shares.append((frozenset({node.name}), _defaults(node), frozenset(), False))
        if node.decorator_list:
            self.found.now.append(inner)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.found.now.append(self._function(node, [node.body]))

    def _function(self, node: Function, body: list[ast.stmt] | list[ast.expr]) -> Effects:
        arguments = node.args
        outside: list[ast.AST | None] = [*arguments.defaults, *arguments.kw_defaults]
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        extra = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        if not isinstance(node, ast.Lambda):
            outside += [argument.annotation for argument in (*every, *extra)]
            outside += [*node.decorator_list, node.returns]
            outside += node.type_params
        for part in outside:
            if part is not None:
                self.visit(part)
        parameters = {argument.arg for argument in (*every, *extra)}
        declared = _globals_in(body)
        own = parameters | (bound_names(body) - declared)
        inner = Effects(getattr(node, "name", "<lambda>"))
        inner.parameters = tuple(argument.arg for argument in (*every, *extra))
        walk = _Walk(inner, (self.hidden - declared) | own, frozenset(parameters))
        for part in body:
            walk.visit(part)
        if isinstance(node, ast.Lambda):
            inner.returns |= {n for n in roots(node.body) if n not in walk.hidden}
        self.found.code.append(inner)
        return inner

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        for part in (*node.decorator_list, *node.bases, *node.keywords, *node.type_params):
            self.visit(part)
        inner = Effects(node.name)
        inner.is_class = True
        # Names that it binds are its own, those that it reads may be global all the same.
        walk = _Walk(inner, self.hidden, frozenset())
        declared = _globals_in(node.body)
        for part in node.body:
            walk.visit(part)
        inner.binds = {name for name in inner.binds if name in declared}
        inner.deletes &= declared
        self.found.reads |= inner.reads
        self.found.binds |= inner.binds
        self.found.deletes |= inner.deletes
        self.found.mutates |= inner.mutates
        self.found.calls += inner.calls
        self.found.unsure |= inner.unsure
        self.found.now += inner.now
        self.found.code.append(inner)
        held = frozenset(name for base in node.bases for name in roots(base))
        held = held.union(*(sources for _, sources, _, _ in inner.shares))
        self.found.shares.append((frozenset({node.name}), held, frozenset(), False))
        if node.decorator_list or node.bases or node.keywords or inner.calls:
            self.found.now += inner.code

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        targets = {
            part.id
            for generator in node.generators
            for part in ast.walk(generator.target)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        self.visit(node.generators[0].iter)  # runs outside
        hidden, self.hidden = self.hidden, self.hidden | targets
        try:
            for part in ast.iter_child_nodes(node):
                self.visit(part)
        finally:
            self.hidden = hidden

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


_NOTHING: tuple[frozenset[str], frozenset[str], bool] = (frozenset(), frozenset(), False)


def _defaults(node: Function) -> frozenset[str]:
    every = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
    return frozenset(name for one in every for name in roots(one))


def _globals_in(body: Iterable[ast.AST]) -> set[str]:
    """What a scope itself declares to be global."""
    found: set[str] = set()
    stack: list[ast.AST] = [*body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Global):
            found |= set(node.names)
        elif not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        ):
            stack += ast.iter_child_nodes(node)
    return found
