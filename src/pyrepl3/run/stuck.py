"""A cell that does not stop in; what is in its way is hit, broken or left behind.

In its way may be another task that holds the loop, a loop that the cell runs itself, or a call in C.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt
from pyrepl3.records import Notice
from pyrepl3.run.aim import MONITOR
from pyrepl3.run.monitor import throw
from pyrepl3.run.points import called_by_us, is_call, is_ours, is_spared

if TYPE_CHECKING:
    from types import FrameType

    from pyrepl3.run.execution import Execution, Stop

LOCK = threading.RLock()
"""Held by whoever stops a cell, and by a cell that ends. Reentrant: a signal handler may come in between."""
STUCK = 0.1  # seconds without a move until a call counts as one that cannot be broken
LATE = 0.1  # seconds between two looks that show that the machine is busy: then nobody moves


def look(execution: Execution, stop: Stop, now: float) -> None:
    """Find out why a cell has not seen that it is to stop, and act on it. On the watchdog's thread."""
    loop, thread, holder = execution.loop, execution.thread, "main"
    if loop is not None:
        thread = getattr(loop, "_thread_id", None) or thread
        holder = _suspect(execution, stop, loop)
    frame = sys._current_frames().get(thread)  # noqa: SLF001  the documented way
    if frame is None:
        return
    if stop.looked and now - stop.looked > LATE:
        stop.seen += now - stop.looked
    stop.looked = now
    armed = execution in MONITOR.armed
    if not armed:
        _throw(execution, stop, thread, frame)
    place = id(frame), frame.f_lasti
    hit = stop.raised.get(holder)
    if not armed and stop.stage == 3 and execution.abandon is not None:
        execution.abandon()  # it swallows all that can be thrown
    elif place != stop.place or not is_call(frame.f_code, frame.f_lasti):
        stop.place, stop.seen = place, now
        if stop.thrown and stop.stage == 1:
            stop.delivered = True  # it moved, so it was hit: now it cleans up
    elif hit is not None and (stop.stage == 1 or now - hit[1] < STUCK):
        stop.seen = now  # it runs Python, cleaning up or refusing; the next stage sees to that
    elif _is_idle(frame, loop):
        stop.seen = now  # it was woken, and will answer
    # Our own code waits for a reader or an answer, and looks by itself.
    elif now - stop.seen >= STUCK and not called_by_us(frame):
        stop.seen = now
        _leave(execution, stop, frame)


def _leave(execution: Execution, stop: Stop, frame: FrameType) -> None:
    """It is in a call that no exception reaches: leave it behind, where that can be done."""
    nested = _find_loop(frame)
    if nested is not None and nested is not execution.loop:
        nested.call_soon_threadsafe(_break_loop, execution, stop)
    elif execution.abandon is not None:
        execution.abandon()
    elif execution.sink is not None and not stop.told:
        stop.told = True
        text = "inside a call that cannot be interrupted; waiting for it to return"
        execution.sink.emit(Notice(cell_id=execution.cell.id, kind="interrupting", text=text))


def _suspect(execution: Execution, stop: Stop, loop: asyncio.AbstractEventLoop) -> Any:
    """Who holds the loop, which has not answered: whoever does so at two looks in a row is cancelled."""
    holder = asyncio.current_task(loop)
    if holder is not None and holder is execution.task:
        return "main"
    if stop.suspect is not None and stop.suspect[0] is holder:
        execution.group.targets[holder] = stop
    stop.suspect = (holder,)
    return holder


def _throw(execution: Execution, stop: Stop, thread: int, frame: FrameType) -> None:
    """Without a tool at sys.monitoring: the older means, which ``except`` swallows."""
    with LOCK:
        # A cell that has just ended is not armed either: what is thrown now would hit whatever comes next.
        if not (execution.finished or execution.abandoned):
            _throw_now(execution, stop, thread, frame)


def _throw_now(execution: Execution, stop: Stop, thread: int, frame: FrameType) -> None:
    if is_spared(frame.f_code.co_filename) or (stop.thrown and stop.stage == 1):
        return
    loop = execution.loop
    holder = None if loop is None else asyncio.current_task(loop)
    if holder is execution.task:
        stop.thrown = True
        throw(thread, CellInterrupt)
    elif holder in execution.group.targets:
        stop.thrown = True
        throw(thread, asyncio.CancelledError)


def _is_idle(frame: FrameType, loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether ``loop`` waits for events: on a busy machine it takes its time to wake."""
    return (
        loop is not None
        and frame.f_code.co_filename == selectors.__file__
        and _find_loop(frame) is loop
    )


_RUN_FOREVER = asyncio.BaseEventLoop.run_forever.__code__


def _find_loop(frame: FrameType | None) -> asyncio.AbstractEventLoop | None:
    """The innermost event loop that the cell itself runs, on the stack of ``frame``."""
    while frame is not None and not is_ours(frame.f_code.co_filename):
        if frame.f_code is _RUN_FOREVER:
            loop: asyncio.AbstractEventLoop | None = frame.f_locals.get("self")
            return loop
        frame = frame.f_back
    return None


def _break_loop(execution: Execution, stop: Stop) -> None:
    """On a loop that the cell runs itself, by asyncio.run: its Runner cleans up behind this."""
    # Waking the loop may be enough: the monitor hits it on its way here.
    if not (stop.delivered or execution.finished or execution.abandoned):
        stop.delivered = True
        raise CellInterrupt
