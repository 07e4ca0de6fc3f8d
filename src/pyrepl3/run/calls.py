"""Coroutines in from any thread, begun on a host's loop; their ends out, to whoever waits elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyrepl3.run.host import HostLoop, LoopHost


class Call[T]:
    """A coroutine to run on the host's loop. ``over(result, error)`` is told its end, on any thread."""

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, T]],
        over: Callable[[T | None, BaseException | None], object] | None = None,
    ) -> None:
        self._make = [make]
        self._over = over
        self.task: asyncio.Task[T] | None = None
        self.cancelled = False

    def send(self, host: LoopHost) -> None:
        """Have it begun by the host. Any thread; at once on the host's own, if its loop runs there."""
        # An empty Context: nothing of the caller's leaks into the cell's task.
        context, loop = contextvars.Context(), host.loop
        if asyncio._get_running_loop() is not loop:  # noqa: SLF001  None is an answer, too
            loop.call_soon_threadsafe(self._begin, loop, context=context)
        elif loop.is_free():
            context.run(self._begin, loop)
        else:  # what was sent before comes before
            loop.call_soon(self._begin, loop, context=context)

    @property
    def begun(self) -> bool:
        """Whether the host has taken it. Any thread."""
        return not self._make

    def cancel(self, host: LoopHost) -> None:
        """Do not begin, or cancel what has begun. Any thread."""
        self.cancelled = True
        host.loop.call_soon_threadsafe(lambda: self.task and self.task.cancel())

    def _begin(self, loop: HostLoop) -> None:
        if self.cancelled:
            self.reply(None, asyncio.CancelledError())
            return
        # Taken: what makes it may know this object, and the cell's value should not wait for the collector.
        try:
            make = self._make.pop()
        except IndexError:  # sent again, to the host that took over, and begun there
            return
        try:
            task = loop.call(make())
        except (SystemExit, KeyboardInterrupt) as error:  # a task's first step gives it to the loop
            self.reply(None, error)
            raise
        if task.done():
            self._end(task)
        else:  # this object is held by the done callback, and by whoever waits
            self.task = task
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.reply(None, asyncio.CancelledError())
        else:
            error = task.exception()
            self.reply(None if error else task.result(), error)

    def reply(self, result: T | None, error: BaseException | None) -> None:
        """Tell its end."""
        if self._over is not None:
            self._over(result, error)


class Awaited[T](Call[T]):
    """The same with a future, for whoever waits for it on another loop; the first answer counts."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        super().__init__(make)

    def reply(self, result: T | None, error: BaseException | None) -> None:
        """Give an answer. Any thread."""
        try:
            self._loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # the caller's loop is closed: nobody waits
            return

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, asyncio.CancelledError):
            # Not the caller's own cancellation: nobody may take it for that.
            self.future.set_exception(CancellationError("interrupted"))
        else:
            self.future.set_exception(error)
