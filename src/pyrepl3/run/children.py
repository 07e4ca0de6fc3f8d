"""An expression that is proved to compute only in; its value, computed in a forked child, out.

The child has a copy of everything, so neither functions nor arguments are sent; what comes back is a pickle
of plain data. It counts only where it came back whole: what dies, warns, raises, takes more than its
share or gives what does not travel is computed again by whoever asked, in the order of the text. So no
fault of a child can be seen, and none has to be told.

To be used on the main thread: children end when the thread that forked them does.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyrepl3.errors import LimitExceededError
from pyrepl3.lang.proof.inputs import containers
from pyrepl3.lang.quiet import quiet
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.usage import address_space, cpu_seconds, resident_bytes
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from pyrepl3.config import Limits
    from pyrepl3.lang.proof.inputs import Proof
    from pyrepl3.run.execution import Execution

WORTH = 0.02
"""Seconds that a computation has to take for a child: forking, sending and reaping take 4 to 11 ms."""
MOST_SENT = 64 * 1024 * 1024  # bytes of a result
_PERIOD = 0.05  # seconds between two looks at what children use
_LONGEST_MEMORY = 1000  # computations whose times are known
_PDEATHSIG = 1  # PR_SET_PDEATHSIG
_HEAD = 8  # bytes: the size of what follows
_libc: Any = ctypes.CDLL(None)


def count_processors() -> int:
    """How many processors this process may use at once, by its affinity and its control group."""
    found = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").rpartition("::")[2].strip()
        for folder in (Path("/sys/fs/cgroup" + group), Path("/sys/fs/cgroup")):
            with suppress(OSError, ValueError):
                quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
                found = min(found, max(1, -(-int(quota) // int(period))))  # "max" is no number
    return found


class Children:
    """What is known about computing in children: how many at once, and what took how long before."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.most = count_processors()
        self._seconds: dict[object, float] = {}

    def why_not(self) -> str | None:
        """Why nothing is computed in children now; None: it is."""
        if self.most < 2:
            return "there is one processor"
        if signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL:
            return "SIGCHLD is handled here, and would tell of a child"
        watched = sys.gettrace() is not None or sys.getprofile() is not None
        tools = (sys.monitoring.get_tool(number) for number in range(6))
        if watched or not all(name in (None, "pyrepl3") for name in tools):
            return "somebody watches each line: a debugger, a profiler"
        return None

    def is_worth(self, key: object, proof: Proof) -> bool:
        """Whether to compute it in a child: it took long; or nobody knows, and a function loops in it."""
        known = self._seconds.get(key)
        return proof.loops if known is None else known >= WORTH

    def note(self, key: object, seconds: float) -> None:
        """It has taken so long. Something long is forgotten by halves: arguments differ."""
        if len(self._seconds) >= _LONGEST_MEMORY:
            self._seconds.clear()
        self._seconds[key] = max(seconds, self._seconds.get(key, 0.0) / 2)


class Child:
    """One computation. Raises OSError where there are no more processes."""

    def __init__(self, code: CodeType, names: dict[str, Any], proof: Proof, share: int) -> None:
        self._shared = containers(proof) if proof.mutable else []
        self._data = bytearray()
        self._over = False
        self._lock = threading.Lock()  # or another process might get the pid, and the signal
        self._pid = 0
        self.fd, theirs = os.pipe()
        try:
            os.set_blocking(self.fd, False)
            self._pid = _fork(code, names, self._shared, theirs, share)
        except BaseException:
            os.close(self.fd)
            raise
        finally:
            os.close(theirs)

    def over(self) -> bool:
        """Take what it has sent. Whether that was all."""
        with suppress(BlockingIOError):
            while not self._over:
                data = os.read(self.fd, 1 << 20)
                self._data += data
                # Not at the end of the pipe only: that comes when the process is gone, milliseconds later.
                self._over = not data or self._is_whole()
        return self._over

    def _is_whole(self) -> bool:
        size = int.from_bytes(self._data[:_HEAD])
        return size > 0 and len(self._data) == _HEAD + size

    def result(self) -> tuple[Any, str, float, float] | None:
        """After ``over``: its value, what it has printed, its seconds, and those of a processor; or None."""
        if not self._is_whole():
            return None
        with memoryview(self._data)[_HEAD:] as data:
            found: tuple[Any, str, float, float] = _Reader(io.BytesIO(data), self._shared).load()
        return found

    def cpu(self) -> float:
        """Seconds of a processor that it has used so far; 0.0 where it is over."""
        return cpu_seconds(self._pid) or 0.0 if self._pid else 0.0

    def kill(self) -> None:
        """End it now. Any thread."""
        with self._lock:
            try:
                if self._pid:
                    os.kill(self._pid, signal.SIGKILL)
            except OSError:  # not `suppress`: an interrupt may come in contextlib, but not here
                pass

    def close(self) -> None:
        """Let go of it. Idempotent."""
        with self._lock:
            try:
                if self._pid:
                    os.close(self.fd)
                    os.waitpid(self._pid, 0)
            except OSError:  # code of the session may have waited for any child
                pass
            self._pid = 0


