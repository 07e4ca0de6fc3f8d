"""ThreadRunner: the same executor on a loop and thread of its own: the caller's loop always answers."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError, NamespaceError, WorkerDiedError
from pyrepl3.records import Breakpoint, Debug, Fetch, Finished, Interrupted, Notice
from pyrepl3.run.calls import Awaited, Call
from pyrepl3.run.cancel import GRACE, TICK, claim
from pyrepl3.run.coroutines import find_tasks
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.executor import AsyncExecutor
from pyrepl3.run.host import LAST, LoopHost
from pyrepl3.run.outcomes import make_outcome
from pyrepl3.run.questions import answer
from pyrepl3.run.routes import find_thread_bound
from pyrepl3.run.tracebacks import format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pyrepl3.config import ExecutorConfig, Limits
    from pyrepl3.ports import Asker, Durability, Observer, Pace, Stage
    from pyrepl3.records import Cell, Delta, Event, Outcome, Question, Snapshot
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.namespace import NamespaceManager


class _End:
    """How a cell has ended, as far as its observer knows."""

    def __init__(self) -> None:
        self.told: Outcome | None = None
        self.over = False
        """Its thread was left behind: what it comes to there is not the end that was told."""


class ThreadRunner:
    """A Runner whose cells run on a LoopHost: its own thread, or the main thread (``host`` given).

    ``run``, ``snapshot``, ``mark``, ``restore``, ``ask`` and ``aclose`` may be awaited on any loop but the
    host's; ``interrupt`` may be called from any thread.
    """

    def __init__(
        self,
        manager: NamespaceManager,
        *,
        config: ExecutorConfig | None = None,
        ask: Asker | None = None,
        stages: Sequence[Stage] = (),
        host: LoopHost | None = None,
        durability: Durability | None = None,
        forks: Limits | None = None,
    ) -> None:
        self.namespace = manager
        self._own = host is None
        self._host = host or LoopHost(manager.name)
        self.executor = AsyncExecutor(
            manager.resonate,
            manager,
            manager.name,
            config=config,
            ask=ask,
            stages=stages,
            place=self._host,
            abandon=self._abandon if host is None else None,
            on_main=self._host.on_main,
            durability=durability,
            forks=forks,
        )
        self._calls: set[Awaited[Any]] = set()
        self._flying: dict[str, tuple[Cell, Observer, Call[Outcome], _End]] = {}
        self._marking: Awaited[None] | None = None
        self._guard: Execution | None = None
        self._closed = False
        if host is None:
            self._host.start()

    @property
    def host(self) -> LoopHost:
        """Where cells run now."""
        return self._host

    @property
    def foreground(self) -> str | None:
        """The id of the cell that has the turn and runs now. Any thread."""
        found = self.executor.foreground()
        return None if found is None else found.cell.id

    async def run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code."""
        end = _End()
        tell = _tell_first(end, observe)
        call = Awaited(lambda: self.executor.run(cell, tell, pace))
        self._flying[cell.id] = cell, observe, call, end
        try:
            call.send(self._host)
            try:
                return await asyncio.shield(call.future)
            except asyncio.CancelledError:
                # The caller gives up: the cell must not go on behind its back.
                await self._stop(cell, call)
                raise
            except CancellationError:
                if end.told is None:
                    raise
                return end.told  # a plain cell has cancelled the task that it runs in
        finally:
            end.told = None
            del self._flying[cell.id]
            self.executor.unwanted.discard(cell.id)

    def prepare(
        self,
        cell: Cell,
        observe: Observer,
        over: Callable[[BaseException | None], object],
        pace: Pace | None = None,
    ) -> Callable[[], None]:
        """What begins a cell, which can be interrupted from now on. Any thread.

        That returns at once, but on the host's own thread: there the cell may have run to its end.
        ``over(error)`` is called once, on the host's thread: None where ``observe`` was told the end,
        else a fault of ours. Not for a host that leaves threads behind.
        """
        end = _End()
        tell = _tell_first(end, observe)

        def ended(_: Outcome | None, error: BaseException | None) -> None:
            told, end.told = end.told, None
            del self._flying[cell.id]
            self.executor.unwanted.discard(cell.id)
            over(None if told is not None else error or RuntimeError("a cell without an end"))

        call = Call(lambda: self.executor.run(cell, tell, pace), ended)
        self._flying[cell.id] = cell, observe, call, end
        return lambda: call.send(self._host)

    def call[T](
        self,
        make: Callable[[], Coroutine[Any, Any, T]],
        over: Callable[[T | None, BaseException | None], object],
    ) -> None:
        """Begin a coroutine on the host's loop. Any thread; on the host's own its first step is done."""
        Call(make, over).send(self._host)

    async def _stop(self, cell: Cell, call: Awaited[Outcome]) -> None:
        """Wait until the cell is over, cancelled again or not. What it comes to nobody wants to know."""
        stopping = False
        while not call.future.done():
            if not stopping:
                stopping = self.executor.interrupt(cell.id)
            if not stopping:  # not begun, or at its end; its loop may be held by another task
                call.cancel(self._host)
                self._free()
            try:
                await asyncio.wait([call.future], timeout=GRACE if stopping else TICK)
            except asyncio.CancelledError:
                continue
        call.future.exception()

    def interrupt(self, cell_id: str | None = None, *, answers: bool = False) -> bool:
        """Stop a cell (None: the one in the foreground). Any thread; returns at once.

        ``answers``: asked by the host's loop itself, between two callbacks.
        """
        if self.executor.interrupt(cell_id, answers=answers):
            return True
        waiting = [
            flight
            for name, flight in list(self._flying.items())
            if name == cell_id or (cell_id is None and not flight[0].background)
        ]
        if not waiting:
            return False
        # Not begun, or at its end and not heard of: a task of an earlier cell may hold the loop.
        self.executor.unwanted.update(flight[0].id for flight in waiting)
        # Began between the two looks: it may not have seen that it is unwanted.
        if not self.executor.interrupt(cell_id):
            self._free()
        return True

    def _free(self) -> None:
        if self._guard is None or self._guard.finished or self._guard.abandoned:
            self._guard = self.executor.free(self._host.loop)

    async def snapshot(self) -> Delta:
        """What changed since the last mark."""
        marking, self._marking = self._marking, None
        if marking is not None:
            await marking.future
        return await self._call(self.executor.snapshot)

    async def mark(self) -> None:
        """The last snapshot is safe. Not waited for: it comes before all that the host is asked later.

        What it raises is raised by the next ``snapshot``.
        """
        self._marking = call = Awaited(self.executor.mark)
        self._calls.add(call)
        call.future.add_done_callback(lambda _: self._calls.discard(call))
        call.send(self._host)

    async def audit(self, *, hurry: bool = False) -> bool:
        """Look for changes that no cell named, beside everything else."""
        return await self._call(lambda: self.executor.audit(hurry=hurry))

    async def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back."""
        return await self._call(lambda: self.executor.restore(snapshot))

    async def ask(self, question: Question) -> Any:
        """Answer a question; while the loop is held by a cell too, where that needs no loop."""
        if isinstance(question, Fetch):  # a dict look-up: no hop, and right also while a cell runs
            names = self.namespace.get_for_execution()
            try:
                return names[question.name]
            except KeyError:
                raise NamespaceError(f"no name {question.name!r} in this session") from None
        if isinstance(
            question, (Debug, Breakpoint)
        ):  # it blocks, and the loop may be stopped by it
            return await asyncio.to_thread(answer, question, self.executor, self.executor.group)
        return await self._call(lambda: self.executor.ask(question))

    async def aclose(self) -> None:
        """Interrupt what runs, cancel background tasks, end the thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.executor.interrupt_all()
        if not await self._ends(self._call(self.executor.aclose), 2 * GRACE):
            self.executor.close()
        if not self._own:
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._host.when_ended = lambda: _tell(loop, ended)
        self._host.stop()
        # It has nothing left to do but the clean-up of tasks. A call that never returns must not keep us.
        if not await self._ends(ended.wait(), 2 * LAST + TICK):
            self._host.leave()

    async def _ends(self, coro: Coroutine[Any, Any, Any], seconds: float) -> bool:
        """Whether ``coro`` came to its end in time; half of the time is for a loop that is held."""
        task = asyncio.ensure_future(coro)
        for _ in range(2):
            await asyncio.wait([task], timeout=seconds / 2)
            if task.done():
                task.exception()
                return True
            self._free()
        task.cancel()
        return False

    # --- over to the host's loop and back ---------------------------------------------------------

    async def _call[T](self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        call = Awaited(make)
        self._calls.add(call)
        try:
            call.send(self._host)
            return await call.future
        finally:
            self._calls.discard(call)

    def _abandon(self, execution: Execution) -> bool:
        """Leave thread and loop, which are stuck in a call, and go on with fresh ones. Watchdog."""
        old = self._host
        if not claim(execution, old.leave):
            return False
        names = self.namespace.get_for_execution()
        execution.lost = find_thread_bound(names, old.loop)
        left = list(find_tasks(old.loop, execution.group))
        for other in self.executor.running():
            claim(other, lambda: True)
        host = LoopHost(self.namespace.name)
        self._host = host
        self.namespace.move()
        self.executor.move(host)
        host.start()
        for cell, observe, call, end in list(self._flying.values()):
            if not call.begun:
                call.send(host)
                continue
            end.over = True
            error = CancellationError(f"cell {cell.n} was interrupted")
            if cell is execution.cell:
                outcome = make_outcome(execution, (False, error), 0.0)
            else:
                text = f"cell {cell.n} ended: the thread it ran on was stuck in another cell's call"
                _observe(observe, Notice(cell_id=cell.id, kind="abandoned", text=text))
                outcome = Interrupted(cell=cell, abandoned=True, traceback=format_error(error))
            _observe(observe, Finished(outcome=outcome))
            call.reply(outcome, None)
        for task in left:
            started = task.get_context().get(CURRENT)
            if started is not None and started.sink is not None:
                text = f"background task {task.get_name()!r} ended: the loop it ran on is stuck in a call"
                started.sink.notice("abandoned", text)
        for waiting in list(self._calls):
            if not waiting.begun:
                waiting.send(host)
            else:
                waiting.reply(
                    None, WorkerDiedError("its thread was stuck in a call and left behind")
                )
        return True


def _tell_first(end: _End, observe: Observer) -> Observer:
    """An observer of a cell that notes its end, and keeps a second one to itself."""

    # All that it knows: what a cell leaves behind holds it, and must not hold the cell's value.
    def tell(event: Event) -> None:
        if isinstance(event, Finished):
            if end.over:
                return
            end.told = event.outcome
        observe(event)

    return tell


def _observe(observe: Observer, event: Event) -> None:
    try:
        observe(event)
    except Exception:  # noqa: BLE001  an observer's fault is the host's: report it, go on
        sys.excepthook(*sys.exc_info())


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:  # closed: nobody waits
        return
