"""A debugger and cells in; an editor's connection to them out, which notes what came of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pyrepl3.testing.dap import RefusedError

INITIALIZE: dict[str, Any] = {
    "clientID": "vscode",
    "clientName": "Visual Studio Code",
    "adapterID": "debugpy",
    "pathFormat": "path",
    "linesStartAt1": True,
    "columnsStartAt1": True,
    "supportsVariableType": True,
    "supportsVariablePaging": True,
    "supportsRunInTerminalRequest": True,
    "locale": "en",
    "supportsProgressReporting": True,
    "supportsInvalidatedEvent": True,
    "supportsMemoryReferences": True,
    "supportsArgsCanBeInterpretedByShell": True,
    "supportsMemoryEvent": True,
    "supportsStartDebuggingRequest": True,
    "supportsANSIStyling": True,
}
ATTACH: dict[str, Any] = {
    "name": "PyREPL3 session",
    "type": "debugpy",
    "request": "attach",
    "justMyCode": True,
    "workspaceFolder": "/",
    "debugOptions": ["RedirectOutput", "ShowReturnValue"],
    "showReturnValue": True,
    "redirectOutput": True,
    "clientOS": "unix",
    "subProcess": False,
    "__sessionId": "0b5a6f3e",
}
CELL = """\
def work(n):
    many = list(range(1000))
    word = 'a'
    total = n + 1
    return total
def other(n):
    return work(n) * 2
"""
_PATIENCE = 10.0  # seconds for one request and what it leads to
WORD, STOP, CALL = 4, 5, 7  # lines of CELL


class Wire(Protocol):
    """A connection to a debug server, as ``DapClient`` is."""

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The body of the answer. Raises RefusedError, EOFError."""
        ...

    async def event(self, name: str) -> dict[str, Any]:
        """The body of the next event of this name."""
        ...


class Debuggee(Protocol):
    """Cells to be debugged. CELL has run."""

    async def path(self) -> str:
        """The file that an editor shows for CELL."""
        ...

    async def run(self, source: str) -> object:
        """Run a cell to its end, whatever comes of it."""
        ...

    async def reconnect(self) -> Wire:
        """Another connection, where the last one is done with."""
        ...


class Editing:
    """Requests, what they lead to, and what came of them in ``found``."""

    def __init__(self, wire: Wire, debuggee: Debuggee) -> None:
        self._wire, self._debuggee = wire, debuggee
        self.found: dict[str, str] = {}
        self._path = ""
        self._thread = self._frame = 0
        self._cell: asyncio.Task[object] | None = None

    # --- how it goes ----------------------------------------------------------------------------------

    async def _try(self, name: str, part: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                done = await part()
        except TimeoutError:
            self.found[name] = "no answer"
        except (RefusedError, KeyError, IndexError, EOFError):
            self.found[name] = "refused"
        else:
            self.found[name] = "yes" if done or done is None else "answered, not done"

    async def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        return await self._wire.request(command, **arguments)

    def _begin(self, source: str) -> None:
        self._cell = asyncio.ensure_future(self._debuggee.run(source))

    async def _stopped(self) -> str:
        event = await self._wire.event("stopped")
        self._thread = event["threadId"]
        top = await self._frames(startFrame=0, levels=1)
        self._frame = top[0]["id"]
        return str(event["reason"])

    async def _frames(self, **page: int) -> list[dict[str, Any]]:
        found = await self._ask("stackTrace", threadId=self._thread, **page)
        frames: list[dict[str, Any]] = found["stackFrames"]
        return frames

    async def _go_on(self) -> None:
        """To the end of the cell, over whatever stops it yet."""
        assert self._cell is not None
        while not self._cell.done():
            await self._ask("continue", threadId=self._thread)
            stopped = asyncio.ensure_future(self._wire.event("stopped"))
            await asyncio.wait([self._cell, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()

    async def _break(self, *points: dict[str, Any]) -> bool:
        found = await self._ask(
            "setBreakpoints",
            source={"name": "cell", "path": self._path},
            lines=[point["line"] for point in points],
            breakpoints=list(points),
            sourceModified=False,
        )
        return all(point["verified"] for point in found["breakpoints"])

    async def _evaluated(self, expression: str, context: str) -> str:
        found = await self._ask(
            "evaluate", expression=expression, frameId=self._frame, context=context
        )
        return str(found["result"])

    async def _children(self, name: str, **page: Any) -> list[dict[str, Any]]:
        scopes = (await self._ask("scopes", frameId=self._frame))["scopes"]
        local = scopes[0]["variablesReference"]
        found: list[dict[str, Any]]
        found = (await self._ask("variables", variablesReference=local))["variables"]
        if name:
            (one,) = (each for each in found if each["name"] == name)
            ask = {"variablesReference": one["variablesReference"], **page}
            found = (await self._ask("variables", **ask))["variables"]
        return found
