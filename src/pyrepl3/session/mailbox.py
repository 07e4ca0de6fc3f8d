"""Events from any thread in, the same events in the same order out to one reader on one loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from pyrepl3.records import Display, Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pyrepl3.records import Event

BUFFERED = 4 * 1024 * 1024
"""Characters and bytes that are held for a slow reader before whoever writes has to wait."""


class Mailbox:
    """Made on the reader's loop and read there; ``put``, ``pace`` and ``close`` from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._events: deque[Event] = deque()
        self._held = 0
        # Reentrant: the collector may run a __del__ that prints while this is held.
        self._changed = threading.Condition(threading.RLock())
        self._wake = asyncio.Event()
        self._woken = False
        self._closed = False

    def put(self, event: Event) -> None:
        """Take an event. Never waits."""
        size = size_of(event)
        with self._changed:
            self._events.append(event)
            self._held += size
            if self._woken:
                return
            self._woken = True
        self._call(self._wake.set)

    def pace(self, seconds: float) -> bool:
        """Wait so long at most for room; whether there is any. Never waits on the reader's thread."""
        with self._changed:
            if self._has_room() or threading.get_ident() == self._thread:
                return True
            self._changed.wait(seconds)
            return self._has_room()

    def close(self) -> None:
        """The last event has been put, or nobody reads any more. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._call(self._wake.set)

    def _has_room(self) -> bool:
        return self._held <= BUFFERED or self._closed

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the reader's loop is closed: nobody reads any more
            return

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            with self._changed:
                events, self._events = self._events, deque()
                self._held = 0
                self._woken = False
                self._wake.clear()
                closed = self._closed
                self._changed.notify_all()
            for event in events:
                yield event
            if not events:
                if closed:
                    return
                await self._wake.wait()


def size_of(event: Event) -> int:
    """Characters and bytes of what a cell shows; 0 for other events."""
    if isinstance(event, Output):
        return len(event.text)
    if isinstance(event, Display):
        return sum(map(part_size, event.data.values()))
    return 0


def part_size(part: object) -> int:
    """Characters or bytes of one part of a MIME bundle."""
    return len(part) if isinstance(part, (str, bytes)) else len(repr(part))