class Family:
    """The children of one cell: begun, watched and ended. ``close`` when the cell is over."""

    def __init__(self, children: Children, execution: Execution) -> None:
        self._children = children
        self._execution = execution
        self._limits = children.limits
        self._live: list[Child] = []
        self._leaving: list[Child] = []  # said all, and may not be gone yet
        self._spent = 0.0  # seconds of processors, by children that are over
        self._began = time.process_time()
        self._before = resident_bytes() or 0
        memory = self._limits.memory
        self._share = 0 if memory is None else memory // (children.most + 1)
        self._open = self._can = True
        self._watching = False

    def room(self, *, idle: bool) -> int:
        """How many more may begin. ``idle``: this process itself only waits."""
        if not self._can:
            return 0
        live = sum(not child.over() for child in self._live)
        return self._children.most - live - (not idle)

    def begin(self, code: CodeType, names: dict[str, Any], proof: Proof) -> Child | None:
        """A child that computes ``code``; None where none can be had."""
        try:
            child = Child(code, names, proof, self._share)
        except OSError:  # no more processes are allowed: everything goes in order
            self._can = False
            return None
        self._live.append(child)
        if not self._watching and (self._limits.cpu is not None or self._share):
            self._watching = True
            WATCHDOG.call_later(_PERIOD, self._look)
        return child

    def end(self, child: Child) -> tuple[Any, str, float] | None:
        """What ``child``, which is over, has come to: its value, what it has printed, its seconds."""
        self._live.remove(child)
        self._leaving.append(child)
        found = None
        with suppress(Exception):  # it does not load: less memory is there, say
            found = child.result()
        if found is None:
            return None
        value, text, seconds, cpu = found
        self._spent += cpu
        return value, text, seconds

    def wait(self, children: Iterable[Child], seconds: float) -> None:
        """Wait until one of them has said something, but not longer than that."""
        poll = select.poll()
        for child in children:
            poll.register(child.fd, select.POLLIN)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """End what is left. Idempotent."""
        self._open = False
        live, self._live = self._live, []
        for child in live:
            child.kill()
        for child in (*live, *self._leaving):
            child.close()

    def _look(self) -> None:
        """Count what all use together. On the watchdog's thread."""
        if not self._open:
            return
        live, limits = list(self._live), self._limits
        if limits.cpu is not None:
            used = time.process_time() - self._began + self._spent
            used += sum(child.cpu() for child in live)
            if used > limits.cpu:
                request_stop(self._execution, LimitExceededError("cpu", round(used, 3), limits.cpu))
                return
        if self._share and (resident_bytes() or 0) - self._before > self._share:
            self._can = False  # the rest is this process's own
            for child in live:
                child.kill()
        WATCHDOG.call_later(_PERIOD, self._look)


# --- in both processes ------------------------------------------------------------------------------


def _fork(code: CodeType, names: dict[str, Any], shared: list[object], fd: int, share: int) -> int:
    me, pid = os.getpid(), 0
    collects = gc.isenabled()
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        gc.disable()  # in the child it would run finalizers of objects that are this process's
        try:
            # The other threads hold no lock that the child wants: it computes, and leaves.
            with quiet(DeprecationWarning, module=__name__):
                pid = os.fork()
            if not pid:
                _compute(code, names, shared, fd, me, share)
        finally:
            if collects:
                gc.enable()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:
        # An interrupt, in code of Python's library: nobody else knows of this child.
        if os.getpid() != me:
            os._exit(0)
        if pid:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        raise
    return pid


def _compute(
    code: CodeType, names: dict[str, Any], shared: list[object], fd: int, parent: int, share: int
) -> NoReturn:
    """The child. Touches no lock, no loop and no stream; leaves without any clean-up."""
    try:
        gc.freeze()
        gc.enable()
        _libc.prctl(
            _PDEATHSIG, int(signal.SIGKILL), 0, 0, 0
        )  # confined: its group is ended instead
        if os.getppid() != parent:  # it died before that was set
            os._exit(0)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.closerange(0, fd)  # nobody else's pipe stays open, no lock of a file held
        os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
        if share:
            _hold_memory(share)
        warnings.simplefilter("error")
        printed = sys.stdout = io.StringIO()
        begun = time.thread_time()
        value = eval(code, names)  # noqa: S307  running code is what this is for
        seconds = time.thread_time() - begun
        out = io.BytesIO(bytes(_HEAD))
        out.seek(_HEAD)
        result = value, printed.getvalue(), seconds, time.process_time()
        _Writer(out, shared).dump(result)
        size = out.tell() - _HEAD
        if size <= MOST_SENT:
            with out.getbuffer() as data:
                data[:_HEAD] = size.to_bytes(_HEAD)
                at = 0
                while at < len(data):
                    at += os.write(fd, data[at:])
    finally:
        os._exit(0)


def _hold_memory(share: int) -> None:
    used = address_space()
    if used is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        allowed = used + share if hard == resource.RLIM_INFINITY else min(used + share, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


class _StaysError(Exception):
    """A value that would not be the same over there."""


class _Writer(pickle.Pickler):
    """Plain data only; containers that the parent has are named, so that they stay the same objects."""

    def __init__(self, file: io.BytesIO, shared: list[object]) -> None:
        super().__init__(file, protocol=5)
        self._numbers = {id(one): number for number, one in enumerate(shared)}

    def persistent_id(self, obj: Any) -> int | None:
        kind = type(obj)
        if kind is float or kind is complex:
            if obj != obj:  # noqa: PLR0124  not a number, which a list finds by its identity
                raise _StaysError
            return None
        number = self._numbers.get(id(obj))
        if number is None and (kind is set or kind is frozenset) and len(obj) > 1:
            raise _StaysError  # it would come out in another order
        return number

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in (range, complex):
            return NotImplemented
        raise _StaysError


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: list[object]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, number: int) -> object:
        return self._shared[number]
