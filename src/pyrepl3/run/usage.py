"""A process in, what it uses out: processor time and memory, where the system tells."""

from __future__ import annotations

import os
import time
from contextlib import suppress


def cpu_seconds(pid: int) -> float | None:
    """Processor time of all threads of a process so far; None where it cannot be told.

    By the clock of the process (``clock_getcpuclockid`` in glibc): one system call.
    """
    with suppress(OSError, OverflowError):
        return time.clock_gettime((~pid << 3) | 2)
    return None


def resident_bytes(pid: int | None = None) -> int | None:
    """Bytes of memory that a process (None: this one) holds now; None where it cannot be told."""
    return _bytes_of(pid, 1)


def address_space() -> int | None:
    """Bytes that the address space of this process spans now; None where it cannot be told."""
    return _bytes_of(None, 0)


def private_bytes(pid: int) -> int | None:
    """Bytes of memory that only this process holds; None where it cannot be told. Takes some 0.3 ms."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            rows = [row.split() for row in file if row.startswith(b"Private_")]
    except OSError:  # no /proc, or a process that has just ended
        return None
    return 1024 * sum(int(row[1]) for row in rows)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal; False where it cannot be told."""
    return _state(pid) in (b"T", b"t")


def is_over(pid: int) -> bool:
    """Whether a process has ended and nobody has waited for it yet; False where it cannot be told."""
    return _state(pid) in (b"Z", b"X")


def parent_of(pid: int) -> int | None:
    """The process that started another one; None where it cannot be told."""
    parent = _stat(pid, 1)
    return int(parent) if parent else None


def beginning_of(pid: int) -> str:
    """When a process began, as the kernel counts: another one of its number began later. "" if it is gone."""
    return _stat(pid, 19).decode()


def _state(pid: int) -> bytes:
    return _stat(pid, 0)


def _stat(pid: int, field: int) -> bytes:
    """A field of what the kernel tells of a process, after its name; b"" where it cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
            # The name before it is in brackets, and may hold any of them.
            return file.read().rpartition(b")")[2].split()[field]
    except (OSError, IndexError):  # no /proc, or a process that has just ended
        return b""


def _bytes_of(pid: int | None, field: int) -> int | None:
    try:
        # Unbuffered: limits look twenty times a second.
        with open(f"/proc/{pid or 'self'}/statm", "rb", buffering=0) as file:  # noqa: PTH123
            return int(file.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # no /proc, or a process that has just ended
        return None
