"""A small client of the Debug Adapter Protocol: requests out over a socket, answers and events in.

What VS Code and JupyterLab speak to a debug server; https://microsoft.github.io/debug-adapter-protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType


class RefusedError(Exception):
    """The server answered that it could not do what was asked: ``command`` and its ``reason``."""

    def __init__(self, command: str, reason: str) -> None:
        self.command, self.reason = command, reason
        super().__init__(command, reason)


class DapClient:
    """One connection to a debug server, made by ``connect``. Belongs to the loop it was made on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sent = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: list[dict[str, Any]] = []
        self._came = asyncio.Condition()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """A client of the server that listens there. Raises OSError where none does."""
        return cls(*await asyncio.open_connection(host, port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cut the connection, as a client does that dies."""
        self._task.cancel()
        self._writer.close()
        await asyncio.wait([self._task])
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def attach(self, **arguments: Any) -> dict[str, Any]:
        """Begin as VS Code does, up to where breakpoints are set. Returns the server's capabilities."""
        capabilities = await self.request(
            "initialize",
            clientID="pyrepl3",
            adapterID="debugpy",
            pathFormat="path",
            linesStartAt1=True,
            columnsStartAt1=True,
            supportsVariableType=True,
            supportsVariablePaging=True,
        )
        await self.request("attach", **arguments)
        return capabilities

    def send(self, command: str, **arguments: Any) -> asyncio.Future[dict[str, Any]]:
        """Send a request; the future of the whole answer."""
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._sent] = future
        return future

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait; the body of the answer. Raises RefusedError, EOFError."""
        answer = await self.send(command, **arguments)
        if not answer["success"]:
            raise RefusedError(command, str(answer.get("message", "")))
        body: dict[str, Any] = answer.get("body") or {}
        return body

    async def event(self, name: str, **having: Any) -> dict[str, Any]:
        """The body of the next event of this name, with these values in it; it is taken. Raises EOFError."""

        def find() -> dict[str, Any] | None:
            for event in self._events:
                body: dict[str, Any] = event.get("body") or {}
                if event["event"] == name and all(body.get(k) == v for k, v in having.items()):
                    self._events.remove(event)
                    return body
            if self._task.done():
                raise EOFError(f"the connection ended before an event {name!r}")
            return None

        async with self._came:
            while (found := find()) is None:
                await self._came.wait()
            return found

    def seen(self, name: str) -> bool:
        """Whether an event of this name has come that nobody has taken."""
        return any(event["event"] == name for event in self._events)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
                message = json.loads(await self._reader.readexactly(int(fields["Content-Length"])))
                async with self._came:
                    if message["type"] == "event":
                        self._events.append(message)
                        self._came.notify_all()
                    elif message["type"] == "response":
                        future = self._waiting.pop(message["request_seq"])
                        if not future.done():
                            future.set_result(message)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(EOFError("the connection ended before the answer"))
            self._task.add_done_callback(lambda _: asyncio.ensure_future(self._wake()))

    async def _wake(self) -> None:
        async with self._came:
            self._came.notify_all()
