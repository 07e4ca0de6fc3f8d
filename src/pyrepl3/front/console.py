"""Text in, a terminal or a pipe out: two streams, colours, a progress line, and pipes that close."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from pyrepl3.ports import Clock

CLEAR_LINE = "\r\x1b[2K"
_REDRAW_EVERY = 0.1  # seconds: ten times a second reads as steady and costs a chatty cell nothing

_STYLES = {
    "dim": "\x1b[2m",
    "red": "\x1b[31m",
    "error": "\x1b[1;31m",
    "place": "\x1b[35m",
    "note": "\x1b[36m",
    "here": "\x1b[1;32m",
    "number": "\x1b[33m",
    "added": "\x1b[32m",
    "changed": "\x1b[33m",
    "removed": "\x1b[31m",
    "plain": "",
}
_RESET = "\x1b[0m"


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether text for ``stream`` may hold colours.

    The order of CPython's own tracebacks: ``PYTHON_COLORS``, ``NO_COLOR``, ``FORCE_COLOR``,
    ``TERM=dumb``, then whether it is a terminal. An empty variable counts as unset (no-color.org).
    """
    if (choice := environ.get("PYTHON_COLORS")) in {"0", "1"}:
        return choice == "1"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return environ.get("TERM") != "dumb" and _is_terminal(stream)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


