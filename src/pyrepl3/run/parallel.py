"""A cell whose awaits may begin early in; a run of it out that differs from an ordinary one in time alone.

The statements run one after the other, as ever. Before each of them those further down are begun whose
awaits are proved or declared to show nowhere and whose inputs are there: as tasks of their own, with a
copy of the cell's Context. When the turn of such a statement comes its inputs are compared with what
they were. If they are the same its result counts: it is bound, or raised; its output is told. If not, it is
dropped and the statement runs as written. Where a statement fails, all that began early below it is
cancelled and awaited, and nothing of it is seen.

In a worker the same goes for statements that only compute, in forked children (see ``children``), while this
process runs one of them itself or waits. Those that run before them meanwhile are proved to compute or
await, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import linecache
import time
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.lang.parallel import LISTS, MOST, Split, remembering
from pyrepl3.lang.parse import parse
from pyrepl3.lang.proof import prove
from pyrepl3.lang.proof.inputs import MISSING, Proof, Refused
from pyrepl3.run.lanes import LANE, Lane, LaneSink
from pyrepl3.run.parts import Part
from pyrepl3.run.scopes import SCOPE, Scope
from pyrepl3.run.sources import is_cell

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyrepl3.lang.compile import CompiledCell
    from pyrepl3.lang.proof.functions import Seen
    from pyrepl3.run.children import Children
    from pyrepl3.run.computing import Computing
    from pyrepl3.run.evaluator import Run
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.sources import Sources

_clock = time.thread_time  # what else the machine did meanwhile makes no statement a long one

_COROUTINE = 0x80  # CO_COROUTINE
_OUTER = "async def run():\n    return await 'pyrepl3: the cell'"
_OUTER_PLAIN = "def run():\n    cell = 'pyrepl3: the cell'\n    return cell()"


def text_of(code: CodeType) -> str:
    """The text of the cell that ``code`` is from; "" where it is from no cell."""
    name = code.co_filename
    return "".join(linecache.getlines(name)) if is_cell(name) else ""


def split_run(execution: Execution, run: Run, sources: Sources, children: Children | None) -> Run:
    """The same cell, to be run by ``evaluate`` or ``evaluate_async`` as ever, with what may begin early.

    The same ``run`` where nothing could begin early. ``children``: where what only computes may go.
    """
    compiled, namespace = run[2], run[3]
    if compiled.wrapped:
        return run
    cell = execution.cell
    # What the session's own flags are, the compiled cell says; its own future imports add to them.
    tree = parse(cell.source, cell.filename, compiled.flags, cell.first_line)
    split = Split(tree)
    if children is not None and (cell.background or children.why_not()):
        children = None
    awaits = [one for one in split.statements if one.awaits]
    heavy = [one for one in split.statements if one.apart and one.calls]
    lists = [one for one in heavy if isinstance(one.value, LISTS)]
    several = len(split.statements) > 1
    if not (several and awaits) and (children is None or not (lists or (several and heavy[1:]))):
        return run
    parts = [
        Part(each, at, cell.filename, compiled.flags) for at, each in enumerate(split.statements)
    ]
    computing = None
    if children is not None and heavy:
        from pyrepl3.run.computing import Computing  # noqa: PLC0415  not everywhere there are children

        computing = Computing(execution, namespace, split.statements, parts, children)
    driver = _Driver(execution, namespace, split, parts, computing)
    nested: tuple[CodeType, ...] = ()
    if compiled.nested:  # functions that are made in the parts, not in the whole
        nested = tuple(code for part in parts for code in part.nested)
        sources.hold(cell.filename, nested)
    text = _OUTER if compiled.is_async else _OUTER_PLAIN
    outer = next(
        const for const in compile(text, __file__, "exec").co_consts if isinstance(const, CodeType)
    )
    code = outer.replace(
        co_consts=tuple(
            driver if const == "pyrepl3: the cell" else const for const in outer.co_consts
        )
    )
    whole: CompiledCell = msgspec.structs.replace(
        compiled, wrapped=True, body_async=compiled.is_async, tail_async=False, nested=nested
    )
    return code, None, whole, namespace


class _Driver:
    """Runs the parts in order, those early that may be. Awaited, or called where nothing awaits; once."""

    def __init__(
        self,
        execution: Execution,
        namespace: dict[str, Any],
        split: Split,
        parts: list[Part],
        computing: Computing | None,
    ) -> None:
        self._execution, self._namespace = execution, namespace
        self._split, self._parts = split, parts
        self._computing = computing
        self._define = remembering(text_of)
        self._seen: Seen = {}
        self._lanes: dict[int, Lane] = {}
        self._proofs: dict[int, Proof] = {}
        """Of statements whose turn has not come: what is known to change nothing, early or not."""
        self._due: dict[int, list[int]] = {}
        for at, statement in enumerate(split.statements):
            if statement.awaits or (statement.apart and computing is not None):
                place = split.first_place(at, statement.reads)
                self._due.setdefault(place, []).append(at)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run(asyncio.get_running_loop()).__await__()

    def __call__(self) -> Any:
        try:
            self._run(None).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("unreachable: nothing was awaited")

    async def _run(self, loop: asyncio.AbstractEventLoop | None) -> Any:
        execution, computing = self._execution, self._computing
        if computing is not None:
            computing.loop = loop
        sink = execution.sink
        if sink is not None and loop is not None:
            execution.sink = LaneSink(sink)  # type: ignore[assignment]  # all that a sink does
        try:
            value = None
            for at in range(len(self._parts)):
                for late in sorted(self._due.pop(at, ())):
                    self._prove(at, late)
                # Where its value is there this process computes the next one itself.
                if computing is None or not computing.is_over(at):
                    self._begin(at, idle=self._split.statements[at].awaits)
                value = await self._step(at)
                self._proofs.pop(at, None)
            return value
        finally:
            if computing is not None:
                computing.close()
            await self._drop_all()
            execution.sink = sink

    async def _step(self, at: int) -> Any:
        """One statement in its turn. Returns its value, if it is an expression at the end."""
        part, names = self._parts[at], self._namespace
        proof = self._proofs.get(at)
        lane = self._lanes.pop(at, None)
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
        computing = self._computing
        if computing is not None and proof is not None:
            found = await computing.take(
                at, lambda: proof.holds(self._look), proof, lambda: self._begin(at, idle=True)
            )
            if found is not None:
                part.bind(found[0], names)
                return found[0] if part.tail else None
        if part.whole is None:
            return None
        # Early or not, its steps are called by where it stands.
        awaits = self._split.statements[at].awaits
        token = SCOPE.set(self._scope(at)) if awaits else None
        begun = _clock()
        try:
            value = eval(part.whole, names)  # noqa: S307
            if part.whole.co_flags & _COROUTINE:
                value = await value
        finally:
            if token is not None:
                SCOPE.reset(token)
        if computing is not None and proof is not None and not awaits:
            computing.note(at, proof, _clock() - begun)
        return value

    def _scope(self, at: int) -> Scope | None:
        steps = self._execution.steps
        return None if steps is None else Scope(f"{steps.root.path}-at{at + 1}")

    # --- what may begin -----------------------------------------------------------------------------

    def _look(self, name: str) -> object:
        return self._namespace.get(name, MISSING)

    def _prove(self, at: int, late: int) -> None:
        """Find out, before statement ``at``, whether ``late`` may begin from here on."""
        statement = self._split.statements[late]
        assert statement.value is not None
        try:
            proof = prove(
                statement.value,
                self._look,
                self._define,
                names=self._namespace,
                seen=self._seen,
                apart=statement.apart,
            )
        except Refused:
            return
        place = self._split.first_place(late, set(proof.inputs), start=at)
        if place > at:  # what it reads in functions is bound in between
            self._due.setdefault(place, []).append(late)
        else:
            self._proofs[late] = proof

    def _begin(self, at: int, *, idle: bool = False) -> None:
        """Begin what may begin before statement ``at``; ``idle``: this process is going to wait."""
        stretch: int | None = None
        busy, computing = False, self._computing
        for late in sorted(self._proofs):
            proof, awaits = self._proofs[late], self._split.statements[late].awaits
            here = late in self._lanes or (computing is not None and computing.has(late))
            if late > at and not here:
                if not proof.holds(self._look):
                    del self._proofs[late]
                    self._due.setdefault(at + 1, []).append(late)
                    continue
                # One that only computes begins where something else goes on beside it.
                may = awaits or (
                    busy and computing is not None and computing.may_begin(late, proof, idle=idle)
                )
                if may and (proof.mutable or not awaits):  # nothing unknown is to run beside it
                    stretch = self._find_stretch(at) if stretch is None else stretch
                    may = late < stretch
                if may:
                    self._start(late, proof)
            busy = busy or awaits or (computing is not None and computing.is_heavy(late, proof))

    def _find_stretch(self, at: int) -> int:
        """The first statement from ``at`` on of which it is not known what it changes."""
        bound: set[str] = set()
        for late in range(at, len(self._parts)):
            proof = self._proofs.get(late)
            if proof is None or not bound.isdisjoint(proof.inputs) or not proof.holds(self._look):
                return late
            bound |= self._split.statements[late].binds
        return len(self._parts)

    def _start(self, at: int, proof: Proof) -> None:
        code = self._parts[at].value
        if not self._split.statements[at].awaits:
            if self._computing is not None:
                self._computing.begin(at, proof)
            return
        if len(self._lanes) >= MOST:
            return
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
        self._lanes[at] = lane

    async def _drop_all(self) -> None:
        lanes = list(self._lanes.values())
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
