"""Ctrl-C in while no cell runs; out come a run that ends, and a cell that is stopped as it starts.

While a cell runs the engine's own handler stops it. Between the order to run a cell and its first line
there is a moment in which no cell runs yet: a Ctrl-C then must not be lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # the exit status: 128 + SIGINT, as shells report it

_PRESSES = 3  # while nothing runs, until the process ends at once
_CHASE = 0.01  # seconds between two looks whether the cell has started


class Interrupts:
    """Counts Ctrl-C outside of cells. ``press`` on the main thread, all else on the control loop."""

    def __init__(self) -> None:
        self.presses = 0
        self._session: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def press(self) -> None:
        """To be called by the signal handler."""
        self.presses += 1
        if self.presses >= _PRESSES:
            # Restoring or committing something huge. A commit is atomic: the last one counts.
            os._exit(INTERRUPTED)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._chase)

    @contextmanager
    def ordered(self, session: Any) -> Iterator[None]:
        """A cell has been ordered: a press that comes before it starts stops it then."""
        self._session, self._loop = session, asyncio.get_running_loop()
        if self.presses:
            self._chase()
        try:
            yield
        finally:
            self._session = self._loop = None

    def _chase(self) -> None:
        if self._session is not None and not self._session.interrupt() and self._loop is not None:
            self._loop.call_later(_CHASE, self._chase)
