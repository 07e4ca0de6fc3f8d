"""The debugger of one session's cells: questions of it in; breakpoints held around each cell that runs."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import DebugError
from pyrepl3.records import Breakpoint, Debug
from pyrepl3.run.debugserver import attached_server, hit_condition, start_server
from pyrepl3.run.tracebacks import traceback_of, trim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from pyrepl3.records import Cell, DebugServer
    from pyrepl3.run.debugserver import Server


class Debugging:
    """The debugger of one namespace's cells: a Stage around each of them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._server: Server | None = None
        self._wanted: dict[tuple[str, int], Breakpoint] = {}

    def answer(self, question: Debug | Breakpoint) -> DebugServer | None:
        """What a question about the debugger promises. Blocks. Raises DebugError."""
        if isinstance(question, Debug):
            return self.listen(question.port)
        self.set(question)
        return None

    def listen(self, port: int) -> DebugServer:
        """Start the server, or join it. Blocks. Raises DebugError."""
        server = start_server(port)
        if self._server is None:
            for filename, source in self._executor.namespace.sources.living().items():
                server.show(filename, source)
            self._server = server
            self._executor.add_stage(self)
        return server.endpoint

    def set(self, wanted: Breakpoint) -> None:
        """Set a breakpoint, or take it away. It holds while a client is attached."""
        if wanted.line < 1:
            raise DebugError(f"lines count from 1: there is no line {wanted.line}")
        hit_condition(wanted.hits)
        self.listen(0)
        assert self._server is not None
        key = wanted.filename, wanted.line
        if self._wanted.pop(key, None) is not None:
            self._server.take(*key)
        if not wanted.clear:
            self._wanted[key] = wanted
            if self._server.attached:
                self._server.refresh(self._wanted)

    def close(self) -> None:
        """Take all breakpoints away. The server stays: other sessions may have it too."""
        wanted, self._wanted = self._wanted, {}
        for filename, line in wanted:
            if self._server is not None:
                self._server.take(filename, line)

    @contextlib.contextmanager
    def _around(self, cell: Cell) -> Iterator[None]:
        server = self._server
        assert server is not None
        server.threads.adopt(self._executor.group)
        server.show(cell.filename, cell.source)
        if server.attached:
            server.refresh(self._wanted)
        try:
            yield
        except Exception as error:
            if server.attached:  # to pydevd it is caught: by us
                server.post_mortem(error, uncaught=True)
            raise
        finally:
            server.threads.end_steps(cell.filename)

    def __call__(self, cell: Cell, code: CodeType, /) -> Any:  # noqa: ARG002  the Stage port
        """Entered on the cell's thread."""
        return self._around(cell)


def post_mortem(error: BaseException | None = None) -> None:
    """Look at where the last failure of this session was raised. Call it in a cell.

    In the debugger that is attached; else ``pdb``, which asks through ``input()``. ``error``: another one.
    Raises DebugError where there is none, or nothing is known of where it was raised.
    """
    if error is None:
        error = sys._getframe(1).f_globals.get("_last_exception")  # noqa: SLF001  the cell's own
    if error is None:
        raise DebugError("no cell of this session has failed")
    traceback = traceback_of(trim(error))
    if traceback is None:
        raise DebugError(
            "nothing is known of where the last failure was raised: it did not run, "
            "or was in another process"
        )
    server = attached_server()
    if server is not None:
        server.post_mortem(error, uncaught=False)
        return
    import pdb  # noqa: PLC0415, T100  what %debug is

    debugger = pdb.Pdb()
    debugger.reset()
    debugger.interaction(None, traceback)
