"""What counts as a call that cannot be broken, and what does not."""

from __future__ import annotations

import selectors
import sys
import threading
import time
from contextlib import contextmanager

from pyrepl3.records import Cell
from pyrepl3.run.aim import MONITOR
from pyrepl3.run.execution import Execution, Group, Stop
from pyrepl3.run.host import HostLoop
from pyrepl3.run.stuck import LATE, STUCK, look


@contextmanager
def running(target, file):
    """A thread that runs ``target``, once its innermost code is that of ``file``."""
    thread = threading.Thread(target=target)
    thread.start()  # it has a frame from here on
    while sys._current_frames()[thread.ident].f_code.co_filename != file:
        time.sleep(0)
    yield thread.ident
    thread.join()


def stopping(thread, loop=None):
    """An execution that is being stopped, and the list of those who left it behind."""
    execution = Execution(Cell(id="c1", n=1, source="", filename="<c>"), Group())
    execution.thread, execution.loop = thread, loop
    left = []
    execution.abandon = lambda: left.append(1) or True
    execution.stop = Stop()
    return execution, left


def look_often(execution, apart):
    MONITOR.arm(execution)
    try:
        for n in range(20):
            look(execution, execution.stop, 1000.0 + n * apart)
    finally:
        MONITOR.disarm(execution)


def test_a_thread_that_stays_in_a_call_is_left_behind():
    lock = threading.Lock()
    lock.acquire()
    # Called by code of no file of ours.
    code = compile("lock.acquire()", "<in c>", "exec")
    with running(lambda: exec(code, {"lock": lock}), "<in c>") as thread:
        execution, left = stopping(thread)
        look_often(execution, STUCK / 2)
        lock.release()
    assert left


def test_on_a_machine_so_busy_that_the_looks_come_late_nobody_is():
    lock = threading.Lock()
    lock.acquire()
    code = compile("lock.acquire()", "<in c>", "exec")
    with running(lambda: exec(code, {"lock": lock}), "<in c>") as thread:
        execution, left = stopping(thread)
        look_often(execution, LATE * 1.5)
        lock.release()
    assert not left


def test_a_loop_that_waits_for_events_is_not_stuck_but_slow_to_wake():
    loop = HostLoop()
    with running(loop.run_forever, selectors.__file__):
        execution, left = stopping(0, loop)
        look_often(execution, STUCK / 2)
        loop.call_soon_threadsafe(loop.stop)
    loop.close()
    assert not left
