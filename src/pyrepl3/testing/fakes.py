"""What tests of code that uses PyREPL3 put in the place of files, time and a person who watches."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from pyrepl3.records import Display, Output
from pyrepl3.testing.store import FakeStore as FakeStore  # noqa: PLC0414 - all fakes are found here

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.records import Event, Stream


_PATIENCE = 60.0  # seconds that a test waits for what never comes


class Seen:
    """An observer that remembers, and can be waited for instead of sleeping. Any thread.

    ``await seen.until(test)`` on any loop; ``seen.text(cell_id)`` is what a cell wrote.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._waiting: list[tuple[Callable[[Event], bool], Callable[[Event], None]]] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)
            due = [wake for test, wake in self._waiting if test(event)]
        for wake in due:
            wake(event)

    def of[T](self, kind: type[T]) -> list[T]:
        """The events of one class."""
        with self._lock:
            return [event for event in self.events if isinstance(event, kind)]

    def text(self, cell_id: str | None = None, stream: Stream | None = None) -> str:
        """What was written: by one cell, or by all; to one stream, or to both."""
        return "".join(
            event.text
            for event in self.of(Output)
            if cell_id in (None, event.cell_id) and stream in (None, event.stream)
        )

    def shown(self, cell_id: str | None = None) -> list[Display]:
        """What was displayed: by one cell, or by all."""
        return [event for event in self.of(Display) if cell_id in (None, event.cell_id)]

    async def until(self, test: Callable[[Event], bool]) -> Event:
        """The first event that passes ``test``, seen already or to come. Raises TimeoutError after 60 s."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Event] = loop.create_future()

        def wake(event: Event) -> None:
            loop.call_soon_threadsafe(_settle, future, event)

        with self._lock:
            for event in self.events:
                if test(event):
                    return event
            self._waiting.append((test, wake))
        try:
            async with asyncio.timeout(_PATIENCE):
                return await future
        finally:
            with self._lock:
                self._waiting.remove((test, wake))

    async def until_text(self, text: str, cell_id: str | None = None) -> None:
        """Wait until a cell (None: all together) has written ``text``. Raises TimeoutError."""
        await self.until(
            lambda event: isinstance(event, Output) and text in self._joined(cell_id, event)
        )

    def _joined(self, cell_id: str | None, last: Event) -> str:
        # Called under the lock, with ``last`` among the events already.
        parts = []
        for event in self.events:
            if isinstance(event, Output) and cell_id in (None, event.cell_id):
                parts.append(event.text)
            if event is last:
                break
        return "".join(parts)


def _settle(future: asyncio.Future[Event], event: Event) -> None:
    if not future.done():
        future.set_result(event)
