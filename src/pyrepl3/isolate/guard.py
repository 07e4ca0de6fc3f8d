"""The limits of a cell in, a stop out where the worker, seen from outside, exceeds one of them.

The worker watches wall time, memory and output itself, and stops the cell more gently; this is for what it
cannot see (processor time), and for code that does not let it look.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.errors import LimitExceededError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.stopping import escalate
from pyrepl3.run.usage import cpu_seconds, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyrepl3.config import Limits
    from pyrepl3.isolate.flight import Flight
    from pyrepl3.isolate.link import Link

_PERIOD = 0.05  # seconds between two looks
_LATE = 0.1  # seconds after its end until a worker counts as one that does not look at the clock
_SLACK = 32 * 1024 * 1024  # bytes above the limit that end a worker at once


def guard(link: Link, flight: Flight, limits: Limits, grace: float) -> None:
    """Watch a cell that is about to begin in the worker at ``link``. On the runner's loop."""

    def stop(error: LimitExceededError) -> None:
        if error.limit == "wall" and link.debugged:
            return
        stop_for(link, flight, error, grace)

    if link.leaf is not None:
        with suppress(OSError):
            link.leaf.begin_cell()
    Guard(limits, flight, link.worker.pid, stop, link.end).start()


def leave(link: Link, running: Iterable[Flight], limits: Limits | None) -> None:
    """The worker is gone: say so where the kernel ended it for its memory, and remove its cgroup."""
    leaf = link.leaf
    if leaf is None or limits is None:
        return
    if limits.memory is not None and leaf.was_out_of_memory():
        for flight in running:
            flight.reason = flight.reason or LimitExceededError(
                "memory", leaf.peak(), limits.memory
            )
    asyncio.get_running_loop().run_in_executor(None, leaf.end)


def stop_for(link: Link, flight: Flight, error: LimitExceededError, grace: float) -> None:
    """Stop a cell that exceeds a limit: gently first."""
    flight.reason = error
    link.post(m.Stop(key=flight.key, limit=error.limit, used=error.used, allowed=error.allowed))
    escalate(link, flight, grace)


class Guard:
    """Watches one cell, from ``start`` until it is over. On the runner's loop."""

    def __init__(
        self,
        limits: Limits,
        flight: Flight,
        pid: int,
        stop: Callable[[LimitExceededError], None],
        end: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._flight = flight
        self._pid = pid
        self._stop = stop
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._cpu = cpu_seconds(pid) or 0.0
        self._resident = resident_bytes(pid) or 0

    def start(self) -> None:
        """Begin."""
        limits = self._limits
        if limits.wall is not None:
            self._later(limits.wall + _LATE, self._out_of_time)
        if limits.cpu is not None or limits.memory is not None or limits.output is not None:
            self._later(_PERIOD, self._look)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        timers = self._flight.timers
        timers[:] = [timer for timer in timers if timer.when() > self._loop.time()]
        timers.append(self._loop.call_later(seconds, call))

    def _out_of_time(self) -> None:
        allowed = self._limits.wall
        assert allowed is not None
        if not self._flight.over and self._flight.reason is None:
            self._stop(LimitExceededError("wall", round(self._flight.seconds, 3), allowed))

    def _look(self) -> None:
        flight, limits = self._flight, self._limits
        if flight.over:
            return
        self._later(_PERIOD, self._look)
        cpu = cpu_seconds(self._pid) if limits.cpu is not None else None
        if cpu is not None and limits.cpu is not None and flight.reason is None:
            used = cpu - self._cpu
            if used > limits.cpu:
                self._stop(LimitExceededError("cpu", round(used, 3), limits.cpu))
        held = resident_bytes(self._pid) if limits.memory is not None else None
        if held is not None and limits.memory is not None:
            used = held - self._resident
            if used > limits.memory + _SLACK:
                flight.reason = LimitExceededError("memory", used, limits.memory)
                self._end("it used more memory than is allowed")
        if limits.output is not None and flight.written > limits.output + _SLACK:
            flight.reason = LimitExceededError("output", flight.written, limits.output)
            self._end("it wrote more than is allowed")
