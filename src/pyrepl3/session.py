"""A session: cells in, outcomes out, an epoch after each.

Imports no backend: everything it drives comes in through :mod:`pyrepl3.ports`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.errors import SessionClosedError, SessionError, StoreError
from pyrepl3.records import (
    Cell,
    Committed,
    Complete,
    Display,
    Done,
    Explain,
    Failed,
    Fetch,
    Interrupted,
    Notice,
    Output,
    Receipt,
    Replayed,
    Restored,
    Tasks,
    Variables,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import TracebackType

    from pyrepl3.ports import Observer, Runner, Store
    from pyrepl3.records import Epoch, Event, ModeReport, Outcome, TaskInfo

RECORDED = 1024 * 1024
"""Characters of output that the record of one cell keeps, for a replay; what is beyond is cut."""

BUFFERED = 4 * 1024 * 1024
"""Characters that a ``stream`` holds for a slow reader before the cell has to wait."""


class Session:
    """Cells run one after the other, in the order asked for; background ones beside them.

    Belongs to the event loop it was opened on: call its coroutines there. ``interrupt`` may be
    called from any thread. Made by ``open_session``.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        name: str,
        store: Store | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.name = name
        self.lost: dict[str, str] = {}
        """Names that could not be stored, or did not come back: name to reason."""
        self.epoch = 0
        """The number of the last epoch on disk; 0 where there is none."""
        self.count = 0
        """Cells begun so far, over all processes."""
        self._runner = runner
        self._store = store
        self._observe = observe
        self._turn = asyncio.Lock()
        self._commits = asyncio.Lock()
        self._writer: _Writer | None = None if store is None else _Writer(f"pyrepl3-{name}-store")
        self._mailboxes: set[_Mailbox] = set()
        self._running = 0
        self._closed = False

    # --- running ----------------------------------------------------------------------------------

    async def run(
        self,
        source: str,
        *,
        filename: str | None = None,
        first_line: int = 1,
        background: bool = False,
        observe: Observer | None = None,
    ) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code.

        ``filename`` and ``first_line`` are what tracebacks show; ``observe`` is told this cell's events
        beside the session's own observer. Cells wait for their turn, first come first served;
        ``background=True`` runs beside them: its own value, output, context copy and interrupt. If the
        caller is cancelled the cell is interrupted. Raises SessionClosedError.
        """
        self._check()
        if background:
            return await self._run(source, filename, first_line, observe, background=True)
        async with self._turn:
            self._check()
            return await self._run(source, filename, first_line, observe, background=False)

    async def stream(
        self,
        source: str,
        *,
        filename: str | None = None,
        first_line: int = 1,
        background: bool = False,
    ) -> AsyncIterator[Event]:
        """Run one cell and give its events as they happen, the last one ``Finished`` or ``Committed``.

        A reader that leaves early interrupts the cell. One that is slow makes the cell wait once
        ``BUFFERED`` characters are held.
        """
        mailbox = _Mailbox(asyncio.get_running_loop())
        self._mailboxes.add(mailbox)
        task = asyncio.create_task(
            self.run(
                source,
                filename=filename,
                first_line=first_line,
                background=background,
                observe=mailbox.put,
            )
        )
        task.add_done_callback(lambda _: mailbox.close())
        try:
            async for event in mailbox:
                yield event
            await task  # what is no fault of the user's code is raised here
        finally:
            self._mailboxes.discard(mailbox)
            mailbox.close()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Stop a running cell (None: the one in the foreground). Any thread; returns at once.

        A second call while the first is at work presses harder. False: no such cell runs.
        """
        for mailbox in tuple(self._mailboxes):
            mailbox.let_go()
        return self._runner.interrupt(cell_id)

    async def _run(
        self,
        source: str,
        filename: str | None,
        first_line: int,
        observe: Observer | None,
        *,
        background: bool,
    ) -> Outcome:
        self.count += 1
        n = self.count
        cell = Cell(
            id=f"{self.name}-c{n}",
            n=n,
            source=source,
            filename=filename or f"<{self.name} cell {n}>",
            first_line=first_line,
            background=background,
        )
        record = None if self._store is None else _Record(cell)
        told = self._told(observe, record)
        self._running += 1
        try:
            outcome = await self._runner.run(cell, told)
        finally:
            self._running -= 1
        if record is None:
            return outcome
        # The commit is not the caller's to cancel: the cell has run, and its epoch belongs to it.
        return await _to_its_end(self._commit(cell, outcome, record, told))

    def _told(self, observe: Observer | None, record: _Record | None) -> Observer:
        observers: list[Observer] = [
            one
            for one in (None if record is None else record.take, self._observe, observe)
            if one is not None
        ]
        if len(observers) == 1:
            return observers[0]

        def tell(event: Event) -> None:
            for one in observers:
                one(event)

        return tell

    # --- epochs -----------------------------------------------------------------------------------

    async def _commit(
        self, cell: Cell, outcome: Outcome, record: _Record, tell: Observer
    ) -> Outcome:
        store, writer = self._store, self._writer
        assert store is not None
        assert writer is not None
        async with self._commits:
            try:
                delta = await self._runner.snapshot()
                receipt = record.receipt(outcome)
                parent = self.epoch
                epoch = await writer.call(lambda: store.commit(delta, receipt, parent=parent))
            except StoreError as error:
                # The cell has run and the session goes on; what is on disk is the epoch before.
                text = f"not protected: cell {cell.n} is not on disk: {error}"
                tell(Notice(cell_id=cell.id, kind="unprotected", text=text))
                return outcome
            await self._runner.mark()
            self.epoch = epoch
            self.lost = {**self.lost, **delta.lost}
            for name in self.lost.keys() - delta.lost.keys():
                if name in delta.deleted or any(name in blob.names for blob in delta.blobs):
                    del self.lost[name]
            tell(Committed(cell_id=cell.id, epoch=epoch, size=delta.size, lost=delta.lost))
        return msgspec.structs.replace(outcome, epoch=epoch)

    async def resume(self) -> None:
        """Go on from the last epoch in the store; called once, when the session is opened."""
        if self._store is not None:
            await self._load(None)

    async def restore(self, epoch: int) -> Mapping[str, str]:
        """Go back (or forth) to ``epoch``; 0 is the empty session. Returns ``lost``.

        Nothing is deleted: the next cell starts a new line from there. Raises SessionError while a
        cell runs, StoreError for an epoch that is not there.
        """
        self._check()
        if self._store is None:
            raise SessionError("this session is not kept; open it with a name to have epochs")
        if self._running:
            raise SessionError("a cell is running; interrupt it or wait before restoring")
        async with self._turn:
            await self._load(epoch)
        return self.lost

    async def _load(self, epoch: int | None) -> None:
        store, writer = self._store, self._writer
        assert store is not None
        assert writer is not None
        snapshot = await writer.call(lambda: store.load(epoch))
        self.count = max(self.count, snapshot.count)
        if epoch is None and snapshot.epoch == 0:
            return
        self.lost = await self._runner.restore(snapshot)
        if epoch is not None:
            await writer.call(lambda: store.move(snapshot.epoch))
        self.epoch = snapshot.epoch
        if self._observe is not None:
            names = frozenset(name for blob in snapshot.blobs for name in blob.names)
            self._observe(
                Restored(
                    epoch=snapshot.epoch, names=names - self.lost.keys(), lost=dict(self.lost)
                )
            )

    async def history(self) -> Sequence[Epoch]:
        """The epochs that led here, oldest first, each with the record of its cell."""
        self._check()
        store, writer = self._store, self._writer
        if store is None or writer is None:
            return ()
        epoch = self.epoch
        return await writer.call(lambda: store.history(epoch)) if epoch else ()

    # --- looking in -------------------------------------------------------------------------------

    async def fetch(self, name: str) -> Any:
        """The value of a name. Raises NamespaceError if it is not bound."""
        self._check()
        return await self._runner.ask(Fetch(name=name))

    async def variables(self) -> dict[str, str]:
        """The user's names, each with the name of its type, in the order of binding."""
        self._check()
        found: dict[str, str] = await self._runner.ask(Variables())
        return found

    async def tasks(self) -> tuple[TaskInfo, ...]:
        """The background tasks that cells have started and that still run."""
        self._check()
        found: tuple[TaskInfo, ...] = await self._runner.ask(Tasks())
        return found

    async def complete(self, source: str, cursor: int | None = None) -> tuple[str, ...]:
        """What could stand at ``cursor`` (None: the end) of ``source``, as whole words."""
        self._check()
        at = len(source) if cursor is None else cursor
        found: tuple[str, ...] = await self._runner.ask(Complete(source=source, cursor=at))
        return found

    async def explain_mode(self, source: str) -> ModeReport:
        """Which way ``source`` would go now, and why."""
        self._check()
        report: ModeReport = await self._runner.ask(Explain(source=source))
        return report

    # --- the end ----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Interrupt what runs, end background tasks, let go of thread and store. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for mailbox in tuple(self._mailboxes):
            mailbox.let_go()
        try:
            await self._runner.aclose()
        finally:
            if self._store is not None and self._writer is not None:
                async with self._commits:
                    await self._writer.call(self._store.close)
                self._writer.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _check(self) -> None:
        if self._closed:
            raise SessionClosedError(f"session {self.name!r} is closed; open it again")


