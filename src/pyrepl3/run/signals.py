"""Signals of the main thread in, the cell that runs there stopped out: Ctrl-C, and kicks of our own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pyrepl3.run.aim import decide_in_handler
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# What a kick is sent by: ignored where nobody handles it, used by no library, and harmless when it comes
# once too often; Go's runtime takes it for the same reasons (src/runtime/signal_unix.go).
_KICK = getattr(signal, "SIGURG", None)
_LATER = (0.0, 0.02, 0.1)  # seconds between a Ctrl-C and the kicks that follow it
_ANSWER = 0.2  # seconds after the last kick until a Ctrl-C counts as unheard
_LATE = 1.0  # seconds that a press may be noted after its handler
_IN_A_ROW = 5.0  # seconds after which an unheard Ctrl-C does not count any more


def kick() -> None:
    """Break the call that the main thread may be in, for the stop of a cell that runs there. Any thread."""
    main = threading.main_thread().ident
    if _KICK is not None and main is not None:
        signal.pthread_kill(main, _KICK)


class MainThread:
    """Makes Ctrl-C reach the cell that runs on the main thread, while ``install``ed.

    ``interrupt(None)`` stops it and says whether there was one; where not, ``idle`` is called. The handlers
    raise where user code was interrupted, also inside sleep, lock and socket calls, never in ours.

    While the main thread is inside of C code no handler runs. Then ``interrupt`` is called on another
    thread with the cell that ``running`` names, if that is still the same, and ``unheard`` with the number
    of such presses in a row; unless C code holds the GIL.
    """

    def __init__(
        self,
        interrupt: Callable[[str | None], bool],
        idle: Callable[[], object] | None = None,
        unheard: Callable[[int], object] | None = None,
        *,
        running: Callable[[], str | None],
    ) -> None:
        self._interrupt = interrupt
        self._idle = idle or (lambda: None)
        self._unheard = unheard or (lambda _: None)
        self._running = running
        self._pressed: list[tuple[float, str | None]] = []
        """When Ctrl-C was pressed, and in which cell; every handler that runs empties it."""
        self._heard: deque[float] = deque(maxlen=8)
        """When a handler ran for a press that was not noted yet."""
        self._told = 0
        self._asked = False
        self._before: Any = None
        self._before_kick: Any = None
        self._pipe: tuple[int, int] | None = None
        self._before_pipe = -1

    def install(self) -> None:
        """Take SIGINT over. Main thread."""
        self._before = signal.signal(signal.SIGINT, self._on_ctrl_c)
        if _KICK is None:
            return
        self._before_kick = signal.signal(_KICK, self._on_kick)
        reader, writer = self._pipe = os.pipe()
        os.set_blocking(writer, False)
        self._before_pipe = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(
            target=self._follow_up, args=(reader,), name="pyrepl3-signals", daemon=True
        ).start()

    def restore(self) -> None:
        """Give SIGINT back. Main thread."""
        if signal.getsignal(signal.SIGINT) == self._on_ctrl_c:
            signal.signal(signal.SIGINT, self._before)
        if self._pipe is None or _KICK is None:
            return
        if signal.getsignal(_KICK) == self._on_kick:
            signal.signal(_KICK, self._before_kick)
        writer = self._pipe[1]
        found = signal.set_wakeup_fd(self._before_pipe)
        if found not in (writer, -1):
            signal.set_wakeup_fd(found)  # somebody else's by now
        os.close(writer)
        self._pipe = None

    def _on_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        if not self._pressed:
            self._heard.append(time.monotonic())
        # Asked already: _look has done it, while this could not run.
        if self._asked or self._interrupt(None):
            self._on_kick(number, frame)
        else:
            self._pressed = []
            self._idle()

    def _on_kick(self, _number: int, frame: FrameType | None) -> None:
        self._pressed, self._told, self._asked = [], 0, False
        error = None if frame is None else decide_in_handler(frame)
        if error is not None:
            raise error

    def _follow_up(self, reader: int) -> None:
        """Kick after each Ctrl-C, so that its handler runs; then look whether it has.

        A signal that comes in just before the main thread enters a call sets a flag that nobody looks at
        until the call ends, for ever if need be: a race that CPython has. The kick breaks the call.
        """
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while numbers := pipe.read(512):
                presses = numbers.count(signal.SIGINT)
                if presses:
                    now = time.monotonic()
                    unheard = presses - self._count_heard(presses, now)
                    self._pressed += [(now, self._running())] * unheard
                    for delay in _LATER:
                        WATCHDOG.call_later(delay, kick)
                    WATCHDOG.call_later(_LATER[-1], self._wait)

    def _count_heard(self, presses: int, now: float) -> int:
        """Of how many presses a handler has run before they could be noted: this thread came late."""
        heard = 0
        while heard < presses and self._heard:
            heard += now - self._heard.popleft() < _LATE
        return heard

    def _wait(self) -> None:
        # From here on: where the watchdog comes late, all that was due runs at once.
        WATCHDOG.call_later(_ANSWER, self._look)

    def _look(self) -> None:
        now, cell = time.monotonic(), self._running()
        # What was pressed in a cell that is over has come to its end, though no handler told us; and what
        # was pressed just now has a look of its own: a handler may have heard it before we noted it.
        presses = sum(
            _ANSWER <= now - at < _IN_A_ROW and at_cell == cell for at, at_cell in self._pressed
        )
        if presses <= self._told:
            return
        if not self._told:
            self._asked = True
            # Else heard in between. By its id: the next cell may begin before this thread goes on.
            self._asked = bool(self._pressed) and self._interrupt(cell)
        self._told = presses
        self._unheard(presses)
