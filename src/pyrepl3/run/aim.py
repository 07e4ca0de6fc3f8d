"""The code that runs now in, the exception that a cell which is to stop raises in it out.

Asked in the code's own thread and context, so that it knows by ``CURRENT`` whose code it is.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from typing import TYPE_CHECKING

from pyrepl3.errors import CellInterrupt
from pyrepl3.run.execution import CURRENT, Execution, Stop
from pyrepl3.run.monitor import Monitor, handles
from pyrepl3.run.points import ENTRY, SAFE, called_by_us, is_call, is_engine, is_spared
from pyrepl3.run.sources import is_cell

if TYPE_CHECKING:
    from types import CodeType, FrameType

GRACE = 1.0  # seconds between the stages; amendment 13
BRIEFLY = 0.1  # seconds that the handlers of an exception have at stage 2


def _decide(code: CodeType, offset: int) -> BaseException | None:
    """Asked by the monitor at each instruction of any code, in the code's own context."""
    filename = code.co_filename
    execution = CURRENT.get()
    if execution is None:
        if not is_cell(filename):
            return None
        execution = _find_by_thread()  # in a Context that does not know its cell
        if execution is None:
            return None
    if is_spared(filename):
        return None
    return _choose(execution, code, offset)


def decide_in_handler(frame: FrameType) -> BaseException | None:
    """The same for a signal handler that interrupted ``frame``; a call that it is in breaks."""
    execution = CURRENT.get()
    code = frame.f_code
    if execution is None or is_engine(code.co_filename) or called_by_us(frame):
        return None
    if MONITOR.armed and not is_call(code, frame.f_lasti):
        return None  # the monitor is about to, and better
    return _choose(execution, code, -1)


def _find_by_thread() -> Execution | None:
    thread, loop = threading.get_ident(), asyncio._get_running_loop()  # noqa: SLF001
    for execution in MONITOR.armed:
        if isinstance(execution, Execution) and (
            execution.loop is loop if execution.loop is not None else execution.thread == thread
        ):
            return execution
    return None


def _outer(inner: Execution) -> Execution | None:
    """Which cell that is to stop shares the task of ``inner``."""
    for execution in MONITOR.armed:
        if isinstance(execution, Execution) and execution.task is inner.task:
            return execution
    return None


def _choose(execution: Execution, code: CodeType, offset: int) -> BaseException | None:
    if execution.stop is None and execution.task is not None:
        # A cell inside another one's task, which it awaits in: what stops that one stops it.
        execution = _outer(execution) or execution
    stop = execution.stop
    active = stop is not None and not execution.finished and not execution.abandoned
    if active and in_main_line(execution):
        assert stop is not None
        if stop.stage == 1 and stop.delivered:
            return None
        error = _next(stop, "main", CellInterrupt, code, offset)
        if error is not None:
            stop.delivered = True
        return error
    loop = asyncio._get_running_loop()  # noqa: SLF001  the public one raises where none runs
    if loop is None:  # a thread of a pool that works for the cell
        return _next(stop, threading.get_ident(), CellInterrupt, code, offset) if active else None
    # CancelledError, not CellInterrupt: a KeyboardInterrupt in a task would stop the whole loop.
    task = asyncio.current_task(loop)
    target = execution.group.targets.get(task)
    if target is not None:
        return _next(target, task, asyncio.CancelledError, code, offset)
    if active and task is not None and stop is not None and stop.stage > 1:
        return _next(stop, task, asyncio.CancelledError, code, offset)
    return None


def _next(
    stop: Stop | None, key: object, kind: type[BaseException], code: CodeType, offset: int
) -> BaseException | None:
    """What stage and place allow to raise now. ``offset`` -1: wherever a signal came in."""
    assert stop is not None
    before = stop.raised.get(key)
    point = SAFE if offset < 0 else MONITOR.point(code, offset)
    if stop.stage == 1:
        if before is not None or point != SAFE:
            return None
        if not stop.anywhere and not is_cell(code.co_filename):
            return None
        if _is_only_reported():
            return None
    elif stop.stage == 2:
        if not is_cell(code.co_filename):
            return None
        if before is not None and time.monotonic() - before[1] < BRIEFLY:
            if point == ENTRY or handles(before[0]):
                return None
    error = kind("interrupted")
    stop.raised[key] = error, time.monotonic()
    return error


def _is_only_reported() -> bool:
    """Whether the interpreter would only report what is raised here: in a finaliser, or for the collector."""
    # A list: a set would hash the code of each frame.
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False


def in_main_line(execution: Execution) -> bool:
    """Whether the code that calls this is the cell's own, not that of a task or thread it started."""
    if execution.task is None:
        return threading.get_ident() == execution.thread
    loop = asyncio._get_running_loop()  # noqa: SLF001
    return loop is execution.loop and asyncio.current_task(loop) is execution.task


MONITOR = Monitor(_decide, GRACE)
