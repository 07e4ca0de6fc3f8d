"""Limits around a cell: what it may use in, LimitExceededError as the reason of its stop out.

Time and memory are watched by the watchdog's thread, output by the cell's Sink, tasks by the loop's
TaskFactory; each stops the cell by the same means as an interrupt.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyrepl3.errors import LimitExceededError
from pyrepl3.run.aim import MONITOR
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.execution import Stop
from pyrepl3.run.usage import resident_bytes
from pyrepl3.run.watchdog import WATCHDOG, Timer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, TracebackType

    from pyrepl3.config import Limits
    from pyrepl3.ports import Stage
    from pyrepl3.run.execution import Execution

MEMORY_PERIOD = 0.05  # seconds between two looks at the size of the process
_SOON = 0.05  # seconds until the next look at least, where a debugger held the cell


def _held() -> int:
    """Bytes of memory that this process holds now, or held at most where that is all that is told."""
    now = resident_bytes()
    if now is not None:
        return now
    import resource  # noqa: PLC0415  where there is no /proc
    import sys  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Watch:
    """The limits of one execution, from ``start`` until ``end``."""

    __slots__ = ("_before", "_execution", "_limits", "_memory", "_started", "_wall")

    def __init__(self, execution: Execution, limits: Limits) -> None:
        self._execution = execution
        self._limits = limits
        self._wall: Timer | None = None
        self._memory: Timer | None = None
        self._started = 0.0
        self._before = 0

    def start(self) -> None:
        """Begin to watch. Before the cell's first line."""
        limits = self._limits
        self._execution.tasks_allowed = limits.coroutines
        if limits.wall is not None:
            self._started = time.monotonic()
            self._wall = WATCHDOG.call_later(limits.wall, self._out_of_time)
        if limits.memory is not None:
            self._before = _held()
            self._memory = WATCHDOG.call_later(MEMORY_PERIOD, self._look_at_memory)

    def end(self) -> LimitExceededError | None:
        """Stop watching. Returns the error of a cell that used too much memory and is over already."""
        if self._wall is not None:
            self._wall.cancel()
        if self._memory is not None:
            self._memory.cancel()
            return self._memory_error()
        return None

    def _out_of_time(self) -> None:
        allowed = self._limits.wall
        assert allowed is not None
        used = time.monotonic() - self._started
        standstill = self._execution.standstill
        if standstill is not None:
            used -= standstill.seconds()
            if used < allowed:
                if self._execution.finished:
                    return
                self._wall = WATCHDOG.call_later(max(allowed - used, _SOON), self._out_of_time)
                return
        used = max(allowed, used)  # timers are early by a clock's tick
        request_stop(self._execution, LimitExceededError("wall", round(used, 3), allowed))

    def _memory_error(self) -> LimitExceededError | None:
        allowed = self._limits.memory
        assert allowed is not None
        used = _held() - self._before
        return LimitExceededError("memory", used, allowed) if used > allowed else None

    def _look_at_memory(self) -> None:
        if self._execution.finished:
            return
        error = self._memory_error()
        if error is not None:
            request_stop(self._execution, error)
        else:
            self._memory = WATCHDOG.call_later(MEMORY_PERIOD, self._look_at_memory)


class Guard:
    """All that stands around one cell: its limits, its stages, its trace. A context manager.

    Entered and left on the cell's own thread.
    """

    def __init__(
        self,
        execution: Execution,
        limits: Limits | None,
        stages: Sequence[Stage],
        code: CodeType | None,
        traced: list[CodeType],
    ) -> None:
        self._execution = execution
        self._watch = None if limits is None else Watch(execution, limits)
        self._stages = stages
        self._code = code
        self._traced = traced
        self._stack: ExitStack | None = None

    def __enter__(self) -> None:
        if self._traced:
            MONITOR.trace(self._traced)
        if self._stages and self._code is not None:
            self._stack = ExitStack()
            for stage in self._stages:
                self._stack.enter_context(stage(self._execution.cell, self._code))
        if self._watch is not None:
            self._watch.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        execution = self._execution
        if self._watch is not None:
            error = self._watch.end()
            if error is not None and execution.stop is None:
                execution.stop = Stop(error)
        if self._traced:
            MONITOR.untrace(self._traced)
        if self._stack is not None:
            return self._stack.__exit__(kind, raised, traceback)
        return None
