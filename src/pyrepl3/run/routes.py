"""The ways a cell may go, inline, awaited, on a thread, and what its end means."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

from pyrepl3.errors import AsyncContextError, CancellationError, CellInterrupt
from pyrepl3.run.cancel import claim, request_stop
from pyrepl3.run.evaluator import Result, Run, evaluate, evaluate_async
from pyrepl3.run.tracebacks import exceptions_of, traceback_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from pyrepl3.run.execution import Execution
    from pyrepl3.run.limits import Guard
    from pyrepl3.run.namespace import NamespaceManager


class Place(Protocol):
    """A thread for blocking cells: calls in, results given back by the second function."""

    def submit(self, call: Callable[[], Result], give: Callable[[Result], object]) -> None:
        """Run ``call`` on the place's thread, then ``give`` its result on the loop. On the loop."""
        ...

    def abandon(self, thread: int) -> bool:
        """Leave ``thread``, stuck in a call; the next call gets a fresh one. Any thread.

        False: that thread is not the place's now.
        """
        ...


class Handover:
    """A result that is given on the loop and taken by one waiter, who may be cancelled."""

    __slots__ = ("_future", "_loop", "result")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self.result: Result | None = None

    def give(self, result: Result) -> None:
        """The first result counts. On the loop's thread."""
        if self.result is None:
            self.result = result
            if self._future is not None and not self._future.done():
                self._future.set_result(None)

    async def take(self, execution: Execution) -> Result:
        """The result. If the waiter is cancelled the cell is stopped first; then CancelledError.

        Cancelling it twice does not make it leave the cell behind.
        """
        cancelled = False
        while self.result is None:
            self._future = self._loop.create_future()
            try:
                await self._future
            except asyncio.CancelledError:
                if execution.abandoned and self.result is None:
                    raise  # the loop was left behind, and ends
                if not cancelled:
                    cancelled = True
                    request_stop(execution)
        # Taken, not kept: what may still abandon the cell holds this object.
        result, self.result = self.result, None
        if cancelled:
            raise asyncio.CancelledError
        return result


async def go_as_task(
    execution: Execution, run: Run, context: Context, around: Guard | None
) -> Result:
    """Run a cell with top-level await as a task of its own, on a host's loop.

    A cell may cancel its own task there and hits nobody else.
    """
    loop = asyncio.get_running_loop()
    handover = Handover(loop)
    execution.loop = loop

    async def work() -> None:
        # Here, not by who made the task: its first step runs before that has it in its hands.
        execution.task = asyncio.current_task()
        handover.give(await evaluate_async(execution, run, around))

    # Eager: its first step runs now, not a round of the loop later. That is safe only because nobody
    # has entered the Context: in one that is entered an eager task would hang the loop.
    task = asyncio.Task(
        work(), loop=loop, name=execution.cell.id, context=context, eager_start=True
    )
    result = handover.result or await handover.take(execution)
    del task  # held until here: the loop holds tasks weakly
    return result


async def go_to_thread(
    execution: Execution,
    run: Run,
    manager: NamespaceManager,
    context: Context,
    around: Guard | None,
    place: Place,
) -> Result:
    """Run a blocking cell on the place's thread, on the same dict and in the same Context."""
    loop = asyncio.get_running_loop()
    handover = Handover(loop)

    def call() -> Result:
        return context.run(evaluate, execution, run, around)

    def abandon() -> bool:
        if not claim(execution, lambda: place.abandon(execution.thread)):
            return False
        execution.lost = find_thread_bound(run[3])
        # The old thread stays inside the old Context, maybe for hours.
        if not execution.cell.background:
            manager.context = manager.context.copy()
        loop.call_soon_threadsafe(handover.give, (False, CellInterrupt()))
        return True

    if not execution.on_main:
        execution.abandon = abandon
    place.submit(call, handover.give)
    return await handover.take(execution)


def find_thread_bound(
    namespace: dict[str, Any], loop: asyncio.AbstractEventLoop | None = None
) -> dict[str, str]:
    """Names whose values only the thread that made them may use, or ``loop``, which is left too.

    Name to reason. What only holds such a value is not found.
    """
    lost: dict[str, str] = {}
    for name, value in namespace.copy().items():
        homes = {base.__module__.partition(".")[0] for base in type(value).__mro__}
        if "sqlite3" in homes and hasattr(value, "close"):
            lost[name] = "made on the thread that was left behind; make it anew"
        elif isinstance(value, threading.local):
            lost[name] = "its values belong to the thread that was left behind; set them anew"
        elif loop is not None and getattr(value, "_loop", None) is loop:
            lost[name] = "bound to the event loop that was left behind; make it anew"
    return lost


def is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` is how a stopped cell ends, on its own or inside a group."""
    # By type(), not isinstance(): a class of the user's may answer anything when asked for __class__.
    if issubclass(type(error), BaseExceptionGroup):
        return any(map(is_interrupt, exceptions_of(error)))
    return issubclass(type(error), (KeyboardInterrupt, asyncio.CancelledError))


def judge(execution: Execution, result: Result, manager: NamespaceManager) -> Result:
    """What the raw end of a cell means: a value, the user's error, or an error of ours."""
    ok, value = result
    stop = execution.stop
    if ok and stop is None:
        return result
    if stop is not None:
        error: BaseException
        if stop.reason is not None:
            error = stop.reason
        elif ok and stop.stage == 1 and not execution.abandoned:
            return result  # it caught the interrupt and came to its own end
        elif not ok and stop.stage == 1 and not execution.abandoned and not is_interrupt(value):
            return result  # its clean-up raised something else: that is what it has to say
        else:
            error = CancellationError(f"cell {execution.cell.n} was interrupted")
        if not ok:
            error.__traceback__ = traceback_of(value)
            error.__suppress_context__ = True
        return False, error
    if issubclass(type(value), NameError) and manager.lost:
        lost = manager.explain_lost(value)
        if lost is not None:
            lost.__traceback__ = traceback_of(value)
            return False, lost
    if issubclass(type(value), (RuntimeError, ValueError)) or type(value).__module__ == "sqlite3":
        from pyrepl3.run.recovery import explain_async_context_error  # noqa: PLC0415  errors only

        try:
            cure = explain_async_context_error(value)
        except Exception:  # noqa: BLE001  a class of the user's, whose ``args`` is a property that raises
            return result
        if cure is not None:
            translated = AsyncContextError(f"{value}; {cure}")
            translated.__traceback__ = traceback_of(value)
            translated.__cause__ = value
            return False, translated
    return result
