"""The one lasting thread for blocking cells of a bare executor: calls in, results out.

One thread, not a pool: sqlite3 connections and the like belong to the thread that made them. The
thread is a daemon, so that a call which never returns cannot keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pyrepl3.run.aim import MONITOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.run.evaluator import Result

type _Job = tuple[Callable[[], Result], asyncio.AbstractEventLoop, Callable[[Result], object]]


class BlockingThread:
    """Runs calls one after the other, in the order given, always on the same thread.

    ``once``: the thread ends after its first call, for a cell that runs beside others.
    """

    def __init__(self, name: str, *, once: bool = False) -> None:
        self._name = name
        self._once = once
        self._jobs: SimpleQueue[_Job | None] | None = None

    def submit(self, call: Callable[[], Result], give: Callable[[Result], object]) -> None:
        """Run ``call`` on the thread, then ``give`` its result on the running loop."""
        loop = asyncio.get_running_loop()
        jobs = self._jobs
        if jobs is None:
            jobs = self._jobs = SimpleQueue()
            thread = threading.Thread(target=_work, args=(jobs,), name=self._name, daemon=True)
            thread.start()
        jobs.put((call, loop, give))
        if self._once:
            self.close()

    def abandon(self, thread: int) -> bool:
        """Leave the thread to itself: it ends when its call does; the next call gets a fresh one.

        ``thread`` is that of a cell which is not over, so it is ours. Any thread.
        """
        MONITOR.kill_on_return(thread)
        self.close()
        return True

    def close(self) -> None:
        """Let the thread end after its calls. Does not wait. Idempotent."""
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, loop, give = job
        result = call()
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            loop.call_soon_threadsafe(give, result)
        del job, call, give, result  # or the thread would keep the last value alive