class Console:
    """Standard output and error, as they were when it was made. Any thread may write.

    Every write is flushed: what a cell prints is seen when it prints it. When the reader of standard
    output goes away (``| head``) or its disk is full, ``closed`` becomes true, ``when_closed`` is called
    once, and what is written after that is dropped.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        environ = os.environ if environ is None else environ
        # None under pythonw, or where the descriptor was closed before the start.
        self._out = _tolerant(out or sys.stdout or io.StringIO())
        self._err = _tolerant(err or sys.stderr or io.StringIO())
        self.out_is_terminal = _is_terminal(self._out)
        self.err_is_terminal = _is_terminal(self._err)
        self.out_colour = wants_colour(self._out, environ)
        self.err_colour = wants_colour(self._err, environ)
        self._may_draw = self.err_is_terminal and environ.get("TERM") != "dumb"
        self._clock = clock
        self._lock = threading.RLock()  # reentrant: a signal handler may write while a write runs
        self._progress = ""
        self._drawn = False
        self._drawn_at = 0.0
        self._fresh = True  # the terminal's cursor stands at the start of a line
        self.closed = False
        self.failed = False
        """Closed for another reason than that nobody reads it any more; that has been told."""
        self.when_closed: Callable[[], object] | None = None
        self._relay: Callable[[Callable[[], None]], None] | None = None
        self._held: list[tuple[bool, str]] = []  # (standard error?, text) for the relay
        self._called = False

    def out(self, text: str) -> None:
        """Write to standard output."""
        if not text or self.closed:
            return
        with self._lock:
            if self._relay is not None and self.out_is_terminal:
                self._hold(text, to_err=False)
                return
            if self.out_is_terminal:
                self._clear()
            try:
                self._out.write(text)
                self._out.flush()
            except OSError as error:
                self._leave_out()
                self.close(error)
                return
            if self.out_is_terminal:
                self._fresh = text.endswith("\n")
                self._draw_again()

    def err(self, text: str) -> None:
        """Write to standard error. One that nobody reads is no reason to stop."""
        if not text:
            return
        with self._lock:
            if self._relay is not None and self.err_is_terminal:
                self._hold(text, to_err=True)
                return
            self._clear()
            self._write_err(text)
            if self.err_is_terminal:
                self._fresh = text.endswith("\n")
            self._draw_again()

    def line(self, text: str) -> None:
        """Write whole lines of our own to standard error, on a line of their own."""
        with self._lock:
            broken = not self._fresh and self.err_is_terminal
            self.err(("\n" if broken else "") + text + "\n")

    def typed(self) -> None:
        """Somebody pressed Enter at the terminal: its cursor stands at the start of a line."""
        with self._lock:
            self._fresh = True

    def style(self, text: str, style: str) -> str:
        """``text`` for standard error in a style of ours, where colours are wanted."""
        return f"{_STYLES[style]}{text}{_RESET}" if self.err_colour else text

    def paint(self, text: str, style: str) -> str:
        """``text`` for standard output in a style of ours, where colours are wanted."""
        start = _STYLES[style] if self.out_colour else ""
        return f"{start}{text}{_RESET}" if start and text else text

    @property
    def width(self) -> int:
        """Columns of the terminal; 100 where standard output is none."""
        try:
            return int(
                os.environ.get("COLUMNS") or os.get_terminal_size(self._out.fileno()).columns
            )
        except (OSError, ValueError):
            return 100

    @property
    def encoding(self) -> str | None:
        """That of standard output."""
        return getattr(self._out, "encoding", None)

    def progress(self, text: str) -> None:
        """Show one line of progress below all output; an empty text takes it away."""
        if not self._may_draw:
            return
        with self._lock:
            self._clear()
            self._progress = printable(text)
            self._drawn_at = 0.0
            self._draw_again()

    @contextmanager
    def above(self, relay: Callable[[Callable[[], None]], None]) -> Iterator[None]:
        """While somebody else has the terminal: whole lines are written through ``relay``.

        ``relay`` is to call what it is given soon, when writing does no harm. What is not yet
        written when the block ends is written then.
        """
        with self._lock:
            self._relay = relay
        try:
            yield
        finally:
            with self._lock:
                self._relay = None
                held, self._held = self._held, []
                for to_err, text in held:
                    (self.err if to_err else self.out)(text)

    def _hold(self, text: str, *, to_err: bool) -> None:
        if self._held and self._held[-1][0] == to_err:
            self._held[-1] = (to_err, self._held[-1][1] + text)
        else:
            self._held.append((to_err, text))
        if "\n" in text and not self._called and self._relay is not None:
            self._called = True
            self._relay(self._write_held)

    def _write_held(self) -> None:
        """Write the lines that are whole. What is unfinished stays, and all that follows it."""
        with self._lock:
            self._called = False
            if self._relay is None:
                return  # the block has ended, and wrote all of it
            relay, self._relay = self._relay, None
            try:
                held, self._held = self._held, []
                while held:
                    to_err, text = held.pop(0)
                    whole, newline, rest = text.rpartition("\n")
                    if held and not text.endswith("\n"):
                        whole, newline, rest = text, "", ""
                    (self.err if to_err else self.out)(whole + newline)
                    if rest:
                        self._held = [(to_err, rest)]
            finally:
                self._relay = relay

    def _clear(self) -> None:
        if self._drawn:
            self._write_err(CLEAR_LINE)
            self._drawn = False

    def _draw_again(self) -> None:
        now = self._clock()
        if not self._progress or not self._fresh or now - self._drawn_at < _REDRAW_EVERY:
            return
        try:
            width = os.get_terminal_size(self._err.fileno()).columns
        except (OSError, ValueError):
            width = 80
        text = self._progress
        if not text.isascii():
            width //= 2  # a character may take two columns
        if len(text) >= width:
            text = text[: max(1, width - 2)] + "…"
        self._write_err(self.style(text, "dim"))
        self._drawn, self._drawn_at = True, now

    def _write_err(self, text: str) -> None:
        try:
            self._err.write(text)
            self._err.flush()
        except (OSError, ValueError):
            pass

    def close(self, error: OSError) -> None:
        """Standard output takes no more."""
        self.closed = True
        if not isinstance(error, BrokenPipeError | ConnectionResetError):
            self.failed = True
            self.line(f"pyrepl3: cannot write to standard output: {error.strerror or error}")
        if self.when_closed is not None:
            self.when_closed()

    def _leave_out(self) -> None:
        # Or the interpreter's own flush at exit complains about the same pipe.
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._out.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass


def _tolerant(stream: TextIO) -> TextIO:
    """The stream, made to write what its encoding lacks as escapes instead of raising."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def printable(text: str) -> str:
    """``text`` on one line and without control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


_FILE = re.compile(r'^(?P<bar>[ |+]*)File "(?P<name>.*?)", line (?P<line>\d+)(?P<rest>.*)$')
_CARETS = re.compile(r"^[ |]*[~^]+[ ~^]*$")
_ERROR = re.compile(r"^(?P<bar>[ |+]*)(?P<name>[A-Za-z_][\w.]*)(?P<rest>(: .*)?)$")


def colour_traceback(text: str) -> str:
    """A traceback's text with places, carets and the name of the error in colour."""
    lines = []
    for line in text.splitlines():
        if match := _FILE.match(line):
            place, end = _STYLES["place"], _RESET
            lines.append(
                f'{match["bar"]}File {place}"{match["name"]}"{end}, '
                f"line {place}{match['line']}{end}{match['rest']}"
            )
        elif _CARETS.match(line):
            lines.append(f"{_STYLES['red']}{line}{_RESET}")
        elif (match := _ERROR.match(line)) and not line.startswith("    "):
            lines.append(f"{match['bar']}{_STYLES['error']}{match['name']}{_RESET}{match['rest']}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n" * text.endswith("\n")
