"""capture_fds: a stage under which what subprocesses and C code write is the cell's output too.

File descriptors belong to the process, not to a cell: while such a cell runs, *everything* that is
written to 1 and 2 counts as its output, also by other threads of the host. So it is asked for, not given.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyrepl3.errors import CellInterrupt, LimitExceededError
from pyrepl3.run.execution import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from pyrepl3.records import Cell, Stream
    from pyrepl3.run.execution import Execution

DRAIN = 0.5
"""Seconds to wait at the end of a cell for what is still in the pipe, if a child keeps that open."""

LOOK = 0.1
"""Seconds between two looks whether the cell was left behind."""

_mine = threading.Lock()


@contextmanager
def capture_fds(cell: Cell, _code: CodeType | None = None) -> Iterator[None]:
    """Make file descriptors 1 and 2 output of ``cell`` while it runs. A Stage.

    Give it to ``open_session(stages=[capture_fds])``. One cell of the process at a time: a second one, in the
    background or in another session, runs without, and a Notice says so. A child that outlives its cell
    goes on writing to that cell. An observer must not write to 1 or 2 itself: that would come back to it.
    """
    execution = CURRENT.get()
    sink = None if execution is None else execution.sink
    if execution is None or sink is None:
        yield
        return
    if not _mine.acquire(blocking=False):
        text = f"cell {cell.n} runs without capture_fds: another cell has the file descriptors"
        sink.notice("not-captured", text)
        yield
        return
    captures = _Captures(execution)
    try:
        yield
    finally:
        captures.end()
        captures.join()


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()  # type: ignore[union-attr]


class _Captures:
    """Both descriptors, led into pipes that threads read, until ``end``."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._lock = threading.Lock()
        _flush()
        self._saved = {fd: os.dup(fd) for fd in (1, 2)}
        self._readers = [self._lead(1, "stdout"), self._lead(2, "stderr")]

    def _lead(self, fd: int, stream: Stream) -> threading.Thread:
        read, write = os.pipe()
        os.dup2(write, fd)
        os.close(write)
        reader = threading.Thread(
            target=self._read, args=(read, stream), name="pyrepl3-capture", daemon=True
        )
        reader.start()
        return reader

    def _read(self, pipe: int, stream: Stream) -> None:
        sink = self._execution.sink
        assert sink is not None
        while True:
            ready, _, _ = select.select([pipe], [], [], LOOK)
            if self._execution.abandoned:
                # Its thread is inside a call, maybe for ever: nobody else would give them back. A
                # child that still writes finds the pipe closed.
                self.end()
                break
            if not ready:
                continue
            data = os.read(pipe, 65536)
            if not data:
                break
            # Past the output limit the cell is being stopped; read on, so that no child hangs.
            with suppress(CellInterrupt, LimitExceededError):
                sink.write_bytes(stream, data)
        os.close(pipe)

    def end(self) -> None:
        """Give the descriptors back. Idempotent; any thread."""
        with self._lock:
            saved, self._saved = self._saved, {}
            if not saved:
                return
            _flush()
            for fd, kept in saved.items():
                os.dup2(kept, fd)
                os.close(kept)
            _mine.release()

    def join(self) -> None:
        """Wait for what is still in the pipes."""
        for reader in self._readers:
            reader.join(DRAIN)
