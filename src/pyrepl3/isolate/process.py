"""ProcessRunner: a Runner whose cells run in a worker process, which may die; the session does not.

A worker that is gone is replaced when something is next asked of it, from the session's last epoch, and what
happened is told. An interrupt escalates by itself: cancel the await or the loop, SIGINT, SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import NamespaceError, PyREPL3Error, WorkerDiedError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.asking import to_wire
from pyrepl3.isolate.beginning import Wanted, begin, open_network
from pyrepl3.isolate.flight import Flight
from pyrepl3.isolate.frames import FrameError
from pyrepl3.isolate.guard import guard, leave, stop_for
from pyrepl3.isolate.link import Link
from pyrepl3.isolate.packed import WireDelta, pack_snapshot, unpack_delta
from pyrepl3.isolate.pool import Pool, shared_pool
from pyrepl3.isolate.stopping import escalate
from pyrepl3.isolate.values import unpack_value, unpickle_value
from pyrepl3.records import Breakpoint, Debug, Tasks, Walls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pyrepl3.config import ExecutorConfig, Limits, Policy
    from pyrepl3.isolate.network.exchange import Resolve
    from pyrepl3.isolate.pool import Worker
    from pyrepl3.isolate.workdir import WorkdirWatch
    from pyrepl3.ports import Asker, Durability, Observer, Pace
    from pyrepl3.records import Cell, Delta, Outcome, Question, Snapshot, Wall
    from pyrepl3.run.offers import Offer

type Restorer = Callable[[Snapshot], Awaitable[dict[str, str]]]

_NAMED = 5  # cells that are named one by one
_CLOSE = 5.0  # seconds that it may take to end


class ProcessRunner:
    """Cells of one session. To be used on one event loop; ``interrupt`` from any thread.

    ``pool`` gives workers (None: the one of this process). ``config`` and ``limits`` hold in the worker;
    the latter are proved there, and ``unheld`` names those that do not hold. ``grace`` is the time in
    seconds that a worker which does not answer has until it is killed; one that answers has three times it.
    ``policy`` confines the worker, with ``workdir`` as its own directory; ``walls`` says what holds then.
    ``strict``: no worker at all where a limit or a wall does not. ``resolve`` finds the addresses of hosts
    that the policy lists (None: as this process does).

    ``revive`` is awaited with a function that restores a snapshot, when a worker is replaced: it gives
    that the last epoch, and returns its number (0: there is none). ``when_died`` is told of a worker that
    died while no cell ran.
    """

    def __init__(
        self,
        name: str,
        *,
        pool: Pool | None = None,
        config: ExecutorConfig | None = None,
        limits: Limits | None = None,
        ask: Asker | None = None,
        durability: Durability | None = None,
        file: str = "",
        tools: Mapping[str, Offer] | None = None,
        grace: float = 1.0,
        policy: Policy | None = None,
        workdir: str = "",
        strict: bool = False,
        resolve: Resolve | None = None,
    ) -> None:
        self.name = name
        self.revive: Callable[[Restorer], Awaitable[int]] | None = None
        self.when_died: Callable[[WorkerDiedError], object] | None = None
        self.unheld: dict[str, str] = {}
        self.walls: tuple[Wall, ...] = ()
        self._pool = pool or shared_pool()
        self._wanted = Wanted(
            name=name,
            config=config,
            limits=limits,
            file=file,
            policy=policy,
            workdir=workdir,
            strict=strict,
            tools=tuple((offer.name, offer.doc) for offer in (tools or {}).values()),
        )
        self._limits = limits
        self._ask = ask
        self._durability = durability
        self._tools = tools
        self._network = None if policy is None else open_network(policy, resolve)
        self._grace = grace
        self._workdir: WorkdirWatch | None = None
        if limits is not None and (limits.workdir_bytes or limits.workdir_files):
            from pyrepl3.isolate.workdir import WorkdirWatch  # noqa: PLC0415  only with such limits

            self._workdir = WorkdirWatch(limits, workdir, partial(stop_for, grace=grace))
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.Lock()
        self._link: Link | None = None
        self._snapped: Link | None = None
        self._flights: dict[str, Flight] = {}
        self._unsaved: list[str] = []
        """Cells that have run since the last mark."""
        self._gone: list[str] = []
        """Those of them whose worker died."""
        self._happened = ""
        """What the next cell is to be told."""
        self._died = self._unheld_told = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the worker; None where none runs."""
        return None if self._link is None else self._link.worker.pid

    async def start(self) -> None:
        """Have a worker now. Raises WorkerDiedError."""
        await self._ensure()

    # --- the Runner port --------------------------------------------------------------------------

    async def run(self, cell: Cell, observe: Observer, pace: Pace | None = None) -> Outcome:
        """Run one cell to its outcome. Never raises for the user's code, nor for a worker that dies."""
        self._check()
        flight = self._flights[cell.id] = Flight(os.urandom(m.KEY), cell, observe, pace)
        try:
            try:
                if self._workdir is not None:
                    await self._workdir.check()
                link = await self._ensure()
            except PyREPL3Error as error:  # no worker can be had, or the epoch not be read
                flight.fail(error)
                return flight.future.result()
            if self._happened:
                flight.notice("worker-replaced", self._happened)
                self._happened, self._gone = "", []
            if not self._unheld_told:
                self._unheld_told = True
                for name, reason in self.unheld.items():
                    flight.notice("limit-unheld", f"Limits.{name} does not hold: {reason}")
                for wall in self.walls:
                    if not wall.stands:
                        flight.notice(
                            "wall-missing", f"the wall {wall.name!r} is missing: {wall.detail}"
                        )
            if self._limits is not None:
                guard(link, flight, self._limits, self._grace)
            link.launch(flight)
            if flight.presses:  # while the worker was not there
                link.post(m.Stop(key=flight.key))
                self._escalate(flight)
            return await self._end_of(flight)
        finally:
            del self._flights[cell.id]

    async def _end_of(self, flight: Flight) -> Outcome:
        # Not shielded, which would cost every cell a future and a round of the loop.
        try:
            return await flight.future
        except asyncio.CancelledError:
            # The caller gives up: the cell must not go on behind its back.
            flight.future = self._loop.create_future()  # that one was cancelled with the caller
            self.interrupt(flight.cell.id)
            while not flight.over:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([flight.future])
            raise

    def interrupt(self, cell_id: str | None = None) -> bool:
        """Stop a cell (None: the one in the foreground). Any thread; returns at once."""
        for name, flight in list(self._flights.items()):
            chosen = not flight.cell.background if cell_id is None else name == cell_id
            if chosen and not flight.over:
                flight.presses += 1
                link = self._link
                if link is not None and flight.key in link.flights:
                    link.post(m.Stop(key=flight.key))
                    self._loop.call_soon_threadsafe(self._escalate, flight)
                return True
        return False

    async def snapshot(self) -> Delta:
        """What changed since the last mark. Raises WorkerDiedError where cells since then are lost."""
        link = await self._ensure()
        if self._gone:
            gone, self._gone = self._gone, []
            raise WorkerDiedError(f"the worker died before {_name(gone)} could be kept")
        self._snapped = link
        data, parts = await link.call(lambda key: m.Checkpoint(key=key))
        return self._checked(link, lambda: unpack_delta(m.unpack(data, WireDelta), parts))

    async def mark(self) -> None:
        """The last snapshot is safe."""
        link = self._snapped
        self._unsaved.clear()
        if link is not None and not link.lost:  # else a replacement starts from that epoch
            with suppress(WorkerDiedError):
                await link.call(lambda key: m.Mark(key=key))

    async def audit(self, *, hurry: bool = False) -> bool:
        """Look for changes since the last mark that no cell named."""
        link = self._link
        # A replacement has what is in the last epoch, and nothing else.
        if link is None or link.lost or self._starting.locked():
            return True
        data, _ = await link.call(lambda key: m.Audit(key=key, hurry=hurry))
        return self._checked(link, lambda: m.unpack(data, bool))

    async def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back."""
        link = await self._ensure(revive=False)
        lost = await self._restore_in(link, snapshot)
        self._gone, self._happened = [], ""
        self._unsaved.clear()
        return lost

    async def ask(self, question: Question) -> Any:
        """Answer a question, also while a cell runs. Raises NamespaceError for what does not cross."""
        if isinstance(question, Tasks) and self._link is not None and self._link.lost:
            return ()  # they went with it
        link = await self._ensure()
        if isinstance(question, Walls):
            return self.walls
        # Confined ones are not believed that they stood still.
        link.debugged |= isinstance(question, Debug | Breakpoint) and not self.walls
        what, kind, text, cursor = to_wire(question)
        return await self._asked(link, what, kind, text=text, cursor=cursor)

    async def stack(self) -> str:
        """Where each thread of the worker is: for whoever asks why nothing happens."""
        found: str = await self._asked(await self._ensure(), "stack", str)
        return found

    async def aclose(self) -> None:
        """Stop everything and end the worker. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        async with self._starting:
            link = self._link
        if link is None or link.lost:
            return
        link.post(m.Close())
        for seconds in (_CLOSE, _CLOSE):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await link.gone.wait()
                    return
            link.end("it did not end in time")

    # --- the worker -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._closing is not None:
            raise RuntimeError("the runner is closed")

    async def _ensure(self, *, revive: bool = True) -> Link:
        """The worker that there is, or a new one."""
        link = self._link
        if link is not None and not link.ended and not self._starting.locked():
            return link
        async with self._starting:
            self._check()
            link = self._link
            if link is not None:
                if not link.ended:
                    return link
                await link.gone.wait()  # it was killed: what is sent to it nobody answers
            # From here on `_lost` is told of its end, at whatever moment that comes.
            link = self._link = await self._start()
            if self._died and not link.lost:
                try:
                    await self._bring_back(link, revive=revive)
                except BaseException:  # the next one tries again
                    self._link, self._died = None, True
                    link.end("the session could not be brought back")
                    await link.gone.wait()  # its socket is closed then
                    raise
            if link.lost:  # as soon as it was there: what is sent to it nobody answers
                raise WorkerDiedError(link.describe(), *link.cause())
            return link

    async def _start(self) -> Link:
        def connect(worker: Worker) -> Link:
            link = Link(
                worker,
                self._lost,
                ask=self._ask,
                durability=self._durability,
                tools=self._tools,
                network=self._network,
            )
            link.when_over = self._over
            return link

        link, ready = await begin(
            self._wanted,
            self._pool,
            connect,
            asks=self._ask is not None,
            keeps=self._durability is not None,
        )
        self.walls = ready.walls
        self.unheld = dict(ready.unheld)
        if self._workdir is not None:
            self._workdir.begin(link)
        return link

    async def _bring_back(self, link: Link, *, revive: bool) -> None:
        gone = self._gone
        if revive and self.revive is not None:
            epoch = await self.revive(lambda snapshot: self._restore_in(link, snapshot))
            state = f"the session goes on from epoch {epoch}" if epoch else "it had no epoch yet"
        else:
            state = "the session is not kept, so its names are gone"
        text = f"{self._happened}; {state}"
        if gone:
            text += f"; not in it: what {_name(gone)} did"
        self._happened, self._died = text, link.lost

    async def _restore_in(self, link: Link, snapshot: Snapshot) -> dict[str, str]:
        wire, parts = await asyncio.to_thread(pack_snapshot, snapshot)
        data, _ = await link.call(lambda key: m.Restore(key=key, snapshot=m.pack(wire)), parts)
        return self._checked(link, lambda: m.unpack(data, dict[str, str]))

    async def _asked[T](
        self, link: Link, what: m.Asks, kind: type[T], *, text: str = "", cursor: int = 0
    ) -> Any:
        data, parts = await link.call(
            lambda key: m.Ask(key=key, what=what, text=text, cursor=cursor)
        )
        found = self._checked(link, lambda: m.unpack(data, kind))
        if what not in ("fetch", "pickle"):
            return found
        assert isinstance(found, bytes)
        read = unpack_value if what == "fetch" else unpickle_value
        try:
            return await asyncio.to_thread(read, found, parts)  # it may be much
        except NamespaceError:
            raise
        except Exception as error:
            raise NamespaceError(f"the worker sent no value for {text!r}: {error}") from error

    def _checked[T](self, link: Link, read: Callable[[], T]) -> T:
        try:
            return read()
        except FrameError as error:
            link.end(f"it sent what is no answer ({error})")
            raise WorkerDiedError(f"the worker process was ended: {error}") from error

    # --- its end ----------------------------------------------------------------------------------

    def _over(self, flight: Flight) -> None:
        self._unsaved.append(flight.cell.id)

    def _lost(self, link: Link) -> None:
        """The worker is gone."""
        what = link.describe()
        running = [flight for flight in link.flights.values() if not flight.over]
        leave(link, running, self._limits)
        for flight in running:
            if flight.reason is not None:
                flight.fail(flight.reason)
            elif flight.presses or self._closing is not None:
                what = "the worker process was ended, because a cell did not stop"
                flight.interrupted()
            else:
                text = f"{what} while cell {flight.cell.n} ran"
                if flight.last_output:
                    text += f"; its last output: {flight.last_output[-200:]!r}"
                number, code = link.cause()
                flight.fail(WorkerDiedError(text, number, code, flight.last_output))
        if self._closing is not None or link is not self._link:
            return
        self._died = True
        self._gone = [*self._gone, *self._unsaved]
        self._unsaved.clear()
        self._happened = what
        if not running and self.when_died is not None:
            self.when_died(WorkerDiedError(f"{what} while no cell ran", *link.cause()))

    # --- stopping ---------------------------------------------------------------------------------

    def _escalate(self, flight: Flight) -> None:
        if self._link is not None:
            escalate(self._link, flight, self._grace)


def _name(cells: list[str]) -> str:
    return ", ".join(cells) if len(cells) <= _NAMED else f"{len(cells)} cells up to {cells[-1]}"
