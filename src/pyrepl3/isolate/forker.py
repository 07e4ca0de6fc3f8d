"""A Python and what it is to preload in, forked workers out: one zygote, from the host's side."""

from __future__ import annotations

import array
import os
import queue
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate import reports

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from pyrepl3.isolate.ahead import Ahead

_START = 60.0  # seconds that a zygote may take, which imports what is to be preloaded
_FORK = 10.0
_ENV = ("HOME", "LANG", "LANGUAGE", "PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_SAID = 4096  # bytes of a reason


class Forker:
    """Forks workers of one kind, through a zygote that is started when it is first asked.

    ``heard_end(pid, status)`` is told of the end of each, on a thread of ours. ``fork`` is for one thread at
    a time. ``attached``: workers share our process group, terminal and standard input. ``ahead``: the
    zygote to begin with, which has been asked for a worker already.
    """

    def __init__(
        self,
        python: str | None,
        preload: Sequence[str],
        heard_end: Callable[[int, int], object],
        *,
        attached: bool = False,
        ahead: Ahead | None = None,
    ) -> None:
        self.python = python
        self._preload = tuple(preload)
        self._heard_end = heard_end
        self._attached = attached
        self._ahead = ahead
        self._process: subprocess.Popen[bytes] | Ahead | None = None
        self._sock: socket.socket | None = None
        self._replies: queue.SimpleQueue[int] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The process id of the zygote; None where there is none."""
        return None if self._process is None else self._process.pid

    def first(self) -> tuple[socket.socket, int] | None:
        """Our end of the pair, and the pid, of the worker that was asked for ahead; once, if it is there."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        self._process, self._sock = ahead, ahead.sock
        self._hear(ahead.sock)
        with suppress(queue.Empty):
            if (
                self._replies.get(timeout=_START) >= 0
                and (pid := self._replies.get(timeout=_FORK)) > 0
            ):
                return ahead.first, pid
        ahead.first.close()
        self.close(0.0)
        return None

    def fork(self, sock: socket.socket) -> int:
        """The pid of a new worker, whose end of a pair is ``sock``. Raises WorkerDiedError."""
        for again in (True, False):
            self._ensure()
            try:
                pid = self._ask(sock)
            except (OSError, queue.Empty) as error:
                self.close(0.0)
                if again:  # it has been killed: another one takes its place
                    continue
                raise WorkerDiedError(f"no worker process could be started: {error}") from error
            if not pid:
                raise WorkerDiedError(
                    "no worker process could be started: the system has no more processes"
                )
            return pid
        raise AssertionError("unreachable")

    def close(self, seconds: float = _FORK) -> None:
        """End the zygote, and with it its workers. Any thread. Idempotent."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._process, self._sock = ahead, ahead.sock
            ahead.first.close()
        process, self._process = self._process, None
        sock, self._sock = self._sock, None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        if process is not None:
            try:
                process.wait(seconds)
            except Exception:  # noqa: BLE001  subprocess.TimeoutExpired, which need not be loaded
                process.kill()
                process.wait()

    def _ask(self, theirs: socket.socket) -> int:
        sock = self._sock
        if sock is None:
            raise BrokenPipeError("it was closed")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        sock.sendmsg([b"F"], rights)
        pid = self._replies.get(timeout=_FORK)
        if pid < 0:
            raise BrokenPipeError("the process that forks workers has ended")
        return pid

    def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close(0.0)
        ours, theirs = socket.socketpair()
        said, why = os.pipe()
        try:
            self._process = self._spawn(theirs.fileno(), why)
        except OSError as error:
            ours.close()
            os.close(said)
            raise WorkerDiedError(f"no worker process could be started: {error}") from error
        finally:
            theirs.close()
            os.close(why)
        self._sock = ours
        self._hear(ours)
        try:
            ready = self._replies.get(timeout=_START)
        except queue.Empty:
            ready = -1
        with open(said, "rb", buffering=0) as reasons:  # noqa: PTH123  a descriptor
            if ready < 0:
                self.close(0.0)
                reason = (reasons.read(_SAID) or b"").decode("utf-8", "replace")
                raise WorkerDiedError(
                    f"no worker can be had of {self.python}: {reason}"
                    if reason
                    else "the process that forks workers did not start; see stderr"
                )

    def _hear(self, sock: socket.socket) -> None:
        self._replies = queue.SimpleQueue()
        threading.Thread(
            target=self._listen, args=(sock, self._replies), name="pyrepl3-pool", daemon=True
        ).start()

    def _spawn(self, sock: int, why: int) -> subprocess.Popen[bytes]:
        import json  # noqa: PLC0415  not where a zygote was forked ahead
        import subprocess  # noqa: PLC0415

        from pyrepl3.isolate import boot  # noqa: PLC0415

        settings: dict[str, Any] = {
            "path": sys.path if self.python is None else None,
            "tag": sys.implementation.cache_tag,
            "places": {name: _place(name) for name in ("pyrepl3", *boot.NEEDED)},
            "preload": self._preload,
            "socket": sock,
            "host": os.getpid(),
            "why": why,
            "attached": self._attached,
            "ahead": False,
        }
        return subprocess.Popen(
            [self.python or sys.executable, "-I", boot.__file__, json.dumps(settings)],
            stdin=None if self._attached else subprocess.DEVNULL,
            pass_fds=[sock, why],
            env={
                name: value
                for name, value in os.environ.items()
                if name in _ENV or name.startswith("LC_")
            },
            # No terminal: Ctrl-C there is for the host to judge.
            start_new_session=not self._attached,
        )

    def _listen(self, sock: socket.socket, replies: queue.SimpleQueue[int]) -> None:
        """Hear what the zygote reports. On a thread of its own."""
        size = reports.REPORT.size
        held = b""
        mine: set[int] = set()
        with suppress(OSError):
            while data := sock.recv(4096):
                held += data
                while len(held) >= size:
                    kind, pid, status = reports.REPORT.unpack(held[:size])
                    held = held[size:]
                    if kind == reports.EXITED:
                        mine.discard(pid)
                        self._heard_end(pid, status)
                    else:
                        if kind == reports.FORKED and pid:
                            mine.add(pid)
                        replies.put(pid)
        replies.put(-1)
        for pid in mine:  # they die with the zygote
            self._heard_end(pid, signal.SIGKILL)


def _place(name: str) -> str | None:
    """The folder of a package of ours."""
    import importlib.util  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return None
    return str(Path(found.origin).parent)
