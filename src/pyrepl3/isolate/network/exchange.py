"""Requests of a confined worker in; names looked up, connections made and carried in the host, out.

The worker gets one end of a pair of Unix sockets, such as it could make itself, and never a socket of the
network: what it can do is ask, and send bytes to where this has connected. It may be hostile: what it asks
is bounded in number, rate and length, and held against the list here, whatever it was told before.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.isolate import messages as m
from pyrepl3.isolate.network.book import Book, read_address, refusal
from pyrepl3.isolate.network.carrying import Carrying, SpentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyrepl3.isolate.network.book import Address
    from pyrepl3.isolate.network.carrying import Traffic
    from pyrepl3.ports import Clock

    type Resolve = Callable[[str], Sequence[str]]
    type Post = Callable[..., object]

CONNECTIONS = 64
"""That a worker may have at once."""
CONNECT = 30.0
"""Seconds that one may take to come about."""
LOOKUP = 15.0
"""Seconds that a name may take."""
_THREADS = 4  # that look names up: where nobody answers each is held for long
_PER_SECOND, _BURST = 100, 100  # names and connections; who asks for more waits for them
_ADDRESSES = 32  # of a name
_SOON = 10.0  # seconds that a worker may take to hear that a connection was reset


def resolve_here(host: str) -> list[str]:
    """The addresses of a name, as this process finds them. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class _RefusedError(OSError):
    """The policy says no; the message says what to do."""


class _Line:
    """One connection, from the request for it until both ends are closed. ``pad``: bytes before the first."""

    def __init__(self, n: int, mine: socket.socket, pad: int) -> None:
        self.n, self.mine, self.pad = n, mine, pad
        self.task: asyncio.Task[None] | None = None
        self.carrying: Carrying | None = None


