"""A warm single-threaded process that forks workers: sockets of workers-to-be in, their pids and ends out.

Started by exec with an environment of its own. It reaps the workers and tells how each ended. When the host
is gone, however it went, it ends the workers with all they have started, and itself: it waits for the end
of the host's *process* (pidfd), where a signal at the death of a parent would be one of its thread.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from pyrepl3.isolate.reports import EXITED, FORKED, READY, REPORT

_PDEATHSIG = 1  # PR_SET_PDEATHSIG
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_SWEEP = 1.0  # seconds that what workers have started may take to be gone


def main(settings: dict[str, Any]) -> None:
    """Serve the host's socket, whose descriptor and more are the settings, until the host is gone."""
    sys.argv[:] = [""]
    for name in settings["preload"]:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  a module of the user's; sessions go without
            sys.stderr.write(f"pyrepl3: {name} cannot be preloaded: {error}\n")
    os.close(settings["why"])
    from pyrepl3.isolate import child  # noqa: PLC0415  much, and after what is preloaded

    if not settings["ahead"]:  # else somebody waits for the first worker
        _warm()
        gc.collect()
    gc.freeze()  # so that a collection in a worker does not copy all pages
    gc.enable()
    zygote = Zygote(
        settings["socket"],
        settings["host"],
        child.serve,
        reset_signals,
        attached=settings["attached"],
    )
    zygote.serve()


def _warm() -> None:
    """Load what every worker needs and imports late."""
    late = """
        encodings.idna linecache pyrepl3.lang.repair pyrepl3.run.checkpoints pyrepl3.run.complete
        pyrepl3.run.tracebacks pyrepl3.snapshot.engine pyrepl3.snapshot.work pyrepl3.snapshot.state
        pyrepl3.snapshot.fingerprint pyrepl3.snapshot.reprs pyrepl3.isolate.confine.build
    """
    for name in late.split():
        with suppress(ImportError):
            importlib.import_module(name)
    from pyrepl3.isolate.messages import worker_decoder  # noqa: PLC0415

    worker_decoder()


class Zygote:
    """Forks at the host's word. To be made and used on the only thread there is.

    ``attached``: its workers are of the host's process group, so that a terminal and a shell treat them and
    what they start as the host itself. Then no group tells what a worker has started: what it leaves
    behind becomes the zygote's child, and is ended unless the worker ended well.
    """

    def __init__(
        self, sock: int, host: int, serve: Any, reset_signals: Any, *, attached: bool
    ) -> None:
        self._sock = socket.socket(fileno=sock)
        self._host = host
        self._serve_child = serve
        self._reset_signals = reset_signals
        self._workers: set[int] = set()
        self._attached = attached
        self._sweeping = False
        self._libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        if attached and self._libc is not None:
            self._libc.prctl(_SUBREAPER, 1, 0, 0, 0)
        self._pidfd = -1
        with suppress(AttributeError, OSError):  # other systems: the end of the socket tells
            self._pidfd = os.pidfd_open(host)
        self._wake = os.pipe()
        os.set_blocking(self._wake[0], False)
        os.set_blocking(self._wake[1], False)
        self._ignored = _ignored() if attached else []
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C in a terminal is for the host to judge
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake[1])

    def serve(self) -> None:
        """Until the host is gone or lets go. Ends what still runs."""
        poll = select.poll()
        for fd in (self._sock.fileno(), self._pidfd, self._wake[0]):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        try:
            self._report(READY, os.getpid(), 0)
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if self._wake[0] in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wake[0], 4096)
                    self._reap()
                if self._pidfd in ready or os.getppid() != self._host:
                    return
                if self._sock.fileno() in ready and not self._take():
                    return
        except OSError:
            return
        finally:
            self._end_all()
            self._sock.close()

    def _take(self) -> bool:
        """One word of the host: False when there are no more."""
        data, ancillary, _, _ = self._sock.recvmsg(1, socket.CMSG_SPACE(4))
        if not data:
            return False
        for _, _, content in ancillary:
            fds = array.array("i")
            fds.frombytes(content)
            self._fork(fds[0])
        return True

    def _fork(self, fd: int) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # no more processes
            os.close(fd)
            self._report(FORKED, 0, 0)
            return
        if not pid:
            self._become_worker(fd, me)
        if not self._attached:
            with suppress(OSError):
                os.setpgid(pid, pid)  # in both: nobody knows who comes first
        os.close(fd)
        self._workers.add(pid)
        self._report(FORKED, pid, 0)

    def _become_worker(self, fd: int, parent: int) -> NoReturn:
        try:
            if self._libc is not None:
                self._libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:  # it died before that was set
                os._exit(1)
            if not self._attached:
                os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            self._reset_signals()
            for number in self._ignored:
                signal.signal(number, signal.SIG_IGN)
            self._sock.close()
            os.close(self._wake[0])
            os.close(self._wake[1])
            if self._pidfd >= 0:
                os.close(self._pidfd)
            numpy = sys.modules.get("numpy")
            if numpy is not None:  # or all workers would draw the same numbers
                numpy.random.seed()
            self._serve_child(fd)
        except BaseException:  # noqa: BLE001  never back into the zygote's loop
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        os._exit(70)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._sweeping = False
                return
            if not pid:
                break
            if pid not in self._workers:
                continue  # what a worker had started
            self._workers.discard(pid)
            if self._attached:
                self._sweeping |= status != 0
            else:
                _kill_group(pid)  # what a worker has started goes with it
            self._report(EXITED, pid, status)
        if self._sweeping:
            self._sweep()

    def _sweep(self) -> None:
        """End what workers have left behind. What these had started comes to us when they are gone."""
        left = [pid for pid in _children() if pid not in self._workers]
        self._sweeping = bool(left)
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _report(self, kind: bytes, pid: int, status: int) -> None:
        self._sock.sendall(REPORT.pack(kind, pid, status))

    def _end_all(self) -> None:
        # The last worker may have gone with the host a moment ago, and what it had started not yet.
        if not (self._workers or self._sweeping):
            return
        for pid in self._workers:
            if not self._attached:
                _kill_group(pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not self._attached:
            return
        until = time.monotonic() + _SWEEP
        with suppress(OSError):  # no child is left
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    self._sweep()
                    time.sleep(0.002)  # no word comes from a process that is being ended


def reset_signals() -> None:
    """As a process starts that nobody prepared: a host under nohup ignores signals, a test blocks some.

    Ctrl-C goes on being ignored: until the worker serves cells, and takes it over, it is the host's.
    """
    # Two that cannot be set, and two that Python ignores so that writing raises instead.
    kept = (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)
    for number in signal.valid_signals():
        if number not in kept:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _ignored() -> list[int]:
    """What whoever started us wants ignored: nohup, say. Ctrl-C is ours in any case."""
    return [
        number
        for number in signal.valid_signals()
        if signal.getsignal(number) is signal.SIG_IGN
        and number not in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
    ]


def _children() -> list[int]:
    """The pids of our children; none where the system does not tell."""
    with suppress(OSError, ValueError), open("/proc/thread-self/children", "rb") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]
    return []


def _kill_group(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
