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

    # Defaults on the class: an execution costs what it needs, most of these never.
    show = False
    shown: Mapping[str, Any] | None = None
    mode = ExecutionMode.UNKNOWN
    placement: Placement = "loop"
    finished = False
    stop: Stop | None = None
    task: asyncio.Task[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    thread = 0
    on_main = False
    abandon: Callable[[], bool] | None = None
    abandoned = False
    lost: Mapping[str, str] = {}  # noqa: RUF012  never changed, only replaced
    sink: Sink | None = None
    asker: Callable[[str, bool], str] | None = None
    tasks: set[Any] | None = None
    tasks_allowed: int | None = None

    def __init__(self, cell: Cell, group: Group) -> None:
        self.cell = cell
        self.group = group


CURRENT: ContextVar[Execution | None] = ContextVar("pyrepl3_cell", default=None)
