"""LoopHost: an event loop, and the one thread on which a session's code runs.

Cells and their tasks run on the host's thread, inside its loop. A blocking cell gets the *same* thread,
outside the loop: meanwhile a stand-in thread runs the loop, so that background tasks go on, and then
hands it back. So all code that a person writes at top level runs on one thread, whatever its mode:
a sqlite3 connection from one cell works in any other, and in the CLI signals break blocking calls.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import AsyncContextError
from pyrepl3.run.aim import MONITOR
from pyrepl3.run.coroutines import TaskFactory
from pyrepl3.run.execution import CURRENT

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Coroutine

    from pyrepl3.run.evaluator import Result

LAST = 1.0  # seconds that tasks have for their clean-up when the loop ends

if sys.platform == "win32":
    _Base = asyncio.ProactorEventLoop
else:
    _Base = asyncio.SelectorEventLoop


class HostLoop(_Base):
    """A loop that only its host closes. Stopping it is harmless: the host goes on with it."""

    served = False

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        if selector is None:
            super().__init__()
        else:  # where there are selectors
            super().__init__(selector)  # type: ignore[arg-type,unused-ignore]
        self.calls: set[asyncio.Task[Any]] = set()
        """The host's own tasks, which ``asyncio.all_tasks`` does not list: a cell that cancels all tasks,
        or waits for all others, means its own."""

    def is_free(self) -> bool:
        """Whether nothing waits for its turn. On the loop."""
        return not self._ready  # type: ignore[attr-defined]

    def call(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coro`` as a task of the host's own, from its first step on. On the loop.

        A plain cell is over then: no round of the loop for its step, and none for its end.
        """
        # A cell that runs another loop inside of this one makes CPython 3.13.0 forget which one runs.
        asyncio._set_running_loop(self)  # noqa: SLF001
        task = asyncio.Task(_hidden(coro), loop=self, eager_start=True)
        if task.done():
            return task
        asyncio._unregister_task(task)  # noqa: SLF001  documented for libraries that make tasks
        self.calls.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self.calls.discard)
        return task

    def run_forever(self) -> None:
        """Run until stopped. Raises RuntimeError where it runs."""
        if (
            self.is_running()
        ):  # CPython 3.13.0 finds that out too late, and the loop stops answering
            raise RuntimeError("This event loop is already running")
        super().run_forever()

    def close(self) -> None:
        """Close the loop, where its host asks for that."""
        if self.served:
            raise AsyncContextError(
                "this is the session's event loop and stays open; "
                "close only what asyncio.new_event_loop() gave you"
            )
        super().close()


