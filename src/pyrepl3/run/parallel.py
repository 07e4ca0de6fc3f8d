"""A cell whose awaits may begin early in; a run of it out that differs from an ordinary one in time alone.

The statements run one after the other, as ever. Before each of them those further down are begun whose
awaits are proved or declared to show nowhere and whose inputs are there: as tasks of their own, with a
copy of the cell's Context. When the turn of such a statement comes its inputs are compared with what
they were. If they are the same its result counts: it is bound, or raised; its output is told. If not, it is
dropped and the statement runs as written. Where a statement fails, all that began early below it is
cancelled and awaited, and nothing of it is seen.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import linecache
import warnings
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.lang.compile import FUTURE_FLAGS
from pyrepl3.lang.parallel import MOST, Split, remembering
from pyrepl3.lang.parse import FLAGS, parse
from pyrepl3.lang.proof import prove
from pyrepl3.lang.proof.inputs import MISSING, Proof, Refused
from pyrepl3.run.lanes import LANE, Lane, LaneSink
from pyrepl3.run.scopes import SCOPE, Scope
from pyrepl3.run.sources import is_cell

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyrepl3.lang.compile import CompiledCell
    from pyrepl3.lang.parallel import Statement
    from pyrepl3.lang.proof.functions import Seen
    from pyrepl3.run.evaluator import Run
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.sources import Sources

_COROUTINE = 0x80  # CO_COROUTINE
_HOLE = "pyrepl3: the value of a statement that began early"
_OUTER = "async def run():\n    return await 'pyrepl3: the cell'"


def text_of(code: CodeType) -> str:
    """The text of the cell that ``code`` is from; "" where it is from no cell."""
    name = code.co_filename
    return "".join(linecache.getlines(name)) if is_cell(name) else ""


def split_run(execution: Execution, run: Run, sources: Sources) -> Run:
    """The same cell, to be run by ``evaluate_async`` as ever, with its awaits begun early.

    The same ``run`` where nothing could begin early.
    """
    compiled, namespace = run[2], run[3]
    if compiled.wrapped or not compiled.is_async:
        return run
    cell = execution.cell
    # What the session's own flags are, the compiled cell says; its own future imports add to them.
    tree = parse(cell.source, cell.filename, compiled.flags, cell.first_line)
    split = Split(tree)
    if (
        sum(statement.value is not None for statement in split.statements) == 0
        or len(split.statements) < 2
    ):
        return run
    parts = [
        _Part(each, at, cell.filename, compiled.flags) for at, each in enumerate(split.statements)
    ]
    driver = _Driver(execution, namespace, split, parts)
    nested: tuple[CodeType, ...] = ()
    if compiled.nested:  # functions that are made in the parts, not in the whole
        nested = tuple(code for part in parts for code in part.nested)
        sources.hold(cell.filename, nested)
    outer = next(
        const
        for const in compile(_OUTER, __file__, "exec").co_consts
        if isinstance(const, CodeType)
    )
    code = outer.replace(
        co_consts=tuple(
            driver if const == "pyrepl3: the cell" else const for const in outer.co_consts
        )
    )
    whole: CompiledCell = msgspec.structs.replace(
        compiled, wrapped=True, body_async=True, tail_async=False, nested=nested
    )
    return code, None, whole, namespace


class _Part:
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
        return [code for one in codes if one is not None for code in _nested(one)]

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
        with warnings.catch_warnings():  # what the whole was compiled with has told them
            warnings.simplefilter("ignore")
            code: CodeType = compile(tree, self._filename, mode, flags, dont_inherit=True)
        return code


def _nested(code: CodeType) -> list[CodeType]:
    found = [const for const in code.co_consts if isinstance(const, CodeType)]
    for one in found:  # grows while it is read
        found += [const for const in one.co_consts if isinstance(const, CodeType)]
    return found


class _Driver:
    """Runs the parts in order, those early that may be. Awaited once, in the cell's own task."""

    def __init__(
        self, execution: Execution, namespace: dict[str, Any], split: Split, parts: list[_Part]
    ) -> None:
        self._execution, self._namespace = execution, namespace
        self._split, self._parts = split, parts
        self._define = remembering(text_of)
        self._seen: Seen = {}
        self._lanes: dict[int, tuple[Lane, Proof]] = {}
        self._harmless: set[int] = set()
        """Statements that run now or early and are known to change nothing."""
        self._due: dict[int, list[int]] = {}
        for at, statement in enumerate(split.statements):
            if statement.value is not None:
                place = split.first_place(at, statement.reads)
                self._due.setdefault(place, []).append(at)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        execution = self._execution
        sink = execution.sink
        if sink is not None:
            execution.sink = LaneSink(sink)  # type: ignore[assignment]  # all that a sink does
        try:
            value = None
            for at in range(len(self._parts)):
                self._begin(at)
                value = await self._step(at)
            return value
        finally:
            await self._drop_all()
            execution.sink = sink

    async def _step(self, at: int) -> Any:
        """One statement in its turn. Returns its value, if it is an expression at the end."""
        part, names = self._parts[at], self._namespace
        lane, proof = self._lanes.pop(at, (None, None))
        if lane is not None and proof is not None:
            if proof.holds(self._look):
                lane.open()
                assert lane.task is not None
                ok, value = await lane.task
                if not ok:
                    raise value
                part.bind(value, names)
                return value if part.tail else None
            await _drop([lane])
        if part.whole is None:
            return None
        # Early or not, its steps are called by where it stands.
        token = SCOPE.set(self._scope(at)) if self._split.statements[at].value else None
        try:
            value = eval(part.whole, names)  # noqa: S307
            if part.whole.co_flags & _COROUTINE:
                value = await value
        finally:
            if token is not None:
                SCOPE.reset(token)
        return value

    def _scope(self, at: int) -> Scope | None:
        steps = self._execution.steps
        return None if steps is None else Scope(f"{steps.root.path}-at{at + 1}")

    # --- lanes --------------------------------------------------------------------------------------

    def _look(self, name: str) -> object:
        return self._namespace.get(name, MISSING)

    def _begin(self, at: int) -> None:
        """Begin what may begin before statement ``at``."""
        for late in sorted(self._due.pop(at, ())):
            statement = self._split.statements[late]
            assert statement.value is not None
            try:
                proof = prove(
                    statement.value,
                    self._look,
                    self._define,
                    names=self._namespace,
                    seen=self._seen,
                )
            except Refused:
                continue
            place = self._split.first_place(late, set(proof.inputs), start=at)
            if proof.mutable:
                place = max(place, self._after_others(at, late))
            if place > at and place < late:
                self._due.setdefault(place, []).append(late)
                continue
            self._harmless.add(late)
            if place < late and len(self._lanes) < MOST:
                self._lanes[late] = self._start(late), proof
            elif place < late:
                self._due.setdefault(at + 1, []).append(late)

    def _after_others(self, start: int, late: int) -> int:
        """The place after the last statement before ``late`` of which it is not known what it changes."""
        for before in range(late - 1, start - 1, -1):
            if before not in self._harmless:
                return before + 1
        return start

    def _start(self, at: int) -> Lane:
        code = self._parts[at].value
        lane = Lane()
        context = contextvars.copy_context()
        context.run(LANE.set, lane)
        context.run(SCOPE.set, self._scope(at))
        loop = asyncio.get_running_loop()
        name = f"{self._execution.cell.id}-{at + 1}"
        # Not by the loop's factory: these are no tasks of the user's, and no limit counts them.
        lane.task = asyncio.Task(
            _ride(code, self._namespace),
            loop=loop,
            name=name,
            context=context,
        )
        return lane

    async def _drop_all(self) -> None:
        lanes = [lane for lane, _ in self._lanes.values()]
        self._lanes.clear()
        if lanes:
            await _drop(lanes)


async def _ride(code: CodeType, namespace: dict[str, Any]) -> tuple[bool, Any]:
    """The end of a lane as a value: an error raised in a task could stop the whole loop."""
    try:
        return True, await eval(code, namespace)  # noqa: S307
    except BaseException as error:  # noqa: BLE001  whatever it is, it is raised in its turn
        return False, error


async def _drop(lanes: list[Lane]) -> None:
    """Cancel lanes whose turn never comes, and wait until they are over: nothing runs on behind the cell."""
    cancelled: asyncio.CancelledError | None = None
    rest = set()
    for lane in lanes:
        lane.drop()
        assert lane.task is not None
        rest.add(lane.task)
    for task in rest:
        task.cancel()
    while rest:
        try:
            _, rest = await asyncio.wait(rest)
        except asyncio.CancelledError as error:  # pressed again
            cancelled = error
            for task in rest:
                task.cancel()
    if cancelled is not None:
        raise cancelled
