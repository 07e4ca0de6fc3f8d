"""A file in, a Resonate server in this process out: an ordinary connection, network and source in one.

With the SDK::

    connection = Embedded(folder / "durable.db")
    resonate = Resonate(network=connection, heartbeat=NoopHeartbeat(), autostart=False)
    resonate.register(work)
    resonate.start()
    await resonate.run("id", work).result()
    await resonate.stop()  # closes the connection and its file

Without it, from any thread, typed and without JSON::

    future = connection.request(PromiseCreate(id="a", timeout_at=…))  # a concurrent Future of a Reply
    future.result().data["promise"].state
    connection.settled("a")                                           # done when the promise is settled

One thread owns the state machine and its rows: it applies what has come in, commits once for all of it,
and then answers. A promise with the tag ``resonate:scope: local`` is made without waiting for a commit:
whoever made it makes it again when it is gone, and the next commit takes it along.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import msgspec
from resonate_base import ConnectorError

from pyrepl3.durable.asks import (
    Announce,
    Ask,
    Close,
    Collect,
    Forget,
    Nudge,
    Watch,
    encode,
    is_made_again,
    tell,
)
from pyrepl3.durable.rows import Rows, Synchronous
from pyrepl3.durable.state.ledger import Rules
from pyrepl3.durable.state.machine import Machine
from pyrepl3.durable.state.records import Promise, Unblock
from pyrepl3.durable.state.requests import Call, PromiseListen, Reply, Request, read, write
from pyrepl3.errors import DurabilityError, SessionInUseError, StoreError
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.trouble import FOREIGN, explain

EMBEDDED = Rules(leases=False, tries=8, retry=30_000, max_value=16 * 1024 * 1024)
"""Leases without end: the file has one process at a time, and what it held is released at the next
opening. Eight tries take 12.7 seconds. 16 MiB: what is bigger belongs into a file of its own."""

_SCHEME = "embedded"
_HERE = f"{_SCHEME}://here"  # the address of ``settled``
_LONGEST = 60.0  # seconds until the clock is looked at again: somebody may have set it
_PAUSE = 1.0  # seconds after the disk failed until it is tried again unasked
_MOST = 512  # requests that share a commit at most
_LATER = object()  # in place of an answer that comes with a message

type Clock = Callable[[], int]


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Embedded:
    """The durable state of one session in the file ``path``; ``":memory:"`` keeps it nowhere.

    ``synchronous``: with FULL an answer means that it is on disk, with NORMAL that the kernel has it
    (a crash of the process loses nothing then, a power cut may lose the last commits, never a part of
    one). ``clock`` gives ms since 1970. Any thread may call; the constructor blocks for some ms.

    Raises StoreError where the file cannot be used, "in use by pid N" among them. Requests fail with
    DurabilityError where the disk does (over the SDK: as its ConnectorError around that); what was
    not answered is then not kept, and the next request tries again.
    """

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        *,
        synchronous: Synchronous = "FULL",
        rules: Rules = EMBEDDED,
        clock: Clock = now_ms,
        group: str = "default",
        pid: str = "here",
    ) -> None:
        self._path, self._rules, self._clock = path, rules, clock
        self._unicast = f"{_SCHEME}://uni@{group}/{pid}"
        self._receivers: list[Callable[[str], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: SimpleQueue[Ask] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._lock: SessionLock | None = None
        # The thread's own, once it runs:
        self._watched: dict[str, list[Ask]] = {}
        self._listeners: dict[str, dict[str, None]] = {}  # of a machine that failed
        self._waiting: list[tuple[Ask, Any]] = []  # to be answered after the commit
        self._promised = False  # whether the transaction holds what an answer will vouch for
        try:
            if isinstance(path, Path):
                self._lock = SessionLock(path.with_name(path.name + ".lock"), session=path.name)
            self._rows = Rows(path, synchronous)
            try:
                self._machine: Machine | None = self._load(release=True)
                self._rows.commit()
            except BaseException:
                self._rows.close()
                raise
        except BaseException as error:
            if self._lock is not None:
                self._lock.release()
            if isinstance(error, SessionInUseError):
                who = f"pid {error.pid}" if error.pid else "another process"
                raise StoreError(f"{path} is in use by {who}: close it there") from None
            if isinstance(error, FOREIGN):
                raise explain(error, "open the durable state of", str(path)) from error
            raise
        name = f"pyrepl3-durable-{path.parent.name if isinstance(path, Path) else 'memory'}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    # --- Resonate's network and source ------------------------------------------------------------

    async def start(self) -> None:
        """Begin to deliver messages on this loop: first of the tasks that wait to be done."""
        self._loop = asyncio.get_running_loop()
        self._post(Announce(), Future[None]())

    async def stop(self) -> None:
        """Deliver no more, and close the file. What is sent from now on raises ConnectorError. Idempotent."""
        self._receivers.clear()
        self._loop = None
        await asyncio.to_thread(self.close)

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002 - one partition
        """Answer a request of the Resonate protocol. Raises ConnectorError where it cannot be kept."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        try:
            call = read(req)
            self._post(call, future, loop)
            return await future
        except (DurabilityError, msgspec.DecodeError) as error:
            raise ConnectorError(error) from error

    def unicast(self) -> str:
        """The address of this process."""
        return self._unicast

    def resolve_target(self, target: str) -> str:
        """The address of a group; all groups are here."""
        return f"{_SCHEME}://any@{target}"

    def recv(self, callback: Callable[[str], None]) -> None:
        """Call this for each message, on the loop that ``start`` ran on."""
        self._receivers.append(callback)

    # --- without the SDK ----------------------------------------------------------------------------

    def request(self, request: Request) -> Future[Reply]:
        """Have a request answered; its future may raise DurabilityError. A Reply of 400 and more refuses."""
        return self._post(request, Future[Reply]())

    def settled(self, id_: str) -> Future[Promise]:
        """Done when the promise is settled, and that is on disk. LookupError: there is no such promise."""
        return self._post(Watch(id_), Future[Promise]())

    def forget(self, prefix: str) -> Future[None]:
        """Remove all promises whose ids start so, pending ones too; nobody is told of their end."""
        return self._post(Forget(prefix), Future[None]())

    def collect(self, older: float) -> Future[int]:
        """Remove promises that were settled ``older`` seconds ago or more; returns how many went.

        Those of one origin (the id up to ``:``, or a cell of ours and its steps) go together, once all of
        them are that old.
        """
        return self._post(Collect(self._clock() - int(older * 1000)), Future[int]())

    def nudge(self) -> None:
        """The clock has been set: look whether something is due."""
        self._post(Nudge(), Future[None]())

    def close(self) -> None:
        """Answer what has come in, and let go of the file. Idempotent; blocks for some ms."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(Ask(Close(), None, None))
        self._thread.join()

    def _post[F](self, what: Any, future: F, loop: asyncio.AbstractEventLoop | None = None) -> F:
        with self._closing:  # or something could come in behind the end, and never be answered
            if self._closed:
                raise DurabilityError("the durable state is closed: nothing is kept")
            self._queue.put(Ask(what, future, loop))
        return future

    # --- the thread -----------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._rows.close()
            if self._lock is not None:
                self._lock.release()

    def _turn(self) -> bool:
        """Do what has come in or is due, commit once, answer. False: that was the end."""
        going = True
        for ask in self._take():
            if isinstance(ask.what, Close):
                going = False
            elif ask.loop is not None or ask.future.set_running_or_notify_cancel():
                self._do(ask)
        try:
            machine = self._use()
            machine.tick(self._clock())
            self._write(machine)
            self._commit(machine, last=not going)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for an answer
            self._fail(error)
        return going

    def _take(self) -> list[Ask]:
        """What has come in; nothing, when something is due."""
        try:
            batch = [self._queue.get(timeout=self._patience())]
        except Empty:
            return []
        while len(batch) < _MOST and not self._queue.empty():
            batch.append(self._queue.get())
        return batch

    def _patience(self) -> float | None:
        """Seconds until something is due; None: never."""
        if self._machine is None:
            return _PAUSE
        due = self._machine.due()
        if due is None:
            return None
        return min(max((due - self._clock()) / 1000, 0.0), _LONGEST)

    def _use(self) -> Machine:
        """The machine; after a failure of the disk, a new one on what the disk has."""
        if self._machine is None:
            self._machine = self._load()
        return self._machine

    def _load(self, *, release: bool = False) -> Machine:
        rows = self._rows
        machine = Machine(rows, self._rules)
        machine.ledger.load(rows.pending(), rows.waits(), rows.schedules())
        for id_, addresses in self._listeners.items():
            if id_ in machine.ledger.promises:
                machine.ledger.listeners[id_] = addresses
        if release:  # whoever held a task died with the process that had the file before
            machine.release_all(self._clock())
            rows.write(machine.take_changes())
            machine.take_messages()  # nobody listens yet: ``start`` makes them anew
        return machine

    def _do(self, ask: Ask) -> None:
        """Apply one request; it is answered now if no commit need be waited for."""
        try:
            machine = self._use()
            machine.tick(self._clock())
            self._write(machine)
            answer = self._apply(ask, machine)
            early = self._write(machine)
        except Exception as error:  # noqa: BLE001 - told to whoever asked, and to all that wait with it
            self._waiting.append((ask, None))
            self._fail(error)
            return
        if answer is _LATER:
            return
        if early:
            tell([(ask, answer)])
        else:
            self._waiting.append((ask, answer))

    def _apply(self, ask: Ask, machine: Machine) -> Any:
        match ask.what:
            case Call(request=Reply() as refusal) as call:
                return write(call, refusal).decode()
            case Call(request=request) as call:
                return write(call, machine.apply(request)).decode()  # type: ignore[arg-type]  # not a Reply
            case Watch(id_):
                reply = machine.apply(PromiseListen(awaited=id_, address=_HERE))
                if reply.status != 200:
                    return DurabilityError(reply.data)
                promise: Promise = reply.data["promise"]
                if promise.state != "pending":
                    return promise
                self._watched.setdefault(id_, []).append(ask)
                return _LATER
            case Forget(prefix):
                for id_ in self._rows.forget(prefix):
                    machine.ledger.forget(id_)
                self._promised = True
                return None
            case Collect(before):
                return self._collect(before)
            case Announce():
                machine.announce_all()
                return None
            case Nudge():
                return None
            case request:
                return machine.apply(request)

    def _write(self, machine: Machine) -> bool:
        """Put what was changed into the transaction. Whether an answer may go out before the commit."""
        changes = machine.take_changes()
        if changes:
            self._rows.write(changes)
            if all(map(is_made_again, changes)):
                return True  # also beside something that must be committed: it vouches for nothing
            self._promised = True
        return not self._promised

    def _commit(self, machine: Machine, *, last: bool) -> None:
        """Make what was promised safe; then answer, and send."""
        if self._promised or last:
            self._rows.commit()
            self._promised = False
        waiting, self._waiting = self._waiting, []
        told: list[tuple[Ask, Any]] = list(waiting)
        texts = []
        for message in machine.take_messages():
            if isinstance(message, Unblock) and message.address == _HERE:
                promise = message.promise
                told += [(ask, promise) for ask in self._watched.pop(promise.id, ())]
            else:
                texts.append(encode(message))
        tell(told)
        if texts and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody is there to listen
                self._loop.call_soon_threadsafe(self._deliver, texts)

    def _fail(self, error: Exception) -> None:
        """Forget what is not committed, and say so to all who wait for it."""
        if self._machine is not None:
            self._listeners = self._machine.ledger.listeners
            for message in self._machine.take_messages():
                if isinstance(message, Unblock):  # it was not settled after all
                    self._listeners.setdefault(message.promise.id, {})[message.address] = None
        self._machine, self._promised = None, False
        with suppress(*FOREIGN):
            self._rows.rollback()
        where = str(self._path)
        what = explain(error, "keep", where) if isinstance(error, FOREIGN) else repr(error)
        waiting, self._waiting = self._waiting, []
        tell([(ask, DurabilityError(f"not kept: {what}")) for ask, _ in waiting])

    def _collect(self, before: int) -> int:
        """In several transactions, so that nobody waits long for room in the middle of it."""
        gone, more = self._rows.collect(before)
        self._promised = self._promised or gone > 0
        while more:
            self._rows.commit()
            found, more = self._rows.collect(before)
            gone += found
        return gone

    def _deliver(self, texts: list[str]) -> None:
        for text in texts:
            for receiver in self._receivers:
                receiver(text)
