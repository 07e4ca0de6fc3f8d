"""What is known of a cell while it runs, and how code inside it finds that out.

``CURRENT`` is a ContextVar: tasks, ``call_later`` and ``to_thread`` inherit it, so that output and
interrupts find the cell that caused them. Threads and thread pools do not inherit it before
Python 3.14; ``output.carry_into_threads`` takes it there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pyrepl3.records import ExecutionMode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from pyrepl3.errors import LimitExceededError
    from pyrepl3.records import Cell, Placement
    from pyrepl3.run.output import Sink


class Stop:
    """Why and how far a cell is being stopped.

    ``stage`` 1: raise once; 2: at every line of cell code; 3: at every line of any code but ours.
    ``delivered``: the main line of the cell has seen it. ``hogged``: the loop does not answer, so
    that tasks on it are hit too. ``kicked``: a signal is on its way, to break a call on the main thread.
    """

    __slots__ = ("delivered", "hit", "hogged", "kicked", "reason", "stage")

    def __init__(self, reason: LimitExceededError | None) -> None:
        self.reason = reason
        self.stage = 1
        self.delivered = False
        self.hogged = False
        self.kicked = False
        self.hit: set[Any] = set()


class Group:
    """The executions of one executor: what they share when the loop they are on is hogged."""

    __slots__ = ("__weakref__", "stop")

    def __init__(self) -> None:
        self.stop: Stop | None = None


class Execution:
    """One cell while it runs. Written by the thread that runs it, read by any."""

    __slots__ = (
        "__weakref__",
        "abandon",
        "abandoned",
        "asker",
        "cell",
        "finished",
        "group",
        "loop",
        "lost",
        "mode",
        "on_main",
        "placement",
        "show",
        "shown",
        "sink",
        "stop",
        "task",
        "tasks",
        "tasks_allowed",
        "thread",
    )

    def __init__(self, cell: Cell, group: Group, *, show: bool = False) -> None:
        self.cell = cell
        self.group = group
        self.show = show
        self.shown: Mapping[str, Any] | None = None
        self.mode = ExecutionMode.UNKNOWN
        self.placement: Placement = "loop"
        self.finished = False
        self.stop: Stop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.on_main = False
        self.abandon: Callable[[], bool] | None = None
        self.abandoned = False
        self.lost: Mapping[str, str] = {}
        self.sink: Sink | None = None
        self.asker: Callable[[str, bool], str] | None = None
        self.tasks: set[Any] | None = None
        self.tasks_allowed: int | None = None


CURRENT: ContextVar[Execution | None] = ContextVar("pyrepl3_cell", default=None)
