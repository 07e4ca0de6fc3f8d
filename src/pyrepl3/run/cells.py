"""CellRunner: one cell at a time through its turn, its compilation and the way that fits it.

The part of an executor that knows which cells run now, and how to stop them.
"""

from __future__ import annotations

import asyncio
import time
import types
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError
from pyrepl3.lang.compile import renamed
from pyrepl3.lang.filenames import lent_code
from pyrepl3.lang.modes import place
from pyrepl3.records import Blocked, ExecutionMode, Started
from pyrepl3.run.blocking import BlockingThread
from pyrepl3.run.cancel import finish, free_loop, request_stop
from pyrepl3.run.coroutines import TaskFactory
from pyrepl3.run.evaluator import evaluate, evaluate_async, get_depth, set_depth
from pyrepl3.run.execution import CURRENT, Execution, Group
from pyrepl3.run.limits import Guard
from pyrepl3.run.planner import Planner, propose_repair
from pyrepl3.run.routes import go_as_task, go_to_thread, judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
    from contextvars import Context
    from types import CodeType

    from pyrepl3.config import ExecutorConfig, Limits
    from pyrepl3.ports import Asker, Stage
    from pyrepl3.run.children import Children
    from pyrepl3.run.evaluator import Result, Run
    from pyrepl3.run.namespace import NamespaceManager
    from pyrepl3.run.routes import Place
    from pyrepl3.run.turn import Turn

_clock = time.perf_counter

BLOCKED_AFTER = 0.1
"""Seconds that a plain cell may hold the loop before its source goes to the thread."""


