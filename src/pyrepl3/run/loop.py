"""EventLoopCoordinator: finds or makes an event loop, and holds coroutines until one runs."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pyrepl3.run.executor import AsyncExecutor


class EventLoopCoordinator:
    """Which loop there is, and a queue for when none runs.

    A loop that it made it also closes (``close``); one of somebody else it never stops, closes or
    replaces. To be used from one thread.
    """

    def __init__(self, executor: AsyncExecutor | None = None) -> None:
        self.executor = executor
        self.message_queue: list[Coroutine[Any, Any, Any]] = []
        self.in_async_context = False
        self._own: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def owns_loop(self) -> bool:
        """Whether the last loop that ``ensure_event_loop`` gave was made here."""
        return self._own is not None and not self._own.is_closed()

    def ensure_event_loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; else the one that is set as current; else a new one, made here and set."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.in_async_context = False
            current = _current_loop()
            if current is not None and not current.is_closed():
                return current
            if self._own is None or self._own.is_closed():
                self._own = asyncio.new_event_loop()
            asyncio.set_event_loop(self._own)
            return self._own
        self.in_async_context = True
        return loop

    def queue_for_async(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        """Start ``coro`` as a task where a loop runs; else keep it for ``flush_queue``: None."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.in_async_context = False
            self.message_queue.append(coro)
            return None
        self.in_async_context = True
        task = loop.create_task(coro)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        return task

    async def flush_queue(self) -> list[Any]:
        """Run all that is queued, at once; results in the order queued, exceptions as values.

        What is queued meanwhile waits for the next flush. If this is cancelled, so are they.
        """
        self.in_async_context = True
        queued, self.message_queue = self.message_queue, []
        return await asyncio.gather(*queued, return_exceptions=True)

    def close(self) -> None:
        """Drop what is queued, without a warning, and close the loop made here. Idempotent."""
        for coro in self.message_queue:
            coro.close()
        self.message_queue.clear()
        own, self._own = self._own, None
        if own is not None and not own.is_running() and not own.is_closed():
            own.run_until_complete(own.shutdown_asyncgens())
            current = _current_loop()
            own.close()
            if current is own:
                asyncio.set_event_loop(None)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that is set as current on this thread. Unlike asyncio.get_event_loop never makes one."""
    with warnings.catch_warnings():
        # Where none is set asyncio warns first, and makes one then.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return asyncio.get_event_loop()
        except (RuntimeError, DeprecationWarning):
            return None
