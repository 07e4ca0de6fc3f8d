"""What a confined worker gives up as a process: namespaces that it shared, and the superuser's powers."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from pyrepl3.isolate.confine.system import NO_NEW_PRIVS, prctl, syscall

_CAPBSET_DROP, _CAP_AMBIENT, _AMBIENT_CLEAR = 24, 47, 4
_CAPGET = {"x86_64": 125, "aarch64": 90}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAP_VERSION = 0x20080522
_HIGHEST = 63  # capabilities that there may ever be; those that are not give EINVAL
_NEWUSER, _NEWNET, _NEWIPC = 0x10000000, 0x40000000, 0x08000000


def leave_namespaces() -> str:
    """A network and System V objects of its own, with nothing in them. What failed, "" if nothing.

    Without the superuser's powers by a user namespace, whose powers ``drop_powers`` drops again. To be
    called on the only thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    apart = _NEWNET | _NEWIPC
    if libc.unshare(apart) == 0:
        return ""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(apart | _NEWUSER):
        return os.strerror(ctypes.get_errno())
    with suppress(OSError):  # else it is "nobody" to itself, and files still belong to it
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return ""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_powers(machine: str) -> None:
    """Give up every capability, and the right to get one by a set-uid program. Raises OSError."""
    for number in range(_HIGHEST + 1):
        with suppress(OSError):  # not ours to drop, or there is none of this number
            prctl(_CAPBSET_DROP, number)
    with suppress(OSError):
        prctl(_CAP_AMBIENT, _AMBIENT_CLEAR)
    data = (_Data * 2)()
    syscall(_CAPSET[machine], ctypes.byref(_Header(_CAP_VERSION, 0)), ctypes.byref(data))
    prctl(NO_NEW_PRIVS, 1)


def powers(machine: str) -> int:
    """The capabilities of this process, as bits. Raises OSError."""
    # Asked of the kernel itself: to read them in /proc/self/status takes a hundred times as long.
    data = (_Data * 2)()
    syscall(_CAPGET[machine], ctypes.byref(_Header(_CAP_VERSION, 0)), ctypes.byref(data))
    return int(data[0].effective) | int(data[1].effective) << 32
