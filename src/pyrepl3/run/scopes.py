"""Code that makes a step in; an id for that step out, the same one each time the cell runs.

A cell counts its steps, and each task, thread and step that it starts counts its own: ids are never
given by the order in which tasks happen to run. A task is known by who created it, by the name of its
coroutine, and by how many of that name were created there before it: so a task that a library makes
now and then shifts nobody's number.

The path of an id: ``<cell>-3`` is the cell's third step, ``<cell>-fetch-t2-1`` the first one of the
second task that runs ``fetch``, ``<cell>-3-1`` the first one inside the third.
"""

from __future__ import annotations

import contextvars
import itertools
import re
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pyrepl3.ports import Durability
    from pyrepl3.records import Cell, Opened

_ODD = re.compile(r"[^a-z0-9]+")
_LONGEST = 24  # characters of a coroutine's name in a path


class Scope:
    """Counts what one task (or thread, or step) makes; ``path`` is what the ids of it start with.

    ``key`` is the idempotency key of the step that this is the inside of, or None.
    """

    __slots__ = ("_children", "_steps", "key", "path")

    def __init__(self, path: str, key: str | None = None) -> None:
        self.path = path
        self.key = key
        self._steps = itertools.count(1)
        self._children: dict[str, int] = {}

    def next_step(self) -> str:
        """The path of the next step."""
        return f"{self.path}-{next(self._steps)}"

    def child(self, name: str) -> Scope:
        """The scope of the next task that runs ``name``."""
        short = _ODD.sub("", name.rpartition(".")[2].lower())[:_LONGEST].lstrip("0123456789")
        short = short or "task"
        n = self._children[short] = self._children.get(short, 0) + 1
        return Scope(f"{self.path}-{short}-t{n}", self.key)


SCOPE: ContextVar[Scope | None] = ContextVar("pyrepl3_scope", default=None)
"""Where code stands inside a cell; None: its main line."""


class CellSteps:
    """The steps of one cell while it runs: where they are kept, and the scope of its main line."""

    __slots__ = ("_lock", "_opening", "cell", "durability", "root", "session")

    def __init__(self, cell: Cell, durability: Durability, session: str) -> None:
        self.cell = cell
        self.session = session
        self.durability = durability
        self.root = Scope("")
        self._opening: Future[Opened] | None = None
        self._lock = threading.Lock()

    @property
    def opened(self) -> bool:
        """Whether the cell has made a step."""
        return self._opening is not None

    def open(self) -> Future[Opened]:
        """Tell that the cell begins to make steps; once, however often this is called. Any thread."""
        with self._lock:
            if self._opening is None:
                cell = self.cell
                self._opening = self.durability.open(cell.durable_name, cell.base)
            return self._opening


def give_task_a_scope(root: Scope, coro: Any, options: dict[str, Any]) -> None:
    """Let the task that is made of ``coro`` with ``options`` count its own steps.

    One for which somebody chose a Context counts with whoever that Context is from.
    """
    if options.get("context") is not None:
        return
    scope = SCOPE.get() or root
    context = contextvars.copy_context()
    context.run(SCOPE.set, scope.child(getattr(coro, "__qualname__", "")))
    options["context"] = context
