"""Workers to lease: a socket to each out, and how it ended. Keeps some warm, and a limit on their number.

One zygote stands behind a pool and forks them. A pool is used from any thread; a forked child of the host
does not use its parent's.
"""

from __future__ import annotations

import array
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate import zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_START = 60.0  # seconds that a zygote may take, which imports what is to be preloaded
_FORK = 10.0
_ENV = ("HOME", "LANG", "LANGUAGE", "PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
MOST = 1024
"""Workers at once."""


class Worker:
    """A process that waits for its Setup, or serves a session. Methods from any thread."""

    def __init__(self, sock: socket.socket, pid: int, pool: Pool) -> None:
        self.sock = sock
        self.pid = pid
        self.status: int | None = None
        """The wait status, once it has ended."""
        self._pool = pool
        self._lock = threading.Lock()
        self._told: Callable[[int], object] | None = None
        self._over = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether its end has not been heard of."""
        return not self._over.is_set()

    def when_ended(self, tell: Callable[[int], object]) -> None:
        """Call ``tell(status)`` when it ends, at once if it has. On a thread of the pool."""
        with self._lock:
            self._told = tell
            if not self._over.is_set():
                return
        tell(self.status or 0)

    def signal(self, number: int) -> None:
        """Send a signal, if it lives: to it alone, or by SIGKILL to all that it started, too."""
        with self._lock:  # until it is reported its pid is nobody else's: the zygote waits for it
            if self._over.is_set():
                return
            with suppress(OSError):
                if number == signal.SIGKILL:
                    os.killpg(self.pid, number)
            with suppress(OSError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and what it has started, now."""
        self.signal(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait for its end. Whether it has ended."""
        return self._over.wait(seconds)

    def ended(self, status: int) -> None:
        """The pool has heard of its end."""
        with self._lock:
            self.status = status
            self._over.set()
            told = self._told
        self._pool.forget(self)
        if told is not None:
            told(status)


class Pool:
    """Leases workers. ``preload`` names modules that the zygote imports, so that sessions have them at once.

    ``warm`` workers wait, forked already. ``most`` may live at once. Closed at the end of the process; the
    kernel closes it where that is killed.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        warm: int = 1,
        most: int = MOST,
        python: str = sys.executable,
    ) -> None:
        self.preload = tuple(preload)
        self.most = most
        self._warm = warm
        self._python = python
        self._pid = os.getpid()
        self._forking = threading.RLock()
        """Held while the zygote is asked."""
        self._lock = threading.Lock()
        """Held for a moment; also by who hears of ends, so never while something is waited for."""
        self._early: dict[int, int] = {}  # ends of workers that were not known yet
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._replies: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._workers: dict[int, Worker] = {}
        self._idle: deque[Worker] = deque()
        self._filling = False
        self._closed = False

    def lease(self) -> Worker:
        """A worker that nobody else has: a warm one, or a new one. Blocks for the fork.

        Raises WorkerDiedError where none can be had.
        """
        self._check()
        worker = self._take_idle()
        if worker is None:
            with self._forking:
                worker = self._fork()
        self._fill_later()
        return worker

    def _take_idle(self) -> Worker | None:
        with self._lock:
            while self._idle:
                worker = self._idle.popleft()
                if worker.alive:
                    return worker
        return None

    @property
    def count(self) -> int:
        """How many workers live, warm ones included."""
        return len(self._workers)

    def forget(self, worker: Worker) -> None:
        """It has ended."""
        with self._lock:
            self._workers.pop(worker.pid, None)
            if worker in self._idle:
                self._idle.remove(worker)
                worker.sock.close()

    def close(self) -> None:
        """End the zygote and every worker. Idempotent."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
            sock, self._sock = self._sock, None
            for worker in self._idle:
                worker.sock.close()
            self._idle.clear()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        if process is not None:
            try:
                process.wait(_FORK)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- the zygote -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._closed:
            raise WorkerDiedError("the pool of workers is closed")
        if self._pid != os.getpid():
            raise WorkerDiedError("this pool of workers belongs to the parent process")

    def _fork(self) -> Worker:
        if len(self._workers) >= self.most:
            raise WorkerDiedError(
                f"{self.most} worker processes are running, which is the limit of the pool: "
                "close a session, or raise Pool(most=…)"
            )
        for again in (True, False):
            self._ensure()
            ours, theirs = socket.socketpair()
            try:
                pid = self._ask(theirs)
            except (OSError, queue.Empty) as error:
                ours.close()
                self._drop()
                if again:  # it has been killed: another one takes its place
                    continue
                raise WorkerDiedError(f"no worker process could be started: {error}") from error
            finally:
                theirs.close()
            if not pid:
                ours.close()
                raise WorkerDiedError(
                    "no worker process could be started: the system has no more processes"
                )
            worker = Worker(ours, pid, self)
            with self._lock:
                status = self._early.pop(pid, None)
                if status is None:
                    self._workers[pid] = worker
            if status is not None:
                worker.ended(status)
            return worker
        raise AssertionError("unreachable")

    def _ask(self, theirs: socket.socket) -> int:
        assert self._sock is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        self._sock.sendmsg([b"F"], rights)
        pid = self._replies.get(timeout=_FORK)
        if pid < 0:
            raise BrokenPipeError("the process that forks workers has ended")
        return pid

    def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._drop()
        ours, theirs = socket.socketpair()
        settings = {
            "path": sys.path,
            "preload": self.preload,
            "socket": theirs.fileno(),
            "host": os.getpid(),
        }
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; "
            "from pyrepl3.isolate.zygote import main; main()"
        )
        try:
            self._process = subprocess.Popen(
                [self._python, "-I", "-c", code, json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={
                    name: value
                    for name, value in os.environ.items()
                    if name in _ENV or name.startswith("LC_")
                },
                start_new_session=True,  # no terminal: Ctrl-C there is for the host to judge
            )
        except OSError as error:
            ours.close()
            raise WorkerDiedError(f"no worker process could be started: {error}") from error
        finally:
            theirs.close()
        self._sock = ours
        self._replies = queue.SimpleQueue()
        threading.Thread(
            target=self._listen, args=(ours, self._replies), name="pyrepl3-pool", daemon=True
        ).start()
        try:
            ready = self._replies.get(timeout=_START)
        except queue.Empty:
            ready = -1
        if ready < 0:
            self._drop()
            raise WorkerDiedError("the process that forks workers did not start; see stderr")

    def _drop(self) -> None:
        process, self._process = self._process, None
        sock, self._sock = self._sock, None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        if process is not None:
            process.kill()
            process.wait()

    def _listen(self, sock: socket.socket, replies: queue.SimpleQueue[int]) -> None:
        """Hear what the zygote reports. On a thread of its own."""
        size = zygote.REPORT.size
        held = b""
        mine: set[int] = set()
        with suppress(OSError):
            while data := sock.recv(4096):
                held += data
                while len(held) >= size:
                    kind, pid, status = zygote.REPORT.unpack(held[:size])
                    held = held[size:]
                    if kind == zygote.EXITED:
                        mine.discard(pid)
                        self._heard_end(pid, status)
                    else:
                        if kind == zygote.FORKED and pid:
                            mine.add(pid)
                        replies.put(pid)
        replies.put(-1)
        for pid in mine:  # they die with the zygote
            self._heard_end(pid, signal.SIGKILL)

    def _heard_end(self, pid: int, status: int) -> None:
        with self._lock:
            worker = self._workers.get(pid)
            if worker is None:
                self._early[pid] = status
        if worker is not None:
            worker.ended(status)

    # --- warm ones --------------------------------------------------------------------------------

    def _fill_later(self) -> None:
        with self._lock:
            if self._filling or len(self._idle) >= self._warm or self._closed:
                return
            self._filling = True
        threading.Thread(target=self._fill, name="pyrepl3-pool-fill", daemon=True).start()

    def _fill(self) -> None:
        try:
            while True:
                if self._closed or len(self._idle) >= self._warm or self.count >= self.most:
                    return
                with self._forking:
                    worker = self._fork()
                with self._lock:
                    if not self._closed:
                        self._idle.append(worker)
                        continue
                worker.kill()
                worker.sock.close()
        except WorkerDiedError:
            return  # whoever leases one is told
        finally:
            self._filling = False


_shared: Pool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> Pool:
    """The pool of this process, made when first asked for and closed at its end."""
    global _shared  # noqa: PLW0603  one a process, as the zygote is
    with _shared_lock:
        if _shared is None or _shared._pid != os.getpid():  # noqa: SLF001  its own module
            import atexit  # noqa: PLC0415

            _shared = Pool()
            atexit.register(_shared.close)
        return _shared
