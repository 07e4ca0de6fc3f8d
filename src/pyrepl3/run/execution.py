"""What is known of a cell while it runs, and how code inside it finds that out.

``CURRENT`` is a ContextVar: tasks, ``call_later`` and ``to_thread`` inherit it, so that output and
interrupts find the cell that caused them. Threads and thread pools do not inherit it before
Python 3.14; ``speaker.Carrying`` takes it there.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pyrepl3.records import ExecutionMode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from pyrepl3.errors import LimitExceededError
    from pyrepl3.records import Cell, Placement
    from pyrepl3.run.scopes import CellSteps
    from pyrepl3.run.sink import Sink


class Stop:
    """Why and how far a cell is being stopped. See ``cancel`` for the stages.

    ``delivered``: the main line of the cell has seen this stage. ``anywhere``: it may be raised in
    libraries too, since no code of a cell came by. ``asked``: a cancellation is on its way through
    the loop, which has not answered yet. ``told``: the observer knows that we wait.
    """

    __slots__ = (
        "anywhere",
        "asked",
        "delivered",
        "due",
        "forked",
        "looked",
        "place",
        "raised",
        "reason",
        "seen",
        "stage",
        "suspect",
        "thrown",
        "ticked",
        "told",
    )

    def __init__(self, reason: LimitExceededError | None = None) -> None:
        self.reason = reason
        self.stage = 1
        self.anywhere = self.asked = self.delivered = self.thrown = self.told = False
        self.forked = False
        """This process is a child that the cell has forked: see ``forked``."""
        self.due = 0.0
        """When the next stage begins, by ``time.monotonic``."""
        self.ticked = 0.0, 0.0
        """When it was looked whether to go on to that, and the processor time of this process then."""
        self.raised: dict[Any, tuple[BaseException, float]] = {}
        """What was raised last at this stage in each task or thread, and when."""
        self.suspect: tuple[Any] | None = None
        """Which task held the loop when it was last looked at."""
        self.place: tuple[int, int] | None = None
        """Where the cell's thread stood when it was last looked at, and since when."""
        self.seen = self.looked = 0.0
        """When the thread moved last, and when it was looked at last."""


class Group:
    """The executions of one executor, and which tasks hold up their loop while one is being stopped."""

    __slots__ = ("__weakref__", "targets")

    def __init__(self) -> None:
        self.targets: dict[Any, Stop] = {}
        """Tasks (None: whatever is no task) that are to be hit although they belong to another cell."""


class Standstill:
    """How long a debugger has held a cell: while any of its threads is stopped. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._since = self._seconds = 0.0

    def begin(self) -> None:
        """A thread of the cell stops."""
        with self._lock:
            if not self._threads:
                self._since = time.monotonic()
            self._threads += 1

    def end(self) -> None:
        """It goes on."""
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._seconds += time.monotonic() - self._since

    def seconds(self) -> float:
        """All of it, up to now."""
        with self._lock:
            return self._seconds + (time.monotonic() - self._since if self._threads else 0.0)


class Execution:
    """One cell while it runs. Written by the thread that runs it, read by any."""

    # Defaults on the class: an execution costs what it needs, most of these never.
    show = False
    verbose = True
    told: tuple[BaseException, str] | None = None
    """The error of the cell's own code and its text, made while the cell could still be stopped."""
    shown: Mapping[str, Any] | None = None
    mode = ExecutionMode.UNKNOWN
    placement: Placement = "loop"
    finished = False
    stop: Stop | None = None
    task: asyncio.Task[Any] | None = None
    """What awaits the cell: a task of its own, or its caller's."""
    cancels = 0
    """How often our interrupt has cancelled ``task``, which may be the caller's."""
    loop: asyncio.AbstractEventLoop | None = None
    thread = 0
    on_main = False
    abandon: Callable[[], bool] | None = None
    abandoned = False
    lost: Mapping[str, str] = {}  # never changed, only replaced
    standstill: Standstill | None = None
    """None: no debugger has stopped it."""
    sink: Sink | None = None
    asker: Callable[[str, bool], str] | None = None
    tasks: set[Any] | None = None
    tasks_allowed: int | None = None
    steps: CellSteps | None = None
    """Where its steps are kept; None: nowhere."""

    def __init__(self, cell: Cell, group: Group) -> None:
        self.cell = cell
        self.group = group


CURRENT: ContextVar[Execution | None] = ContextVar("pyrepl3_cell", default=None)
