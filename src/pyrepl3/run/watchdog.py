"""One thread that calls functions when their time comes: limits, grace periods, late flushes.

It exists because a loop that is held by a cell cannot run its own timers.
"""

from __future__ import annotations

import heapq
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A call that is due at ``when`` (seconds of ``time.monotonic``). ``cancel`` from any thread."""

    __slots__ = ("_watchdog", "call", "when")

    def __init__(self, when: float, call: Callable[[], object], watchdog: Watchdog) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call
        self._watchdog = watchdog

    def cancel(self) -> None:
        """Never call. Idempotent; does not wait for a call that is under way."""
        if self.call is not None:
            self.call = None
            self._watchdog.cancelled += 1


class Watchdog:
    """Calls functions on a daemon thread, started with the first call asked for."""

    def __init__(self, name: str = "pyrepl3-watchdog") -> None:
        self._name = name
        self.cancelled = 0
        """Timers that were cancelled and may still be in the heap; about, since threads count at once."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = count()
        # Reentrant: a signal handler may call in between, on the thread that holds it. It only pushes,
        # which is one step; whatever takes more is left to the watchdog's own thread.
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` in ``delay`` seconds on the watchdog's thread. Any thread."""
        timer = Timer(time.monotonic() + delay, call, self)
        with self._changed:
            heapq.heappush(self._heap, (timer.when, next(self._serial), timer))
            if (
                self._thread is None or not self._thread.is_alive()
            ):  # none yet, or a fork has lost it
                self._thread = threading.Thread(target=self._watch, name=self._name, daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer or self._is_littered():
                self._changed.notify()
        return timer

    def _is_littered(self) -> bool:
        # A limit of 30 s on cells of 50 us would hold 600,000 timers that were cancelled.
        return self.cancelled > _LITTER and self.cancelled > len(self._heap) // 2

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    if self._is_littered():
                        self._heap = [entry for entry in self._heap if entry[2].call is not None]
                        heapq.heapify(self._heap)
                        self.cancelled = 0
                        continue
                    wait = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(wait)
                timer = heapq.heappop(self._heap)[2]
                call = timer.call
                if call is None:
                    self.cancelled = max(0, self.cancelled - 1)
                    continue
            try:
                call()
            except Exception:  # noqa: BLE001  a broken call must not end the thread of all limits
                sys.excepthook(*sys.exc_info())
            del call, timer  # or the thread would keep the last cell alive


_LITTER = 1000

WATCHDOG = Watchdog()
