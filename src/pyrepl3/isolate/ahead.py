"""A process that has just begun in; a zygote forked off it out, its first worker on the way.

For command lines: the process is ours, has one thread and nothing of the user's, so its zygote need not be
another program that imports everything anew. What both sides need is imported before, what one needs while
the other imports its own.
"""

from __future__ import annotations

import array
import asyncio
import concurrent.futures.thread
import os
import select
import signal
import socket
import sys
from contextlib import suppress

# Needed on both sides.
from pyrepl3.isolate import asking, channel, failures, keeping, messages, packed, values

_ = (
    asyncio,
    concurrent.futures.thread,
    asking,
    channel,
    failures,
    keeping,
    messages,
    packed,
    values,
)


class Ahead:
    """The zygote, and the first worker that it was told to make. As much of a Popen as is needed."""

    def __init__(self, pid: int, sock: socket.socket, first: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self.first = first
        """Our end of the first worker's pair."""
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None

    def poll(self) -> int | None:
        """The wait status, once it has ended."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = self.pid, 0
            if pid:
                self._status = status
                os.close(self._pidfd)
        return self._status

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end. Raises TimeoutError."""
        if self.poll() is None:
            select.select([self._pidfd], [], [], seconds)
        status = self.poll()
        if status is None:
            raise TimeoutError
        return status

    def kill(self) -> None:
        """End it, and its workers with it."""
        if self.poll() is None:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


def fork_ahead() -> Ahead | None:
    """Fork the zygote. None where that is not to be done: there are threads, or it is no Linux."""
    if sys.platform != "linux" or _threads() != 1:
        return None
    host = os.getpid()
    sock, theirs = socket.socketpair()
    first, of_worker = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    try:
        pid = os.fork()
    except OSError:  # no more processes: the session will say so
        for each in (sock, theirs, first, of_worker):
            each.close()
        return None
    if not pid:
        try:
            sock.close()
            first.close()
            of_worker.close()
            _become_zygote(theirs, host)
        finally:
            os._exit(70)
    theirs.close()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [of_worker.fileno()]))]
    with suppress(OSError):  # it has ended: whoever waits for the worker finds out
        sock.sendmsg([b"F"], rights)
    of_worker.close()
    return Ahead(pid, sock, first)


def _become_zygote(sock: socket.socket, host: int) -> None:
    try:
        from pyrepl3.isolate import zygote  # noqa: PLC0415  the other side does without

        zygote.main(
            {
                "preload": (),
                "why": os.open(os.devnull, os.O_WRONLY),
                "socket": sock.detach(),
                "host": host,
                "attached": True,
                "ahead": True,
            }
        )
    except KeyboardInterrupt:
        pass  # before it ignores that: the host will hear it, too
    except BaseException:  # noqa: BLE001  never back into what the host does
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    else:
        os._exit(0)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return 0
