"""stdout and stderr of cells, each to the cell that caused it, from any task or thread.

While a ``Routing`` is open ``sys.stdout`` and ``sys.stderr`` are routers that ask which cell is
speaking; code of nobody's cell passes to the streams that were there before. What a cell puts in
their place counts until the cell ends. Routings are counted: the last to close puts all back.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.run import forked
from pyrepl3.run.asking import Input, InRouter
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.redirect import Redirecting
from pyrepl3.run.speaker import Carrying, forget_threads, speaker
from pyrepl3.run.unawaited import Unawaited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.records import Stream
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.redirect import Block
    from pyrepl3.run.sink import Sink


class OutRouter(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr``; ``original`` is what was there, or None.

    For a cell it is a UTF-8 text file that is no terminal and cannot be closed.
    """

    routes_cells = True

    def __init__(self, stream: Stream, original: Any) -> None:
        self.stream: Stream = stream
        self.original = original
        self._buffer = _Bytes(self)

    def write(self, text: str, /) -> int:
        execution = CURRENT.get() or speaker()  # the first half of it alone where that is enough
        if execution is None or (sink := execution.sink) is None:
            real = self.real()
            return len(text) if real is None else int(real.write(text) or 0)
        if sink.blocks and (block := self.block(sink)) is not None:
            return int(block.call(block.target.write, text) or 0)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        sink.write(self.stream, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        execution = speaker()
        if execution is None or (sink := execution.sink) is None:
            real = self.real()
            if real is not None:
                real.flush()
        elif (block := self.block(sink)) is not None:
            block.call(block.target.flush)
        else:
            sink.flush()

    def block(self, sink: Sink) -> Block | None:
        """The redirection that holds here for this cell."""
        block = sink.blocks.get(self.stream)
        return None if block is None else block.current()

    def real(self) -> Any:
        """Where code of nobody's cell writes: None drops it, as ``print`` does without a stdout."""
        original = self.original
        if getattr(original, "closed", False):  # a test runner's capture, say, that is over
            return sys.__stdout__ if self.stream == "stdout" else sys.__stderr__
        return original

    def target(self) -> Any:
        """What attributes that are not of ours come from: a redirection's target, or the original."""
        execution = speaker()
        if execution is not None and execution.sink is not None:
            block = self.block(execution.sink)
            if block is not None:
                return block.target
        return self.real()

    def isatty(self) -> bool:
        execution = speaker()
        real = self.real()
        return (execution is None or execution.sink is None) and real is not None and real.isatty()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        real = self.real()
        if real is None:
            raise io.UnsupportedOperation("fileno")
        return int(real.fileno())

    def close(self) -> None:
        """Do nothing: a cell cannot close the process's streams."""

    def detach(self) -> Any:
        """The stream of bytes; text goes on to work."""
        return self.buffer

    def reconfigure(self, **options: Any) -> None:
        """For a cell nothing: its text is kept as it is. Else what the original does."""
        execution = speaker()
        if execution is None or execution.sink is None:
            self.real().reconfigure(**options)

    @property
    def buffer(self) -> Any:
        return self._buffer

    @property
    def name(self) -> str:
        return f"<{self.stream}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        execution = speaker()
        if execution is not None and execution.sink is not None:
            return "utf-8"
        return str(getattr(self.real(), "encoding", None) or "utf-8")

    @property
    def errors(self) -> str:  # type: ignore[override]
        return str(getattr(self.real(), "errors", None) or "strict")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target(), name)


