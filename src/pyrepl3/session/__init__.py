"""A session: cells in, outcomes out, an epoch after each.

Imports no backend: everything it drives comes in through :mod:`pyrepl3.ports`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.errors import CellIdError, StaleBaseError, StoreError
from pyrepl3.records import (
    Cell,
    Committed,
    Complete,
    Explain,
    ExplainParallel,
    Fetch,
    Finished,
    Notice,
    Replayed,
    Tasks,
    Variables,
    Wall,
    Walls,
)
from pyrepl3.session.asking import Asking
from pyrepl3.session.auditing import Auditing, Head, merge_lost
from pyrepl3.session.checking import Checking
from pyrepl3.session.debugging import Debugged
from pyrepl3.session.files import WithFiles
from pyrepl3.session.flowing import Flowing
from pyrepl3.session.mailbox import Mailbox
from pyrepl3.session.record import Record
from pyrepl3.session.submissions import Submissions
from pyrepl3.session.telling import Telling
from pyrepl3.session.waiting import to_its_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pyrepl3.ports import Durability, Observer, Pace, Runner, Store
    from pyrepl3.records import Event, ModeReport, Outcome, ParallelReport, TaskInfo

_PRESS = 1.0  # seconds between two interrupts of a cell that is to end; amendment 13's grace period


class Session(Flowing, Auditing, Debugged, Asking, Checking, WithFiles):
    """Cells run one after the other, in the order asked for; background ones beside them.

    Belongs to the event loop it was opened on: its coroutines raise SessionError on any other, and
    in cells of its own. ``interrupt`` may be called from any thread. Made by ``open_session``.

    An observer that raises is reported once to ``sys.excepthook``, and to the other observers as a
    Notice; it is told of later events all the same, and the cell knows nothing of it.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        name: str,
        store: Store | None = None,
        observe: Observer | None = None,
        durability: Durability | None = None,
    ) -> None:
        Auditing.__init__(self)
        Flowing.__init__(self)
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
        self._durability = durability
        if durability is not None:
            durability.when_cancelled = self._stop_named
        self._submissions = Submissions(name, self._line)
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        # One thread for all that blocks: a store may belong to the thread that calls it first.
        self._blocking = ThreadPoolExecutor(1, f"pyrepl3-{name}-store") if store else None
        self._telling = Telling()
        self._running: dict[str, Cell] = {}
        self._ended = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None

    # --- running ----------------------------------------------------------------------------------

    async def run(
        self,
        source: str,
        *,
        filename: str | None = None,
        first_line: int = 1,
        background: bool = False,
        parallel: bool = False,
        observe: Observer | None = None,
        id: str | None = None,  # noqa: A002  the caller's word for it
        base: int | None = None,
    ) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code.

        ``filename`` and ``first_line`` are what tracebacks show; ``observe`` is told this cell's events
        beside the session's own observer. Cells wait for their turn, first come first served;
        ``background=True`` runs beside them: its own value, output, context copy and interrupt. If the
        caller is cancelled the cell is interrupted first. Raises SessionClosedError.

        ``parallel``: awaits of the cell's top-level statements begin before those above them are done,
        where it is proved, or declared by ``@independent``, that nobody can tell: same bindings, same
        output in the same order, the first error as if one statement had followed the other. In a worker
        what is proved to compute only is computed on several processors. See ``explain_parallel``.

        ``id``: the cell's own, chosen by the caller, or ``<session>-c<n>`` with the next number. Submitted
        again, at once or after a restart, the cell is not run again: its end comes back as ``Replayed``,
        unless it was undone since. Raises CellIdError for an id whose cell has another text. ``base``: the
        epoch that the cell was made for; StaleBaseError, with nothing run, where the session is at another.
        """
        return await self._submit(
            source,
            filename,
            first_line,
            background,
            observe,
            None,
            id=id,
            base=base,
            parallel=parallel,
        )

    async def stream(
        self,
        source: str,
        *,
        filename: str | None = None,
        first_line: int = 1,
        background: bool = False,
        parallel: bool = False,
        id: str | None = None,  # noqa: A002  the caller's word for it
        base: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run one cell and give its events as they happen, ``Finished`` and what its epoch brings last.

        A reader that leaves early interrupts the cell. One that is slow makes the cell wait once
        ``mailbox.BUFFERED`` characters are held. Raises SessionClosedError.
        """
        mailbox = Mailbox()
        task = asyncio.create_task(
            self._submit(
                source,
                filename,
                first_line,
                background,
                mailbox.put,
                mailbox.pace,
                id=id,
                base=base,
                parallel=parallel,
            )
        )
        task.add_done_callback(lambda _: mailbox.close())
        try:
            async for event in mailbox:
                yield event
            await task  # what is no fault of the user's code is raised here
        finally:
            mailbox.close()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Stop a running cell (None: the one in the foreground). Any thread; returns at once.

        A second call while the first is at work presses harder. False: no such cell runs.
        """
        return self._runner.interrupt(cell_id)

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the cells that run now, the background ones included. Any thread."""
        return tuple(self._running)

    async def _submit(
        self,
        source: str,
        filename: str | None,
        first_line: int,
        background: bool,  # noqa: FBT001  passed on by run and stream
        observe: Observer | None,
        pace: Pace | None,
        *,
        id: str | None,  # noqa: A002
        base: int | None,
        parallel: bool,
    ) -> Outcome:
        self._check()
        if background and base is not None:
            raise ValueError("a background cell runs beside others: it has no base of its own")
        number = None if id is None else self._submissions.number(id)

        async def run() -> Outcome:
            async with nullcontext() if background else self._turn:
                self._check()
                if base is not None and not self._is_at(base):
                    raise StaleBaseError(base, self.epoch)
                n = self.count + 1
                if number is not None and number != n:
                    raise CellIdError(f"{id!r} was not kept, and the next cell is {self.name}-c{n}")
                self.count = n
                cell = Cell(
                    id=id or f"{self.name}-c{n}",
                    n=n,
                    source=source,
                    filename=filename or f"<{self.name} cell {n}>",
                    first_line=first_line,
                    background=background,
                    base=self.epoch,
                    parallel=parallel,
                )
                return await self._run_cell(cell, observe, pace)

        if id is None:
            return await run()
        outcome = await self._submissions.once(id, source, run)
        if isinstance(outcome, Replayed):
            tell = self._telling.join(outcome.cell.id, observe)
            for event in (*outcome.events, Finished(outcome=outcome)):
                tell(event)
        return outcome

    async def _run_cell(self, cell: Cell, observe: Observer | None, pace: Pace | None) -> Outcome:
        self._running[cell.id] = cell
        try:
            if self._store is None:
                tell = self._telling.join(cell.id, self._observe, observe)
                outcome = await self._runner.run(cell, tell, pace)
                self._note_end(outcome)
                return outcome
            record = Record(cell)
            tell = self._telling.join(cell.id, record.take, self._observe, observe)
            # Cancelled or not: the cell has run, and its epoch belongs to it.
            return await to_its_end(
                self._run_kept(cell, record, tell, pace), lambda: self._runner.interrupt(cell.id)
            )
        finally:
            del self._running[cell.id]
            self._ended.set()

    async def _run_kept(
        self, cell: Cell, record: Record, tell: Observer, pace: Pace | None
    ) -> Outcome:
        outcome = await self._runner.run(cell, tell, pace)
        if not cell.background:
            return await self._commit(cell, outcome, record, tell)
        # Between two cells, not in the midst of one: an epoch is the namespace after whole cells.
        async with self._turn:
            return await self._commit(cell, outcome, record, tell)

    # --- epochs -----------------------------------------------------------------------------------

    async def _commit(
        self, cell: Cell, outcome: Outcome, record: Record, tell: Observer
    ) -> Outcome:
        store = self._store
        assert store is not None
        try:
            delta = await self._runner.snapshot()
            size = delta.size
            receipt = record.receipt(outcome)
            parent = self.epoch
            epoch = await self._call(lambda: store.commit(delta, receipt, parent=parent))
        except Exception as error:  # noqa: BLE001  whatever it is, the cell has run and the session goes on
            # What is on disk is the epoch before; the next commit has this cell's changes too.
            what = str(error) if isinstance(error, StoreError) else type(error).__name__
            text = f"not protected: cell {cell.n} is not on disk: {what}"
            tell(Notice(cell_id=cell.id, kind="unprotected", text=text))
            return outcome
        await self._runner.mark()
        self.epoch = epoch
        self._submissions.note(cell.id, epoch)
        if self._durability is not None:
            self._durability.settle(cell.durable_name, epoch)
        self.lost = merge_lost(self.lost, delta)
        delta = msgspec.structs.replace(delta, chunks={})  # they may be big, and change
        self._note_commit(Head(delta=delta, receipt=receipt, parent=parent, epoch=epoch))
        self._tell_dropped(delta, cell.id, tell)
        tell(Committed(cell_id=cell.id, epoch=epoch, size=size, lost=delta.lost))
        return msgspec.structs.replace(outcome, epoch=epoch)

    # --- looking in -------------------------------------------------------------------------------

    async def fetch(self, name: str, *, trusted: bool = False) -> Any:
        """The value of a name. Raises NamespaceError if it is not bound, or cannot cross from a worker.

        ``trusted``: any object may cross, as a pickle, which can run code here: only if you trust the
        cells like your own code.
        """
        self._check()
        return await self._runner.ask(Fetch(name=name, trusted=trusted))

    async def variables(self) -> dict[str, str]:
        """The user's names, each with the name of its type, in the order of binding."""
        self._check()
        found: dict[str, str] = await self._runner.ask(Variables())
        return found

    async def walls(self) -> tuple[Wall, ...]:
        """What confined code cannot do, each tried in the worker; empty where nothing confines it."""
        self._check()
        found: tuple[Wall, ...] = await self._runner.ask(Walls())
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

    async def explain_parallel(self, source: str) -> ParallelReport:
        """What of ``source`` would begin early with ``parallel=True``, and why the rest would not."""
        self._check()
        report: ParallelReport = await self._runner.ask(ExplainParallel(source=source))
        return report

    # --- the end ----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Interrupt what runs, end background tasks, let go of thread and store. Idempotent.

        Cells that run are committed as interrupted; those that wait raise SessionClosedError.
        """
        self._check_loop()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await to_its_end(self._closing)

    async def _close(self) -> None:
        while self._running:
            for cell_id in list(self._running):
                self._runner.interrupt(cell_id)
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PRESS):
                    await self._ended.wait()
        await self._stop_checking()
        with suppress(Exception):  # told as a Notice; what was committed stays
            async with self._turn:
                # A task of a cell may hold the loop for ever: then nobody can look.
                async with asyncio.timeout(_PRESS):
                    await self._runner.ask(Tasks())
                await self._audit(hurry=True)
        try:
            await self._runner.aclose()
        finally:
            await self._close_checker()
            if self._durability is not None:
                await asyncio.wrap_future(self._durability.aclose())
            if self._store is not None and self._blocking is not None:
                await self._call(self._store.close)
                self._blocking.shutdown(wait=False)
