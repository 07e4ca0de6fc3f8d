"""capture_fds: a stage under which what subprocesses and C code write is the cell's output too.

File descriptors belong to the process, not to a cell: while such a cell runs, *everything* that is
written to 1 and 2 counts as its output, also by other threads of the host. So it is asked for, not given.
"""

from __future__ import annotations

import os
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
    from pyrepl3.run.sink import Sink

DRAIN = 0.5
"""Seconds to wait at the end of a cell for what is still in the pipe, if a child keeps that open."""

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
    if sink is None:
        yield
        return
    if not _mine.acquire(blocking=False):
        text = f"cell {cell.n} runs without capture_fds: another cell has the file descriptors"
        sink.notice("not-captured", text)
        yield
        return
    try:
        _flush()
        captures = [_Capture(1, "stdout", sink), _Capture(2, "stderr", sink)]
        try:
            yield
        finally:
            _flush()
            for capture in captures:
                capture.end()
    finally:
        _mine.release()


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()  # type: ignore[union-attr]


class _Capture:
    """One file descriptor, led into a pipe that a thread reads."""

    def __init__(self, fd: int, stream: Stream, sink: Sink) -> None:
        self._fd = fd
        self._stream: Stream = stream
        self._sink = sink
        self._saved = os.dup(fd)
        self._pipe, write = os.pipe()
        os.dup2(write, fd)
        os.close(write)
        self._reader = threading.Thread(target=self._read, name="pyrepl3-capture", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while data := os.read(self._pipe, 65536):
            # Past the output limit the cell is being stopped; the pipe is read on, so that no child hangs.
            with suppress(CellInterrupt, LimitExceededError):
                self._sink.write_bytes(self._stream, data)
        os.close(self._pipe)

    def end(self) -> None:
        os.dup2(self._saved, self._fd)
        os.close(self._saved)
        self._reader.join(DRAIN)
