"""The seams: what a session drives and does not import. Each has its checks in ``pyrepl3.testing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import CodeType
from typing import Any, Protocol

from pyrepl3.records import Cell, Delta, Epoch, Event, Outcome, Question, Receipt, Snapshot

type Observer = Callable[[Event], None]
"""Is told every event, in order, on any thread; must not block. What it raises is reported once."""

type Asker = Callable[[str, bool], str]
"""Answers ``input()`` (prompt, False) and ``getpass()`` (prompt, True). Called on the cell's thread;
may block; may raise EOFError or KeyboardInterrupt, which the cell then sees."""

type Pace = Callable[[float], bool]
"""Waits up to so many seconds for a slow reader of events; whether there is room for more. Called by
what writes, after it wrote, on its thread; never while an observer is being told of something."""

type Clock = Callable[[], float]
"""Seconds since some fixed point, never going back."""


class Stage(Protocol):
    """Something around a cell: entered before it runs, left after, in reverse order."""

    def __call__(self, cell: Cell, code: CodeType, /) -> AbstractContextManager[Any]: ...


class Runner(Protocol):
    """Where cells run. It owns the objects; everybody else sees bytes and records."""

    async def run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code.

        ``pace`` makes the cell wait where it writes faster than somebody reads. If the caller is
        cancelled the cell is interrupted, and the cancellation goes on.
        """
        ...

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Ask a running cell to stop (None: the foreground cell). Any thread.

        Returns False where no such cell runs.
        """
        ...

    async def snapshot(self) -> Delta:
        """What changed since the last mark. Objects are read where they live; nothing is marked."""
        ...

    async def mark(self) -> None:
        """The last snapshot is safe: what it holds counts as unchanged from now on."""
        ...

    async def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace by ``snapshot``. Returns what could not come back: name to reason."""
        ...

    async def ask(self, question: Question) -> Any:
        """Answer a question about the namespace or the tasks, also while a cell runs."""
        ...

    async def aclose(self) -> None:
        """Stop everything and let go. Idempotent."""
        ...


class Store(Protocol):
    """Keeps the epochs of one session. Bytes only: it never sees a Python object.

    ``commit`` is atomic and durable: once it returns, ``load`` gives the new epoch after any
    crash; if it raises, the old one or the new, never a mixture. Methods block (they write and
    sync files) and may be called from any thread, one at a time.
    """

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` (0: none) and make it the head. Returns its number.

        Numbers only grow, also after a branch. Raises StoreError.
        """
        ...

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch`` (None: the head; 0: empty). Raises StoreError."""
        ...

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first."""
        ...

    def move(self, epoch: int) -> None:
        """Make ``epoch`` (0: none) the head; nothing is deleted. Raises StoreError."""
        ...

    def close(self) -> None:
        """Let go of the session. Idempotent."""
        ...