class LoopHost:
    """A loop and its thread: one of its own (``start``) or the caller's (``serve``).

    ``submit`` and ``abandon`` are the Place port. The loop belongs to the host: when a cell stops it,
    it goes on; a SystemExit or KeyboardInterrupt in a task does not end it. ``when_ended`` is called
    once, on the host's last thread, when the loop is closed. ``selector`` is the loop's, if it is to be
    a special one.
    """

    def __init__(
        self,
        name: str,
        *,
        on_main: bool = False,
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self.name = name
        self.on_main = on_main
        self.loop = HostLoop(selector)
        self.when_ended: Callable[[], object] = lambda: None
        self._thread = 0
        """The thread that user code runs on now; another one after ``abandon``."""
        self._jobs: deque[tuple[Callable[[], Result], Callable[[Result], object]]] = deque()
        self._lock = threading.Lock()
        self._stand_in: _StandIn | None = None
        self._closing = False
        self._left = False
        TaskFactory.install(self.loop)
        self.loop.set_exception_handler(_report)

    def start(self) -> None:
        """Serve on a thread of its own, a daemon."""
        threading.Thread(target=self.serve, name=f"pyrepl3-{self.name}", daemon=True).start()

    def serve(self) -> None:
        """Run the loop and blocking cells on this thread until ``stop``."""
        me = self._thread = threading.get_ident()
        sys.set_coroutine_origin_tracking_depth(1)
        asyncio.set_event_loop(self.loop)
        self.loop.served = True
        try:
            while self._thread == me and not self._left:
                self.run_loop()
                if self._jobs:
                    self._work(me)
                elif self._closing:
                    break
                # else a cell stopped the loop: it is not the cell's to stop
        finally:
            MONITOR.release(me)
            if self._thread == me:
                self._end()

    def run_loop(self) -> None:
        """Run the loop until it is stopped. What a task raises to end the process ends only the task."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            return  # the task has it as its exception; the loop goes on when it is run again

    def _work(self, me: int) -> None:
        call, give = self._jobs.popleft()
        stand_in = self._stand_in
        if stand_in is None:
            stand_in = self._stand_in = _StandIn(self)
        stand_in.begin()
        result = call()
        with self._lock:
            if self._thread != me:
                return  # left behind: the stand-in has become the host's thread
            stand_in.asked = True
        stand_in.end()
        give(result)

    def submit(self, call: Callable[[], Result], give: Callable[[Result], object]) -> None:
        """Run ``call`` on the host's thread while a stand-in runs the loop. On the loop."""
        self._jobs.append((call, give))
        self.loop.stop()

    def abandon(self, thread: int) -> bool:
        """Leave ``thread``, stuck in a blocking cell; the stand-in takes its place. Any thread.

        False: that cell is over, or has not begun.
        """
        with self._lock:
            stand_in = self._stand_in
            if stand_in is None or stand_in.asked or self._thread != thread:
                return False
            self._stand_in = None
            MONITOR.kill_on_return(thread)
            self._thread = stand_in.thread.ident or 0
            stand_in.promoted = stand_in.asked = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        return True

    def leave(self) -> bool:
        """Leave threads *and* loop: the loop itself is stuck in a call. Any thread. False: left already.

        When the call returns, what is left on the loop is cancelled there and the loop closed.
        """
        with self._lock:
            if self._left:
                return False
            self._left = self._closing = True
            stand_in = self._stand_in
            MONITOR.kill_on_return(self._thread)
            if stand_in is not None and not stand_in.asked:
                MONITOR.kill_on_return(stand_in.thread.ident or 0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        return True

    def stop(self) -> None:
        """End ``serve`` after what runs now. Any thread. Idempotent."""
        self._closing = True
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:  # closed already
            return

    def _end(self) -> None:
        if self._stand_in is not None:
            self._stand_in.close()
        loop = self.loop
        tasks = asyncio.all_tasks(loop) | loop.calls
        for task in tasks:
            task.cancel()
        if tasks:
            self._run_for(LAST, asyncio.wait(tasks))
        for task in tasks:
            if not task.done():  # it swallows its cancellation: nobody will step it again
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._run_for(LAST, loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.served = False
        loop.close()
        self.when_ended()

    def _run_for(self, seconds: float, coro: Any) -> None:
        """Run ``coro`` to its end, but not longer than that, whatever user code in it raises."""
        loop = self.loop
        task = loop.create_task(coro)
        task.add_done_callback(lambda _: loop.stop())
        due = loop.call_later(seconds, task.cancel)
        # A task that raises SystemExit stops the loop; so may code of a cell.
        for _ in range(1000):
            self.run_loop()
            if task.done():
                break
        due.cancel()
        if task.done() and not task.cancelled():
            task.exception()


class _StandIn:
    """A thread that runs a host's loop while a blocking cell has the host's thread."""

    def __init__(self, host: LoopHost) -> None:
        self._host = host
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._closing = False
        self.asked = True
        self.promoted = False
        self.thread = threading.Thread(
            target=self._run, name=f"pyrepl3-{host.name}-stand-in", daemon=True
        )
        self.thread.start()

    def begin(self) -> None:
        self.asked = False
        self._go.release()

    def end(self) -> None:
        self._host.loop.call_soon_threadsafe(self._host.loop.stop)
        self._back.acquire()

    def close(self) -> None:
        self._closing = True
        self._go.release()

    def _run(self) -> None:
        sys.set_coroutine_origin_tracking_depth(1)
        while True:
            self._go.acquire()
            if self._closing:
                return
            while not self.asked:
                self._host.run_loop()
            if self.promoted:
                self._host.serve()
                return
            MONITOR.release(threading.get_ident())
            self._back.release()


async def _hidden[T](coro: Coroutine[Any, Any, T]) -> T:
    """A coroutine whose first, eager step ``asyncio.all_tasks`` does not know of."""
    asyncio.tasks._unregister_eager_task(asyncio.current_task())  # type: ignore[attr-defined]  # noqa: SLF001
    return await coro


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: tell the cell whose task or callback failed."""
    if sys.is_finalizing():
        return  # nothing can be imported, and nobody listens
    # asyncio calls this in the Context of the task or the callback.
    execution = CURRENT.get()
    if execution is None or execution.sink is None:
        loop.default_exception_handler(context)
        return
    from pyrepl3.run.tracebacks import format_error, trim  # noqa: PLC0415  failures only

    error, task = context.get("exception"), context.get("task") or context.get("future")
    if isinstance(error, asyncio.CancelledError):
        return  # a callback that held the loop while a cell was stopped
    text = context["message"] if error is None else format_error(trim(error))
    what = (
        f"background task {task.get_name()!r}" if isinstance(task, asyncio.Task) else "a callback"
    )
    execution.sink.notice("task-failed", f"{what} of cell {execution.cell.n} failed:\n{text}")
