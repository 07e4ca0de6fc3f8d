"""The seams: what a session drives and does not import. Each has its checks in ``pyrepl3.testing``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

from pyrepl3.records import (
    Asked,
    Cell,
    Collected,
    Delta,
    Epoch,
    Event,
    Kept,
    KeptName,
    Looked,
    Opened,
    Outcome,
    Question,
    Receipt,
    Snapshot,
    Typed,
)

if TYPE_CHECKING:  # it brings threading with it
    from concurrent.futures import Future

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

    async def audit(self, *, hurry: bool = False) -> bool:
        """Look for changes since the last mark behind the names that cells used; ``snapshot`` has them then.

        Takes its time, beside everything else; ``hurry``: somebody waits for it. False: a cell began
        meanwhile, or something else ended it, and nothing is certain.
        """
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


class Reader(Protocol):
    """The part of a Store that only reads: of a session that may be open elsewhere. See there."""

    def names(self, epoch: int | None = None) -> Mapping[str, KeptName]:
        """Each name as of ``epoch``."""
        ...

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch``."""
        ...

    def epochs(self) -> Sequence[Epoch]:
        """All epochs that are kept."""
        ...

    def verify(self, epoch: int | None = None) -> None:
        """Read all that ``epoch`` needs (None: any epoch) and compare it with what was written."""
        ...

    def export(self, path: Path) -> None:
        """Write the whole session to ``path``."""
        ...

    def close(self) -> None:
        """Let go. Idempotent."""
        ...


class Store(Protocol):
    """Keeps the epochs of one session. Bytes only: it never sees a Python object.

    ``commit`` is atomic and durable: once it returns, ``load`` gives the new epoch after any
    crash; if it raises, the old one or the new, never a mixture. The same goes for everything else that
    writes. Methods block (they write and sync files) and may be called from any thread. All raise
    StoreError, for an epoch that is not there too.
    """

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` (0: none) and make it the head. Returns its number.

        Numbers only grow, also after a branch. A chunk that is there already is not stored again; one
        that is neither in the delta nor there is a StoreError, and so is a view of memory that has
        changed since its digest was made.
        """
        ...

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch`` (None: the head; 0: empty). Raises StoreError."""
        ...

    def names(self, epoch: int | None = None) -> Mapping[str, KeptName]:
        """Each name as of ``epoch`` (None: the head; 0: none) with what is known of it."""
        ...

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch`` (None: the head), oldest first."""
        ...

    def epochs(self) -> Sequence[Epoch]:
        """All epochs that are kept, by number: also those that do not lead to the head."""
        ...

    def move(self, epoch: int) -> None:
        """Make ``epoch`` (0: none) the head; nothing is deleted. Raises StoreError."""
        ...

    def audited(self, epoch: int) -> None:
        """It is now certain that ``epoch`` holds all that had changed. Idempotent."""
        ...

    def verify(self, epoch: int | None = None) -> None:
        """Read all that ``epoch`` needs (None: any epoch) and compare it with what was written.

        Raises StoreCorruptError, which names the names that it concerns.
        """
        ...

    def fork(self, name: str, epoch: int | None = None) -> Store:
        """A new session beside this one, open, whose history is the line to ``epoch`` (None: the head).

        Epochs keep their numbers. Raises SessionExistsError, ValueError for a name that is none.
        """
        ...

    def collect(self, *, keep: int | None = None) -> Collected:
        """Drop the epochs that do not lead to the head, and of those that do all but the last ``keep``.

        None keeps the whole line. Bytes that no epoch needs any more are given back. Buffers opened
        before stay as they are. Raises ValueError for ``keep`` below 1.
        """
        ...

    def export(self, path: Path) -> None:
        """Write the whole session to ``path``, a single file that must not exist yet."""
        ...

    def close(self) -> None:
        """Let go of the session. Idempotent."""
        ...


class Durability(Protocol):
    """Keeps what the steps of one session's cells came to. Bytes only: it never sees a value.

    Every method returns at once, on any thread, and its future has the answer: so a worker process can
    hand it on as a message. A future may raise DurabilityError; nothing is kept then. Ids of steps
    start with the key of their cell and are made of ``a-z``, ``0-9`` and ``-``.
    """

    when_cancelled: Callable[[str], object]
    """Set by whoever owns the session: is told, on any thread, which cell is to stop."""

    def open(self, cell: str, base: int) -> Future[Opened]:
        """A cell is about to make its first step. ``cell`` names it and its text, ``base`` its epoch.

        Steps that a run from a later epoch has kept are not of this cell: somebody went back.
        """
        ...

    def find(self, step: str) -> Future[Kept | None]:
        """What a step of a cell that was ``known`` came to; None: it is not finished."""
        ...

    def step(self, step: str, kept: Kept) -> Future[Kept]:
        """Keep a finished step: on disk when the future is done. The first one counts and is returned.

        That of a cell that was settled is not kept: nobody would ever ask for it.
        """
        ...

    def sleep(self, step: str, mark: str, seconds: float) -> Future[tuple[str, float]]:
        """The mark of a sleep and when it ends, in seconds since the epoch: as first asked, on disk."""
        ...

    def ask(self, step: str, asked: Asked) -> Future[Kept]:
        """Put a question, on disk; the future is done once it is answered (``data``: the answer)."""
        ...

    def asked(self) -> Future[tuple[Asked, ...]]:
        """The questions that wait for an answer, oldest first."""
        ...

    def answer(self, step: str, data: bytes) -> Future[bool]:
        """Answer a question, on disk when the future is done. False: there is none, or it was answered."""
        ...

    def cancel(self, cell: str) -> Future[bool]:
        """Stop a cell that has opened, from wherever: its owner is told. False: no such cell."""
        ...

    def settle(self, cell: str, epoch: int) -> Future[None]:
        """The epoch of a cell is on disk (0: it has none): what is kept of its steps may go."""
        ...

    def aclose(self) -> Future[None]:
        """Let go. What was not answered stays. Idempotent."""
        ...


class TypeChecker(Protocol):
    """Says of a cell that has not run what its types tell. Methods block; any thread."""

    def check(self, source: str, looked: Looked, *, types: bool = False) -> Typed:
        """What is wrong with ``source`` where its names are what ``looked`` says; nothing runs.

        ``types``: say, too, what the names that it binds would be. ``looked`` may come from a worker: it is
        read as text only. Raises MissingExtraError where the checker is not installed, CheckerError where
        it gives no answer.
        """
        ...

    def close(self) -> None:
        """Let go. Idempotent; a later ``check`` begins anew."""
        ...
