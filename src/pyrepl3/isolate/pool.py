"""Workers to lease: a socket to each out, and how it ended. Keeps some warm, and limits on them.

One zygote stands behind a pool and forks them. A pool is used from any thread; a forked child of the host
does not use its parent's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate.forker import Forker
from pyrepl3.run.usage import is_stopped, private_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyrepl3.isolate.ahead import Ahead

MOST = 1024
"""Workers at once."""
_SETTLE = 0.02
"""Seconds from a lease to the fork of the next warm worker: the one that was leased starts meanwhile."""
_LOOK = 0.1  # seconds between two looks at the memory of workers, while somebody waits for some


class Worker:
    """A process that waits for its Setup, or serves a session. Methods from any thread."""

    def __init__(self, sock: socket.socket, pid: int, pool: Pool) -> None:
        self.sock = sock
        self.pid = pid
        self.status: int | None = None
        """The wait status, once it has ended."""
        self.warm = False
        """Whether it was forked before anybody asked for it."""
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

    @property
    def healthy(self) -> bool:
        """Whether it waits for its Setup: it lives, is not stopped, and has said nothing yet."""
        if not self.alive or is_stopped(self.pid):
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def discard(self) -> None:
        """End it, and let go of it."""
        self.kill()
        self.sock.close()

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
    """Leases workers to sessions: ``open_session(pool=…)``. Any thread. Close it, or enter and leave it.

    ``preload`` names modules that are imported once, so that sessions have them at once. ``warm`` workers
    wait, forked already; those that are not well are replaced. ``most`` may live at once, and ``memory`` is
    what all may hold in bytes of their own (None: no limit): above, nothing new is leased; ``wait`` seconds
    long a lease waits for room. ``python``: the interpreter, of an environment of its own if need be (None:
    this one): Python 3.12 or later, with msgspec and blake3 unless it is of the same version as this one.
    Closed at the end of the process; the kernel closes it where that is killed.

    ``attached``: workers are of our process group and share our terminal and standard input, as what a
    command line starts; ``ahead`` is then the zygote to begin with.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        warm: int = 1,
        most: int = MOST,
        memory: int | None = None,
        wait: float = 0.0,
        python: Path | str | None = None,
        attached: bool = False,
        ahead: Ahead | None = None,
    ) -> None:
        if isinstance(preload, str):
            raise TypeError(f"preload takes names of modules, not the string {preload!r}")
        self.preload = tuple(preload)
        self.most = most
        self.memory = memory
        self.python = None if python is None or str(python) == sys.executable else str(python)
        self._wait = wait
        self._warm = warm
        self._pid = os.getpid()
        self._forking = threading.RLock()
        """Held while the zygote is asked."""
        self._lock = threading.Lock()
        """Held for a moment; also by who hears of ends, so never while something is waited for."""
        self._ended = threading.Condition(self._lock)
        self._early: dict[int, int] = {}  # ends of workers that were not known yet
        self.attached = attached
        self._forker = Forker(
            self.python, self.preload, self._heard_end, attached=attached, ahead=ahead
        )
        self._workers: dict[int, Worker] = {}
        self._idle: deque[Worker] = deque()
        self._filling = False
        self._closed = False
        self._settled = threading.Event()
        """Set when the pool is closed: nobody is to wait for anything more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lease(self) -> Worker:
        """A worker that nobody else has: a warm one, or a new one. Blocks for the fork.

        Raises WorkerDiedError where none can be had.
        """
        self._check()
        worker = self._take_idle()
        if worker is None:
            with self._forking:
                self._wait_for_room()
                worker = self._fork()
        self._fill_later()
        return worker

    def _take_idle(self) -> Worker | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                worker = self._idle.popleft()
            if worker.healthy:
                return worker
            worker.discard()

    @property
    def count(self) -> int:
        """How many workers live, warm ones included."""
        return len(self._workers)

    @property
    def used(self) -> int:
        """Bytes that workers hold, each for itself; what they share with their zygote is not in it."""
        return sum(private_bytes(pid) or 0 for pid in list(self._workers))

    def forget(self, worker: Worker) -> None:
        """It has ended."""
        with self._ended:
            self._workers.pop(worker.pid, None)
            if worker in self._idle:
                self._idle.remove(worker)
                worker.sock.close()
            self._ended.notify_all()

    def close(self) -> None:
        """End the zygote and every worker. Idempotent."""
        with self._ended:
            self._closed = True
            self._settled.set()
            for worker in self._idle:
                worker.sock.close()
            self._idle.clear()
            self._ended.notify_all()
        self._forker.close()

    def _check(self) -> None:
        if self._closed:
            raise WorkerDiedError("the pool of workers is closed")
        if self._pid != os.getpid():
            raise WorkerDiedError("this pool of workers belongs to the parent process")

    def _full(self) -> str:
        """Why there is no room for one more; "": there is."""
        if len(self._workers) >= self.most:
            return (
                f"{self.most} worker processes are running, which is the limit of the pool: "
                "close a session, or raise Pool(most=…)"
            )
        if self.memory is not None and (used := self.used) >= self.memory:
            return (
                f"worker processes hold {used:,} bytes, and {self.memory:,} is the limit of the "
                "pool: close a session, or raise Pool(memory=…)"
            )
        return ""

    def _wait_for_room(self) -> None:
        until = time.monotonic() + self._wait
        while full := self._full():
            left = until - time.monotonic()
            if left <= 0:
                raise WorkerDiedError(full)
            with self._ended:
                self._ended.wait(min(left, _LOOK))  # memory is given back without a word
            self._check()

    def _fork(self) -> Worker:
        first = self._forker.first()
        ours, pid = self._fork_anew() if first is None else first
        worker = Worker(ours, pid, self)
        with self._lock:
            status = self._early.pop(pid, None)
            if status is None:
                self._workers[pid] = worker
        if status is not None:
            worker.ended(status)
        return worker

    def _fork_anew(self) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair()
        try:
            return ours, self._forker.fork(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

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
            self._settled.wait(_SETTLE)
            while True:
                if self._closed or len(self._idle) >= self._warm:
                    return
                with self._forking:
                    if self._full():
                        return
                    worker = self._fork()
                worker.warm = True
                with self._lock:
                    if not self._closed:
                        self._idle.append(worker)  # whoever takes it looks how it is
                        continue
                worker.discard()
        except WorkerDiedError:
            return  # whoever leases one is told
        finally:
            self._filling = False


_shared: dict[tuple[str | None, tuple[str, ...]], Pool] = {}
_shared_lock = threading.Lock()


def shared_pool(python: Path | str | None = None, preload: Sequence[str] = ()) -> Pool:
    """The pool of this process for this kind, made when first asked for and closed at its end."""
    key = None if python is None else str(python), tuple(preload)
    with _shared_lock:
        pool = _shared.get(key)
        if pool is None or pool._pid != os.getpid():  # noqa: SLF001  its own module
            import atexit  # noqa: PLC0415

            pool = _shared[key] = Pool(python=python, preload=preload)
            atexit.register(pool.close)
        return pool
