"""How much a worker uses, seen from outside: processor time and resident memory, where the system tells."""

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


def resident_bytes(pid: int) -> int | None:
    """Bytes of memory that a process holds; None where it cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123  often
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
