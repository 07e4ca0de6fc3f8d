"""Ctrl-C in that stops no cell; out come a run that ends, a cell that is stopped as it starts, the end.

While a cell runs the engine's own handler stops it. Between the order to run a cell and its first line
there is a moment in which no cell runs yet: a Ctrl-C then must not be lost. And C code may keep a cell
for ever: then the third Ctrl-C in a row ends the process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # the exit status: 128 + SIGINT, as shells report it

_PRESSES = 3  # that nothing reacts to, until the process ends at once
_LAST = 15.0  # seconds for the last words and the notebook: whoever reads them may be stuck, too
_CHASE = 0.01  # seconds between two looks whether the cell has started


class Interrupts:
    """Counts Ctrl-C outside of cells. ``press`` on the main thread, all else on the control loop.

    ``note`` tells the user; ``end`` writes what a run leaves behind, before the process ends.
    """

    def __init__(
        self,
        note: Callable[[str], object] = lambda _: None,
        end: Callable[[], object] = lambda: None,
    ) -> None:
        self.presses = 0
        self._note = note
        self._end = end
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

    def unheard(self, presses: int) -> None:
        """So many in a row have reached nothing: C code keeps the main thread. Any thread."""
        if presses == _PRESSES - 1:
            self._note("still inside that call; Ctrl-C once more ends the process")
        elif presses >= _PRESSES:
            last = threading.Thread(target=self._say_the_end, daemon=True)
            last.start()
            last.join(_LAST)
            os._exit(INTERRUPTED)

    def _say_the_end(self) -> None:
        self._note("ended in the midst of a cell that did not stop")
        self._end()

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