class _Bytes(io.RawIOBase):
    """``sys.stdout.buffer``: bytes of a cell become text of the cell."""

    def __init__(self, stream: OutRouter) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        stream = self._stream
        execution = speaker()
        if execution is None or (sink := execution.sink) is None:
            real = stream.real()
            return memoryview(data).nbytes if real is None else int(real.buffer.write(data))
        block = stream.block(sink)
        if block is not None:
            return int(block.call(block.target.buffer.write, data))
        sink.write_bytes(stream.stream, bytes(data))
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: a wrapper around it that is collected would close it."""

    def fileno(self) -> int:
        return self._stream.fileno()


class Routing:
    """Routes the process's streams while at least one is open. Methods from any thread."""

    def __init__(self) -> None:
        self._is_open = False

    def open(self) -> None:
        """Start routing. Idempotent."""
        with _STATE.lock:
            if not self._is_open:
                self._is_open = True
                _STATE.open += 1
                if _STATE.open == 1:
                    _STATE.install()
                _STATE.route()

    def route_getpass(self) -> None:
        """Let ``getpass`` ask too, while routing is open. Idempotent."""
        with _STATE.lock:
            if _STATE.input is not None:
                _STATE.input.route_getpass()

    def begin(self, execution: Execution) -> None:
        """A cell begins. Streams that somebody put there since the last one are the host's: route them.

        While other cells run they may be such a cell's, and then they must not get this one's output.
        """
        if not self._is_open:
            self.open()
        with _STATE.lock:
            if not _all_routed():
                if all(other.abandoned for other in _STATE.running):
                    _STATE.route()
                else:
                    _STATE.take_back()
            _STATE.running.add(execution)

    def end(self, execution: Execution) -> list[str]:
        """A cell is over. Returns the names of the streams that it had replaced: they are back."""
        with _STATE.lock:
            _STATE.running.discard(execution)
            if _all_routed() or not self._is_open:
                return []
            token = CURRENT.set(execution)  # what a wrapper of our buffer still holds is the cell's
            try:
                return _STATE.take_back()
            finally:
                CURRENT.reset(token)

    def close(self) -> None:
        """Stop routing; the last one out puts back what was there. Idempotent."""
        with _STATE.lock:
            if self._is_open:
                self._is_open = False
                _STATE.open -= 1
                if _STATE.open == 0:
                    _STATE.uninstall()


def _all_routed() -> bool:
    try:
        return sys.stdout.__class__ is sys.stderr.__class__ is OutRouter and (
            sys.stdin.__class__ is InRouter
        )
    except AttributeError:  # a cell has deleted one
        return False


class _State:
    """What all Routings of the process share. To be used under its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = 0
        self.running: set[Execution] = set()
        self.input: Input | None = None
        self._others: tuple[Carrying, Redirecting, Unawaited] | None = None
        self._routers: dict[str, Any] = {}
        self._watches_forks = False

    def install(self) -> None:
        self.input = Input()
        self._others = Carrying(), Redirecting(), Unawaited()
        if not self._watches_forks:
            self._watches_forks = True
            os.register_at_fork(after_in_child=self._leave)

    def route(self) -> None:
        """Put routers before the streams that are there now."""
        for name in ("stdout", "stderr", "stdin"):
            there = getattr(sys, name, None)
            if isinstance(there, OutRouter | InRouter):
                self._routers[name] = there
                continue
            router = self._routers.get(name)
            if router is None or router.original is not there:
                router = InRouter(there) if name == "stdin" else OutRouter(name, there)  # type: ignore[arg-type]
                self._routers[name] = router
            setattr(sys, name, router)

    def take_back(self) -> list[str]:
        """Put the routers back where something else is. Returns the names of those streams."""
        replaced: list[str] = []
        for name, router in self._routers.items():
            there = getattr(sys, name, None)
            if not isinstance(there, OutRouter | InRouter):
                replaced.append(name)
                setattr(sys, name, router)
                # Text that a wrapper of our buffer holds; of another type flush may be anything.
                if there.__class__ is io.TextIOWrapper:
                    with suppress(ValueError, OSError):
                        there.flush()
        return replaced

    def uninstall(self) -> None:
        for name in ("stdout", "stderr", "stdin"):
            there = getattr(sys, name, None)
            if isinstance(there, OutRouter | InRouter):  # else it is somebody else's to put back
                setattr(sys, name, there.original)
        self._routers.clear()
        if self.input is not None and self._others is not None:
            self.input.end()
            for other in self._others:
                other.end()
        self.input = self._others = None

    def _leave(self) -> None:
        """In a forked child: nobody is there to be told of output, so it goes where the process's goes."""
        self.lock = threading.Lock()
        execution = CURRENT.get()
        if execution is not None:
            forked.mark(execution)
        CURRENT.set(None)
        forget_threads()
        if self.open:
            self.open = 0
            self.uninstall()


_STATE = _State()
