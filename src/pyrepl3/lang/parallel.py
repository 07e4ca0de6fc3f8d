"""A cell in, its statements with what of them may begin early out; and why others may not.

What begins early runs beside the statements above it. That must not show: same bindings, same output in
the same order, and the first error as if one statement had run after the other. So an await begins
early only where nobody could tell, also when its result is dropped since a statement above it failed:
where that is proved (see :mod:`pyrepl3.lang.proof`), or declared by ``@independent``.

What awaits nothing and only computes is *apart*: it may begin in a child of the process, where there may be
such, but only while the statements before it compute or await, too, and nothing unknown runs beside it.
"""

from __future__ import annotations

import ast
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.flow.walk import find_effects
from pyrepl3.lang.parse import parse
from pyrepl3.lang.proof import prove
from pyrepl3.lang.proof.inputs import MARK, MISSING, Proof, Refused, Written
from pyrepl3.lang.proof.known import find_definition
from pyrepl3.records import ParallelReport, ParallelStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from types import CodeType

    from pyrepl3.lang.proof.inputs import Define, Definition

MOST = 64
"""Statements that may await early at once."""
HERE = (
    'a worker that may start processes (isolation="process", or Policy(subprocesses=True)) '
    "computes it in a child"
)
"""Why nothing is computed in other processes where there is no worker."""


def independent[F: Callable[..., Any]](function: F) -> F:
    """Declare that a coroutine function may begin early, and be dropped, without anybody noticing.

    A decorator for functions that cells await, used by ``run(..., parallel=True)`` alone. You vouch that
    what the function gives depends on its arguments only, that it may run beside the statements
    before it, that it may be cancelled or its result dropped, and that it sets no context variable.
    Raises TypeError for what is no coroutine function.
    """
    if type(function) is not FunctionType or not function.__code__.co_flags & 0x80:
        raise TypeError("@independent is for functions made by 'async def'")
    setattr(function, MARK, True)
    return function


LISTS = (ast.List, ast.Tuple, ast.ListComp)
"""Expressions that may be computed in pieces, by items."""


class Statement:
    """A top-level statement: ``value`` is the expression that may begin early, if there is one.

    ``apart``: it awaits nothing.
    """

    def __init__(self, node: ast.stmt, *, tail: bool) -> None:
        self.node = node
        self.tail = tail
        """The last one, and an expression: its value is the cell's."""
        effects = find_effects(node)
        self.reads = effects.reads
        self.binds = effects.binds | effects.deletes
        self.binds_all = "import *" in effects.unsure
        self.value: ast.expr | None = None
        self.targets: list[ast.expr] = []
        self.apart = False
        self.calls = False
        self.why = ""
        self._take_apart()

    @property
    def awaits(self) -> bool:
        """Its expression awaits, and may begin as a task."""
        return self.value is not None and not self.apart

    def _take_apart(self) -> None:
        node = self.node
        if isinstance(node, ast.Assign) and all(map(_is_simple, node.targets)):
            value, targets = node.value, node.targets
        elif isinstance(node, ast.Expr):
            value, targets = node.value, []
        else:
            inside = any(isinstance(part, _AWAITS) for part in ast.walk(node))
            kind = type(node).__name__
            self.why = f"{kind} statements run where they stand" if inside else "it awaits nothing"
            return
        self.value, self.targets = value, targets
        self.apart = not any(isinstance(part, ast.Await) for part in ast.walk(value))
        self.calls = any(isinstance(part, ast.Call) for part in ast.walk(value))
        self.why = "it awaits nothing" if self.apart else ""


class Split:
    """A cell as statements, and for each the first place at which what it reads is bound."""

    def __init__(self, tree: ast.Module) -> None:
        last = len(tree.body) - 1
        self.statements = [
            Statement(node, tail=at == last and isinstance(node, ast.Expr))
            for at, node in enumerate(tree.body)
        ]

    def first_place(self, at: int, names: set[str], *, start: int = 0) -> int:
        """Where, from ``start`` on, nothing before statement ``at`` binds any of ``names``."""
        for before in range(at - 1, start - 1, -1):
            statement = self.statements[before]
            if statement.binds_all or statement.binds & names:
                return before + 1
        return start

    def after_others(self, at: int, harmless: Container[int], *, start: int = 0) -> int:
        """The place after the last statement before ``at`` of which it is not known what it changes."""
        for before in range(at - 1, start - 1, -1):
            if before not in harmless:
                return before + 1
        return start


_AWAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def _is_simple(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_simple, target.elts))
    return (
        _is_simple(target.value)
        if isinstance(target, ast.Starred)
        else isinstance(target, ast.Name)
    )


def remembering(text_of: Callable[[CodeType], str]) -> Define:
    """The definitions of code objects, each looked for once. ``text_of``: the text of its file."""
    known: dict[CodeType, Definition | None] = {}

    def define(code: CodeType) -> Definition | None:
        if code not in known:
            known[code] = find_definition(code, text_of(code))
        return known[code]

    return define


