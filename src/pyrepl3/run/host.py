"""LoopHost: an event loop, and the one thread on which a session's code runs.

Cells and their tasks run on the host's thread, inside its loop. A blocking cell gets the *same* thread,
outside the loop: meanwhile a stand-in thread runs the loop, so that background tasks go on, and then
hands it back. So all code that a person writes at top level runs on one thread, whatever its mode:
a sqlite3 connection from one cell works in any other, and in the CLI signals break blocking calls.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt
from pyrepl3.run.cancel import MONITOR, in_main_line, is_engine, request_stop
from pyrepl3.run.coroutines import TaskFactory
from pyrepl3.run.execution import CURRENT, Execution

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pyrepl3.run.evaluator import Result


class LoopHost:
    """A loop and its thread: one of its own (``start``) or the caller's (``serve``).

    ``submit`` and ``abandon`` are the Place port. The loop belongs to the host: when a cell stops it,
    it goes on; a SystemExit or KeyboardInterrupt in a task does not end it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = asyncio.new_event_loop()
        self.on_main = False
        self.thread = 0
        """The thread that user code runs on now; another one after ``abandon``."""
        self._jobs: deque[tuple[Callable[[], Result], Callable[[Result], object]]] = deque()
        self._lock = threading.Lock()
        self._stand_in: _StandIn | None = None
        self._closing = False
        self._left = False
        self._ended = threading.Event()
        TaskFactory.install(self.loop)
        self.loop.set_exception_handler(_report)

    def start(self) -> None:
        """Serve on a thread of its own, a daemon."""
        threading.Thread(target=self.serve, name=f"pyrepl3-{self.name}", daemon=True).start()

    def serve(self) -> None:
        """Run the loop and blocking cells on this thread until ``stop``."""
        me = self.thread = threading.get_ident()
        sys.set_coroutine_origin_tracking_depth(1)
        asyncio.set_event_loop(self.loop)
        try:
            while self.thread == me and not self._left:
                run_loop(self.loop)
                if self._jobs:
                    self._work(me)
                elif self._closing:
                    break
                # else a cell stopped the loop: it is not the cell's to stop
        finally:
            MONITOR.release(me)
            if self.thread == me:
                self._end()

    def _work(self, me: int) -> None:
        call, give = self._jobs.popleft()
        stand_in = self._stand_in
        if stand_in is None:
            stand_in = self._stand_in = _StandIn(self)
        stand_in.begin()
        result = call()
        with self._lock:
            if self.thread != me:
                return  # left behind: the stand-in has become the host's thread
            stand_in.asked = True
        stand_in.end()
        give(result)

    def submit(self, call: Callable[[], Result], give: Callable[[Result], object]) -> None:
        """Run ``call`` on the host's thread while a stand-in runs the loop. On the loop."""
        self._jobs.append((call, give))
        self.loop.stop()

    def abandon(self) -> None:
        """Leave the host's thread, stuck in a blocking cell; the stand-in takes its place. Any thread."""
        with self._lock:
            stand_in, self._stand_in = self._stand_in, None
            if stand_in is None or stand_in.asked:
                return
            self.thread = stand_in.thread.ident or 0
            stand_in.promoted = stand_in.asked = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def leave(self) -> None:
        """Leave thread *and* loop: the loop itself is stuck in a call. Any thread.

        When the call returns, what is left on the loop is cancelled there and the loop closed.
        """
        self._left = self._closing = True
        MONITOR.kill_on_return(self.thread)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def stop(self) -> None:
        """End ``serve`` after what runs now. Any thread. Idempotent."""
        self._closing = True
        if not self._ended.is_set():
            try:
                self.loop.call_soon_threadsafe(self.loop.stop)
            except RuntimeError:  # closed between the test and the call
                return

    def _end(self) -> None:
        if self._stand_in is not None:
            self._stand_in.close()
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            stop = loop.call_later(1.0, loop.stop)  # a task that swallows its cancellation
            gathered = asyncio.gather(*tasks, return_exceptions=True)
            gathered.add_done_callback(lambda _: loop.stop())
            run_loop(loop)
            stop.cancel()
            if not gathered.done():
                gathered.add_done_callback(lambda done: done.cancelled() or done.exception())
        run_loop_until(loop, loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
        self._ended.set()

    def join(self, timeout: float) -> bool:
        """Wait until ``serve`` has ended. Returns whether it has."""
        return self._ended.wait(timeout)


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
                run_loop(self._host.loop)
            if self.promoted:
                self._host.serve()
                return
            self._back.release()


def run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run ``loop`` until it is stopped. What a task raised to end the process ends only that task."""
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt):
        return  # the task has it as its exception; the loop goes on when it is run again


def run_loop_until(loop: asyncio.AbstractEventLoop, coro: Any) -> None:
    """Run ``coro`` to its end, whatever user code in it raises."""
    try:
        loop.run_until_complete(coro)
    except BaseException:  # noqa: BLE001, S110  clean-up of generators that nobody waits for
        pass


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: tell the cell that started the task, in its stderr."""
    task = context.get("task") or context.get("future")
    execution = None
    if isinstance(task, asyncio.Task):
        execution = task.get_context().get(CURRENT)
    error = context.get("exception")
    if execution is None or execution.sink is None:
        loop.default_exception_handler(context)
        return
    from pyrepl3.run.tracebacks import format_error, trim  # noqa: PLC0415  failures only

    text = context["message"] if error is None else format_error(trim(error))
    name = f" {task.get_name()!r}" if isinstance(task, asyncio.Task) else ""
    execution.sink.notice(
        "task-failed", f"background task{name} of cell {execution.cell.n} failed:\n{text}"
    )


class MainThread:
    """Makes Ctrl-C reach the cell that runs on the main thread, while ``install``ed.

    ``foreground`` gives the execution to stop; where there is none, ``idle`` is called. The handler
    raises where user code was interrupted, also inside sleep, lock and socket calls, never in ours.
    """

    def __init__(
        self, foreground: Callable[[], Execution | None], idle: Callable[[], object]
    ) -> None:
        self._foreground = foreground
        self._idle = idle
        self._before: Any = None

    def install(self) -> None:
        """Take SIGINT over. Main thread."""
        self._before = signal.signal(signal.SIGINT, self._handle)

    def restore(self) -> None:
        """Give SIGINT back. Main thread."""
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        execution = self._foreground()
        if execution is None:
            self._idle()
            return
        stop = execution.stop
        if stop is not None and stop.kicked:
            stop.kicked = False  # sent by request_stop itself, to break a call
        elif not request_stop(execution):
            return
        stop = execution.stop
        inner = CURRENT.get()
        if stop is None or inner is None or frame is None or is_engine(frame.f_code.co_filename):
            return  # between user code: the monitor or the cancellation does it
        if inner is execution and (execution.task is None or in_main_line(execution)):
            if stop.stage > 1 or not stop.delivered:
                stop.delivered = True
                raise CellInterrupt
        elif inner.group is execution.group and inner.task is not None:
            raise asyncio.CancelledError("stopped: it held the loop while a cell was interrupted")
