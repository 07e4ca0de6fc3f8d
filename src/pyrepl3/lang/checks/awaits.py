"""A cell's tree and the live names in, coroutines nobody awaits and calls that block a loop out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.blocking import BLOCKING_IO_CALLS, BLOCKING_IO_MODULES, LOOP_PACKAGES
from pyrepl3.lang.values import BLOCKS, weigh_call
from pyrepl3.records import Diagnostic, DiagnosticKind

if TYPE_CHECKING:
    from pyrepl3.lang.checks.edits import Text

_COROUTINE = 0x80  # inspect.CO_COROUTINE
_BLOCKING_HOMES = frozenset({"time", "os", "getpass", "shutil", "pandas"})
_BLOCKING_BUILTINS = frozenset({"open", "input"})
_PLAIN_PARENTS = (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return, ast.withitem, ast.NamedExpr)


type _Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class AwaitChecks:
    """One look at one cell. Runs no code of the values. ``loop``: its top level runs on the loop."""

    def __init__(
        self, tree: ast.Module, text: Text, namespace: Mapping[str, object], *, loop: bool
    ) -> None:
        self._tree, self._text, self._namespace, self._loop = tree, text, namespace, loop
        self._parents: dict[ast.AST, ast.AST] = {}
        self._imported: dict[str, str] = {}
        self._defined: dict[str, bool] = {}  # name: whether it is an ``async def`` and nothing else
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self._parents[child] = node
            if isinstance(node, ast.Import):
                for alias in node.names:
                    dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                    self._imported[alias.asname or dotted] = dotted
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    self._imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for name, kind in _bindings(tree.body):
            self._defined[name] = kind is ast.AsyncFunctionDef and self._defined.get(name, True)

    # --- coroutines that nobody awaits ------------------------------------------------------------

    def unawaited(self) -> Iterator[Diagnostic]:
        """Statements that make a coroutine and drop it."""
        for node in ast.walk(self._tree):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
                continue
            call = node.value
            around = self._functions(node)
            if not self._is_coroutine(call.func, around):
                continue
            start, end = self._text.span(call)
            words = f"the coroutine of {_short(call.func)}(…) is never awaited: nothing of it runs"
            proposal: str | None = None
            changes: tuple[str, ...] = ()
            if not around or isinstance(around[0], ast.AsyncFunctionDef):
                proposal = self._text.changed([(start, start, "await ")])
                changes = (f"line {start[0]}: added await",)
            else:
                words += "; await it in an async def, or hand it to asyncio.create_task()"
            yield _diagnostic("unawaited", start, end, words, proposal, changes)

    def _is_coroutine(self, function: ast.expr, around: list[_Function]) -> bool:
        path = _path(function)
        if not path or any(path[0] in _locals(one) for one in around):
            return False
        if path[0] in self._defined and path[0] not in self._imported:
            return len(path) == 1 and self._defined[path[0]]
        found = self._find(path)
        if type(found) is MethodType:
            found = found.__func__
        return type(found) is FunctionType and found.__code__.co_flags & _COROUTINE != 0

    def _find(self, path: list[str]) -> object:
        """The object that a dotted name stands for; None where only running code could say."""
        dotted = self._imported.get(path[0])
        if dotted is not None:
            module, _, name = dotted.rpartition(".")
            value: object = sys.modules.get(dotted)
            if value is None and module:
                value = _attribute(sys.modules.get(module), name)
        else:
            value = self._namespace.get(path[0])
        for name in path[1:]:
            value = _attribute(value, name)
        return value

    # --- calls that block -------------------------------------------------------------------------

    def blocking(self) -> Iterator[Diagnostic]:
        """Calls in code that runs on an event loop, and keep it from everything else."""
        for call in ast.walk(self._tree):
            if not isinstance(call, ast.Call):
                continue
            around = self._functions(call)
            on_loop = isinstance(around[0], ast.AsyncFunctionDef) if around else self._loop
            if on_loop and not self._is_awaited(call) and self._blocks(call):
                yield self._blocked(call)

    def _blocks(self, call: ast.Call) -> bool:
        path = _path(call.func)
        if not path or any(path[0] in _locals(one) for one in self._functions(call)):
            return False
        dotted = self._dotted(path)
        if dotted is not None:
            top, last = dotted.partition(".")[0], dotted.rpartition(".")[2]
            if top in LOOP_PACKAGES:
                return False
            return top in BLOCKING_IO_MODULES or (
                top in _BLOCKING_HOMES and last in BLOCKING_IO_CALLS
            )
        if path[0] in self._defined:
            return False
        if path[0] in self._namespace:
            if len(path) > 1 and path[-1] not in BLOCKING_IO_CALLS:
                return False
            return weigh_call(self._namespace[path[0]], self._namespace) == BLOCKS
        return len(path) == 1 and path[0] in _BLOCKING_BUILTINS

    def _dotted(self, path: list[str]) -> str | None:
        """What the name is called at home, where an import, here or live, says it."""
        home = self._imported.get(path[0])
        if home is None and path[0] not in self._defined:
            value = self._namespace.get(path[0])
            home = value.__dict__.get("__name__") if type(value) is ModuleType else None
        return ".".join([home, *path[1:]]) if isinstance(home, str) else None

    def _blocked(self, call: ast.Call) -> Diagnostic:
        text = self._text
        start, end = text.span(call)
        _, behind = text.span(call.func)
        path = _path(call.func)
        inner = text.between(behind, end).strip()[1:-1].strip()
        alone = self._namespace.get(path[0]) if len(path) == 1 else None
        sleeps = self._dotted(path) == "time.sleep" or alone is _SLEEP
        if sleeps:
            new = f"await asyncio.sleep({inner})"
        else:
            function = text.between(start, behind)
            new = f"await asyncio.to_thread({function}{', ' if inner else ''}{inner})"
        if not isinstance(self._parents.get(call), _PLAIN_PARENTS):
            new = f"({new})"
        proposal = text.changed([(start, end, new)])
        if self._imported.get("asyncio") != "asyncio" and (self._dotted(["asyncio"]) != "asyncio"):
            proposal = text.with_import(proposal, "asyncio")
        words = f"{_short(call.func)}(…) blocks the event loop: while it runs no other task does"
        change = f"line {start[0]}: {'asyncio.sleep' if sleeps else 'asyncio.to_thread'} instead"
        return _diagnostic("blocking-call", start, end, words, proposal, (change,))

    def _is_awaited(self, call: ast.Call) -> bool:
        """Whether it is an operand of ``await``, or handed to what is: then it is no plain call."""
        node: ast.AST | None = self._parents.get(call)
        while isinstance(node, ast.Call | ast.keyword | ast.Starred | ast.List | ast.Tuple):
            node = self._parents.get(node)
        return isinstance(node, ast.Await | ast.AsyncFor | ast.comprehension) or (
            isinstance(node, ast.withitem) and isinstance(self._parents.get(node), ast.AsyncWith)
        )

    def _functions(self, node: ast.AST) -> list[_Function]:
        """The functions that a node is in, the innermost first."""
        found: list[_Function] = []
        parent = self._parents.get(node)
        while parent is not None:
            if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                found.append(parent)
            parent = self._parents.get(parent)
        return found


def _sleep() -> object:
    import time  # noqa: PLC0415  only its identity counts

    return time.sleep


_SLEEP = _sleep()


def _attribute(value: object, name: str) -> object:
    """An attribute that is found without running code."""
    if type(value) is ModuleType:
        return value.__dict__.get(name)
    cls: Any = value if issubclass(type(value), type) else type(value)
    for base in type.__dict__["__mro__"].__get__(cls):
        found = type.__dict__["__dict__"].__get__(base)
        if name in found:
            return found[name]
    return None


def _path(node: ast.expr) -> list[str]:
    """``a.b.c`` as its parts; none where it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _bindings(statements: list[ast.stmt]) -> Iterator[tuple[str, type]]:
    """Names that code of this scope binds, each with the kind of node that does."""
    stack: list[ast.AST] = [*statements]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            plain = not node.decorator_list  # what a decorator returns nobody knows
            yield node.name, type(node) if plain else ast.Name
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, ast.Name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0], ast.alias
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, ast.Name
        stack += ast.iter_child_nodes(node)


def _locals(function: _Function) -> set[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    names = {argument.arg for argument in every}
    if not isinstance(function, ast.Lambda):
        names.update(name for name, _ in _bindings(function.body))
    return names


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else text[:59] + "…"


def _diagnostic(
    kind: DiagnosticKind,
    start: tuple[int, int],
    end: tuple[int, int],
    words: str,
    proposal: str | None,
    changes: tuple[str, ...],
) -> Diagnostic:
    return Diagnostic(
        kind=kind,
        severity="warning",
        line=start[0],
        column=start[1],
        end_line=end[0],
        end_column=end[1],
        text=words,
        proposal=proposal,
        changes=changes,
    )
