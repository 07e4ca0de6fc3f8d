"""Which files a confined worker may read and write: paths in, this process restricted to them.

By Landlock, which any process may use for itself (the kernel's landlock.rst). Later versions wall off TCP,
abstract sockets and signals too; ``restrict`` asks for whatever this kernel has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.isolate.confine.system import NO_NEW_PRIVS, prctl, syscall

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on all machines
_VERSION = 1
_BENEATH = 1

EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1  # all that version 1 knows
_READ = _READ_FILE | _READ_DIR
_OF_FILES = EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets, signals


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The version of Landlock that this kernel has; 0: none, or it is switched off."""
    with suppress(OSError):
        return syscall(_CREATE, None, 0, _VERSION)
    return 0


def handled(abi: int) -> int:
    """The rights over files that a kernel of this version can take away."""
    rights = _FIRST
    if abi >= 2:
        rights |= _REFER
    if abi >= 3:
        rights |= _TRUNCATE
    if abi >= 5:
        rights |= _IOCTL_DEV
    return rights


def restrict(
    *, read: Iterable[str], write: Iterable[str], programs: bool = False, abi: int | None = None
) -> None:
    """Leave this thread, and whatever it starts, these files only. For ever; sets no_new_privs.

    ``read`` and ``write`` are files or directories (with all beneath); ``write`` implies reading. What does
    not exist is passed over. ``programs``: what may be read may be executed. Raises OSError.
    """
    abi = version() if abi is None else abi
    if not abi:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    every = handled(abi)
    rules = _Ruleset(every, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = syscall(_CREATE, ctypes.byref(rules), size, 0)
    try:
        reading = _READ | (EXECUTE if programs else 0)
        writing = every & ~(_MAKE_CHAR | _MAKE_BLOCK | (0 if programs else EXECUTE))
        for path in read:
            _add(ruleset, path, reading & every)
        for path in write:
            _add(ruleset, path, writing)
        prctl(NO_NEW_PRIVS, 1)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        syscall(_ADD, ruleset, _BENEATH, ctypes.byref(_Beneath(rights, fd)), 0)
    finally:
        os.close(fd)
