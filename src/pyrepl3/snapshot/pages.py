"""A range of memory in, which of its pages were written since the last question out (Linux 6.7 and later).

The kernel write-protects the pages, lets a write through as if nothing were (userfaultfd's WP_ASYNC) and
tells which pages lost the protection (PAGEMAP_SCAN, which sets it anew in the same step). Works without
privileges. Everywhere else ``watch`` gives None, and bytes have to be compared.

What is not seen: writes by a device that has pinned the memory, and by others to memory that is shared;
so only private memory is watched. See ``admin-guide/mm/pagemap.rst`` in the kernel's documentation.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

LEAST = 1 << 20
"""Bytes from which a range is worth watching: below, hashing takes a fraction of a millisecond."""

OFF = "PYREPL3_NO_PAGE_TRACKING"
"""Set to anything, this environment variable turns watching off."""

_REGIONS = 512  # that one question may be answered with; if there are more it is asked again
_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282}  # the system call's number
_CLOEXEC_NONBLOCK, _USER_MODE_ONLY = os.O_CLOEXEC | os.O_NONBLOCK, 1
_API, _REGISTER, _UNREGISTER = 0xC018AA3F, 0xC020AA00, 0x8010AA01
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_MODE_WP = 2
_SCAN = 3 << 30 | 96 << 16 | ord("f") << 8 | 16
_WP_MATCHING, _CHECK_WPASYNC, _WRITTEN = 1, 2, 2


class Watch:
    """A watched range: whole pages inside of what was asked for, from ``start`` up to ``stop``.

    Ended by ``close``, by another watch that overlaps it (one question would take the answer of the
    other), and in a forked child; then ``written`` is None. Told as written are also pages that were
    given back (madvise); a range of which a part was mapped anew, or moved by mremap, is unknown. So it
    holds for whoever owns the memory, freed and allocated again included.
    """

    def __init__(self, kernel: _Kernel, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self._kernel: _Kernel | None = kernel

    def written(self) -> list[tuple[int, int]] | None:
        """Ranges of addresses, in order, that were written since the last call; None: unknown.

        To be called before the memory is read. What is written after the call is told by the next one.
        """
        return self._ask(_WP_MATCHING)

    def written_so_far(self) -> list[tuple[int, int]] | None:
        """The same, and the next call tells of them again."""
        return self._ask(0)

    def _ask(self, protect: int) -> list[tuple[int, int]] | None:
        kernel = self._kernel
        if kernel is None or kernel.pid != os.getpid():
            return None
        try:
            with kernel.lock:
                if self._kernel is None:
                    return None
                return list(kernel.scan(self.start, self.stop, protect))
        except OSError:  # mapped anew meanwhile: then it is another memory
            self.close()
            return None

    def close(self) -> None:
        """Stop watching. Idempotent."""
        kernel = self._kernel
        if kernel is not None and kernel.pid == os.getpid():
            with kernel.lock:
                kernel.end(self)

    def forget(self) -> None:
        self._kernel = None


class _Kernel:
    """The two descriptors of this process, and what is watched through them."""

    def __init__(self) -> None:
        import ctypes
        import fcntl

        self.pid = os.getpid()
        self.lock = threading.RLock()
        self._ioctl = fcntl.ioctl
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._regions = (ctypes.c_uint64 * (3 * _REGIONS))()
        self._at = ctypes.addressof(self._regions)
        call = ctypes.CDLL(None, use_errno=True).syscall
        self._fd = call(_USERFAULTFD[os.uname().machine], _CLOEXEC_NONBLOCK | _USER_MODE_ONLY)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        try:
            api = struct.pack("QQQ", 0xAA, _WP_ASYNC | _WP_UNPOPULATED, 0)
            self._ioctl(self._fd, _API, bytearray(api))
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._fd)
            raise

    def watch(self, start: int, stop: int) -> Watch | None:
        with self.lock:
            for other in list(self._watches):
                if other.start < stop and start < other.stop:
                    self.end(other)
            try:
                request = struct.pack("QQQQ", start, stop - start, _MODE_WP, 0)
                self._ioctl(self._fd, _REGISTER, bytearray(request))
            except OSError:
                return None
            made = Watch(self, start, stop)
            self._watches.add(made)
            return made

    def end(self, watch: Watch) -> None:
        watch.forget()
        self._watches.discard(watch)
        try:
            self._ioctl(
                self._fd, _UNREGISTER, struct.pack("QQ", watch.start, watch.stop - watch.start)
            )
        except OSError:
            return  # nothing is mapped there any more

    def scan(self, start: int, stop: int, protect: int) -> Iterator[tuple[int, int]]:
        flags = protect | _CHECK_WPASYNC
        while start < stop:
            request = bytearray(
                struct.pack(
                    "12Q",
                    96,
                    flags,
                    start,
                    stop,
                    0,
                    self._at,
                    _REGIONS,
                    0,
                    0,
                    _WRITTEN,
                    0,
                    _WRITTEN,
                )
            )
            found = self._ioctl(self._pagemap, _SCAN, request)
            yield from zip(
                self._regions[0 : 3 * found : 3], self._regions[1 : 3 * found : 3], strict=True
            )
            (start,) = struct.unpack_from("Q", request, 32)  # how far it came


def watch(address: int, size: int, *, private: bool = False) -> Watch | None:
    """Watch the whole pages in ``size`` bytes at ``address``; None where that is not possible.

    ``private``: it is known that nobody else can change this memory, though a file may lie behind it.
    The first answer of ``written`` tells all pages or any: it is the second that counts.
    """
    if size < LEAST or OFF in os.environ:
        return None
    kernel = _kernel()
    if kernel is None:
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    start, stop = -(-address // page) * page, (address + size) // page * page
    if not private and not _is_anonymous(start, stop):
        return None
    return kernel.watch(start, stop)


_found: list[_Kernel | None] = []


def _kernel() -> _Kernel | None:
    """The way to ask, made when first needed; None: there is none here."""
    if _found and (_found[0] is None or _found[0].pid == os.getpid()):
        return _found[0]
    # In a forked child the parent's descriptors speak of the parent's memory.
    kernel: _Kernel | None = None
    if sys.platform == "linux" and sys.maxsize > 2**32:
        try:
            kernel = _Kernel()
            _prove(kernel)
        except (OSError, KeyError, ImportError, AttributeError):
            kernel = None
    _found[:] = [kernel]
    return kernel


def _prove(kernel: _Kernel) -> None:
    """Raises OSError if this kernel does not tell what was written."""
    import ctypes
    import mmap

    page = os.sysconf("SC_PAGE_SIZE")
    with mmap.mmap(-1, 4 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        place = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(place)
        memory[0] = 1
        made = kernel.watch(address, address + 4 * page)
        made and made.written()
        memory[2 * page] = 1
        found = made and made.written()
        if made is not None:
            made.close()
        del place
    if found != [(address + 2 * page, address + 3 * page)]:
        raise OSError("written pages are not told")


def _is_anonymous(start: int, stop: int) -> bool:
    """Whether all of the range is private memory without a file behind it."""
    at = start
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        place, flags, _, _, inode = line.split(maxsplit=5)[:5]
        low, high = (int(part, 16) for part in place.split("-"))
        if low <= at < high:
            if flags[3] != "p" or inode != "0":
                return False
            at = high
            if at >= stop:
                return True
    return False
