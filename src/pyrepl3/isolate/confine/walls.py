"""The walls of a confined worker: tries from within to get through each, and tells which stand.

Each probe makes the system call itself: what Python's own functions say is not asked.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyrepl3.isolate.confine import rights
from pyrepl3.isolate.confine.calls import NUMBERS
from pyrepl3.isolate.confine.system import prctl, syscall
from pyrepl3.records import Wall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.config import Policy

NAMES = ("files", "network", "programs", "processes", "namespaces", "kernel", "powers", "end")
"""All walls, in the order in which they are tried: each has a method of its name below."""

_NUMBERS = {  # that the filter does not need
    "x86_64": {"openat": 257, "mkdirat": 258},
    "aarch64": {"openat": 56, "mkdirat": 34},
}
_HERE = -100  # AT_FDCWD


class Walls:
    """Probes, for a process of ``machine`` whose own directory is ``workdir``.

    What ``policy`` gives is not tried.
    """

    def __init__(self, machine: str, workdir: str, policy: Policy) -> None:
        self._machine = machine
        self._numbers = NUMBERS[machine] | _NUMBERS[machine]
        self._workdir = workdir
        self._subprocesses = policy.subprocesses
        self._read = [*policy.read, *policy.write]
        self._write = policy.write
        self._listed = policy.network

    def probe(self, failed: dict[str, str]) -> tuple[Wall, ...]:
        """All walls. ``failed``: why one could not be built, for its detail."""
        found = []
        for name in NAMES:
            try:
                hole: str = getattr(self, f"_{name}")()
            except OSError as error:
                hole = f"it could not be tried: {error}"
            why = failed.get(name, "")
            detail = f"{hole} ({why})" if hole and why else hole
            if name == "network" and self._listed and not hole:
                detail = "but for " + ", ".join(self._listed) + ", to which the host connects"
            found.append(Wall(name=name, stands=not hole, detail=detail))
        return tuple(found)

    def _try(self, name: str, *args: object) -> int:
        """The error number of a call, 0 where it succeeded."""
        try:
            result = syscall(self._numbers[name], *args)
        except OSError as error:
            return error.errno or -1
        if name in ("socket", "openat", "memfd_create", "pidfd_open"):
            os.close(result)
        return 0

    def _files(self) -> str:
        refused = (errno.EACCES, errno.ENOENT)
        for path in ("/etc/passwd", "/etc/group", f"/proc/{os.getppid()}/environ"):
            if _is_beneath(path, self._read):
                continue
            if self._try("openat", _HERE, os.fsencode(path), os.O_RDONLY) not in refused:
                return "a file outside can be read"
        for path in ("/", "/etc", "/home", "/root"):
            if _is_beneath(path, self._read):
                continue
            listed = os.O_RDONLY | os.O_DIRECTORY
            if self._try("openat", _HERE, os.fsencode(path), listed) not in refused:
                return "a directory outside can be listed"
        beside = os.path.dirname(self._workdir.rstrip("/")) or "/"  # noqa: PTH120
        if _is_beneath(beside, self._write):  # the policy gives it
            beside = "/"
        if _is_beneath(beside, self._write):
            return ""
        probe = os.path.join(beside, f"pyrepl3-probe-{os.getpid()}")  # noqa: PTH118
        if self._try("mkdirat", _HERE, os.fsencode(probe), 0o700) == 0:
            with suppress(OSError):
                Path(probe).rmdir()
            return "a directory can be made outside"
        return ""

    def _network(self) -> str:
        inet, stream, datagram, unix = 2, 1, 2, 1
        for family, kind in ((inet, stream), (inet, datagram), (unix, stream)):
            if self._try("socket", family, kind, 0) != errno.EACCES:
                return "a socket can be had"
        pair = (ctypes.c_int * 2)()
        if self._try("socketpair", unix, datagram, 0, pair) != errno.EACCES:
            return "a socket that may name its receiver can be had"
        return ""

    def _programs(self) -> str:
        if self._subprocesses:
            return ""  # asked for: the other walls hold for them as well
        if self._try("execve", b"/pyrepl3/no/such/program", None, None) != errno.EACCES:
            return "a program can be executed"
        return "" if self._fork_is_denied() else "a process can be started"

    def _fork_is_denied(self) -> bool:
        try:
            pid = syscall(self._numbers["clone"], signal.SIGCHLD, 0, 0, 0, 0)
        except OSError:
            return True
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return False

    def _processes(self) -> str:
        other = os.getppid()
        if self._try("kill", other, 0) != errno.EPERM:
            return "another process can be signalled"
        if self._try("ptrace", 2, other, 0, 0) != errno.EPERM:
            return "another process can be traced"
        if self._try("process_vm_readv", other, None, 0, None, 0, 0) != errno.EPERM:
            return "the memory of another process can be read"
        if self._try("pidfd_open", other, 0) != errno.ENOSYS:
            return "another process can be got hold of"
        return ""

    def _namespaces(self) -> str:
        for name in ("unshare", "setns"):
            if self._try(name, 0, 0) != errno.EPERM:
                return "a namespace can be changed"
        return ""

    def _kernel(self) -> str:
        for name in ("io_uring_setup", "memfd_create"):
            if self._try(name, None, 0) != errno.ENOSYS:
                return f"{name} can be called"
        for name in ("bpf", "perf_event_open", "keyctl", "mount"):
            if self._try(name, -1, None, 0, 0, 0) != errno.EPERM:
                return f"{name} can be called"
        return ""

    def _powers(self) -> str:
        if rights.powers(self._machine):
            return "it has powers of the superuser"
        return (
            "" if prctl(39) == 1 else "a program could give it more rights"
        )  # PR_GET_NO_NEW_PRIVS

    def _end(self) -> str:
        at_death = ctypes.c_int(0)
        prctl(2, ctypes.addressof(at_death))  # PR_GET_PDEATHSIG
        if at_death.value != signal.SIGKILL:
            return "nothing ends it when its parent dies"
        try:
            prctl(1, 9)  # PR_SET_PDEATHSIG: so it may, and no harm is done by this signal
        except OSError as error:
            return "" if error.errno == errno.EPERM else "it could outlive its parent"
        return "it could outlive its parent"


def _is_beneath(path: str, roots: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``roots``, or in one."""
    real = os.path.realpath(path)
    tops = (os.path.realpath(root).rstrip("/") for root in roots)
    return any(real == (top or "/") or real.startswith(top + "/") for top in tops)
