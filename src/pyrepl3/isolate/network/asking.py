"""What a confined worker asks of the network in; the host's answers, waited for, out. Any thread."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from pyrepl3.isolate import messages as m
from pyrepl3.isolate.network.book import Book, refusal
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.places import wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.isolate.network.book import Address


class Dialing:
    """One connection: ``plugged`` gives our end of it, ``made`` is done when it is there, or cannot be."""

    __slots__ = ("made", "n", "plugged")

    def __init__(self, n: int) -> None:
        self.n = n
        self.plugged: Future[int] = Future()
        self.made: Future[None] = Future()


class Asking:
    """The requests of one worker. ``send`` takes a message for the host."""

    def __init__(
        self, network: tuple[str, ...], send: Callable[[m.Lookup | m.Dial], object]
    ) -> None:
        self._book = Book(network)
        self._send = send
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._room = threading.BoundedSemaphore(m.MOST_ASKED)
        self._lookups: dict[int, Future[tuple[str, ...]]] = {}
        self._dialings: dict[int, Dialing] = {}
        self.when_reset: Callable[[int], object] = lambda _: None
        """Is told the number of a connection that did not end in order."""

    def find(self, host: str, port: int | None) -> tuple[str, ...]:
        """The addresses of a name that is listed with ``port`` (None: with any).

        Raises PermissionError, gaierror.
        """
        self._check()
        if not (host == "localhost" or host.endswith(".localhost")):
            with self._lock:
                listed = self._book.lists(host, port)
            if not listed:
                raise PermissionError(errno.EACCES, refusal(host, port))
        n, future = next(self._numbers), Future[tuple[str, ...]]()
        self._room.acquire()
        self._lookups[n] = future
        self._send(m.Lookup(n=n, host=host))
        addresses = wait(future, CURRENT.get())
        with self._lock:
            self._book.note(host, addresses)
        return addresses

    def dial(self, address: Address, port: int) -> tuple[Dialing, int]:
        """Begin a connection: it, and our end of it. Raises PermissionError, OSError."""
        self._check()
        with self._lock:
            granted = self._book.grants(address, port)
        if not granted:  # the host says the same, but nobody might hear it
            raise PermissionError(errno.EACCES, refusal(str(address), port))
        dialing = Dialing(next(self._numbers))
        self._room.acquire()
        self._dialings[dialing.n] = dialing
        self._send(m.Dial(n=dialing.n, address=str(address), port=port))
        try:
            return dialing, wait(dialing.plugged, CURRENT.get())
        except BaseException:
            dialing.plugged.add_done_callback(_let_go)
            raise

    def take(self, message: m.Found | m.Plugged | m.Dialed, fd: int = -1) -> None:
        """The host has answered; ``fd`` came with it."""
        if message.n not in self._lookups and message.n not in self._dialings:
            if fd >= 0:  # to code that wrote to the pipe by itself
                os.close(fd)
            if isinstance(message, m.Dialed):
                self.when_reset(message.n)
            return
        match message:
            case m.Found(n=n, fault=fault):
                found = self._lookups.pop(n)
                self._room.release()
                if fault is None:
                    found.set_result(message.addresses)
                else:
                    found.set_exception(_error(fault))
            case m.Plugged(n=n):
                self._room.release()
                plugged = self._dialings[n].plugged
                if fd < 0:
                    plugged.set_exception(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                else:
                    os.set_inheritable(fd, False)  # noqa: FBT003
                    plugged.set_result(fd)
            case m.Dialed(n=n, fault=fault):
                dialing = self._dialings.pop(n)
                error = None if fault is None else _error(fault)
                if not dialing.plugged.done():
                    self._room.release()
                    dialing.plugged.set_exception(error or OSError(errno.EIO, "no end"))
                if error is None:
                    dialing.made.set_result(None)
                else:
                    dialing.made.set_exception(error)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise PermissionError(
                errno.EACCES, "a forked process has no way to the network: connect in its parent"
            )


def _let_go(plugged: Future[int]) -> None:
    if plugged.exception() is None:
        os.close(plugged.result())


def _error(fault: m.Fault) -> OSError:
    if fault.kind == "lookup":
        return socket.gaierror(fault.number, fault.text)
    return OSError(fault.number, fault.text)  # of the class that the number stands for
