"""Processes and a folder in; what they hold, counted, out, so that what leaks shows as growth. Linux only."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Counts at one moment. ``processes`` are children; ``memory`` is resident, in bytes."""

    processes: int
    threads: int
    descriptors: int
    files: int
    objects: int
    memory: int

    def grown(self, since: Held) -> dict[str, int]:
        """By how much each count is larger than it was."""
        fields = self.__struct_fields__
        return {name: getattr(self, name) - getattr(since, name) for name in fields}


def count_held(pids: Sequence[int], folder: Path) -> Held:
    """What this process, ``pids`` and ``folder``, with all beneath, hold now. Raises OSError."""
    gc.collect()
    places = [Path(f"/proc/{pid}") for pid in {os.getpid(), *pids}]
    page = os.sysconf("SC_PAGE_SIZE")
    return Held(
        processes=sum(
            len(task.read_text().split())
            for place in places
            for task in place.glob("task/*/children")
        ),
        threads=threading.active_count(),
        descriptors=sum(len(list(place.glob("fd/*"))) for place in places),
        files=len(list(folder.rglob("*"))),
        objects=len(gc.get_objects()),
        memory=page * sum(int((place / "statm").read_text().split()[1]) for place in places),
    )
