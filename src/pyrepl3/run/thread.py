"""ThreadRunner: the same executor on a loop and thread of its own, so that the caller's loop always answers."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError, NamespaceError
from pyrepl3.records import Fetch, Finished, Interrupted, Notice
from pyrepl3.run.cancel import GRACE
from pyrepl3.run.executor import AsyncExecutor
from pyrepl3.run.host import LoopHost
from pyrepl3.run.outcomes import make_outcome
from pyrepl3.run.routes import find_thread_bound
from pyrepl3.run.tracebacks import format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pyrepl3.config import ExecutorConfig
    from pyrepl3.ports import Asker, Observer, Stage
    from pyrepl3.records import Cell, Delta, Outcome, Question, Snapshot
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.namespace import NamespaceManager

type _Reply = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]


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
        )
        self._flying: dict[str, tuple[Cell, Observer, _Reply]] = {}
        self._closed = False
        if host is None:
            self._host.start()

    @property
    def host(self) -> LoopHost:
        """Where cells run now."""
        return self._host

    async def run(self, cell: Cell, observe: Observer) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        reply = (loop, future)
        self._flying[cell.id] = (cell, observe, reply)
        try:
            self._start(self.executor.run(cell, observe), reply)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                # The caller gives up: the cell must not go on behind its back.
                while not future.done():
                    self.executor.interrupt(cell.id)
                    try:
                        await asyncio.wait([future], timeout=GRACE)
                    except asyncio.CancelledError:
                        continue
                raise
        finally:
            self._flying.pop(cell.id, None)

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Stop a cell (None: the one in the foreground). Any thread; returns at once."""
        return self.executor.interrupt(cell_id)

    async def snapshot(self) -> Delta:
        """What changed since the last mark."""
        return await self._call(self.executor.snapshot)

    async def mark(self) -> None:
        """The last snapshot is safe."""
        await self._call(self.executor.mark)

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
        return await self._call(lambda: self.executor.ask(question))

    async def aclose(self) -> None:
        """Interrupt what runs, cancel background tasks, end the thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.executor.interrupt_all()
        await self._call(self.executor.aclose)
        if self._own:
            self._host.stop()
            loop = asyncio.get_running_loop()
            # Short: the loop has nothing left to do. A call that never returns must not keep us.
            await loop.run_in_executor(None, self._host.join, GRACE)

    # --- over to the host's loop and back ---------------------------------------------------------

    async def _call[T](self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._start(make(), (loop, future))
        return await future

    def _start(self, coro: Coroutine[Any, Any, Any], reply: _Reply) -> None:
        # An empty Context: nothing of the caller's leaks into the cell's task.
        self._host.loop.call_soon_threadsafe(_begin, coro, reply, context=contextvars.Context())

    def _abandon(self, execution: Execution) -> bool:
        """Leave thread and loop, which are stuck in a call, and go on with fresh ones. Watchdog."""
        if execution.finished:
            return False
        old = self._host
        execution.abandoned = True
        names = self.namespace.get_for_execution()
        execution.lost = find_thread_bound(names, loop=True)
        old.leave()
        host = LoopHost(self.namespace.name)
        self._host = host
        self.namespace.move()
        self.executor.move(host)
        host.start()
        for cell, observe, reply in list(self._flying.values()):
            error = CancellationError(f"cell {cell.n} was interrupted")
            if cell is execution.cell:
                outcome = make_outcome(execution, (False, error), 0.0)
            else:
                text = f"cell {cell.n} ended: the thread it ran on was stuck in another cell's call"
                observe(Notice(cell_id=cell.id, kind="abandoned", text=text))
                outcome = Interrupted(cell=cell, abandoned=True, traceback=format_error(error))
            observe(Finished(outcome=outcome))
            _reply(reply, outcome, None)
        return True


_keep: set[asyncio.Task[Any]] = set()


def _begin(coro: Coroutine[Any, Any, Any], reply: _Reply) -> None:
    task = asyncio.Task(coro, loop=asyncio.get_running_loop())
    _keep.add(task)

    def end(task: asyncio.Task[Any]) -> None:
        _keep.discard(task)
        if task.cancelled():
            _reply(reply, None, asyncio.CancelledError())
        else:
            error = task.exception()
            _reply(reply, None if error else task.result(), error)

    task.add_done_callback(end)


def _reply(reply: _Reply, result: Any, error: BaseException | None) -> None:
    loop, future = reply
    try:
        loop.call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:  # the caller's loop is closed: nobody waits
        return


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
