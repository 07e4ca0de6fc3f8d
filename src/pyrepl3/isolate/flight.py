"""A cell that runs in a worker, as the host sees it: messages in, events and one outcome out."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError, LimitExceededError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.failures import from_wire
from pyrepl3.isolate.frames import FrameError
from pyrepl3.records import (
    Display,
    Done,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Notice,
    Output,
    Started,
)

if TYPE_CHECKING:
    from pyrepl3.ports import Observer, Pace
    from pyrepl3.records import Cell, Event, Outcome, Placement

_LAST = 2000  # characters of output that are kept for whoever asks why the worker died


class Flight:
    """On the loop of the runner, but for ``over``."""

    def __init__(self, key: bytes, cell: Cell, observe: Observer, pace: Pace | None) -> None:
        self.key = key
        self.cell = cell
        self.pace = pace
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.over = False
        self.presses = 0
        """How often it was interrupted."""
        self.heard = self.escalating = False
        """Whether the worker has said that it is at it."""
        self.reason: LimitExceededError | None = None
        """The limit for which it is being stopped."""
        self.timers: list[asyncio.TimerHandle] = []
        self.begun = time.monotonic()

        self.unread = 0
        """Characters that have come and for which the worker was not given room yet."""
        self.giving = False
        self.written = 0
        self._observe = observe
        self._mode = ExecutionMode.UNKNOWN
        self._placement: Placement = "loop"
        self._last = ""
        self._complained = False

    @property
    def last_output(self) -> str:
        """The end of what the cell has written."""
        return self._last

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.begun

    def began(self, began: m.Began) -> None:
        """It begins to run."""
        self._mode, self._placement = began.mode, began.placement
        self.tell(
            Started(
                cell=self.cell,
                mode=began.mode,
                placement=began.placement,
                at=began.at,
                known=began.known,
                wrapped=began.wrapped,
            )
        )

    def told(self, event: Any) -> None:
        """Something of it is told, also after its end. Raises FrameError where it is another cell's."""
        if event.cell_id != self.cell.id:
            raise FrameError("an event of one cell under the key of another")
        if isinstance(event, Output):
            self.unread += len(event.text)
            self.written += len(event.text)
            self._last = (self._last + event.text)[-_LAST:]
        elif isinstance(event, Display) and not isinstance(event.data, dict):
            raise FrameError("a display without data")
        self.tell(event)

    def notice(self, kind: str, text: str) -> None:
        """Tell something of ours."""
        self.tell(Notice(cell_id=self.cell.id, kind=kind, text=text))

    def tell(self, event: Event) -> None:
        """Tell the observer, whose faults are the host's."""
        try:
            self._observe(event)
        except Exception:  # noqa: BLE001  an observer's fault is reported once; the cell knows nothing
            if not self._complained:
                self._complained = True
                sys.excepthook(*sys.exc_info())

    def ended(self, ended: m.Ended) -> None:
        """It is over, says the worker. Raises FrameError where that cannot be."""
        common: dict[str, Any] = {"duration": ended.duration}
        self._mode, self._placement = ended.mode, ended.placement
        if ended.status == "done":
            self.end(Done, shown=ended.shown, text=ended.text, data=ended.data, **common)
        elif ended.status == "interrupted":
            self.end(
                Interrupted,
                forced=ended.forced,
                abandoned=ended.abandoned,
                lost=ended.lost,
                traceback=ended.traceback,
                **common,
            )
        elif ended.error is None:
            raise FrameError("a cell that failed without an error")
        else:
            error = from_wire(ended.error)
            self.end(Failed, error=error, traceback=ended.traceback, **common)

    def fail(self, error: BaseException, traceback: str = "") -> None:
        """It is over because its worker is, or cannot have it."""
        text = f"{type(error).__module__}.{type(error).__name__}: {error}\n"
        self.end(Failed, error=error, traceback=traceback or text, duration=self.seconds)

    def interrupted(self) -> None:
        """It was stopped together with its worker."""
        error = CancellationError(f"cell {self.cell.n} was interrupted")
        traceback = f"{type(error).__module__}.{type(error).__name__}: {error}\n"
        self.end(Interrupted, forced=True, traceback=traceback, duration=self.seconds)

    def end(self, kind: type[Done | Failed | Interrupted], **fields: Any) -> None:
        """Tell its end, once."""
        if self.over:
            raise FrameError("a cell has ended twice")
        self.over = True
        outcome = kind(cell=self.cell, mode=self._mode, placement=self._placement, **fields)
        self.tell(Finished(outcome=outcome))
        for timer in self.timers:
            timer.cancel()
        if not self.future.done():
            self.future.set_result(outcome)
