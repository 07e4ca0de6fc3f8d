"""Limits in, set for this process by the kernel; and proof of each: what does not hold is named.

To be called in a worker before any code of a cell. A limit that is asked for and cannot be proved is
reported, with the reason, never passed over.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.run.usage import address_space

if TYPE_CHECKING:
    from pyrepl3.config import Limits

SLACK = 1024 * 1024 * 1024
"""Bytes of address space beside the budget: each thread reserves a stack and an arena, and touches little."""

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def hold(limits: Limits) -> dict[str, str]:
    """Set and prove. Returns the names of the limits that do not hold, each with the reason."""
    unheld: dict[str, str] = {}
    steps: tuple[tuple[str, int | None, Callable[[int], str]], ...] = (
        ("open_files", limits.open_files, _hold_files),
        ("file_size", limits.file_size, _hold_file_size),
        ("processes", limits.processes, _hold_processes),
        ("memory", limits.memory, _hold_memory),
    )
    for name, allowed, step in steps:
        if allowed is None:
            continue
        if resource is None:
            unheld[name] = "this system has no resource limits"
            continue
        try:
            reason = step(allowed)
        except (OSError, ValueError) as error:
            reason = f"it cannot be set: {error}"
        if reason:
            unheld[name] = reason
    return unheld


def _set(what: int, allowed: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(what, (allowed, allowed))  # the hard one too: a cell cannot raise it again


def _hold_files(allowed: int) -> str:
    import fcntl  # noqa: PLC0415  not on Windows

    _set(resource.RLIMIT_NOFILE, allowed)
    try:
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD, allowed))
    except OSError:
        return ""
    return "a file descriptor above the limit could be had"


def _hold_file_size(allowed: int) -> str:
    import tempfile  # noqa: PLC0415  sessions with limits only

    _set(resource.RLIMIT_FSIZE, allowed)
    with tempfile.TemporaryFile() as file:
        try:
            os.pwrite(file.fileno(), b"x", allowed)
        except OSError as error:
            return "" if error.errno == errno.EFBIG else str(error)
    return "a file could grow above the limit"


def _hold_memory(allowed: int) -> str:
    used = address_space()
    if used is None:
        return "the size of the address space cannot be told here; resident memory is watched"
    room = allowed + SLACK
    _set(resource.RLIMIT_AS, used + room)
    try:
        mmap.mmap(-1, room + 16 * 1024 * 1024).close()
    except (OSError, MemoryError):
        return ""
    return "more memory than the limit could be reserved"


def _hold_processes(allowed: int) -> str:
    running = _tasks_of_user()
    if running is None:
        return "the processes of this user cannot be counted here"
    # The kernel counts those of the user, not of the process: what runs already is added.
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    try:
        pid = os.fork()
    except OSError:
        held = True
    else:
        held = False
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
    if not held:
        return "a process could be started above the limit (the superuser's are not limited)"
    _set(resource.RLIMIT_NPROC, running + allowed)
    return ""


def _tasks_of_user() -> int | None:
    """Processes and threads of this user."""
    count, me = 0, os.getuid()
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return None
    for pid in pids:
        with suppress(OSError):  # it has just ended
            if os.stat(f"/proc/{pid}").st_uid == me:  # noqa: PTH116
                count += len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    return count or None
