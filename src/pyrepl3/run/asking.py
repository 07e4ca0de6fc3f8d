"""``input``, ``getpass`` and ``sys.stdin`` of cells: a question in, the answer of whoever runs the cell out.

A cell without an asker reads the process's own stdin, as does code of nobody's cell.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt
from pyrepl3.run.aim import in_main_line
from pyrepl3.run.execution import CURRENT, Execution, Group
from pyrepl3.run.speaker import NOBODY, speaker

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK = 0.02  # seconds between two looks whether a cell that waits for an answer is to stop


def asking() -> Execution | None:
    """The execution that is speaking, if it has somebody to ask."""
    execution = speaker()
    return None if execution is None or execution.asker is None else execution


_turns: weakref.WeakKeyDictionary[Group, threading.Lock] = weakref.WeakKeyDictionary()


def ask_host(execution: Execution, prompt: str, *, password: bool = False) -> str:
    """The answer. Asks on a thread of its own, so that an interrupt reaches the waiting cell.

    Cells of one session that ask at once take turns. Raises what the asker raises (EOFError,
    KeyboardInterrupt). The late answer to an interrupted question is dropped.
    """
    asker = execution.asker
    assert asker is not None
    if execution.sink is not None:
        execution.sink.flush()
    answers: list[str] = []
    failures: list[BaseException] = []

    def put() -> None:
        try:
            answers.append(str(asker(prompt, password)))
        except BaseException as error:  # noqa: BLE001  it belongs to the cell, on its own thread
            failures.append(error)

    # A lock or thread that is waited for without end cannot be broken off the main thread, so look
    # now and then whether the cell is to stop.
    turn = _turns.setdefault(execution.group, threading.Lock())
    while not turn.acquire(timeout=_LOOK):
        stop_if_asked(execution)
    try:
        # Not by a pool, whose threads would keep the process from ending.
        thread = threading.Thread(target=put, name="pyrepl3-input", daemon=True)
        token = CURRENT.set(NOBODY)
        try:
            thread.start()
        finally:
            CURRENT.reset(token)
        while thread.is_alive():
            thread.join(_LOOK)
            stop_if_asked(execution)
    finally:
        turn.release()
    if failures:
        raise failures[0].with_traceback(None)  # where the host raised it is not the cell's concern
    return answers[0]


def stop_if_asked(execution: Execution) -> None:
    """For code of ours that waits on a cell's thread: raise where the cell is to stop."""
    stop = execution.stop
    if execution.abandoned:
        raise CellInterrupt
    if stop is None or execution.finished:
        return
    if in_main_line(execution):
        if not stop.delivered or stop.stage > 1:
            stop.delivered = True
            raise CellInterrupt
    elif asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises where none runs
        # A task: until it leaves the loop, the interrupt cannot reach the cell itself.
        raise asyncio.CancelledError("stopped: it waited for an answer on the loop of its cell")


class InRouter(io.TextIOBase):
    """Stands in for ``sys.stdin``; ``original`` is what was there, or None. Reading is by lines."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self._bytes = io.BufferedReader(_Bytes(self))
        # What read(n) left of a line, for the cell's next read.
        self._left: weakref.WeakKeyDictionary[Execution, str] = weakref.WeakKeyDictionary()

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        execution = asking()
        if execution is None:
            return str(self._real().readline(-1 if size is None else size))
        line = self._left.pop(execution, "")
        if not line:
            try:
                line = ask_host(execution, "") + "\n"
            except EOFError:
                return ""
        if size is not None and 0 <= size < len(line):
            self._left[execution] = line[size:]
            line = line[:size]
        return line

    def read(self, size: int | None = -1, /) -> str:
        if asking() is None:
            return str(self._real().read(size))
        if size is None or size < 0:
            return "".join(iter(self.readline, ""))
        text = ""
        while len(text) < size and (line := self.readline(size - len(text))):
            text += line
        return text

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.readline, "")

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return asking() is None and bool(self._real().isatty())

    def fileno(self) -> int:
        return int(self._real().fileno())

    def close(self) -> None:
        """Do nothing: a cell cannot close the process's streams."""

    @property
    def buffer(self) -> Any:
        return self._real().buffer if asking() is None else self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self.original, "encoding", None) or "utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> Any:
        return io.StringIO() if self.original is None else self.original


class _Bytes(io.RawIOBase):
    """``sys.stdin.buffer`` of a cell with an asker, unbuffered."""

    def __init__(self, stream: InRouter) -> None:
        self._stream = stream
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any, /) -> int:
        if not self._left:
            self._left = self._stream.readline().encode("utf-8", "surrogatepass")
        part, self._left = self._left[: len(target)], self._left[len(target) :]
        target[: len(part)] = part
        return len(part)


class Input:
    """Stands in for ``builtins.input``, and with ``route_getpass`` for ``getpass.getpass``."""

    def __init__(self) -> None:
        original = self._original = builtins.input
        self._getpass: tuple[Any, Any] | None = None

        def input(prompt: object = "", /) -> str:  # noqa: A001  it stands in for the builtin
            execution = asking()
            # A cell that put its own sys.stdin there wants to read that.
            if execution is None or not isinstance(sys.stdin, InRouter):
                return original(prompt)
            return ask_host(execution, str(prompt))

        input.__doc__ = original.__doc__
        self._routed = builtins.input = input

    def route_getpass(self) -> None:
        """Let ``getpass.getpass`` ask too. Idempotent."""
        import getpass  # noqa: PLC0415  where nobody answers it need not be loaded

        if self._getpass is not None:
            return
        original = getpass.getpass

        def routed(prompt: str = "Password: ", stream: Any = None, **options: Any) -> str:
            execution = asking()
            if execution is None:
                return original(prompt, stream, **options)
            return ask_host(execution, prompt, password=True)

        routed.__doc__ = original.__doc__
        getpass.getpass = routed
        self._getpass = (original, routed)

    def end(self) -> None:
        """Undo it, where nobody has put something else there since."""
        if builtins.input is self._routed:
            builtins.input = self._original
        if self._getpass is not None:
            import getpass  # noqa: PLC0415

            original, routed = self._getpass
            if getpass.getpass is routed:
                getpass.getpass = original
