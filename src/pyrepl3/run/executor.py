"""AsyncExecutor: cells in, values or outcomes out, on the caller's event loop and one thread beside it."""

from __future__ import annotations

import ast
import asyncio
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError
from pyrepl3.lang.blocking import BLOCKING_IO_CALLS, BLOCKING_IO_MODULES
from pyrepl3.lang.compile import renamed
from pyrepl3.records import (
    Blocked,
    Cell,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Started,
)
from pyrepl3.run.blocking import BlockingThread
from pyrepl3.run.cancel import GRACE, finish, free_loop, request_stop
from pyrepl3.run.coroutines import CoroutineManager, TaskFactory, find_tasks
from pyrepl3.run.evaluator import evaluate
from pyrepl3.run.execution import CURRENT, Execution, Group
from pyrepl3.run.limits import Guard
from pyrepl3.run.loop import EventLoopCoordinator
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.outcomes import make_outcome
from pyrepl3.run.output import Routing
from pyrepl3.run.planner import Planner, propose_repair
from pyrepl3.run.routes import go_awaited, go_to_thread, judge
from pyrepl3.run.sink import Sink
from pyrepl3.run.tidy import tidy
from pyrepl3.run.tracebacks import trim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyrepl3.config import ExecutorConfig, Limits
    from pyrepl3.lang.cache import CompilationCache
    from pyrepl3.ports import Asker, Observer, Pace, Stage
    from pyrepl3.records import Delta, ModeReport, Outcome, Placement, Question, Snapshot
    from pyrepl3.run.checkpoints import Checkpoints
    from pyrepl3.run.evaluator import Result, Run
    from pyrepl3.run.imports import ImportController
    from pyrepl3.run.routes import Place

BLOCKED_AFTER = (
    0.1  # seconds that a plain cell may hold the loop before its source goes to the thread
)


