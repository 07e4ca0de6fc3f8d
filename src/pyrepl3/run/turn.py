"""A fair turn: one holder at a time, first come first served, over any number of loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Turn:
    """Like asyncio.Lock, but its waiters may live on different loops.

    ``acquire_nowait`` and ``release`` from any thread; ``acquire`` on a running loop.
    """

    __slots__ = ("_gate", "_waiters", "acquire_nowait")

    def __init__(self) -> None:
        # Held while somebody has the turn; a plain lock, since taking it is all that most cells do.
        self._gate = threading.Lock()
        self.acquire_nowait: Callable[[], bool] = partial(self._gate.acquire, False)  # noqa: FBT003
        """Take the turn if it is free."""
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> bool:
        """Whether somebody has the turn."""
        return self._gate.locked()

    async def acquire(self) -> None:
        """Wait for the turn. Cancelling the wait gives the place in the queue up."""
        if not self._waiters and self.acquire_nowait():
            return
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        self._waiters.append(waiter)
        # Released between the test and the append: nobody else would wake us. See release.
        if self.acquire_nowait():
            self._pass_on()
        try:
            await waiter[1]
        except asyncio.CancelledError:
            try:
                self._waiters.remove(waiter)
            except ValueError:  # the turn is ours already, or on its way
                self.release()
            raise

    def release(self) -> None:
        """Give the turn to the first who waits."""
        if not self._waiters:
            self._gate.release()
            # Somebody may have come between the test and the release: it must not stay with nobody.
            if not (self._waiters and self.acquire_nowait()):
                return
        self._pass_on()

    def _pass_on(self) -> None:
        """Hand the turn, which the caller holds, to the first waiter whose loop still lives."""
        while True:
            try:
                loop, future = self._waiters.popleft()
            except IndexError:  # the others gave up meanwhile
                self.release()
                return
            try:
                loop.call_soon_threadsafe(_hand_over, future)
            except RuntimeError:  # its loop was closed with the waiter on it
                continue
            return


def _hand_over(future: asyncio.Future[None]) -> None:
    # One that was cancelled meanwhile passes the turn on by itself, in acquire's except clause.
    if not future.done():
        future.set_result(None)
