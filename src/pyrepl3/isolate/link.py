"""One worker, as the host talks to it: calls and cells in, answers, events and its end out.

Everything that comes is checked. What is no message, or belongs to no call, ends the worker: nothing it
says can be trusted after that. On the runner's loop, but for ``post``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.channel import SHARE_FROM, Channel
from pyrepl3.isolate.failures import from_wire
from pyrepl3.isolate.frames import FrameError
from pyrepl3.isolate.keeping import hand_on
from pyrepl3.lang.parse import refusal
from pyrepl3.run.text import printable
from pyrepl3.run.tracebacks import format_error
from pyrepl3.run.usage import is_over

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyrepl3.isolate.cgroups import Leaf
    from pyrepl3.isolate.channel import Part
    from pyrepl3.isolate.flight import Flight
    from pyrepl3.isolate.network.exchange import Exchange
    from pyrepl3.isolate.pool import Worker
    from pyrepl3.ports import Asker, Durability
    from pyrepl3.run.offers import Offer, Serving

_KNOWN = 4096  # cells whose late output still finds its way
_ENOUGH = m.WINDOW // 8  # characters that are read before the worker is told of it
_LOOK = 0.05  # seconds between two looks whether a slow reader has room
_REPORT = 5.0  # seconds until a worker counts as gone whose end nobody reports
_LATE = 0.5  # seconds between its last word and the report of its end, at most
_UNSENT = 256 * 1024 * 1024  # bytes that a worker which does not read may leave
_QUESTIONS = 64  # that a worker may have open at once
_LENT = 2  # pieces of memory that a confined worker has for what it sends next

type Answer = tuple[msgspec.Raw, memoryview]
type Network = Callable[[Callable[..., None]], Exchange]
"""Makes the network of one worker from what posts to it."""


class Link:
    """A connection. ``when_lost(link)`` is called once, when the worker is gone."""

    def __init__(
        self,
        worker: Worker,
        when_lost: Callable[[Link], object],
        *,
        ask: Asker | None = None,
        durability: Durability | None = None,
        tools: Mapping[str, Offer] | None = None,
        network: Network | None = None,
    ) -> None:
        self.worker = worker
        self.lost = False
        self.fault = ""
        """Why the host has ended it: what it sent that is no message, say."""
        self.status: int | None = None
        self.flights: dict[bytes, Flight] = {}
        self.ready: asyncio.Future[m.Ready] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.debugged = False
        """It has a debugger, so that it alone knows for how long its cells have stood still."""
        self.leaf: Leaf | None = None
        """The cgroup around it, where it has one."""
        self.when_over: Callable[[Flight], object] = lambda _: None
        self._when_lost = when_lost
        self._ask = ask
        self._durability = durability
        self._serving: Serving | None = None
        if tools:
            from pyrepl3.run.offers import Serving  # noqa: PLC0415  only where something is offered

            self._serving = Serving(tools, self._returned)
        self._exchange = None if network is None else network(self.post)
        self._asked = 0
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(worker.sock, blocking=False)
        self._fd = self._channel.fileno()
        self._calls: dict[bytes, asyncio.Future[Answer]] = {}
        self._giving: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._writing = False
        self._reading = True
        self._lends = False
        self._lent_most: int | None = None
        self._loop.add_reader(self._fd, self._read)
        worker.when_ended(self._report_end)

    # --- to the worker ----------------------------------------------------------------------------

    def post(
        self, message: m.ToWorker, parts: Sequence[Part] = (), *, hand: int | None = None
    ) -> None:
        """Send. Any thread; never waits. To a worker that is gone: nothing happens.

        ``hand``: a file descriptor that goes with it, and is closed here.
        """
        with suppress(OSError):
            if not self._channel.send(m.encode(message), parts, hand=hand):
                self._loop.call_soon_threadsafe(self._write_later)

    async def call(self, make: Callable[[bytes], m.ToWorker], parts: Sequence[Part] = ()) -> Answer:
        """Send what ``make`` makes of a new key and wait for the answer.

        Raises WorkerDiedError, or what the worker says that it raised.
        """
        if self.lost:
            raise WorkerDiedError(self.describe())
        key = os.urandom(m.KEY)
        future = self._calls[key] = self._loop.create_future()
        try:
            if parts:  # it may be much to copy
                await asyncio.to_thread(self.post, make(key), parts)
            else:
                self.post(make(key))
            found: Answer = await future
            return found
        finally:
            # A caller that was cancelled has cancelled the future: the answer still comes, for nobody.
            if not future.cancelled():
                self._calls.pop(key, None)

    def lend(self, most: int | None) -> None:
        """The worker is confined: see to it that it has memory for what it sends, ``most`` bytes a piece."""
        self._lends, self._lent_most = True, most
        for _ in range(_LENT):
            self._lend()

    def _lend(self) -> None:
        with suppress(OSError):
            if not self._channel.send_spare(self._lent_most):
                self._write_later()

    def launch(self, flight: Flight) -> None:
        """Have a cell run."""
        while len(self.flights) >= _KNOWN:
            oldest = next(iter(self.flights))
            if not self.flights[oldest].over:
                break
            del self.flights[oldest]
        self.flights[flight.key] = flight
        cell = flight.cell
        try:
            self.post(m.Run(key=flight.key, cell=cell))
        except UnicodeEncodeError as error:  # half a character, which no message can have
            if printable(cell.source) != cell.source:
                refused = refusal(error, cell.source, cell.filename, cell.first_line)
                flight.fail(refused, format_error(refused))
            else:
                named = msgspec.structs.replace(cell, filename=printable(cell.filename))
                self.post(m.Run(key=flight.key, cell=named))

    @property
    def ended(self) -> bool:
        """Whether the worker is gone, or killed."""
        return self.lost or bool(self.fault)

    def end(self, why: str) -> None:
        """Kill the worker."""
        self.fault = self.fault or why
        self.worker.kill()

    def end_closed(self) -> None:
        """Kill a worker that says no more and goes on."""
        # On a busy machine the report of its end may be late.
        if not self.lost and not is_over(self.worker.pid):
            self.end("it closed its connection")

    # --- from the worker --------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            for head, parts in self._channel.receive():
                self._take(m.decode_in_host(head), parts)
        except BlockingIOError:
            return
        except EOFError:
            self._stop_reading()
            self._timers += [
                self._loop.call_later(_LATE, self.end_closed),
                self._loop.call_later(_REPORT, self._ended, None),
            ]
        except (OSError, FrameError) as error:
            self._stop_reading()
            self.end(f"it sent what is no message of its own ({error})")
            self._timers.append(self._loop.call_later(_REPORT, self._ended, None))

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)

    def _take(self, message: m.ToHost, parts: memoryview) -> None:
        match message:
            case m.Told(key=key, event=event):
                flight = self.flights.get(key)
                if flight is not None:  # else of a cell long ago, or of none
                    flight.told(event)
                    if flight.unread >= _ENOUGH:
                        self._give_room(flight)
            case m.Began(key=key):
                self._flight(key).began(message)
            case m.Ended(key=key):
                flight = self._flight(key)
                flight.ended(message)
                self.when_over(flight)
            case m.Heard(key=key):
                if key in self.flights:
                    self.flights[key].heard = True
            case m.Answered(key=key):
                self._answered(message, parts)
            case m.Want() | m.Show():
                self._want(message)
            case m.Keep():
                if self._durability is None:
                    raise FrameError("something is to be kept, and nobody keeps anything")
                hand_on(self._durability, message, self.post)
            case m.Call() | m.Drop() | m.Lookup() | m.Dial():
                self._serve(message, parts)
            case m.Ready():
                if self.ready.done():
                    raise FrameError("ready twice")
                self.ready.set_result(message)

    def _serve(self, message: m.Call | m.Drop | m.Lookup | m.Dial, parts: memoryview) -> None:
        if self._lends and len(parts) >= SHARE_FROM:
            self._lend()
        try:
            match message:
                case m.Call(n=n, name=name) if self._serving is not None:
                    self._serving.take(n, name, parts)
                case m.Drop(n=n) if self._serving is not None:
                    self._serving.drop(n)
                case m.Lookup() | m.Dial() if self._exchange is not None:
                    self._exchange.take(message)
                case _:
                    raise FrameError("a function or the network is asked for, and there is none")
        except ValueError as error:
            raise FrameError(str(error)) from error

    def _returned(self, n: int, data: bytes, fault: tuple[str, str] | None) -> None:
        self.post(m.Returned(n=n, fault=fault), [data] if data else ())

    def _flight(self, key: bytes) -> Flight:
        flight = self.flights.get(key)
        if flight is None or flight.over:
            raise FrameError("the end or the beginning of a cell that does not run")
        return flight

    def _answered(self, answered: m.Answered, parts: memoryview) -> None:
        future = self._calls.pop(answered.key, None)
        if future is None:
            raise FrameError("an answer to nothing")
        if self._lends and len(parts) >= SHARE_FROM:
            self._lend()
        if future.done():
            return
        if answered.error is not None:
            future.set_exception(from_wire(answered.error))
        else:
            future.set_result((answered.data, parts))

    def _give_room(self, flight: Flight) -> None:
        if flight.pace is None:
            self.post(m.Room(key=flight.key, size=flight.unread))
            flight.unread = 0
        elif not flight.giving:
            flight.giving = True
            task = self._loop.create_task(self._wait_for_room(flight))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _wait_for_room(self, flight: Flight) -> None:
        assert flight.pace is not None
        while not self.lost and not await asyncio.to_thread(flight.pace, _LOOK):
            pass
        size, flight.unread = flight.unread, 0
        flight.giving = False
        self.post(m.Room(key=flight.key, size=size))

    def _want(self, want: m.Want | m.Show) -> None:
        if isinstance(want, m.Show):  # all before it has been told by now
            self.post(m.Given(n=want.n))
            return
        ask = self._ask
        if ask is None or self._asked >= _QUESTIONS:
            raise FrameError("a question that was not allowed")
        self._asked += 1

        def put() -> None:
            try:
                given = m.Given(n=want.n, text=printable(str(ask(want.prompt, want.password))))
            except KeyboardInterrupt:
                given = m.Given(n=want.n, error="KeyboardInterrupt")
            except BaseException:  # noqa: BLE001  whatever it is, there is no answer
                given = m.Given(n=want.n, error="EOFError")
            self._asked -= 1
            self.post(given)

        # Not of a pool: nobody knows how long a person takes.
        threading.Thread(target=put, name="pyrepl3-question", daemon=True).start()

    # --- more to the worker than it takes ---------------------------------------------------------

    def _write_later(self) -> None:
        if self._channel.unsent > _UNSENT:
            self.end("it does not read what is sent to it")
        elif not self._writing and self._reading:
            self._writing = True
            self._loop.add_writer(self._fd, self._write)

    def _write(self) -> None:
        try:
            done = self._channel.flush()
        except OSError:
            done = True  # reading finds out
        if done:
            self._writing = False
            self._loop.remove_writer(self._fd)

    # --- its end ----------------------------------------------------------------------------------

    def _report_end(self, status: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._ended, status)

    def _ended(self, status: int | None) -> None:
        if self.lost:
            return
        self.status = status
        for timer in self._timers:  # or the loop would hold this, and all it has, until then
            timer.cancel()
        with suppress(EOFError, OSError, FrameError):
            while self._reading:  # its last words
                for head, parts in self._channel.receive():
                    self._take(m.decode_in_host(head), parts)
        self.lost = True
        self._stop_reading()
        self._channel.close()
        died = WorkerDiedError(self.describe(), *self.cause())
        if not self.ready.done():
            self.ready.set_exception(died)
            self.ready.exception()  # perhaps nobody waits
        for future in self._calls.values():
            if not future.done():
                future.set_exception(died)
        self._calls.clear()
        if self._serving is not None:
            self._serving.close()
        if self._exchange is not None:
            self._exchange.close()
        self._when_lost(self)
        self.gone.set()

    def cause(self) -> tuple[int | None, int | None]:
        """The signal that ended it, or its exit status."""
        if self.status is None:
            return None, None
        code = os.waitstatus_to_exitcode(self.status)
        return (-code, None) if code < 0 else (None, code)

    def describe(self) -> str:
        """What became of the worker, in words."""
        number, code = self.cause()
        if self.fault:
            return f"the worker process was ended: {self.fault}"
        if number is not None:
            name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
            return f"the worker process died by signal {name}"
        if code is not None:
            return f"the worker process ended by itself, with status {code}"
        return "the worker process is gone"
