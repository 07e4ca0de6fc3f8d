"""What the statements of one cell write while they run at once in, one order out: that of their text.

A *lane* is a statement that began early. What it writes is held until its turn comes, and dropped where
its turn never does. Everything else, and what the statement writes in its turn, goes through.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pyrepl3.records import Stream
    from pyrepl3.run.redirect import Block
    from pyrepl3.run.sink import Sink

LANE: ContextVar[Lane | None] = ContextVar("pyrepl3_lane", default=None)


class Lane:
    """One statement that began early: its task, and what it has written so far."""

    def __init__(self) -> None:
        self.task: asyncio.Task[tuple[bool, Any]] | None = None
        self._held: list[Callable[[], object]] | None = []
        """None: its turn has come, or never will."""
        self._dropped = False

    def hold(self, write: Callable[[], object]) -> bool:
        """Whether ``write`` is not to be done now: kept for later, or for nothing."""
        if self._held is not None:
            self._held.append(write)
            return True
        return self._dropped

    def open(self) -> None:
        """Its turn: what it wrote is written now."""
        held, self._held = self._held or [], None
        for write in held:
            write()

    def drop(self) -> None:
        """Its turn never comes."""
        self._held, self._dropped = None, True


class LaneSink:
    """A cell's sink that keeps what lanes write apart. The same methods as ``Sink``. Any thread."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def blocks(self) -> dict[Stream, Block]:
        return self._sink.blocks

    def write(self, stream: Stream, text: str) -> None:
        lane = LANE.get()
        if lane is None or not lane.hold(lambda: self._sink.write(stream, text)):
            self._sink.write(stream, text)

    def write_bytes(self, stream: Stream, data: bytes) -> None:
        lane = LANE.get()
        if lane is None or not lane.hold(lambda: self._sink.write_bytes(stream, data)):
            self._sink.write_bytes(stream, data)

    def display(self, event: Any) -> None:
        lane = LANE.get()
        if lane is None or not lane.hold(lambda: self._sink.display(event)):
            self._sink.display(event)

    def notice(self, kind: str, text: str) -> None:
        lane = LANE.get()
        if lane is None or not lane.hold(lambda: self._sink.notice(kind, text)):
            self._sink.notice(kind, text)

    def emit(self, event: Any) -> None:
        self._sink.emit(event)

    def flush(self) -> None:
        self._sink.flush()

    def end(self) -> None:
        self._sink.end()
