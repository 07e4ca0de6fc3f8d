"""A worker in, a cgroup (version 2) around it and all that it starts out, where this process may make one.

It may where its own cgroup was delegated to it: nobody else's processes are in it, and its files can be
written. Memory and processes are held there by the kernel for the worker and its children together;
elsewhere rlimits and a watch do what they can.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyrepl3.run.usage import beginning_of, parent_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyrepl3.config import Limits

NEEDED = frozenset({"memory", "pids"})
_ROOM = 64 * 1024 * 1024
"""Bytes beside the budget of a cell: pages shared with its zygote until written to, the kernel's buffers."""
_PATIENCE = 2.0  # seconds until what was killed is gone


class _Here:
    """What this process has found out, once."""

    lock = threading.Lock()
    found: tuple[Path | None, str] | None = None
    serial = 0


class Leaf:
    """The cgroup of one worker. Methods from any thread; each is a few reads and writes of 10 µs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._budget: int | None = None
        self._base = 0

    def enter(self, pid: int) -> None:
        """Put a process into it, with all that it starts from now on. Raises OSError."""
        self._write("cgroup.procs", pid)

    def limit(self, limits: Limits) -> None:
        """Hold ``memory`` and ``processes`` for all of it together. Raises OSError where it cannot."""
        if limits.processes is not None:
            self._write("pids.max", self._read("pids.current") + limits.processes)
        if limits.memory is not None:
            self._budget = limits.memory
            with suppress(FileNotFoundError):  # a system without swap
                self._write("memory.swap.max", 0)
            self._write("memory.oom.group", 1)
            self.begin_cell()

    def begin_cell(self) -> None:
        """Count the memory of a cell from here: it may grow by its budget. Raises OSError."""
        if self._budget is not None:
            self._base = self._read("memory.current")
            self._write("memory.max", self._base + self._budget + _ROOM)

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has ended it for its memory."""
        with suppress(OSError):
            rows = (self.path / "memory.events").read_text().splitlines()
            return any(row.startswith("oom_kill ") and row != "oom_kill 0" for row in rows)
        return False

    def peak(self) -> int:
        """The bytes that it held at most in the last cell, as near as the kernel tells."""
        for name in ("memory.peak", "memory.max"):  # the first since Linux 5.19
            with suppress(OSError, ValueError):
                return max(0, self._read(name) - self._base)
        return self._budget or 0

    def end(self) -> None:
        """Kill what is left in it, and remove it. Takes up to 2 s where that is slow to go. Never raises."""
        with suppress(OSError):
            self._write("cgroup.kill", 1)
        due = time.monotonic() + _PATIENCE
        while time.monotonic() < due:
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # not quite dead
                time.sleep(0.01)
            else:
                return

    def _write(self, name: str, value: int) -> None:
        # One call of write and no file made: where the kernel has no such file it is an error.
        file = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, str(value).encode())
        finally:
            os.close(file)

    def _read(self, name: str) -> int:
        return int((self.path / name).read_text())


def make_leaf() -> Leaf | None:
    """A cgroup for a worker that is to be limited; None where there is none: ``why_not`` says why."""
    with _Here.lock:
        if _Here.found is None:
            _Here.found = find_delegated()
            if _Here.found[0] is not None:
                sweep(_Here.found[0])
        parent = _Here.found[0]
        _Here.serial += 1
        serial = _Here.serial
    if parent is None:
        return None
    path = parent / f"{_prefix(os.getpid())}-{serial}"
    try:
        path.mkdir()
    except OSError as error:  # it was taken away again
        _Here.found = None, str(error)
        return None
    return Leaf(path)


def why_not() -> str:
    """Why there are no cgroups here; "" where there are, or where none was asked for yet."""
    return "" if _Here.found is None else _Here.found[1]


def find_delegated(
    mount: Path | None = None, own: str | None = None, *, needed: Collection[str] = NEEDED
) -> tuple[Path | None, str]:
    """The cgroup in which ours may be made, ready for it; or None and the reason.

    ``mount`` and ``own``: where cgroups are and which is ours (None: what the kernel says). Processes of
    ours that are in it move to a cgroup of their own below it, since the kernel limits only leaves.
    """
    mount = mount or _mount()
    if mount is None:
        return None, "no cgroups of version 2 are mounted"
    if own is None:
        own = _own()
    parent = mount / (own or "").lstrip("/")
    try:
        there = set((parent / "cgroup.controllers").read_text().split())
        if not there >= set(needed):
            missing = ", ".join(sorted(set(needed) - there))
            return None, f"the controllers {missing} are not there for {parent}"
        inside = {int(pid) for pid in (parent / "cgroup.procs").read_text().split()}
        is_root = not (parent / "cgroup.type").exists()
        if not is_root and inside - _family(inside):
            return None, f"processes of others are in {parent}"
        if not is_root and inside:
            ours = parent / f"{_prefix(os.getpid())}-host"
            ours.mkdir(exist_ok=True)
            for pid in inside:
                with suppress(ProcessLookupError):
                    Leaf(ours).enter(pid)
        enabled = set((parent / "cgroup.subtree_control").read_text().split())
        for name in sorted(set(needed) - enabled):
            (parent / "cgroup.subtree_control").write_text(f"+{name}")
    except (OSError, ValueError) as error:
        return None, f"{parent} was not delegated to this process: {error}"
    return parent, ""


def sweep(parent: Path) -> None:
    """End what processes that are gone have left behind."""
    for path in parent.glob("pyrepl3-*"):
        _, pid, began, *_ = [*path.name.split("-"), "", ""]
        if not pid.isdigit() or beginning_of(int(pid)) != began:
            Leaf(path).end()


def _mount() -> Path | None:
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                return Path(before.split()[4])
    return None


def _own() -> str | None:
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return None


def _prefix(pid: int) -> str:
    return f"pyrepl3-{pid}-{beginning_of(pid)}"


def _family(pids: Collection[int]) -> set[int]:
    """Those of ``pids`` that are this process, or were started by it."""
    found = {os.getpid()}
    parents = {pid: parent_of(pid) for pid in pids}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found
