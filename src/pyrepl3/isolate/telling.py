"""The events of one cell of a worker in, messages out; bounded in what is under way to the host."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pyrepl3.isolate import messages as m
from pyrepl3.isolate.failures import to_wire
from pyrepl3.isolate.frames import MOST_HEAD
from pyrepl3.records import (
    Blocked,
    Display,
    Done,
    Failed,
    Finished,
    Interrupted,
    Line,
    Notice,
    Output,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.records import Cell, Event, Outcome

_changed = threading.Condition()
"""Of all windows: a cell that waits for room is seldom, and one that begins is not. Reentrant: a signal
handler may print."""
_MOST_TEXT = 1024 * 1024  # characters that are left of a text for which there is no room


class Window:
    """How much output of a cell is under way. Any thread. ``wait`` is its Pace."""

    def __init__(self) -> None:
        self._held = 0
        self._open = False
        self._changed = _changed

    def take(self, size: int) -> None:
        """So much was sent."""
        with self._changed:
            self._held += size

    def give(self, size: int) -> None:
        """So much has arrived and was read."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody counts any more."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most for room; whether there is any."""
        if self._held < m.WINDOW or self._open:  # racy, and right the next time
            return True
        with self._changed:
            self._changed.wait(seconds)
            return self._held < m.WINDOW or self._open


class Teller:
    """The observer of one cell."""

    def __init__(self, key: bytes, send: Callable[[bytes], None], window: Window) -> None:
        self._key = key
        self._send = send
        self._window = window

    def tell(self, event: Event) -> None:
        """Send an event."""
        match event:
            case Output(text=text):
                self._window.take(len(text))
                self._send(m.encode(m.Told(key=self._key, event=event)))
            case Started():
                began = m.Began(
                    key=self._key,
                    mode=event.mode,
                    placement=event.placement,
                    at=event.at,
                    known=event.known,
                    wrapped=event.wrapped,
                )
                self._send(m.encode(began))
            case Finished(outcome=outcome):
                self._send(self._ended(outcome))
            case Display():
                told = _encode(m.Told(key=self._key, event=event))
                if told is None:
                    text = "what was displayed is too large, or no text: only its text is shown"
                    notice = Notice(cell_id=event.cell_id, kind="cut", text=text)
                    self._send(m.encode(m.Told(key=self._key, event=notice)))
                    plain = {"text/plain": _cut(str(event.data.get("text/plain", "")))}
                    less = Display(cell_id=event.cell_id, data=plain)
                    told = m.encode(m.Told(key=self._key, event=less))
                self._send(told)
            case Blocked() | Notice() | Line():
                self._send(m.encode(m.Told(key=self._key, event=event)))
            case _:
                raise TypeError(f"a runner tells no {type(event).__name__}")

    def end(self, cell: Cell, error: BaseException) -> None:
        """The cell is over because of a fault of ours."""
        self._send(self._ended(Failed(cell=cell, error=error, traceback=str(error))))

    def _ended(self, outcome: Outcome) -> bytes:
        ended = _encode(_make_ended(self._key, outcome, _same))
        return m.encode(_make_ended(self._key, outcome, _cut)) if ended is None else ended


def _make_ended(key: bytes, outcome: Outcome, clean: Callable[[str], str]) -> m.Ended:
    common: dict[str, Any] = {
        "key": key,
        "mode": outcome.mode,
        "placement": outcome.placement,
        "duration": outcome.duration,
    }
    match outcome:
        case Done():
            data = outcome.data if clean is _same else {"text/plain": clean(outcome.text)}
            return m.Ended(
                status="done",
                shown=outcome.shown,
                text=clean(outcome.text),
                data=data if outcome.shown else {},
                **common,
            )
        case Failed():
            return m.Ended(
                status="failed",
                error=to_wire(outcome.error),
                traceback=clean(outcome.traceback),
                **common,
            )
        case Interrupted():
            return m.Ended(
                status="interrupted",
                traceback=clean(outcome.traceback),
                forced=outcome.forced,
                abandoned=outcome.abandoned,
                lost=outcome.lost,
                **common,
            )
        case _:
            raise TypeError("a runner replays nothing")


def _encode(message: m.ToHost) -> bytes | None:
    """A message as bytes; None where it is too long, or holds what is no text."""
    try:
        data = m.encode(message)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        return None
    return data if len(data) <= MOST_HEAD else None


def _same(text: str) -> str:
    return text


def _cut(text: str) -> str:
    """A text that can be sent: encodable, and not too long."""
    clean = text[:_MOST_TEXT].encode("utf-8", "backslashreplace").decode()
    return f"{clean}… ({len(text):,} characters)" if len(text) > _MOST_TEXT else clean
