"""A step that a cell makes in; the place where it is kept, and waiting for what is kept there, out.

Everything comes in two forms: ``…_now`` for plain code, which waits on its thread, and ``…_later`` for
coroutines. Whoever waits can be stopped: plain code looks by itself, since code of ours is never
interrupted.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pyrepl3.errors import StepMismatchError
from pyrepl3.run.asking import stop_if_asked
from pyrepl3.run.execution import CURRENT, Execution
from pyrepl3.run.scopes import SCOPE, CellSteps, Scope
from pyrepl3.run.values import Ending, decode

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pyrepl3.records import Kept, Opened

_LOOK = 0.02  # seconds between two looks whether a cell that waits here is to stop


class Place:
    """One step (or sleep, or question) of a cell: its id, once the cell has opened, and its scope."""

    __slots__ = ("durability", "execution", "opened", "path", "scope", "session")

    opened: Opened

    def __init__(self, execution: Execution, steps: CellSteps) -> None:
        self.execution = execution
        self.durability = steps.durability
        self.session = steps.session
        self.scope = SCOPE.get() or steps.root
        # Before anything is awaited: the order in which code asks is what counts.
        self.path = self.scope.next_step()

    @property
    def id(self) -> str:
        """What it is kept under."""
        return self.opened.key + self.path

    def inside(self) -> Scope:
        """The scope of what the step itself calls."""
        salt = self.opened.salt
        return Scope(self.path, f"{self.id}-{salt}" if salt else self.id)

    def end_of(self, kept: Kept, mark: str, what: str) -> Ending:
        """What was kept, if it is this call's. Raises StepMismatchError."""
        self.check(kept.mark, mark)
        return decode(kept.data, what)

    def check(self, kept: str, made: str) -> None:
        """Raise StepMismatchError where these are two calls."""
        if kept != made:
            raise StepMismatchError(self.id, kept, made)


def _find_steps() -> tuple[Execution | None, CellSteps | None]:
    execution = CURRENT.get()
    return execution, None if execution is None else execution.steps


def place_now() -> Place | None:
    """The place of what plain code does next; None: nothing is kept here."""
    execution, steps = _find_steps()
    if execution is None or steps is None:
        return None
    place = Place(execution, steps)
    place.opened = wait(steps.open(), execution)
    return place


async def place_later() -> Place | None:
    """The same for a coroutine."""
    execution, steps = _find_steps()
    if execution is None or steps is None:
        return None
    place = Place(execution, steps)
    place.opened = await reach(steps.open())
    return place


def wait[T](future: Future[T], execution: Execution | None, seconds: float | None = None) -> T:
    """The result of ``future``; a cell that is to stop raises meanwhile. TimeoutError after ``seconds``."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _LOOK if end is None else min(_LOOK, end - time.monotonic())
        try:
            return future.result(left)
        except TimeoutError:
            if future.done():
                return future.result()
            if left < _LOOK:
                raise
        if execution is not None:
            stop_if_asked(execution)


async def reach[T](future: Future[T]) -> T:
    """The result of ``future``. Who waits may be cancelled; what is under way goes on."""
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake(_: object) -> None:
            try:
                loop.call_soon_threadsafe(_settle, waiter)
            except RuntimeError:  # the loop is closed: nobody waits
                return

        future.add_done_callback(wake)
        await waiter
    return future.result()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def is_stopped(execution: Execution | None) -> bool:
    """Whether the cell is being stopped, so that what its code raises is no end of a step."""
    return execution is not None and execution.stop is not None


def pause(seconds: float, execution: Execution | None) -> None:
    """Wait on this thread; a cell that is to stop raises meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK))
        if execution is not None:
            stop_if_asked(execution)
