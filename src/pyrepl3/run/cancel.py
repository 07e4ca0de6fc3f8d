"""Stopping a running cell from any thread: an await, a Python loop, a blocking call.

Three means, tried in this order and together:

1. The cell awaits: its task is cancelled, by ``call_soon_threadsafe``.
2. It runs Python: ``sys.monitoring`` (PEP 669) is switched on; its callback runs in the cell's own
   thread and context and raises there. That reaches a loop in 0.1 to 0.3 ms, cannot be switched
   off by ``except``, and costs nothing while nobody is being stopped.
3. It is inside a C call: on the main thread a signal breaks the call; on another thread nothing can,
   so the thread is abandoned and killed at its first instruction after the call.

Stages (amendment 13): first raise once, so that ``finally`` and ``with`` clean up; after ``GRACE``
seconds raise at every instruction of cell code; after as long again, in libraries too. Never in our own
code or asyncio's, whose invariants would break.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt, LimitExceededError
from pyrepl3.records import Line, Notice
from pyrepl3.run.execution import CURRENT, Execution, Stop
from pyrepl3.run.sources import is_cell
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from pyrepl3.run.executor import AsyncExecutor

GRACE = 1.0  # seconds between the stages; amendment 13
STUCK = 0.1  # seconds without a line of Python until a call counts as one that cannot be broken
HOGGED = 0.05  # seconds without an answer until the loop counts as held by some other task

_monitoring = sys.monitoring
_E = _monitoring.events
# Not LINE, which a loop of one line never fires, and not JUMP: what is raised at the last jump of a
# ``try`` block passes its handlers by.

# Code that never has an exception of ours raised into it.
_OURS = str(Path(__file__).resolve().parent.parent) + "/"
_ASYNCIO = str(Path(asyncio.__file__).parent) + "/"
_SPARED_FILES = {threading.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
_spared: dict[str, bool] = {}


def is_spared(filename: str) -> bool:
    """Whether code of this file is never interrupted: ours, asyncio's, the import system's."""
    spared = _spared.get(filename)
    if spared is None:
        spared = _spared[filename] = (
            filename.startswith((_OURS, _ASYNCIO)) or filename in _SPARED_FILES
        )
    return spared


def is_engine(filename: str) -> bool:
    """Whether code of this file is ours or asyncio's: a signal does not raise there either."""
    return filename.startswith((_OURS, _ASYNCIO))


class Monitor:
    """Our one tool at ``sys.monitoring``: claimed at the first need, its events on only in need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tool: int | None = None
        self._armed: set[Execution] = set()
        self.abandoned: dict[int, list[CodeType]] = {}
        self._traced: dict[CodeType, Execution] = {}

    def _claim(self) -> int:
        if self._tool is None:
            # 0, 1, 2 and 5 are taken by convention: debugger, coverage, profiler, optimizer.
            for tool in (4, 3, 5, 2, 1, 0):
                if _monitoring.get_tool(tool) is None:
                    _monitoring.use_tool_id(tool, "pyrepl3")
                    break
            else:
                raise RuntimeError("all six sys.monitoring tools are in use; stop a profiler or debugger")
            _monitoring.register_callback(tool, _E.INSTRUCTION, _on_event)
            _monitoring.register_callback(tool, _E.LINE, self._on_line)
            self._tool = tool
        return self._tool

    def arm(self, execution: Execution) -> None:
        """Call ``_on_event`` at every instruction until ``disarm``. Any thread."""
        with self._lock:
            tool = self._claim()
            self._armed.add(execution)
            _monitoring.set_events(tool, _E.INSTRUCTION)

    def disarm(self, execution: Execution) -> None:
        """Undo ``arm``; the last one out switches the events off. Any thread."""
        with self._lock:
            self._armed.discard(execution)
            if not self._armed and self._tool is not None:
                _monitoring.set_events(self._tool, 0)

    def kill_on_return(self, thread: int) -> None:
        """Raise in ``thread`` at its next instruction, whenever its C call ends.

        Only the code on its stack is instrumented, so that waiting for hours costs others nothing.
        """
        frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  the documented way
        codes: list[CodeType] = []
        while frame is not None:
            if not is_spared(frame.f_code.co_filename):
                codes.append(frame.f_code)
            frame = frame.f_back
        with self._lock:
            tool = self._claim()
            self.abandoned[thread] = codes
            for code in codes:
                _monitoring.set_local_events(tool, code, _E.INSTRUCTION)

    def release(self, thread: int) -> None:
        """The thread is out, if it was abandoned. Called by that thread."""
        if thread not in self.abandoned:
            return
        with self._lock:
            for code in self.abandoned.pop(thread, ()):
                _monitoring.set_local_events(self._tool or 0, code, 0)

    def trace(self, execution: Execution, codes: list[CodeType]) -> None:
        """Report each line of ``codes`` to the execution's observer until ``untrace``."""
        with self._lock:
            tool = self._claim()
            for code in codes:
                self._traced[code] = execution
                _monitoring.set_local_events(tool, code, _E.LINE)

    def untrace(self, codes: list[CodeType]) -> None:
        """Undo ``trace``."""
        with self._lock:
            for code in codes:
                if self._traced.pop(code, None) is not None:
                    _monitoring.set_local_events(self._tool or 0, code, 0)

    def _on_line(self, code: CodeType, line: int) -> None:
        if self._traced:
            execution = self._traced.get(code)
            if execution is not None and execution.sink is not None:
                execution.sink.emit(
                    Line(cell_id=execution.cell.id, line=line - execution.cell.first_line + 1)
                )


