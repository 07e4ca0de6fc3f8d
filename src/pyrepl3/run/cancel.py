"""Stopping a running cell from any thread: an await, a Python loop, a blocking call.

The means, all tried at once:

1. The cell awaits: its task is cancelled, by ``call_soon_threadsafe``.
2. It runs Python: ``monitor`` raises in the cell's own thread and context.
3. It is inside a C call: on the main thread a signal breaks the call; on another thread nothing can,
   so the thread is left behind and killed when the call returns.

Stages (amendment 13): 1, raise once, so that ``finally`` and ``with`` clean up, for the first moment only
in code of cells, where no library's lock is half taken. 2, after ``GRACE`` seconds, raise in code of cells
again and again; the handlers of what was raised get a moment each. 3, after as long again, raise at every
instruction of any code but ours and asyncio's. A second request goes to the next stage at once.

While the loop does not answer because another task of ours holds it, that task is cancelled in the same way.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import LimitExceededError
from pyrepl3.records import Cell
from pyrepl3.run import forked
from pyrepl3.run.aim import GRACE, MONITOR
from pyrepl3.run.execution import CURRENT, Execution, Group, Stop
from pyrepl3.run.monitor import throw
from pyrepl3.run.signals import kick
from pyrepl3.run.stuck import LATE, LOCK, look
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrepl3.run.executor import AsyncExecutor

__all__ = [
    "GRACE",
    "TICK",
    "ExecutionCancellation",
    "claim",
    "finish",
    "free_loop",
    "request_stop",
]

TICK = 0.05  # seconds between two looks at a cell that is being stopped

STOPPING: list[Callable[[Execution], object]] = []
"""Called when a cell is to stop: by a debugger that may hold it."""

# --- asking for it ------------------------------------------------------------------------------------


def request_stop(
    execution: Execution, reason: LimitExceededError | None = None, *, answers: bool = False
) -> bool:
    """Stop a running cell; ``reason`` is the limit it broke. Any thread; returns at once.

    A second request while the first is under way goes to the next stage, unless it comes from a limit.
    ``answers``: asked by the cell's loop itself, between two callbacks. Returns False where the cell is over.
    """
    with LOCK:
        if execution.finished or execution.abandoned:
            return False
        stop = execution.stop
        if stop is not None:
            if reason is None and stop.stage < 3:
                _press(execution, stop)
            return True
        stop = execution.stop = Stop(reason)
        begun = time.monotonic()
        stop.due, stop.ticked = begun + GRACE, (begun, time.process_time())
        if answers and execution.task is not None:
            # Nothing of it runs: no instruction has to be watched, which slows all that does by far.
            _answer(execution, stop)
        else:
            MONITOR.arm(execution)
            if (
                execution.finished
            ):  # it ended between the test and the arming: nobody else would disarm
                MONITOR.disarm(execution)
                return stop.delivered  # or by this, at once
            _deliver(execution, stop)
        for tell in STOPPING:
            tell(execution)
        WATCHDOG.call_later(TICK, lambda: _tick(execution, stop))
        return True


def free_loop(
    loop: asyncio.AbstractEventLoop,
    group: Group,
    *,
    abandon: Callable[[Execution], bool] | None,
    on_main: bool,
) -> Execution:
    """Make ``loop`` answer, whatever task of ``group`` holds it. Any thread; returns at once.

    For when no cell runs that could be stopped: a task of an earlier one holds the loop. What is returned
    is ``finished`` once the loop has answered.
    """
    # As if a cell were stopped that ends as soon as the loop answers.
    guard = Execution(Cell(id="", n=0, source="", filename=""), group)
    guard.loop, guard.on_main = loop, on_main
    if abandon is not None:
        guard.abandon = lambda: abandon(guard)
    request_stop(guard)
    return guard


def finish(execution: Execution, result: tuple[bool, Any] = (True, None)) -> None:
    """The cell is out: no stop may hit what runs next. Called by the thread that ran it.

    Does not return in a process that the cell has forked.
    """
    if execution.stop is not None and execution.stop.forked:
        forked.end(result)
    with LOCK:
        execution.finished = True
        stop = execution.stop
        if stop is not None:
            MONITOR.disarm(execution)
            _let_go(execution.group, stop)
            if stop.thrown:
                throw(execution.thread, None)
    if execution.abandoned:
        MONITOR.release(threading.get_ident())


def claim(execution: Execution, switch: Callable[[], bool]) -> bool:
    """Leave a cell behind in its call: True, once, where it is not over and ``switch`` agrees.

    Either the cell's own end comes first, or this: never both. ``switch`` puts another thread into the
    place of the cell's, which is killed when it comes back.
    """
    with LOCK:
        if execution.finished or execution.abandoned or not switch():
            return False
        execution.abandoned = True
        MONITOR.disarm(execution)
        if execution.stop is not None:
            _let_go(execution.group, execution.stop)
        return True


def _let_go(group: Group, stop: Stop) -> None:
    for task in [task for task, by in group.targets.items() if by is stop]:
        group.targets.pop(task, None)


def _deliver(execution: Execution, stop: Stop) -> None:
    loop = execution.loop
    if loop is not None and (not stop.asked or loop.is_closed()):
        stop.asked = True
        try:
            loop.call_soon_threadsafe(_answer, execution, stop)
        except RuntimeError:  # the loop is closed: nothing awaits on it any more, nor holds it
            if execution.task is None:
                finish(execution)
            return
    if execution.on_main and threading.current_thread() is not threading.main_thread():
        kick()


def _answer(execution: Execution, stop: Stop) -> None:
    """On the loop, which answers: whoever held it has let go."""
    stop.asked, stop.suspect = False, None
    _let_go(execution.group, stop)
    if execution.finished or execution.abandoned:
        return
    task = execution.task
    if task is None:
        finish(execution)
        return
    if stop.stage == 1 and stop.delivered:
        return
    stop.delivered = True
    execution.cancels += 1
    task.cancel()
    if stop.stage > 1:  # what it waits for may swallow that, and it would never hear of it
        for waited in _awaited(task):
            execution.group.targets[waited] = stop
    if stop.stage > 2:  # nor does a TaskGroup cancel its tasks twice
        for other in asyncio.all_tasks(execution.loop):
            if other is not task and other.get_context().get(CURRENT) is execution:
                other.cancel()


def _awaited(task: asyncio.Task[Any]) -> Iterator[asyncio.Task[Any]]:
    """The tasks that ``task`` awaits, directly or through other tasks and gather()."""
    stack, seen = [task], set()
    while stack:
        future = getattr(stack.pop(), "_fut_waiter", None)
        for child in (future, *getattr(future, "_children", ())):
            if isinstance(child, asyncio.Task) and child not in seen:
                seen.add(child)
                stack.append(child)
                yield child


def _press(execution: Execution, stop: Stop) -> None:
    """On to the next stage."""
    with LOCK:
        stop.stage += 1
        stop.due = time.monotonic() + GRACE
        stop.delivered = False
        stop.raised.clear()
        MONITOR.arm(execution)
        _deliver(execution, stop)


def _tick(execution: Execution, stop: Stop) -> None:
    """Look again at a cell that is being stopped. On the watchdog's thread."""
    now = time.monotonic()
    with LOCK:
        if execution.finished or execution.abandoned:
            return
        _excuse(stop, now)
        # A loop has answered once _answer ran, whatever the cell made of it.
        seen = stop.delivered or (execution.loop is not None and not stop.asked)
        if seen and stop.stage == 1:
            MONITOR.disarm(execution)  # it cleans up, at full speed
        if stop.stage < 3 and now >= stop.due:
            _press(execution, stop)
        elif not seen or stop.stage > 1:
            stop.anywhere = True
            if stop.stage > 1:
                stop.delivered = False  # each await may swallow one cancellation
            _deliver(execution, stop)
    WATCHDOG.call_later(TICK, lambda: _tick(execution, stop))
    if not seen:
        look(execution, stop, now)