class Exchange:
    """The network of one worker, on a thread of its own, which begins with the first request.

    ``network`` is the list of its policy, ``traffic`` counts what is carried. ``post(message, hand=fd)``
    answers, ``resolve`` looks a name up, on a thread.
    """

    def __init__(
        self,
        network: Iterable[str],
        traffic: Traffic,
        post: Post,
        *,
        resolve: Resolve = resolve_here,
        clock: Clock = time.monotonic,
    ) -> None:
        self._book = Book(network, clock)
        self._traffic = traffic
        self._post = post
        self._resolve = resolve
        self._lock = threading.Lock()
        self._asked = 0
        """Requests that are not answered."""
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        # All that follows is the thread's own.
        self._pool: ThreadPoolExecutor
        self._ends: select.epoll
        self._lines: dict[int, _Line] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next = 0.0

    # --- any thread -------------------------------------------------------------------------------

    def take(self, message: m.Lookup | m.Dial) -> None:
        """Do what the worker asks for, and answer. Raises ValueError for what no honest one sends."""
        with self._lock:
            if self._closed:
                return
            if self._asked >= m.MOST_ASKED + CONNECTIONS:
                raise ValueError("more is asked of the network than is allowed")
            self._asked += 1
            if self._thread is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, name="pyrepl3-network", daemon=True
                )
                self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, message)

    def close(self) -> None:
        """Close all connections; nothing is answered any more. Idempotent, waits for nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._stop)

    # --- the thread -------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "pyrepl3-lookup")
        self._ends = select.epoll()
        self._loop.add_reader(self._ends.fileno(), self._see_ends)
        try:
            self._loop.run_forever()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._ends.close()
            self._loop.close()

    def _stop(self) -> None:
        self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._loop.stop()

    def _begin(self, message: m.Lookup | m.Dial) -> None:
        if self._closed:
            return
        work = self._look_up(message) if isinstance(message, m.Lookup) else self._dial(message)
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, message: m.Found | m.Dialed) -> None:
        with self._lock:
            self._asked -= 1
        self._post(message)

    async def _turn(self) -> None:
        """Wait until one more may begin."""
        now = self._loop.time()
        self._next = max(self._next, now - _BURST / _PER_SECOND) + 1 / _PER_SECOND
        if self._next > now:
            turn = self._loop.create_future()
            timer = self._loop.call_at(self._next, turn.set_result, None)
            try:
                await turn
            finally:
                timer.cancel()

    # --- names ------------------------------------------------------------------------------------

    async def _look_up(self, message: m.Lookup) -> None:
        n, host = message.n, message.host
        try:
            addresses = await self._find(host)
        except OSError as error:
            self._answer(m.Found(n=n, fault=_fault(error)))
        else:
            self._answer(m.Found(n=n, addresses=addresses))

    async def _find(self, host: str) -> tuple[str, ...]:
        if host == "localhost" or host.endswith(".localhost"):
            addresses = self._book.local()
            if not addresses:
                raise _RefusedError(errno.EACCES, refusal("127.0.0.1", None))
            return addresses
        if not self._book.lists(host):
            raise _RefusedError(errno.EACCES, refusal(host, None))
        await self._turn()
        try:
            async with asyncio.timeout(LOOKUP):
                found = await self._loop.run_in_executor(self._pool, self._resolve, host)
        except TimeoutError:
            raise socket.gaierror(
                socket.EAI_AGAIN, f"{host} was not found in {LOOKUP:g} s"
            ) from None
        addresses = self._book.note(host, list(dict.fromkeys(found))[:_ADDRESSES])
        if not addresses:
            raise _RefusedError(
                errno.EACCES,
                f"{host} has no address of the public network now; where an address inside is meant, "
                f"list it, too: Policy(network=('{host}:443', '192.168.1.7:443'))",
            )
        return addresses

    # --- connections ------------------------------------------------------------------------------

    async def _dial(self, dial: m.Dial) -> None:
        n, line = dial.n, None
        try:
            address = self._check(dial)
            line = self._plug(n)
            tcp = await self._connect(address, dial.port)
        except OSError as error:
            self._answer(m.Dialed(n=n, fault=_fault(error)))
            if line is not None:
                self._unplug(line)
            return
        except asyncio.CancelledError:  # its end was closed, or all is
            if line is not None:
                self._answer(m.Dialed(n=n, fault=_fault(OSError(errno.ECONNABORTED, ""))))
                self._unplug(line)
            return
        try:
            _drop_pad(line)  # first: who hears that there is a connection may write at once
            self._answer(m.Dialed(n=n))
            line.carrying = Carrying(line.mine, tcp, self._traffic)
            try:
                await line.carrying.run()
            except (OSError, SpentError):  # no end in order: what came may not be all
                tcp.close()
                await self._reset(line)
        finally:
            tcp.close()
            self._unplug(line)

    def _check(self, dial: m.Dial) -> Address:
        address = read_address(dial.address)
        if address is None or not self._book.grants(address, dial.port):
            raise _RefusedError(errno.EACCES, refusal(dial.address, dial.port))
        if self._traffic.spent:
            raise _RefusedError(errno.EACCES, str(SpentError(self._traffic.most)))
        if dial.n in self._lines or len(self._lines) >= CONNECTIONS:
            raise OSError(
                errno.EMFILE, f"a confined session may have {CONNECTIONS} connections at once"
            )
        return address

    def _plug(self, n: int) -> _Line:
        """Give the worker its end: one that cannot be written to before there is a connection."""
        mine, theirs = socket.socketpair()
        with theirs:
            mine.setblocking(False)  # noqa: FBT003
            theirs.setblocking(False)  # noqa: FBT003
            line = _Line(n, mine, _fill(theirs))
            line.task = asyncio.current_task()
            self._lines[n] = line
            self._ends.register(mine.fileno(), 0)  # its end is told in any case
            self._post(m.Plugged(n=n), hand=theirs.detach())
        return line

    async def _connect(self, address: Address, port: int) -> socket.socket:
        await self._turn()
        tcp = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        try:
            tcp.setblocking(False)  # noqa: FBT003
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async with asyncio.timeout(CONNECT):
                await self._loop.sock_connect(tcp, (str(address), port))
        except BaseException:
            tcp.close()
            raise
        return tcp

    async def _reset(self, line: _Line) -> None:
        """Let the worker's end be reset, too: so it is when ours is closed before all of it is read.

        Something to read is there, or the worker is asked for it. One that gives none reads an end.
        """
        fault = _fault(ConnectionResetError(errno.ECONNRESET, ""))
        self._post(m.Dialed(n=line.n, fault=fault))
        there = asyncio.Event()
        self._loop.add_reader(line.mine, there.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SOON):
                    await there.wait()
        finally:
            self._loop.remove_reader(line.mine)

    def _unplug(self, line: _Line) -> None:
        _drop_pad(line)
        line.mine.close()
        del self._lines[line.n]

    def _see_ends(self) -> None:
        """Some ends of the worker are closed: what it has written still goes, and nothing comes."""
        for fd, _ in self._ends.poll(0):
            self._ends.unregister(fd)
            for line in self._lines.values():
                if line.mine.fileno() == fd and line.task is not None:
                    if line.carrying is None:
                        line.task.cancel()
                    else:
                        line.carrying.leave()


def _fill(sock: socket.socket) -> int:
    """Write until there is no room. Returns how many bytes that took."""
    size, block = 0, bytes(65536)
    with suppress(BlockingIOError):
        while True:
            size += sock.send(block)
    return size


def _drop_pad(line: _Line) -> None:
    """Take what was written before: from now on there is room, and what comes is the worker's."""
    with suppress(OSError):
        while line.pad:
            line.pad -= len(line.mine.recv(line.pad)) or line.pad


def _fault(error: OSError) -> m.Fault:
    if isinstance(error, _RefusedError):
        return m.Fault(kind="refused", number=errno.EACCES, text=str(error.strerror))
    if isinstance(error, socket.gaierror):
        return m.Fault(kind="lookup", number=error.errno or 0, text=error.strerror or "")
    if isinstance(error, TimeoutError) and error.errno is None:
        text = f"no connection came about in {CONNECT:g} s"
        return m.Fault(kind="system", number=errno.ETIMEDOUT, text=text)
    number = error.errno or errno.EIO
    text = (error.strerror or "") if number == errno.EMFILE else os.strerror(number)
    return m.Fault(kind="system", number=number, text=text)
