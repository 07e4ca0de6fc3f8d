"""What one cell writes in, events for its observer out: in order, lines together, bounded.

Any number of tasks and threads may write at once. The lock covers taking a text *and* telling the
observer of it, so that events have one order; waiting for a slow reader happens outside of it.
"""

from __future__ import annotations

import codecs
import sys
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt, LimitExceededError
from pyrepl3.records import Notice, Output
from pyrepl3.run.aim import in_main_line
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.speaker import NOBODY
from pyrepl3.run.text import printable
from pyrepl3.run.watchdog import Watchdog

if TYPE_CHECKING:
    from pyrepl3.ports import Observer, Pace
    from pyrepl3.records import Stream
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.redirect import Block

PIECE = 256 * 1024
"""Characters an event at most, so that one huge print needs little memory and can be stopped."""

_PENDING = 8 * 1024  # characters held back at most, like the buffer of a text file
_LATE = 0.01  # seconds until held text is shown
_BURST = 100  # lines that are shown at once although the one before was shown within that time
_LOOK = 0.05  # seconds between two looks whether a writer that waits for its reader is to stop

# Not the watchdog that limits and interrupts stand on: an observer may dawdle.
_LATER = Watchdog("pyrepl3-flush")


class Sink:
    """Where the output of one cell goes, also when the cell is over. Any thread.

    Text is held until a line ends, ``flush``, 8 KiB or 10 ms, whichever is first; in a burst of more than
    a hundred lines, until one of the others: to tell of each line costs more than to write it. ``allowed``
    is the output limit in bytes (None: none): what exceeds it is dropped and the cell stopped. ``pace``
    makes a writer wait for a slow reader, until the cell is to stop. An observer that raises is reported
    once, on the real stderr, and told of later events all the same.
    """

    lines_left: int | None = None
    """How many lines of a traced cell may still be told of."""

    def __init__(
        self,
        execution: Execution,
        observe: Observer,
        *,
        allowed: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._execution = execution
        self._observe = observe
        self._allowed = allowed
        self._pace = pace
        self._used = 0
        self._exceeded: LimitExceededError | None = None
        self._complained = False
        # Reentrant: the collector may run a __del__ that prints while this is held.
        self._lock = threading.RLock()
        self._stream: Stream = "stdout"
        self._held: list[str] = []
        self._size = 0
        self._burst = 0
        self._next = 0.0
        """When the burst is over, by ``time.monotonic``, and what it has held is shown."""
        self._timed = False
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self.blocks: dict[Stream, Block] = {}
        """The ``redirect_stdout`` blocks that hold for this cell."""

    def write(self, stream: Stream, text: str) -> None:
        """Take ``text``; lone surrogates, which have no UTF-8, become escapes.

        Over the limit: raises CellInterrupt in the cell's own code, LimitExceededError in tasks and
        threads that it started.
        """
        size = len(text)
        if size > PIECE:
            for start in range(0, size, PIECE):
                self.write(stream, text[start : start + PIECE])
            return
        if type(text) is not str or not text.isascii():
            text = printable(text)
        whole = True
        with self._lock:
            if self._allowed is None and stream == self._stream:
                self._hold(text)
            else:
                whole = self._take(stream, text)
        if not whole or self._pace is not None:
            self._after(whole=whole)

    def write_bytes(self, stream: Stream, data: bytes) -> None:
        """Take the UTF-8 bytes ``data``, which may end inside a character."""
        with self._lock:
            decoder = self._decoders.get(stream)
            if decoder is None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                self._decoders[stream] = decoder
            # Decoded and taken under one lock: a character may be halved between two writers.
            text = decoder.decode(data)
            pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
            whole = True
            for piece in pieces:
                whole = self._take(stream, piece) and whole
        self._after(whole=whole)

    def _take(self, stream: Stream, text: str) -> bool:
        """Whether all of ``text`` was taken."""
        whole = True
        if self._allowed is not None:
            room = self._allowed - self._used
            size = len(text) if text.isascii() else len(text.encode())
            if size > room:
                whole = False
                text = text.encode()[: max(room, 0)].decode("utf-8", "ignore")
            self._used += size
        if stream != self._stream:
            self._emit()
            self._stream = stream
        if text:
            self._hold(text)
        if not whole:
            self._emit()
            if self._exceeded is None:
                assert self._allowed is not None
                self._exceeded = LimitExceededError("output", self._used, self._allowed)
                request_stop(self._execution, self._exceeded)
        return whole

    def _after(self, *, whole: bool) -> None:
        """What may raise or wait, so not under the lock."""
        execution = self._execution
        if not whole:
            stop = execution.stop
            if execution.finished or stop is None or not in_main_line(execution):
                assert self._exceeded is not None
                raise self._exceeded
            if not stop.delivered:  # once: what its clean-up writes is only dropped
                stop.delivered = True
                raise CellInterrupt
        if self._pace is not None:
            while not self._pace(_LOOK):
                if execution.stop is not None:
                    return

    def _hold(self, text: str) -> None:
        self._held.append(text)
        self._size += len(text)
        if self._size >= _PENDING or ("\n" in text and self._may_show()):
            self._emit()
        elif not self._timed:
            self._timed = True
            _LATER.call_later(_LATE, self._show_late)

    def _may_show(self) -> bool:
        """Whether the line that has ended now is not one of a burst."""
        now = monotonic()
        if now >= self._next:
            self._next, self._burst = now + _LATE, 0
            return True
        self._burst += 1
        return self._burst <= _BURST

    def _emit(self) -> None:
        # No call between the two halves: a __del__ that prints could come in there.
        held, self._held = self._held, []
        if not held:
            return
        self._size = 0
        self.emit(Output(cell_id=self._execution.cell.id, stream=self._stream, text="".join(held)))

    def _show_late(self) -> None:
        wait = _LATE
        # Never wait for the lock here: whoever has it is about to show the text, or to add to it.
        if self._lock.acquire(blocking=False):
            try:
                wait = self._next - monotonic()
                if wait <= 0:
                    self._emit()
                if not self._held:
                    self._timed = False
                    return
            finally:
                self._lock.release()
        _LATER.call_later(max(wait, 0.001), self._show_late)

    def emit(self, event: Any) -> None:
        """Tell the observer. An Exception of its own never reaches the cell."""
        token = CURRENT.set(NOBODY)  # what the observer prints is not the cell's
        try:
            self._observe(event)
        except Exception:  # noqa: BLE001  an observer's fault is the host's: report it, go on
            if not self._complained:
                self._complained = True
                with suppress(Exception):
                    sys.excepthook(*sys.exc_info())
        finally:
            CURRENT.reset(token)

    def display(self, event: Any) -> None:
        """Tell the observer of a rich value, after the text written before it."""
        with self._lock:
            self._emit()
            self.emit(event)
        if self._pace is not None:
            self._after(whole=True)

    def notice(self, kind: str, text: str) -> None:
        """Tell the observer something of ours, after the text written before it."""
        with self._lock:
            self._emit()
            self.emit(Notice(cell_id=self._execution.cell.id, kind=kind, text=printable(text)))

    def flush(self) -> None:
        """Show what is held."""
        with self._lock:
            self._emit()

    def end(self) -> None:
        """The cell is over: show all, half a character too. Later writes are taken as before."""
        with self._lock:
            for stream, decoder in self._decoders.items():
                self._take(stream, decoder.decode(b"", final=True))
            self._emit()
