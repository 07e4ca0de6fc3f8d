"""A question of a cell in, a line from standard input out: for ``input()`` and ``getpass()``.

A question may be dropped (its cell was interrupted) while it waits, and then must not swallow the line
that somebody types next. So nobody blocks in a read: waiting is a ``select`` that ``drop`` ends.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyrepl3.front.console import Console


class LineReader:
    """Reads lines of a descriptor for the cells of a run. Any thread; one question at a time."""

    def __init__(self, console: Console, descriptor: int | None = None) -> None:
        self._console = console
        self._descriptor = _descriptor() if descriptor is None else descriptor
        self._rest = b""
        self._over = False
        self._turn = threading.Lock()
        self._wake = os.pipe()
        self._waiting = False
        self._dropped = False

    def ask(self, prompt: str, secret: bool) -> str:  # noqa: FBT001 - the signature of ports.Asker
        """The next line without its end. Raises EOFError at the end of input, or when dropped."""
        with self._turn:
            self._dropped = False
            self._waiting = True
            try:
                self._console.out(prompt)
                with self._silent(secret):
                    return self._line()
            finally:
                self._waiting = False

    def drop(self) -> None:
        """End the question that waits, if one does: its cell is over."""
        if self._waiting:
            self._dropped = True
            os.write(self._wake[1], b"x")

    def _line(self) -> str:
        if self._descriptor < 0:
            raise EOFError("standard input is closed")
        while b"\n" not in self._rest and not self._over:
            ready, _, _ = select.select([self._descriptor, self._wake[0]], [], [])
            if self._wake[0] in ready:
                os.read(self._wake[0], 1024)
                if self._dropped:
                    raise EOFError("the question was dropped")
                continue
            data = os.read(self._descriptor, 65536)
            self._rest += data
            if os.isatty(self._descriptor):
                if data.endswith(b"\n"):
                    self._console.typed()
                break  # one read is one line, or Ctrl-D, which ends this question only
            self._over = not data
        if not self._rest:
            raise EOFError("end of input")
        line, _, self._rest = self._rest.partition(b"\n")
        encoding = getattr(sys.__stdin__, "encoding", None) or "utf-8"
        return line.decode(encoding, "surrogateescape").removesuffix("\r")

    @contextmanager
    def _silent(self, secret: bool) -> Iterator[None]:  # noqa: FBT001 - passed through
        """What is typed is not shown, where it is typed at a terminal."""
        if not secret or self._descriptor < 0 or not os.isatty(self._descriptor):
            yield
            return
        import termios  # noqa: PLC0415  few cells ask for secrets, and none on Windows

        before = termios.tcgetattr(self._descriptor)
        silent = list(before)
        silent[3] &= ~termios.ECHO
        try:
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, silent)
            yield
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, before)
            self._console.out("\n")


def _descriptor() -> int:
    try:
        return sys.__stdin__.fileno() if sys.__stdin__ is not None else -1
    except (OSError, ValueError):
        return -1
