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

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Never call. Idempotent; does not wait for a call that is under way."""
        self.call = None


class Watchdog:
    """Calls functions on a daemon thread, started with the first call asked for."""

    def __init__(self, name: str = "pyrepl3-watchdog") -> None:
        self._name = name
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = count()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` in ``delay`` seconds on the watchdog's thread. Any thread."""
        timer = Timer(time.monotonic() + delay, call)
        with self._changed:
            heapq.heappush(self._heap, (timer.when, next(self._serial), timer))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name=self._name, daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    wait = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(wait)
                timer = heapq.heappop(self._heap)[2]
            call = timer.call
            if call is None:
                continue
            try:
                call()
            except Exception:  # noqa: BLE001  a broken call must not end the thread that all limits stand on
                sys.excepthook(*sys.exc_info())


WATCHDOG = Watchdog()
