"""AsyncExecutor: cells in, values or outcomes out, on the caller's event loop and one thread beside it."""

from __future__ import annotations

import ast
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError
from pyrepl3.lang.blocking import BLOCKING_IO_CALLS, BLOCKING_IO_MODULES
from pyrepl3.records import (
    Cell,
    Display,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Output,
)
from pyrepl3.run.cancel import GRACE
from pyrepl3.run.cells import CellRunner
from pyrepl3.run.coroutines import CoroutineManager, describe_task, find_tasks
from pyrepl3.run.execution import Execution
from pyrepl3.run.loop import EventLoopCoordinator
from pyrepl3.run.namespace import ENGINE_NAMES, NamespaceManager
from pyrepl3.run.outcomes import make_outcome
from pyrepl3.run.output import Routing
from pyrepl3.run.scopes import CellSteps
from pyrepl3.run.sink import Sink
from pyrepl3.run.tidy import tidy
from pyrepl3.run.tracebacks import trim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrepl3.config import ExecutorConfig, Limits
    from pyrepl3.lang.cache import CompilationCache
    from pyrepl3.ports import Asker, Durability, Observer, Pace, Stage
    from pyrepl3.records import Delta, Event, ModeReport, Outcome, Question, Snapshot
    from pyrepl3.run.checkpoints import Checkpoints
    from pyrepl3.run.debugger import Debugging
    from pyrepl3.run.evaluator import Result
    from pyrepl3.run.hot import Hot
    from pyrepl3.run.imports import ImportController
    from pyrepl3.run.routes import Place


