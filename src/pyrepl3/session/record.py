"""The events of one cell in, the Receipt that is stored with its epoch out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.records import Display, Done, Failed, Interrupted, Output, Receipt, Replayed
from pyrepl3.session.mailbox import part_size, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrepl3.records import Cell, Event, Outcome

RECORDED = 1024 * 1024
"""Characters and bytes of output that the record of one cell keeps, for a replay; and of its value."""


class Record:
    """Collects what one cell shows, up to a bound, until ``receipt``. ``take`` from any thread."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._events: list[Output | Display] = []
        self._room = RECORDED
        self._cut = False
        self._over = False
        self._at = time.time()

    def take(self, event: Event) -> None:
        """Keep an Output or Display if there is room for it, of an Output what there is room for."""
        if self._over or not isinstance(event, (Output, Display)):
            return
        size = size_of(event)
        if size > self._room:
            self._cut = True
            if isinstance(event, Display) or not self._room:
                return
            event = msgspec.structs.replace(event, text=event.text[: self._room])
        self._room = max(0, self._room - size)
        self._events.append(event)

    def receipt(self, outcome: Outcome) -> Receipt:
        """The record; what the cell shows after this is not part of it."""
        self._over = True
        common: dict[str, Any] = {
            "cell": self._cell,
            "at": self._at,
            "duration": outcome.duration,
            "events": tuple(self._events),
        }
        match outcome:
            case Done():
                data = self._bounded(outcome.data)
                return Receipt(
                    status="done",
                    shown=outcome.shown,
                    text=outcome.text,
                    data=data,
                    cut=self._cut,
                    **common,
                )
            case Failed():
                return Receipt(status="failed", error=outcome.traceback, cut=self._cut, **common)
            case Interrupted():
                return Receipt(
                    status="interrupted", error=outcome.traceback, cut=self._cut, **common
                )
            case Replayed():
                return Receipt(status=outcome.status, cut=self._cut, **common)

    def _bounded(self, data: Mapping[str, Any]) -> dict[str, Any]:
        kept = {mime: part for mime, part in data.items() if part_size(part) <= RECORDED + 100}
        self._cut = self._cut or len(kept) < len(data)
        return kept
