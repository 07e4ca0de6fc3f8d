"""Parts of files in, one contiguous writable stretch of memory out, in which they lie side by side.

Linux only, 64 bits: ``mmap`` with MAP_FIXED puts a part over a reserved stretch. Python's own ``mmap``
cannot, and keeps a descriptor for each mapping. Elsewhere ``can_overlay`` says no: read and copy.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

from pyrepl3.store.packs import PAGE

_MAP_FIXED = 0x10  # the same on all of Linux's 64-bit machines that Python runs on


def can_overlay() -> bool:
    """Whether parts of files can be put over reserved memory here."""
    return (
        sys.platform == "linux"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and mmap.PAGESIZE == PAGE
        and _mmap() is not None
    )


def reserve(size: int) -> mmap.mmap:
    """At least ``size`` bytes of zeros that cost nothing until written; freed with the last view of it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return mmap.mmap(-1, max(size + -size % PAGE, PAGE), flags=flags)


def overlay(stretch: mmap.mmap, at: int, size: int, fd: int, offset: int) -> bool:
    """Put ``size`` bytes of a file from ``offset`` on over ``stretch``, private to this process.

    All but ``size`` are multiples of a page; the last page of the file's part must lie in the file
    whole. False: it could not be done, and that part of ``stretch`` may be used no more.
    """
    call = _mmap()
    if call is None:
        return False
    first = ctypes.c_char.from_buffer(stretch)
    try:
        wanted = ctypes.addressof(first) + at
        flags = mmap.MAP_PRIVATE | _MAP_FIXED | getattr(mmap, "MAP_NORESERVE", 0)
        length = size + -size % PAGE
        found = call(wanted, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    finally:
        del first  # else the stretch could not be closed
    return bool(found == wanted)


@cache
def _mmap() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).mmap
    except (OSError, AttributeError):
        return None
    call.restype = ctypes.c_void_p
    call.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    return call
