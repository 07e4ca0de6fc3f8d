"""Signals of the main thread in, the cell that runs there stopped out: Ctrl-C, and kicks of our own."""

from __future__ import annotations

import os
import signal
import threading
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


def kick() -> None:
    """Break the call that the main thread may be in, for the stop of a cell that runs there. Any thread."""
    main = threading.main_thread().ident
    if _KICK is not None and main is not None:
        signal.pthread_kill(main, _KICK)


class MainThread:
    """Makes Ctrl-C reach the cell that runs on the main thread, while ``install``ed.

    ``interrupt`` stops it and says whether there was one; where not, ``idle`` is called. The handlers
    raise where user code was interrupted, also inside sleep, lock and socket calls, never in ours.
    """

    def __init__(self, interrupt: Callable[[], bool], idle: Callable[[], object]) -> None:
        self._interrupt = interrupt
        self._idle = idle
        self._before: Any = None
        self._before_kick: Any = None
        self._pipe: tuple[int, int] | None = None
        self._before_pipe = -1

    def install(self) -> None:
        """Take SIGINT over. Main thread."""
        self._before = signal.signal(signal.SIGINT, self._on_ctrl_c)
        if _KICK is None:
            return
        self._before_kick = signal.signal(_KICK, _on_kick)
        reader, writer = self._pipe = os.pipe()
        os.set_blocking(writer, False)
        self._before_pipe = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(
            target=_follow_up, args=(reader,), name="pyrepl3-signals", daemon=True
        ).start()

    def restore(self) -> None:
        """Give SIGINT back. Main thread."""
        if signal.getsignal(signal.SIGINT) == self._on_ctrl_c:
            signal.signal(signal.SIGINT, self._before)
        if self._pipe is None or _KICK is None:
            return
        if signal.getsignal(_KICK) is _on_kick:
            signal.signal(_KICK, self._before_kick)
        writer = self._pipe[1]
        found = signal.set_wakeup_fd(self._before_pipe)
        if found not in (writer, -1):
            signal.set_wakeup_fd(found)  # somebody else's by now
        os.close(writer)
        self._pipe = None

    def _on_ctrl_c(self, _number: int, frame: FrameType | None) -> None:
        if self._interrupt():
            _on_kick(_number, frame)
        else:
            self._idle()


def _on_kick(_number: int, frame: FrameType | None) -> None:
    error = None if frame is None else decide_in_handler(frame)
    if error is not None:
        raise error


def _follow_up(reader: int) -> None:
    """Kick after each Ctrl-C, so that its handler runs.

    A signal that comes in just before the main thread enters a call sets a flag that nobody looks at
    until the call ends, for ever if need be: a race that CPython has. The kick breaks the call.
    """
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while numbers := pipe.read(512):
            if signal.SIGINT in numbers:
                for delay in _LATER:
                    WATCHDOG.call_later(delay, kick)
