"""A coroutine that waits for futures of other threads in, one future of its end out. No event loop.

A coroutine goes on where what it waits for comes true: on the thread of a connection. It must not block.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import DurabilityError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class On[T]:
    """``await On(future)``: the result of ``future``, or what it raises."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Future[T], None, T]:
        if not self._future.done():
            yield self._future
        return self._future.result()


def drive[T](work: Coroutine[Future[Any], None, T]) -> Future[T]:
    """Run ``work`` until it waits, and on from there as often as need be. Any thread.

    What it raises comes out as DurabilityError.
    """
    try:
        end: Future[T] = Future()
        _advance(work, end)
    except BaseException:  # an interrupt of the cell, raised here
        import inspect  # noqa: PLC0415  only then

        if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
            work.close()  # else Python warns of it
        raise
    return end


def _advance[T](work: Coroutine[Future[Any], None, T], end: Future[T]) -> None:
    try:
        waited = work.send(None)
    except StopIteration as stop:
        end.set_result(stop.value)
    except DurabilityError as error:
        end.set_exception(error)
    except Exception as error:  # noqa: BLE001  of the SDK or the disk: translated here, once
        what = str(error) or type(error).__name__
        end.set_exception(DurabilityError(f"steps cannot be kept: {what}"))
    else:
        waited.add_done_callback(lambda _: _advance(work, end))
