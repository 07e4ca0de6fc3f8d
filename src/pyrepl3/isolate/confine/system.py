"""System calls by number: arguments in, the result out, or OSError. Linux only.

``libc`` offers no function for most of them. What is called here is called before any thread is there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What seccomp calls the machines for which there are numbers here."""

NO_NEW_PRIVS = 38
"""The prctl by which no program that is executed gives this process more rights."""


def machine() -> str:
    """The machine of this process, "" where nothing is known of it: another one, or no Linux."""
    name = os.uname().machine if sys.platform == "linux" else ""
    return name if name in AUDIT_ARCH and sys.maxsize > 2**32 else ""


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def syscall(number: int, *args: Any) -> int:
    """Call. Integers go as longs; bytes and ctypes objects as pointers. Raises OSError."""
    passed = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result: int = _libc().syscall(ctypes.c_long(number), *passed)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, *args: int) -> int:
    """As the call of that name; what is not given is 0. Raises OSError."""
    given = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    result: int = _libc().prctl(ctypes.c_int(option), *given)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
