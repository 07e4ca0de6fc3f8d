"""What tests of code that uses PyREPL3 put in the place of files, time and a person who watches."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Literal

from pyrepl3.errors import SessionClosedError, StoreError
from pyrepl3.records import Blob, Delta, Display, Epoch, Output, Receipt, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrepl3.records import Event, Stream


_PATIENCE = 30.0  # seconds that a test waits for what never comes


class FakeStore:
    """A Store in memory, which fails when told to. ``again()`` opens what it holds, as after a crash.

    ``fail_commit("before")`` makes the next commit raise StoreError with nothing stored, ``"after"``
    with the epoch stored; ``fail_load`` and ``fail_move`` the next load and move. Any thread.
    """

    def __init__(self) -> None:
        self.epochs: dict[int, tuple[int, Delta, Receipt]] = {}
        """By number: the parent, the change, the record."""
        self.closed = False
        self._heads = [0]  # shared with the stores that ``again`` gives
        self._commit_fails: Literal["before", "after"] | None = None
        self._load_fails = False
        self._move_fails = False

    def again(self) -> FakeStore:
        """A store on the same epochs. This one is closed, whoever had it."""
        self.close()
        store = FakeStore()
        store.epochs, store._heads = self.epochs, self._heads
        return store

    def fail_commit(self, when: Literal["before", "after"]) -> None:
        """Let the next commit raise, before or after it has stored the epoch."""
        self._commit_fails = when

    def fail_load(self) -> None:
        """Let the next load raise."""
        self._load_fails = True

    def fail_move(self) -> None:
        """Let the next move raise."""
        self._move_fails = True

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` and make it the head. Returns its number."""
        self._check_open()
        when, self._commit_fails = self._commit_fails, None
        if when == "before":
            raise StoreError("told to fail before the commit")
        self._line(parent)
        epoch = len(self.epochs) + 1
        self.epochs[epoch] = (parent, delta, receipt)
        self._heads.append(epoch)
        if when == "after":
            raise StoreError("told to fail after the commit")
        return epoch

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch``."""
        self._check_open()
        if self._load_fails:
            self._load_fails = False
            raise StoreError("told to fail to load")
        number = self._heads[-1] if epoch is None else epoch
        line = self._line(number)
        homes: dict[str, int] = {}
        lost: dict[str, str] = {}
        engine = b""
        for each in line:
            _, delta, _ = self.epochs[each]
            for name in (*delta.deleted, *delta.lost):
                homes.pop(name, None)
                lost.pop(name, None)
            lost |= delta.lost
            for blob in delta.blobs:
                for name in blob.names:
                    homes[name] = id(blob)
                    lost.pop(name, None)
            engine = delta.engine
        blobs = tuple(
            Blob(names=names, data=blob.data)
            for each in line
            for blob in self.epochs[each][1].blobs
            if (names := tuple(name for name in blob.names if homes.get(name) == id(blob)))
        )
        count = max((receipt.cell.n for _, _, receipt in self.epochs.values()), default=0)
        return Snapshot(epoch=number, count=count, blobs=blobs, lost=lost, engine=engine)

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch``, oldest first."""
        self._check_open()
        found = []
        for number in self._line(self._heads[-1] if epoch is None else epoch):
            parent, delta, receipt = self.epochs[number]
            found.append(
                Epoch(
                    epoch=number,
                    parent=parent,
                    receipt=receipt,
                    size=delta.size,
                    stored=frozenset(name for blob in delta.blobs for name in blob.names),
                    deleted=delta.deleted,
                    lost=delta.lost,
                )
            )
        return found

    def move(self, epoch: int) -> None:
        """Make ``epoch`` the head."""
        self._check_open()
        if self._move_fails:
            self._move_fails = False
            raise StoreError("told to fail to move")
        self._line(epoch)
        self._heads.append(epoch)

    def close(self) -> None:
        """Let go; the epochs stay for ``again``."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise SessionClosedError("the store is closed")

    def _line(self, epoch: int) -> list[int]:
        line: list[int] = []
        while epoch:
            if epoch not in self.epochs:
                raise StoreError(f"no epoch {epoch}")
            line.append(epoch)
            epoch = self.epochs[epoch][0]
        return line[::-1]


class Seen:
    """An observer that remembers, and can be waited for instead of sleeping. Any thread.

    ``await seen.until(test)`` on any loop; ``seen.text(cell_id)`` is what a cell wrote.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._waiting: list[tuple[Callable[[Event], bool], Callable[[Event], None]]] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)
            due = [wake for test, wake in self._waiting if test(event)]
        for wake in due:
            wake(event)

    def of[T](self, kind: type[T]) -> list[T]:
        """The events of one class."""
        with self._lock:
            return [event for event in self.events if isinstance(event, kind)]

    def text(self, cell_id: str | None = None, stream: Stream | None = None) -> str:
        """What was written: by one cell, or by all; to one stream, or to both."""
        return "".join(
            event.text
            for event in self.of(Output)
            if cell_id in (None, event.cell_id) and stream in (None, event.stream)
        )

    def shown(self, cell_id: str | None = None) -> list[Display]:
        """What was displayed: by one cell, or by all."""
        return [event for event in self.of(Display) if cell_id in (None, event.cell_id)]

    async def until(self, test: Callable[[Event], bool]) -> Event:
        """The first event that passes ``test``, seen already or to come. Raises TimeoutError after 30 s."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Event] = loop.create_future()

        def wake(event: Event) -> None:
            loop.call_soon_threadsafe(_settle, future, event)

        with self._lock:
            for event in self.events:
                if test(event):
                    return event
            self._waiting.append((test, wake))
        try:
            async with asyncio.timeout(_PATIENCE):
                return await future
        finally:
            with self._lock:
                self._waiting.remove((test, wake))

    async def until_text(self, text: str, cell_id: str | None = None) -> None:
        """Wait until a cell (None: all together) has written ``text``. Raises TimeoutError."""
        await self.until(
            lambda event: isinstance(event, Output) and text in self._joined(cell_id, event)
        )

    def _joined(self, cell_id: str | None, last: Event) -> str:
        # Called under the lock, with ``last`` among the events already.
        parts = []
        for event in self.events:
            if isinstance(event, Output) and cell_id in (None, event.cell_id):
                parts.append(event.text)
            if event is last:
                break
        return "".join(parts)


def _settle(future: asyncio.Future[Event], event: Event) -> None:
    if not future.done():
        future.set_result(event)