def _on_event(code: CodeType, *_: object) -> None:
    """Raise here if this code belongs to a cell that is to stop. Runs in the code's own context."""
    if MONITOR.abandoned and threading.get_ident() in MONITOR.abandoned:
        if not is_spared(code.co_filename):
            raise CellInterrupt
        return
    execution = CURRENT.get()
    if execution is None or execution.abandoned:
        return
    stop = execution.stop
    if stop is None or execution.finished:
        stop = execution.group.stop  # a task of an earlier cell that holds the loop
        if stop is None or not stop.hogged or is_spared(code.co_filename):
            return
        _hit_task(stop)
        return
    filename = code.co_filename
    if is_spared(filename):
        return
    if execution.task is not None and not in_main_line(execution):
        if stop.hogged:
            _hit_task(stop)
        return
    if stop.stage == 1:
        if stop.delivered:
            return
    elif stop.stage == 2 and not is_cell(filename):
        return
    stop.delivered = True
    raise CellInterrupt


def in_main_line(execution: Execution) -> bool:
    """Whether this is the cell's own task, not one that it started."""
    loop = asyncio._get_running_loop()  # noqa: SLF001  the public one raises where none runs
    if loop is not execution.loop:
        return loop is None
    return asyncio.current_task(loop) is execution.task


def _hit_task(stop: Stop) -> None:
    # CancelledError, not CellInterrupt: a KeyboardInterrupt in a task would stop the whole loop.
    loop = asyncio._get_running_loop()  # noqa: SLF001
    task = None if loop is None else asyncio.current_task(loop)
    if task is None or (stop.stage == 1 and task in stop.hit):
        return
    stop.hit.add(task)
    raise asyncio.CancelledError("stopped: it held the loop while a cell was interrupted")


MONITOR = Monitor()


def request_stop(execution: Execution, reason: LimitExceededError | None = None) -> bool:
    """Stop a running cell; ``reason`` is the limit it broke. Any thread; returns at once.

    A second request while the first is under way goes to the next stage at once. Returns False
    where the cell is over.
    """
    if execution.finished:
        return False
    stop = execution.stop
    if stop is not None:
        _escalate(execution, stop)
        return True
    stop = execution.stop = Stop(reason)
    MONITOR.arm(execution)
    if execution.finished:  # it ended between the test and the arming: nobody else would disarm
        MONITOR.disarm(execution)
        return False
    _deliver(execution, stop)
    WATCHDOG.call_later(STUCK, lambda: _look(execution, stop))
    WATCHDOG.call_later(GRACE, lambda: _escalate(execution, stop, at_least=2))
    return True


def finish(execution: Execution) -> None:
    """The cell is out: no stop may hit what runs next. Called by the thread that ran it."""
    execution.finished = True
    stop = execution.stop
    if stop is not None:
        MONITOR.disarm(execution)
        if execution.group.stop is stop:
            execution.group.stop = None


def _deliver(execution: Execution, stop: Stop) -> None:
    if execution.task is not None and execution.loop is not None:
        try:
            execution.loop.call_soon_threadsafe(_cancel_task, execution, stop, stop.stage)
        except RuntimeError:  # the loop is closed: nothing awaits on it any more
            return
    if execution.on_main and threading.get_ident() != execution.thread:
        # Breaks sleep, lock and socket calls; the handler of the main thread raises, or lets it be.
        stop.kicked = True
        signal.pthread_kill(execution.thread, signal.SIGINT)


def _cancel_task(execution: Execution, stop: Stop, stage: int) -> None:
    task = execution.task
    if task is None or task.done() or execution.finished:
        return
    if stage == 1 and stop.delivered:
        return
    stop.delivered = True
    task.cancel()


def _look(execution: Execution, stop: Stop) -> None:
    """STUCK seconds after the request: if no line of Python has run since, act on that."""
    if execution.finished or stop.delivered:
        return
    if execution.task is not None and not stop.hogged:
        # The loop has not even run our callback: another task on it holds it, or a C call does.
        stop.hogged = True
        execution.group.stop = stop
        WATCHDOG.call_later(STUCK, lambda: _look(execution, stop))
        return
    if execution.abandon is not None:
        if execution.abandon():
            return
    elif execution.sink is not None:
        execution.sink.emit(
            Notice(
                cell_id=execution.cell.id,
                kind="interrupting",
                text="inside a call that cannot be interrupted; waiting for it to return",
            )
        )
    WATCHDOG.call_later(STUCK, lambda: _look(execution, stop))


def _escalate(execution: Execution, stop: Stop, at_least: int = 0) -> None:
    if execution.finished or stop.stage >= max(at_least, 3) or execution.abandoned:
        return
    if at_least and stop.stage >= at_least:
        return
    stop.stage += 1
    stop.delivered = False
    _deliver(execution, stop)
    WATCHDOG.call_later(STUCK, lambda: _look(execution, stop))
    # At stage 3 the cancellation is sent again and again: each await may swallow one.
    WATCHDOG.call_later(GRACE, lambda: _press(execution, stop))


def _press(execution: Execution, stop: Stop) -> None:
    if execution.finished or execution.abandoned:
        return
    if stop.stage < 3:
        stop.stage = 3
    stop.delivered = False
    _deliver(execution, stop)
    WATCHDOG.call_later(STUCK, lambda: _press(execution, stop))


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
            except Exception:  # one callback's fault is not the next one's
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
