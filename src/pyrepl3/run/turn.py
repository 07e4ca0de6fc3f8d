"""A fair turn: one holder at a time, first come first served, over any number of loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Turn:
    """Like asyncio.Lock, but its waiters may live on different loops.

    ``acquire_nowait`` and ``release`` from any thread; ``acquire`` on a running loop.
    """

    __slots__ = ("_held", "_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> bool:
        """Whether somebody has the turn."""
        return self._held

    def acquire_nowait(self) -> bool:
        """Take the turn if it is free and nobody waits for it."""
        with self._lock:
            if self._held:
                return False
            self._held = True
            return True

    async def acquire(self) -> None:
        """Wait for the turn. Cancelling the wait gives the place in the queue up."""
        if self.acquire_nowait():
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if not self._held:
                self._held = True
                return
            self._waiters.append((loop, future))
        try:
            await future
        except asyncio.CancelledError:
            with self._lock:
                try:
                    self._waiters.remove((loop, future))
                except ValueError:
                    mine = True  # handed to us already, or about to be
                else:
                    mine = False
            if mine:
                self.release()
            raise

    def release(self) -> None:
        """Give the turn to the first who waits."""
        with self._lock:
            while self._waiters:
                loop, future = self._waiters.popleft()
                try:
                    loop.call_soon_threadsafe(_hand_over, future)
                except RuntimeError:  # its loop was closed with the waiter on it
                    continue
                return
            self._held = False


def _hand_over(future: asyncio.Future[None]) -> None:
    # A future cancelled meanwhile hands on by itself, in acquire's except clause.
    if not future.done():
        future.set_result(None)
