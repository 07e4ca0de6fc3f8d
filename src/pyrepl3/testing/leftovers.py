"""A pool of workers and a folder in; what they and this process hold out, so that leaks show as growth."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.run.usage import resident_bytes

if TYPE_CHECKING:
    from pyrepl3.isolate.pool import Pool


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Counts at one moment. ``descriptors`` and ``memory`` (resident bytes) are those of host and zygote."""

    workers: int
    threads: int
    descriptors: int
    files: int
    objects: int
    memory: int

    def grown(self, since: Held) -> dict[str, int]:
        """By how much each count is larger than it was."""
        fields = self.__struct_fields__
        return {name: getattr(self, name) - getattr(since, name) for name in fields}


def count_held(pool: Pool, folder: Path) -> Held:
    """What this process, the zygote of ``pool`` and ``folder``, with all beneath, hold now. Linux only."""
    gc.collect()
    forker = pool._forker.pid  # noqa: SLF001  nobody else has to know it
    pids = [os.getpid(), *([] if forker is None else [forker])]
    return Held(
        workers=pool.count,
        threads=threading.active_count(),
        descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        files=len(list(folder.rglob("*"))),
        objects=len(gc.get_objects()),
        memory=sum(resident_bytes(pid) or 0 for pid in pids),
    )