async def _to_its_end[T](coro: Any) -> T:
    """Await ``coro`` whole, though the caller be cancelled; the cancellation comes out after it."""
    task: asyncio.Task[T] = asyncio.ensure_future(coro)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


class _Record:
    """Collects what one cell shows, up to a bound. ``take`` from any thread."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._events: list[Output | Display] = []
        self._room = RECORDED
        self._cut = False
        self._at = time.time()

    def take(self, event: Event) -> None:
        if not isinstance(event, (Output, Display)):
            return
        if isinstance(event, Output):
            size = len(event.text)
            if size > self._room:
                self._cut = True
                event = msgspec.structs.replace(event, text=event.text[: self._room])
        else:
            size = sum(len(part) for part in event.data.values() if isinstance(part, (str, bytes)))
            if size > self._room:
                self._cut = True
                return
        self._room = max(0, self._room - size)
        if isinstance(event, Display) or event.text:
            self._events.append(event)

    def receipt(self, outcome: Outcome) -> Receipt:
        common: dict[str, Any] = {
            "cell": self._cell,
            "at": self._at,
            "duration": outcome.duration,
            "events": tuple(self._events),
            "cut": self._cut,
        }
        match outcome:
            case Done():
                data = {k: v for k, v in outcome.data.items() if isinstance(v, (str, bytes))}
                return Receipt(
                    status="done", shown=outcome.shown, text=outcome.text, data=data, **common
                )
            case Failed():
                return Receipt(status="failed", error=outcome.traceback, **common)
            case Interrupted():
                return Receipt(status="interrupted", error=outcome.traceback, **common)
            case Replayed():
                return Receipt(status="done", **common)


class _Mailbox:
    """Events from any thread, read on one loop, in order; holds a bounded amount."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[Event] = deque()
        self._held = 0
        self._room = threading.Condition(threading.Lock())
        self._wake = asyncio.Event()
        self._woken = False
        self._closed = False
        self._waits = True
        self._thread = threading.get_ident()

    def put(self, event: Event) -> None:
        with self._room:
            # On the reader's own thread waiting for the reader would never end.
            while (
                self._held > BUFFERED
                and self._waits
                and not self._closed
                and threading.get_ident() != self._thread
            ):
                self._room.wait(0.05)
            self._events.append(event)
            if isinstance(event, Output):
                self._held += len(event.text)
            if self._woken:
                return
            self._woken = True
        self._call(self._wake.set)

    def let_go(self) -> None:
        """The cell is to stop: it must not wait here any more."""
        with self._room:
            self._waits = False
            self._room.notify_all()

    def close(self) -> None:
        with self._room:
            self._closed = True
            self._room.notify_all()
        self._call(self._wake.set)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the reader's loop is closed: nobody reads any more
            return

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            with self._room:
                events = list(self._events)
                self._events.clear()
                self._held = 0
                self._woken = False
                self._wake.clear()
                closed = self._closed
                self._room.notify_all()
            for event in events:
                yield event
            if not events:
                if closed:
                    return
                await self._wake.wait()


class _Writer:
    """One thread, started with the first call, for what blocks: the store's methods."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Future[Any], Callable[[], Any]] | None] = deque()
        self._wake = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    async def call[T](self, function: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._calls.append((future, function))
        self._wake.release()
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            call = self._calls.popleft()
            if call is None:
                return
            future, function = call
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  it belongs to whoever awaits the call
                future.set_exception(error)
            del call, future, function

    def close(self) -> None:
        self._calls.append(None)
        self._wake.release()