class CellRunner:
    """Takes cells to their raw ends, on the caller's loop and a thread beside it.

    ``interrupt``, ``interrupt_all``, ``foreground``, ``running``, ``free`` and ``move`` from any thread.
    """

    def __init__(
        self,
        namespace: NamespaceManager,
        config: ExecutorConfig | None,
        *,
        ask: Asker | None,
        stages: Sequence[Stage],
        place: Place | None,
        abandon: Callable[[Execution], bool] | None,
        on_main: bool,
        forks: Limits | None,
    ) -> None:
        self.namespace = namespace
        self._forks = forks
        self._children: Children | None = None
        self._ask = ask
        self._place = place
        self._abandon = abandon
        self._on_main = on_main
        self._hosted = on_main or abandon is not None
        self._dict = namespace.get_for_execution()
        self._planner = Planner(namespace, config)
        self._group = Group()
        self._running: dict[str, Execution] = {}
        self.unwanted: set[str] = set()
        """The ids of cells that are to be stopped as soon as they begin."""
        self._closed = False
        self._stages = tuple(stages)
        self._limits: Limits | None = None
        if config is not None and config.limits != type(config.limits)():
            self._limits = config.limits
        self._trace = config if config is not None and config.trace_execution else None
        self._verbose = config is None or config.verbose_errors
        self._collect = config is None or config.collect_stats
        self._guarded = self._limits is not None or bool(stages) or self._trace is not None
        self._errors = 0
        # By value: the hash of an Enum member is a Python function.
        self._modes = {mode.value: 0 for mode in ExecutionMode}

    # --- what runs now ------------------------------------------------------------------------------

    def running(self) -> tuple[Execution, ...]:
        """The cells that run now, the background ones included. Any thread."""
        return tuple(self._running.values())

    def interrupt(self, cell_id: str | None = None, *, answers: bool = False) -> bool:
        """Stop one cell: None means the one in the foreground. Any thread. False: no such cell runs.

        ``answers``: see ``request_stop``.
        """
        found = self.foreground() if cell_id is None else self._running.get(cell_id)
        return found is not None and request_stop(found, answers=answers)

    def foreground(self) -> Execution | None:
        """The cell that has the turn and runs now. Any thread."""
        for execution in list(self._running.values()):
            if not execution.cell.background:
                return execution
        return None

    def interrupt_all(self) -> int:
        """Stop every cell, the background ones included. Any thread. Returns how many."""
        return sum(request_stop(execution) for execution in list(self._running.values()))

    def free(self, loop: asyncio.AbstractEventLoop) -> Execution:
        """Make ``loop``, which cells run on, answer, whatever task of theirs holds it. Any thread."""
        return free_loop(loop, self._group, abandon=self._abandon, on_main=self._on_main)

    def move(self, place: Place) -> None:
        """Another loop takes over: forget what ran on the old one. Any thread."""
        self._place = place
        self._running.clear()
        self._group = Group()

    @property
    def group(self) -> Group:
        """What cells that run here now have in common. Any thread."""
        return self._group

    def add_stage(self, stage: Stage) -> None:
        """Enter ``stage`` around each cell that begins from now on, inside those there are. Any thread."""
        self._stages = (*self._stages, stage)
        self._guarded = True

    # --- one cell -----------------------------------------------------------------------------------

    def _go(self, execution: Execution) -> Result | Awaitable[Result]:
        """Run a cell: (True, value) or (False, the error to raise), or what to await for that."""
        turn = self.namespace.turn
        if self._closed or execution.cell.background or not turn.acquire_nowait():
            return self._go_in_turn(execution)
        # A coroutine less for the cells that need none.
        try:
            begun = self._begin(execution, turn)
        except BaseException:
            self._end(execution, turn)
            raise
        if not isinstance(begun, tuple):
            return begun
        self._end(execution, turn)
        return begun if begun[0] and execution.stop is None else self._judge(execution, begun)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the executor is closed; make a new one")

    async def _go_in_turn(self, execution: Execution) -> Result:
        self._check_open()
        turn = None if execution.cell.background else self.namespace.turn
        if turn is not None:
            outer = CURRENT.get()
            if outer is not None and not outer.finished and outer.group is self._group:
                turn = None  # a cell that runs a cell has it already: waiting would never end
            else:
                await turn.acquire()
        try:
            begun = self._begin(execution, turn)
        except BaseException:
            self._end(execution, turn)
            raise
        if not isinstance(begun, tuple):
            return await begun
        self._end(execution, turn)
        return self._judge(execution, begun)

    async def _go_on(
        self, execution: Execution, begun: Awaitable[Result], turn: Turn | None
    ) -> Result:
        """Run a cell elsewhere: in a task of its own, on a thread."""
        try:
            result = await begun
        finally:
            self._end(execution, turn)
        return result if result[0] and execution.stop is None else self._judge(execution, result)

    @types.coroutine
    def _go_awaited(
        self,
        execution: Execution,
        coro: Coroutine[Any, Any, Result],
        context: Context,
        turn: Turn | None,
    ) -> Generator[Any, Any, Result]:
        """Run a cell with top-level await in the task that awaits this, each step inside ``context``.

        No task, no future and no round of the loop of its own. A cancellation of that task that is not our
        interrupt is the caller's: the cell is stopped, and CancelledError comes out once it is over. asyncio
        cannot tell a cell from its caller: one that cancels ``asyncio.current_task()`` cancels its caller.
        """
        task = execution.task = asyncio.current_task()
        execution.loop = asyncio.get_running_loop()
        assert task is not None
        before = task.cancelling()
        enter, depth = context.run, get_depth()
        step: Callable[..., Any] = coro.send
        sent: Any = None
        try:
            while True:
                set_depth(1)  # a step, not a cell: other code runs on this thread between two steps
                yielded = enter(step, sent)
                set_depth(depth)
                try:
                    yield yielded
                except BaseException as error:  # noqa: BLE001  whatever it is, it is the cell's to see
                    if task.cancelling() > before + execution.cancels:
                        _stop_with_caller(execution)
                    step, sent = coro.throw, error
                else:
                    step, sent = coro.send, None
        except StopIteration as end:
            result: Result = end.value
        finally:
            set_depth(depth)
            self._end(execution, turn)
        if execution.stop is None:
            return result if result[0] else self._judge(execution, result)
        while execution.cancels:
            execution.cancels -= 1
            task.uncancel()
        if task.cancelling() > before:
            raise asyncio.CancelledError
        return self._judge(execution, result)

    def _end(self, execution: Execution, turn: Turn | None) -> None:
        self._running.pop(execution.cell.id, None)
        if execution.stop is not None and not (execution.finished or execution.abandoned):
            finish(execution)  # stopped before its first line, and it has none
        if turn is not None:
            turn.release()

    def _judge(self, execution: Execution, result: Result) -> Result:
        result = judge(execution, result, self.namespace)
        if not result[0]:
            if self._collect:
                self._errors += 1
            self._dict["_last_exception"] = result[1]
        return result

    def _begin(self, execution: Execution, turn: Turn | None) -> Result | Awaitable[Result]:
        """Compile, decide, run: the result, where the cell goes inline, or what to await for it.

        Whoever calls it ends the execution, where no awaitable comes back: that does so by itself.
        """
        cell, namespace, beside = execution.cell, self.namespace, turn is None
        source, filename = cell.source, cell.filename
        self._running[cell.id] = execution
        if self.unwanted and cell.id in self.unwanted:
            request_stop(execution)
        namespace.sources.add(filename, source, cell.first_line)
        # All cells share it, and it goes by lines: a warning would be shown in one of them only.
        self._dict.pop("__warningregistry__", None)
        try:
            compiled, known = self._planner.compile(source, filename, cell.first_line)
        except CompilationError as error:
            self._count(execution, ExecutionMode.UNKNOWN)
            if execution.sink is not None:
                self._announce(execution, known=False, wrapped=False)
            propose_repair(error, source)
            return False, error
        if compiled.settled:
            mode, placement = compiled.mode, compiled.placement
        else:
            mode, placement = place(compiled, self._dict)
        if beside or self._planner.blocked:
            placement = self._planner.reconsider(compiled, source, placement, beside=beside)
        execution.placement = placement
        self._count(execution, mode)
        if execution.sink is not None:
            self._announce(execution, known=known, wrapped=compiled.wrapped)
        namespace.note(compiled)
        body, tail = compiled.body, compiled.tail
        if compiled.nested:
            compiled = renamed(compiled, filename)
            namespace.sources.hold(filename, compiled.nested)
            body, tail = compiled.body, compiled.tail
        elif known:  # the common case needs no whole new CompiledCell
            if body is not None:
                body = lent_code(body, filename)
            if tail is not None:
                tail = lent_code(tail, filename)
        run: Run = (body, tail, compiled, self._dict)
        context = namespace.context.copy() if beside else namespace.context
        around = self._guard(execution, run) if self._guarded else None
        if self._hosted:
            run = self._host(execution, run, beside=beside)
        if compiled.is_async or placement == "thread":
            return self._send(execution, run, context, around, turn)
        begun = _clock()
        result = context.run(evaluate, execution, run, around)
        held = _clock() - begun
        if held > BLOCKED_AFTER and not compiled.needs_loop:
            self._planner.note_blocked(source)
            if execution.sink is not None:
                execution.sink.emit(Blocked(cell_id=cell.id, seconds=held))
        return result

    def _host(self, execution: Execution, run: Run, *, beside: bool) -> Run:
        # A blocking cell beside others has a thread of its own.
        execution.on_main = self._on_main and not (beside and execution.placement == "thread")
        if self._abandon is not None:
            execution.abandon = partial(self._abandon, execution)
        if self._forks is not None and execution.cell.parallel and not run[2].is_async:
            return self._split(execution, run)
        return run

    def _split(self, execution: Execution, run: Run) -> Run:
        if self._trace:
            return run
        from pyrepl3.run.parallel import split_run  # noqa: PLC0415  only where it is asked for

        return split_run(execution, run, self.namespace.sources, self.children)

    @property
    def children(self) -> Children | None:
        """Where what only computes may go; None: nowhere."""
        if self._children is None and self._forks is not None:
            from pyrepl3.run.children import Children  # noqa: PLC0415  only where it is asked for

            self._children = Children(self._forks)
        return self._children

    def _send(
        self,
        execution: Execution,
        run: Run,
        context: Context,
        around: Guard | None,
        turn: Turn | None,
    ) -> Awaitable[Result]:
        """What to await for a cell that does not go inline."""
        if execution.placement == "thread":
            place: Place = self._place or self.namespace.thread
            if turn is None:
                place = BlockingThread(execution.cell.id, once=True)
            going = go_to_thread(execution, run, self.namespace, context, around, place)
            return self._go_on(execution, going, turn)
        if execution.cell.parallel:
            run = self._split(execution, run)
        if self._hosted:
            going = go_as_task(execution, run, context, around)
        else:
            coro = evaluate_async(execution, run, around)
            return self._go_awaited(execution, coro, context, turn)
        return self._go_on(execution, going, turn)

    def _count(self, execution: Execution, mode: ExecutionMode) -> None:
        execution.mode = mode
        if self._collect:
            self._modes[mode._value_] += 1

    def _announce(self, execution: Execution, *, known: bool, wrapped: bool) -> None:
        execution.asker = self._ask
        assert execution.sink is not None
        execution.sink.emit(
            Started(
                cell=execution.cell,
                mode=execution.mode,
                placement=execution.placement,
                at=time.time(),
                known=known,
                wrapped=wrapped,
            )
        )

    def _guard(self, execution: Execution, run: Run) -> Guard:
        limits = self._limits
        if limits is not None and limits.coroutines is not None:
            TaskFactory.install(asyncio.get_running_loop())
        body, tail, compiled, _ = run
        codes = [code for code in (body, tail) if code is not None]
        traced: list[CodeType] = []
        if self._trace is not None and execution.sink is not None:
            traced = [*codes, *compiled.nested]
            execution.sink.lines_left = self._trace.max_trace_events
        return Guard(execution, limits, self._stages, codes[0] if codes else None, traced)


def _stop_with_caller(execution: Execution) -> None:
    """The caller is cancelled, and with it the cell: what is thrown in now is the first stage."""
    if execution.stop is None:
        request_stop(execution)
        if execution.stop is not None:
            execution.stop.delivered = True