def _excuse(stop: Stop, now: float) -> None:
    """Put the next stage off by the time in which this process had no processor: nor had the cell."""
    before, used = stop.ticked
    stop.ticked = now, time.process_time()
    stop.due += max(0.0, now - before - (stop.ticked[1] - used) - LATE)


class ExecutionCancellation:
    """Stops what an AsyncExecutor runs, for code that holds the executor.

    ``cancel_execution`` from any thread; callbacks are called on that thread, in order, and one that
    raises does not keep the others from being called (its error goes to ``sys.excepthook``).
    """

    def __init__(self, executor: AsyncExecutor) -> None:
        self.executor = executor
        self.cancelled = False
        self._cancel_callbacks: list[Callable[[], object]] = []

    def cancel_execution(self) -> None:
        """Interrupt every cell that the executor runs now, background ones included."""
        self.cancelled = True
        self.executor.interrupt_all()
        for callback in list(self._cancel_callbacks):
            try:
                callback()
            except Exception:  # noqa: BLE001  one callback's fault is not the next one's
                sys.excepthook(*sys.exc_info())

    def check_cancelled(self) -> None:
        """Raise CancelledError if ``cancel_execution`` was called; for loops of the host."""
        if self.cancelled:
            raise asyncio.CancelledError("Execution cancelled")

    def add_cancel_callback(self, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` when execution is cancelled."""
        self._cancel_callbacks.append(callback)

    @contextmanager
    def cancellable_execution(self) -> Iterator[ExecutionCancellation]:
        """A block after which this object is fresh: not cancelled, no callbacks."""
        try:
            yield self
        finally:
            self.cancelled = False
            self._cancel_callbacks.clear()
