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
import struct
import sys
from contextlib import suppress
from typing import Any, NoReturn

REPORT = struct.Struct(">cii")
"""One report: FORKED or EXITED, a pid, and for the latter the wait status."""
FORKED, EXITED, READY = b"F", b"X", b"R"

_PDEATHSIG = 1  # PR_SET_PDEATHSIG


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

    _warm()
    gc.collect()
    gc.freeze()  # so that a collection in a worker does not copy all pages
    zygote = Zygote(settings["socket"], settings["host"], child.serve, child.reset_signals)
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


class Zygote:
    """Forks at the host's word. To be made and used on the only thread there is."""

    def __init__(self, sock: int, host: int, serve: Any, reset_signals: Any) -> None:
        self._sock = socket.socket(fileno=sock)
        self._host = host
        self._serve_child = serve
        self._reset_signals = reset_signals
        self._workers: set[int] = set()
        self._libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._pidfd = -1
        with suppress(AttributeError, OSError):  # other systems: the end of the socket tells
            self._pidfd = os.pidfd_open(host)
        self._wake = os.pipe()
        os.set_blocking(self._wake[0], False)
        os.set_blocking(self._wake[1], False)
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
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            self._reset_signals()
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
                return
            if not pid:
                return
            self._workers.discard(pid)
            _kill_group(pid)  # what a worker has started goes with it
            self._report(EXITED, pid, status)

    def _report(self, kind: bytes, pid: int, status: int) -> None:
        self._sock.sendall(REPORT.pack(kind, pid, status))

    def _end_all(self) -> None:
        for pid in self._workers:
            _kill_group(pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
