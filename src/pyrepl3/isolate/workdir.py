"""What the directory of a confined session holds in, a stop out where that is more than its limits allow.

Counted from the host, since the kernel gives no quota without root. A writer is seen within some 0.1 s, so
it may get as far beyond the limit as the disk is fast in that time; and not much further by trying again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyrepl3.config import Limits
    from pyrepl3.errors import LimitName
    from pyrepl3.isolate.flight import Flight
    from pyrepl3.isolate.link import Link

ENTRY = 512
"""Bytes that each file, directory or link counts beside what it holds: many empty ones are not nothing."""
_DEEPEST = 128  # levels of directories
_BUSY, _IDLE = 0.05, 0.25  # seconds between two looks, while a cell runs and while none does
_SHARE = 5  # it takes no more than a fifth of the time
_SLACK = 32 * 1024 * 1024  # bytes above the limit that end a worker at once
_ROOM = 1024 * 1024 * 1024
"""Bytes beside twice the limit; beyond, no cell runs any more. A disk takes as much in half a second."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Held:
    """What was found: ``size`` in bytes on the disk, holes not counted; ``files`` of any kind."""

    def __init__(self) -> None:
        self.size = self.files = 0
        self._seen: set[tuple[int, int]] = set()

    def add(self, found: os.stat_result) -> None:
        """Count a file, once, whatever names it has."""
        if found.st_nlink != 1 and not stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in self._seen:
                return
            self._seen.add((found.st_dev, found.st_ino))
        self.size += ENTRY + found.st_blocks * 512
        self.files += 1


def measure(root: str, pids: Iterable[int] = (), *, most: tuple[float, float]) -> Held:
    """What is below ``root``, and what ``pids`` keep of it without a name. Any thread.

    No further than to ``most`` bytes and files: more is more. No link is followed. Raises OSError where
    it cannot be counted: no directory, or more than 128 in each other.
    """
    held = Held()
    top = os.open(root, _DIRECTORY)
    try:
        device = os.fstat(top).st_dev
        _walk(top, held, most, _DEEPEST)
    finally:
        os.close(top)
    for pid in pids:
        _add_unnamed(pid, device, held)
    return held


def _walk(directory: int, held: Held, most: tuple[float, float], levels: int) -> None:
    # By descriptors: whoever swaps a directory for a link meanwhile leads nowhere.
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):  # it has just gone
                held.add(entry.stat(follow_symlinks=False))
            if held.size > most[0] or held.files > most[1]:
                return
            if not entry.is_dir(follow_symlinks=False):
                continue
            if not levels:
                raise OSError(errno.ENAMETOOLONG, f"more than {_DEEPEST} directories in each other")
            try:
                below = os.open(entry.name, _DIRECTORY, dir_fd=directory)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                _walk(below, held, most, levels - 1)
            finally:
                os.close(below)


def _add_unnamed(pid: int, device: int, held: Held) -> None:
    """Files that were removed and are still open, or mapped."""
    found: set[int] = set()
    with suppress(OSError):  # the process has just ended
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{name}")  # noqa: PTH116
                if status.st_dev == device and not status.st_nlink and stat.S_ISREG(status.st_mode):
                    found.add(status.st_ino)
                    held.add(status)
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
            for line in maps:
                if not line.endswith("(deleted)\n"):
                    continue
                places, _, _, where, inode, *_ = line.split()
                major, minor = (int(part, 16) for part in where.split(":"))
                if os.makedev(major, minor) == device and int(inode) not in found:
                    first, last = (int(place, 16) for place in places.split("-"))
                    held.size += last - first


class WorkdirWatch:
    """Looks after one session's workdir, from worker to worker. On the runner's loop.

    ``stop`` is called for a cell that runs while the limit is exceeded. What is above the limit already stays
    until cells remove it: they run, and may not make it grow. Above twice the limit and a GiB none runs.
    """

    def __init__(
        self,
        limits: Limits,
        root: str,
        stop: Callable[[Link, Flight, LimitExceededError], None],
    ) -> None:
        size, files = _or_endless(limits.workdir_bytes), _or_endless(limits.workdir_files)
        self._allowed: dict[LimitName, float] = {"workdir_bytes": size, "workdir_files": files}
        self._most = 2 * size + _ROOM, 2 * files + _ROOM // ENTRY
        self._before = 0.0, 0.0
        self._root = root
        self._stop = stop
        self._task: asyncio.Task[None] | None = None

    def begin(self, link: Link) -> None:
        """Look after the workdir as long as this worker lives.

        What the worker before has written since the last look is not for this one's cells to answer for.
        """
        heir = self._task is not None
        self._task = asyncio.get_running_loop().create_task(
            self._watch(link, heir=heir), name="workdir"
        )

    async def check(self) -> None:
        """Raise LimitExceededError where cells have exceeded the limit until none can run any more."""
        if self._is_full():
            with suppress(OSError):
                excess = await asyncio.to_thread(self._look)  # somebody may have tidied up
                if excess is not None and self._is_full():
                    raise excess

    def _is_full(self) -> bool:
        return any(used > most for used, most in zip(self._before, self._most, strict=True))

    async def _watch(self, link: Link, *, heir: bool) -> None:
        while not link.lost:
            begun = time.monotonic()
            try:
                excess = await asyncio.to_thread(self._look, link.worker.pid)
            except FileNotFoundError:  # the session is being closed
                excess = None
            except OSError as error:
                link.end(f"its workdir cannot be counted: {error.strerror}")
                return
            running = [flight for flight in link.flights.values() if not flight.over]
            if excess is not None and (self._is_full() or not heir):
                self._exceeded(link, running, excess)
            heir = False
            spent = time.monotonic() - begun
            await asyncio.sleep(max(_BUSY if running else _IDLE, (_SHARE - 1) * spent))

    def _exceeded(self, link: Link, running: list[Flight], excess: LimitExceededError) -> None:
        for flight in running:
            if flight.reason is None:
                self._stop(link, flight, excess)
        far = excess.limit == "workdir_bytes" and excess.used > excess.allowed + _SLACK
        if not running or far:
            link.end(str(excess))

    def _look(self, *pids: int) -> LimitExceededError | None:
        """Count; what has grown, and is more than allowed."""
        held = measure(self._root, pids, most=self._most)
        before, self._before = self._before, (held.size, held.files)
        for (name, allowed), used, was, most in zip(
            self._allowed.items(), self._before, before, self._most, strict=True
        ):
            if used > most or used > max(allowed, was):
                return LimitExceededError(name, used, allowed)
        return None


def _or_endless(limit: int | None) -> float:
    return float("inf") if limit is None else limit