def explain_parallel(
    source: str,
    namespace: Mapping[str, object],
    *,
    flags: int = 0,
    text_of: Callable[[CodeType], str] = lambda _: "",
    apart: str | None = HERE,
) -> ParallelReport:
    """What of ``source`` would begin early with ``namespace``, and why the rest would not.

    What names hold that the cell itself binds is known as far as its text says it; the run looks again.
    ``text_of``: the text of the cell that code is from. ``apart``: why nothing is computed in other
    processes (None: it is). Never raises.
    """
    try:
        compiled = compile_cell(source, "<cell>", flags=flags)
    except CompilationError as error:
        return ParallelReport(why=f"it does not compile: {error.msg}")
    split = Split(parse(source, "<cell>", flags))
    if compiled.wrapped:
        return ParallelReport(why="a cell with a return at its top runs as one function")
    define = remembering(text_of)
    told: list[ParallelStatement] = []
    harmless: set[int] = set()
    long: set[int] = set()
    for at, statement in enumerate(split.statements):
        node = statement.node
        early, after, why = False, 0, statement.why
        if statement.value is not None:
            place = split.first_place(at, statement.reads)
            view = _View(split, at, namespace)
            try:
                proof = prove(
                    statement.value, view.look, define, names=namespace, apart=statement.apart
                )
            except Refused as refused:
                why = refused.why
                if statement.apart:
                    why = f"it awaits nothing: {why}" if statement.calls else "it awaits nothing"
            else:
                harmless.add(at)
                if statement.awaits or (statement.calls and proof.loops):
                    long.add(at)
                place = split.first_place(at, set(proof.inputs), start=place)
                if proof.mutable or statement.apart:
                    place = max(place, split.after_others(at, harmless))
                early = place < at
                after = (split.statements[place - 1].node.end_lineno or 0) if place else 0
                if statement.apart:
                    beside = any(before in long for before in range(place, at))
                    why = _why_here(statement, proof, apart, early=early, beside=beside)
                    early = not why
                    after = after if early else 0
                    pieces = not early and apart is None and proof.plain and at in long
                    if pieces and isinstance(statement.value, LISTS):
                        why = "proved to show nowhere; its items" + _APART[1:]
                    why = why or _explain(proof, early=True, after=after) + _APART
                else:
                    why = _explain(proof, early=early, after=after)
        told.append(
            ParallelStatement(
                line=node.lineno,
                end_line=node.end_lineno or node.lineno,
                early=early,
                after=after,
                apart=statement.apart and why.startswith("proved"),
                why=why,
            )
        )
    alone = sum(one.early or one.apart for one in told) == 0
    return ParallelReport(statements=tuple(told), why="nothing can begin early" if alone else "")


_APART = "; in a process of its own, unless it took less than 20 ms before"


def _why_here(
    statement: Statement, proof: Proof, apart: str | None, *, early: bool, beside: bool
) -> str:
    """Why a statement that only computes is not computed in a process of its own; "": it is."""
    if not statement.calls:
        return "it awaits nothing"
    why = ""
    if apart is not None:
        why = f"what it computes holds this thread; {apart}"
    elif not proof.plain:
        why = "what it gives may be an object of any class, and has to be made here"
    elif not proof.loops:
        why = "it has no loop: it goes to a process of its own once it took 20 ms"
    elif not (early and beside):
        why = "nothing else that takes long is known to go beside it"
    return f"it awaits nothing: {why}" if why else ""


def _explain(proof: Proof, *, early: bool, after: int) -> str:
    how = "declared independent" if proof.declared else "proved to show nowhere"
    if early:
        return how
    where = f"what it needs is only there after line {after}" if after else "it is the first"
    return f"{how}; {where}"


class _View:
    """What is known of the names at a statement before the cell has run."""

    def __init__(self, split: Split, at: int, namespace: Mapping[str, object]) -> None:
        self._split, self._at, self._namespace = split, at, namespace

    def look(self, name: str) -> object:
        for before in range(self._at - 1, -1, -1):
            statement = self._split.statements[before]
            if statement.binds_all or name in statement.binds:
                return self._bound(statement.node, name, before)
        return self._namespace.get(name, MISSING)

    def _bound(self, node: ast.stmt, name: str, at: int) -> object:
        view = _View(self._split, at, self._namespace)
        match node:
            case ast.AsyncFunctionDef(decorator_list=[]) | ast.FunctionDef(decorator_list=[]):
                if not (node.args.defaults or any(node.args.kw_defaults)):
                    return Written(node, declared=False)
            case ast.AsyncFunctionDef(decorator_list=[one]) if view.value_of(one) is independent:
                return Written(node, declared=True)
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                try:
                    return ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    pass
            case ast.Import(names=aliases):
                for alias in aliases:
                    if alias.name == (alias.asname or alias.name) == name and name in sys.modules:
                        return sys.modules[name]
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                there = vars(sys.modules.get(module, object)).get
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        found = there(alias.name, MISSING)
                        if found is not MISSING:
                            return found
            case _:
                pass
        raise Refused(f"what {name} is, is only known after line {node.end_lineno}")

    def value_of(self, node: ast.expr) -> object:
        try:
            if isinstance(node, ast.Name):
                return self.look(node.id)
            if isinstance(node, ast.Attribute):
                holder = self.value_of(node.value)
                return getattr(holder, "__dict__", {}).get(node.attr, MISSING)
        except Refused:
            pass
        return MISSING