class AsyncExecutor:
    """Runs cells on a namespace, each in the way that fits it: awaited, inline, or on a thread.

    Inline on the caller's loop: a plain cell that computes for long holds that loop (``Blocked`` says
    so, and the same source goes to the thread next time); use a ``Session`` where the loop must always
    answer. ``execute``, ``run`` and ``ask`` belong to the loop they are called on; ``interrupt``,
    ``interrupt_all`` and ``explain_mode`` may be called from any thread. Cells queue, first come first
    served, with those of other executors on the same namespace.

    ``resonate`` is None or a Resonate instance, kept and never called here. ``config`` brings limits and
    an import policy; without one there are none. ``observe`` is told every event, ``ask`` answers
    ``input()``; ``stages`` are entered around each cell. ``place``, ``abandon`` and ``on_main`` are for a
    host of its loop: where blocking cells go, how to leave a loop that is stuck, and whether signals
    break calls there.
    """

    PyCF_ALLOW_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    BLOCKING_IO_MODULES = BLOCKING_IO_MODULES
    BLOCKING_IO_CALLS = BLOCKING_IO_CALLS

    def __init__(
        self,
        resonate: object | None = None,
        namespace_manager: NamespaceManager | None = None,
        execution_id: str = "",
        *,
        config: ExecutorConfig | None = None,
        observe: Observer | None = None,
        ask: Asker | None = None,
        stages: Sequence[Stage] = (),
        place: Place | None = None,
        abandon: Callable[[Execution], bool] | None = None,
        on_main: bool = False,
    ) -> None:
        self.resonate = resonate
        self.namespace = namespace_manager or NamespaceManager(resonate, name=execution_id or None)
        self.execution_id = execution_id or self.namespace.name
        self.config = config
        self.coordinator = EventLoopCoordinator(self)
        self.coroutines = CoroutineManager()
        self._observe = observe
        self._ask = ask
        self._place = place
        self._abandon = abandon
        self._on_main = on_main
        self._hosted = on_main or abandon is not None
        self._dict = self.namespace.get_for_execution()
        self._planner = Planner(self.namespace, config)
        self._group = Group()
        self._running: dict[str, Execution] = {}
        self.unwanted: set[str] = set()
        """The ids of cells that are to be stopped as soon as they begin."""
        self._routing = Routing()
        self._kept: Checkpoints | None = None
        self._closed = False
        self.imports: ImportController | None = None
        self._stages = tuple(stages)
        self._limits: Limits | None = None
        self._trace = False
        self._verbose = True
        self._collect = True
        self._executions = 0
        self._errors = 0
        # By value: the hash of an Enum member is a Python function.
        self._modes = {mode.value: 0 for mode in ExecutionMode}
        if config is not None:
            self._apply(config)
        self._guarded = self._limits is not None or bool(stages) or self._trace
        if observe is not None or ask is not None:
            self._routing.open()
        if ask is not None:
            self._routing.route_getpass()

    def _apply(self, config: ExecutorConfig) -> None:
        limits = config.limits
        if any(getattr(limits, name) is not None for name in limits.__struct_fields__):
            self._limits = limits
        if limits.output is not None:
            self._routing.open()
        self._trace = config.trace_execution
        self._verbose = config.verbose_errors
        self._collect = config.collect_stats
        policy = config.imports
        if not policy.allow or policy.allowed is not None or policy.denied:
            from pyrepl3.run.imports import ImportController  # noqa: PLC0415  only with a policy

            self.imports = ImportController(config)
            self.imports.guard(self._dict)
            # An executor that nobody closes must not keep its policy, and its dict, for ever.
            weakref.finalize(self, self.imports.release).atexit = False

    # --- what the specification names -----------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, or one made here for the caller to run (``close`` closes that one)."""
        return self.coordinator.ensure_event_loop()

    @property
    def owns_loop(self) -> bool:
        """Whether ``loop`` was made here."""
        return self.coordinator.owns_loop

    @property
    def stats(self) -> dict[str, Any]:
        """``executions``, ``mode_counts``, ``errors`` and ``ast_transforms`` so far, as a new dict."""
        return {
            "executions": self._executions,
            "mode_counts": {mode: self._modes[mode.value] for mode in ExecutionMode},
            "errors": self._errors,
            "ast_transforms": self._planner.transforms,
        }

    @property
    def cache(self) -> CompilationCache | None:
        """The compilation cache; None where the configuration switched it off."""
        return self._planner.cache

    @property
    def _pending_coroutines(self) -> set[Any]:
        return self.coroutines._coroutines  # noqa: SLF001  the specification's tests read it here

    @property
    def _running_tasks(self) -> set[asyncio.Task[Any]]:
        return {e.task for e in list(self._running.values()) if e.task is not None}

    def analyze_execution_mode(self, code: str) -> ExecutionMode:
        """The mode of ``code`` against this namespace; UNKNOWN only for what does not compile."""
        return self._planner.find_mode(code)

    def explain_mode(self, code: str) -> ModeReport:
        """The mode and placement of ``code`` against this namespace, with every reason."""
        return self._planner.explain(code)

    async def execute(self, code: str) -> Any:
        """The value of ``code``, run as one cell.

        The value is that of its last expression, or of a final assignment to one name. Raises the
        user's own exception, unchanged, its traceback starting in the cell; CompilationError (nothing
        has run), LimitExceededError, CancellationError for our interrupt, AsyncContextError for code
        that needs another loop or thread. The caller's cancellation stays the caller's: the cell is
        interrupted and CancelledError comes out.
        """
        namespace = self.namespace
        n = namespace.count = namespace.count + 1
        cell = Cell(
            id=f"{self.execution_id}-c{n}",
            n=n,
            source=code,
            filename=f"<{namespace.name} cell {n}>",
        )
        if self._observe is None:
            ok, value = await self._go(Execution(cell, self._group))
        else:
            outcome = await self._run(cell, self._observe)
            ok = outcome.ok
            value = outcome.error if isinstance(outcome, Failed) else outcome.value
            if isinstance(outcome, Interrupted):
                value = self._dict["_last_exception"]
        if ok:
            return value
        try:
            raise value
        except BaseException:
            # A bare raise adds no frame of ours to what trim() leaves.
            trim(value)
            raise

    # --- the Runner port --------------------------------------------------------------------------

    async def run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code."""
        self.namespace.count = max(self.namespace.count, cell.n)
        return await self._run(cell, observe, pace)

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Stop one cell: None means the one in the foreground. Any thread. False: no such cell runs."""
        found = self.foreground() if cell_id is None else self._running.get(cell_id)
        return found is not None and request_stop(found)

    def foreground(self) -> Execution | None:
        """The cell that has the turn and runs now. Any thread."""
        for execution in list(self._running.values()):
            if not execution.cell.background:
                return execution
        return None

    def interrupt_all(self) -> int:
        """Stop every cell, the background ones included. Any thread. Returns how many."""
        return sum(request_stop(execution) for execution in list(self._running.values()))

    async def snapshot(self) -> Delta:
        """What changed since the last ``mark``. On the loop that the cells run on, between cells."""
        # Whatever still runs may touch anything.
        busy = bool(self._running) or any(
            True for _ in find_tasks(asyncio.get_running_loop(), self._group)
        )
        return self._checkpoints().delta(busy=busy)

    async def mark(self) -> None:
        """The last snapshot is safe."""
        self._checkpoints().mark()

    async def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back: name to reason."""
        return self._checkpoints().restore(snapshot)

    def _checkpoints(self) -> Checkpoints:
        if self._kept is None:
            from pyrepl3.run.checkpoints import Checkpoints  # noqa: PLC0415  durable sessions only

            self._kept = Checkpoints(self.namespace)
        return self._kept

    async def ask(self, question: Question) -> Any:
        """Answer a question about the namespace or the tasks. On the loop that the cells run on."""
        from pyrepl3.run.questions import answer  # noqa: PLC0415  front ends only

        return answer(question, self, self._group)

    async def aclose(self) -> None:
        """Interrupt what runs, cancel background tasks, let go of thread and streams. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.interrupt_all()
        tasks = list(find_tasks(asyncio.get_running_loop(), self._group))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        self.close()

    def close(self) -> None:
        """The part of ``aclose`` that needs no loop. Idempotent."""
        self._closed = True
        self.coroutines.cleanup()
        if self.imports is not None:
            self.imports.release()
        self._routing.close()
        self.namespace.close()
        self.coordinator.close()

    # --- one cell -----------------------------------------------------------------------------------

    async def _run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        execution = Execution(cell, self._group)
        execution.show, execution.verbose = True, self._verbose
        allowed = None if self._limits is None else self._limits.output
        sink = execution.sink = Sink(execution, observe, allowed=allowed, pace=pace)
        self._routing.begin(execution)
        begun = time.perf_counter()
        try:
            result = await self._go(execution)
        finally:
            tidy(execution, self._routing)
        duration = time.perf_counter() - begun
        outcome = make_outcome(execution, result, duration)
        sink.emit(Finished(outcome=outcome))
        return outcome

    async def _go(self, execution: Execution) -> Result:
        """Take the turn and run: (True, value) or (False, the error to raise)."""
        if self._closed:
            raise RuntimeError("the executor is closed; make a new one")
        beside = execution.cell.background
        turn = None if beside else self.namespace.turn
        if turn is not None and not turn.acquire_nowait():
            outer = CURRENT.get()
            if outer is not None and not outer.finished and outer.group is self._group:
                # A cell that runs a cell has the turn already: waiting for it would never end.
                turn, beside = None, True
            else:
                await turn.acquire()
        try:
            begun = self._begin(execution, beside)
            result = begun if isinstance(begun, tuple) else await begun
        finally:
            self._running.pop(execution.cell.id, None)
            if execution.stop is not None and not (execution.finished or execution.abandoned):
                finish(execution)  # stopped before its first line, and it has none
            if turn is not None:
                turn.release()
        if not result[0] or execution.stop is not None:
            result = judge(execution, result, self.namespace)
            if not result[0]:
                if self._collect:
                    self._errors += 1
                self._dict["_last_exception"] = result[1]
        return result

    def _begin(self, execution: Execution, beside: bool) -> Result | Awaitable[Result]:  # noqa: FBT001
        """Compile, decide, run: the result, where the cell goes inline, or what to await for it."""
        cell, namespace = execution.cell, self.namespace
        source, filename = cell.source, cell.filename
        self._running[cell.id] = execution
        if self.unwanted and cell.id in self.unwanted:
            request_stop(execution)
        namespace.sources.add(filename, source, cell.first_line)
        # All cells share it, and it goes by lines: a warning would be shown in one of them only.
        self._dict.pop("__warningregistry__", None)
        try:
            compiled = self._planner.compile(source, filename, cell.first_line)
        except CompilationError as error:
            self._announce(execution, ExecutionMode.UNKNOWN, "loop")
            propose_repair(error, source)
            return False, error
        mode, placement = self._planner.decide(compiled, source, beside=beside)
        self._announce(execution, mode, placement)
        namespace.note(compiled)
        if compiled.nested:
            compiled = renamed(compiled, filename)
            namespace.sources.hold(filename, compiled.nested)
            body, tail = compiled.body, compiled.tail
        else:  # the common case needs no whole new CompiledCell
            body, tail = compiled.body, compiled.tail
            if compiled.filename != filename:
                if body is not None:
                    body = body.replace(co_filename=filename)
                if tail is not None:
                    tail = tail.replace(co_filename=filename)
        run: Run = (body, tail, compiled, self._dict)
        context = namespace.context.copy() if beside else namespace.context
        around = None
        if self._guarded:
            around = self._guard(execution, run)
        if self._hosted:
            # A blocking cell beside others has a thread of its own.
            execution.on_main = self._on_main and not (beside and placement == "thread")
            if self._abandon is not None:
                execution.abandon = partial(self._abandon, execution)
        if compiled.is_async:
            return go_awaited(execution, run, context, around)
        if placement == "thread":
            place: Place = self._place or namespace.thread
            if beside:
                place = BlockingThread(cell.id, once=True)
            return go_to_thread(execution, run, namespace, context, around, place)
        begun = time.perf_counter()
        result = context.run(evaluate, execution, run, around)
        held = time.perf_counter() - begun
        if held > BLOCKED_AFTER and not compiled.needs_loop:
            self._planner.note_blocked(source)
            if execution.sink is not None:
                execution.sink.emit(Blocked(cell_id=cell.id, seconds=held))
        return result

    def _announce(self, execution: Execution, mode: ExecutionMode, placement: Placement) -> None:
        execution.mode, execution.placement = mode, placement
        if self._collect:
            self._executions += 1
            self._modes[mode._value_] += 1
        if execution.sink is not None:
            execution.asker = self._ask
            execution.sink.emit(
                Started(cell=execution.cell, mode=mode, placement=placement, at=time.time())
            )

    def _guard(self, execution: Execution, run: Run) -> Guard:
        limits = self._limits
        if limits is not None and limits.coroutines is not None:
            TaskFactory.install(asyncio.get_running_loop())
        body, tail, compiled, _ = run
        codes = [code for code in (body, tail) if code is not None]
        traced = [*codes, *compiled.nested] if self._trace and execution.sink else []
        return Guard(execution, limits, self._stages, codes[0] if codes else None, traced)

    # --- for a host of the loop -----------------------------------------------------------------------

    def running(self) -> tuple[Execution, ...]:
        """The cells that run now, the background ones included. Any thread."""
        return tuple(self._running.values())

    def free(self, loop: asyncio.AbstractEventLoop) -> Execution:
        """Make ``loop``, which cells run on, answer, whatever task of theirs holds it. Any thread."""
        return free_loop(loop, self._group, abandon=self._abandon, on_main=self._on_main)

    def move(self, place: Place) -> None:
        """Another loop takes over: forget what ran on the old one. Any thread."""
        self._place = place
        self._running.clear()
        self._group = Group()
