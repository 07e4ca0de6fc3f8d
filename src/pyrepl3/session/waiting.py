"""What has to come to its end in, its result out, though whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_LOOK = 0.05  # seconds until ``stop`` is called again where it reached nothing


async def to_its_end[T](
    coro: Coroutine[Any, Any, T] | asyncio.Task[T], stop: Callable[[], bool] = lambda: True
) -> T:
    """Await ``coro`` whole; the caller's cancellation comes out after it.

    Once cancelled, ``stop`` is called until it says that it has reached what it is to stop.
    """
    task = asyncio.ensure_future(coro)
    cancelled = stopped = False
    while not task.done():
        if cancelled and not stopped:
            stopped = stop()
        try:
            await asyncio.wait([task], timeout=_LOOK if cancelled and not stopped else None)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # nobody is told: it must not be called "never retrieved"
        raise asyncio.CancelledError
    return task.result()