class AsyncExecutor(CellRunner):
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
    break calls there. ``durability`` keeps what ``step`` and its like come to in cells given to ``run``.
    ``forks``: this process may fork, and what its children may use together.
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
        durability: Durability | None = None,
        forks: Limits | None = None,
    ) -> None:
        self.resonate = resonate
        self.durability = durability
        self.namespace = namespace_manager or NamespaceManager(resonate, name=execution_id or None)
        self.execution_id = execution_id or self.namespace.name
        self._id_prefix = f"{self.execution_id}-c"
        self._file_prefix = f"<{self.namespace.name} cell "
        self.config = config
        self.coordinator = EventLoopCoordinator(self)
        self.coroutines = CoroutineManager()
        super().__init__(
            self.namespace,
            config,
            ask=ask,
            stages=stages,
            place=place,
            abandon=abandon,
            on_main=on_main,
            forks=forks,
        )
        self._observe = observe
        self._routing = Routing()
        self._kept: Checkpoints | None = None
        self._debugging: Debugging | None = None
        self.imports: ImportController | None = None
        if config is not None:
            self._apply(config)
        self._hot: Hot | None = None
        if config is not None and config.jit:
            self._hot = self.hot
        if observe is not None or ask is not None:
            self._routing.open()
        if ask is not None:
            self._routing.route_getpass()

    def _apply(self, config: ExecutorConfig) -> None:
        if config.max_output is not None:
            self._routing.open()
        policy = config.imports
        if not policy.allow or policy.allowed is not None or policy.denied:
            from pyrepl3.run.imports import ImportController  # noqa: PLC0415  only with a policy

            self.imports = ImportController(config)
            self.imports.guard(self._dict)

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
            "executions": sum(self._modes.values()),
            "mode_counts": {mode: self._modes[mode.value] for mode in ExecutionMode},
            "errors": self._errors,
            "ast_transforms": self._planner.transforms,
        }

    @property
    def cache(self) -> CompilationCache | None:
        """The compilation cache; None where the configuration switched it off."""
        return self._planner.cache

    @property
    def hot(self) -> Hot:
        """What measures where the time goes, made when first asked for."""
        if self._hot is None:
            from pyrepl3.run.hot import Hot  # noqa: PLC0415  only where asked for

            jit = self.config is not None and self.config.jit
            self._hot = Hot(self, jit=jit)
        return self._hot

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
        digits = str(n)
        cell = Cell(
            id=self._id_prefix + digits,
            n=n,
            source=code,
            filename=self._file_prefix + digits + ">",
        )
        if self._observe is None:
            execution = Execution(cell, self._group)
            if self._limits is None or self._limits.output is None:
                result = self._go(execution)
            else:
                result = self._go_counted(execution, self._limits.output)
            ok, value = result if isinstance(result, tuple) else await result
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

    async def _go_counted(self, execution: Execution, allowed: int) -> Result:
        """Run a cell that nobody observes, and count what it writes to the process's streams."""
        self._check_open()  # or the streams would be routed again, for ever
        execution.sink = Sink(execution, _pass_on, allowed=allowed)
        self._routing.begin(execution)
        try:
            result = self._go(execution)
            return result if isinstance(result, tuple) else await result
        finally:
            tidy(execution, self._routing)

    # --- the Runner port --------------------------------------------------------------------------

    async def run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code."""
        self.namespace.count = max(self.namespace.count, cell.n)
        if self._kept is not None:
            self._kept.begin()
        if cell.only is not None:
            return await self._run_bound(cell, observe, cell.only)
        return await self._run(cell, observe, pace)

    async def _run_bound(self, cell: Cell, observe: Observer, only: frozenset[str]) -> Outcome:
        """Run a cell of which only some bindings count."""
        names = self._dict
        before = dict(names)
        try:
            return await self._run(cell, observe)
        finally:
            for name in [name for name in names if name not in before and name not in only]:
                if name not in ENGINE_NAMES:
                    del names[name]
            for name, value in before.items():
                if name not in only and name not in ENGINE_NAMES:
                    names[name] = value

    async def snapshot(self) -> Delta:
        """What changed since the last ``mark``. On the loop that the cells run on, between cells."""
        # Whatever still runs may touch anything.
        tasks = list(find_tasks(asyncio.get_running_loop(), self._group))
        beside = [
            f"background task {info.name!r} of cell {info.cell_id} was running, and ended with its process"
            for info in sorted(map(describe_task, tasks), key=lambda info: info.name)
        ]
        beside += [f"cell {name} was running, and was not run again" for name in self._running]
        return self._checkpoints().delta(busy=bool(beside), beside=beside)

    @property
    def restore_notes(self) -> tuple[str, ...]:
        """What the last restore did not do quite as it was."""
        return tuple(self._checkpoints().notes)

    def reload(self) -> tuple[str, ...]:
        """Load what referred to a lost name that is bound again. Returns the names that came back."""
        return self._checkpoints().reload()

    async def mark(self) -> None:
        """The last snapshot is safe."""
        self._checkpoints().mark()

    async def audit(self, *, hurry: bool = False) -> bool:
        """Look for changes that no cell named, on a thread of its own; the next snapshot has them."""
        return not self._running and await self._checkpoints().audit(hurry=hurry)

    async def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back: name to reason."""
        return self._checkpoints().restore(snapshot)

    @property
    def debugging(self) -> Debugging:
        """The debugger of these cells; nothing of it is there before this is first asked for."""
        if self._debugging is None:
            from pyrepl3.run.debugger import Debugging  # noqa: PLC0415  who debugs pays

            self._debugging = Debugging(self)
        return self._debugging

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
        if self._hot is not None:
            self._hot.close()
        if self._kept is not None:
            self._kept.begin()
        self.coroutines.cleanup()
        if self.imports is not None:
            self.imports.release()
        if self._debugging is not None:
            self._debugging.close()
        self._routing.close()
        # Its traceback holds the frames of whoever called us, and with them this executor, for ever.
        self._dict.pop("_last_exception", None)
        self.namespace.close()
        self.coordinator.close()

    # --- one cell -----------------------------------------------------------------------------------

    async def _run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        self._check_open()
        execution = Execution(cell, self._group)
        execution.show, execution.verbose = True, self._verbose
        allowed = None if self._limits is None else self._limits.output
        sink = execution.sink = Sink(execution, observe, allowed=allowed, pace=pace)
        if self.durability is not None:
            execution.steps = CellSteps(cell, self.durability, self.execution_id)
        self._routing.begin(execution)
        begun = time.perf_counter()
        cancelled: asyncio.CancelledError | None = None
        try:
            going = self._go(execution)
            result = going if isinstance(going, tuple) else await going
        except asyncio.CancelledError as error:
            # The caller's. Whoever was told that the cell began is told of its end, too.
            if execution.mode is ExecutionMode.UNKNOWN:
                raise
            cancelled = error
            result = False, CancellationError(f"cell {cell.n} was interrupted with its caller")
        finally:
            tidy(execution, self._routing)
        duration = time.perf_counter() - begun
        outcome = make_outcome(execution, result, duration)
        sink.emit(Finished(outcome=outcome))
        if cancelled is not None:
            raise cancelled
        return outcome


def _pass_on(event: Event) -> None:
    """Write what a cell wrote where it would have gone. A sink tells events outside of the cell."""
    if isinstance(event, Output):
        (sys.stdout if event.stream == "stdout" else sys.stderr).write(event.text)
    elif isinstance(event, Display):
        sys.stdout.write(f"{event.data['text/plain']}\n")
