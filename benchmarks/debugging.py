"""What editors send to a debugger of cells, one by one, and whether it is done: by us and by ipykernel.

Nothing is timed. The requests are those of ``pyrepl3.testing.editor``; ipykernel gets them as ``debug_request``
messages on its control channel, as from JupyterLab.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import Report
from pyrepl3 import open_session
from pyrepl3.testing import editor
from pyrepl3.testing.dap import DapClient, RefusedError
from pyrepl3.testing.editing import CELL

OURS, THEIRS = "PyREPL3", "ipykernel"


async def run(report: Report) -> None:
    """One row a request."""
    ours = await _ours()
    try:
        import ipykernel
    except ImportError:
        theirs, version = {}, "not installed"
    else:
        version = ipykernel.__version__
        kernel = _Kernel()
        await kernel.start()
        try:
            theirs = await editor.answers(kernel, kernel)
        finally:
            await kernel.stop()
    report.note("## What editors send to a debugger of cells, and whether it is done")
    rows = [f"| {name} | {said} | {theirs.get(name, '')} |" for name, said in ours.items()]
    done = [sum(said == "yes" for said in each.values()) for each in (ours, theirs)]
    head = f"| | {OURS} | {THEIRS} {version} |\n|---|---|---|\n"
    report.note(head + "\n".join(rows) + f"\n| done, of {len(ours)} | {done[0]} | {done[1]} |")


class _Session:
    def __init__(self, session: Any, server: Any) -> None:
        self._session, self._server = session, server

    async def path(self) -> str:
        return str(next(Path(self._server.folder).glob("*cell-1.py")))

    async def run(self, source: str) -> object:
        return await self._session.run(source)

    async def reconnect(self) -> DapClient:
        return await DapClient.connect(self._server.host, self._server.port)


async def _ours() -> dict[str, str]:
    async with open_session(isolation="process") as session:
        assert (await session.run(CELL)).ok
        server = await session.debug()
        async with await DapClient.connect(server.host, server.port) as client:
            return await editor.answers(client, _Session(session, server))


class _Kernel:
    """A kernel as a wire and as what is debugged."""

    async def start(self) -> None:
        from jupyter_client.manager import AsyncKernelManager

        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
        self._manager = AsyncKernelManager(kernel_name="python3")
        await self._manager.start_kernel(stderr=-3)
        self._client = self._manager.client()
        self._client.start_channels()
        await self._client.wait_for_ready(60)
        self._sent = itertools.count(1)
        self._turn = asyncio.Lock()  # the kernel takes one request after the other
        self._events: list[dict[str, Any]] = []
        self._came = asyncio.Condition()
        self._idle: dict[str, asyncio.Event] = {}
        self._reader = asyncio.create_task(self._read())
        await self.run(CELL)

    async def stop(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)

    async def _read(self) -> None:
        while True:
            message = await self._client.get_iopub_msg(timeout=None)
            content = message["content"]
            if message["msg_type"] == "debug_event":
                async with self._came:
                    self._events.append(content)
                    self._came.notify_all()
            elif content.get("execution_state") == "idle":
                ran = message["parent_header"].get("msg_id", "")
                self._idle.setdefault(ran, asyncio.Event()).set()

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        async with self._turn:
            content = {
                "type": "request",
                "seq": next(self._sent),
                "command": command,
                "arguments": arguments,
            }
            message = self._client.session.msg("debug_request", content)
            self._client.control_channel.send(message)
            while True:
                reply = await self._client.get_control_msg(timeout=None)
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    break
        answer = reply["content"]
        if not answer.get("success", "body" in answer):
            raise RefusedError(command, str(answer.get("message", answer)))
        body: dict[str, Any] = answer.get("body") or {}
        return body

    async def event(self, name: str) -> dict[str, Any]:
        async with self._came:
            while True:
                for event in self._events:
                    if event["event"] == name:
                        self._events.remove(event)
                        return event.get("body") or {}
                await self._came.wait()

    async def path(self) -> str:
        found = await self.request("dumpCell", code=CELL)
        return str(found["sourcePath"])

    async def run(self, source: str) -> object:
        ran = self._client.execute(source, store_history=False)
        await self._idle.setdefault(ran, asyncio.Event()).wait()
        return None

    async def reconnect(self) -> _Kernel:
        """Another kernel: the last one may not answer any more."""
        await self.stop()
        await self.start()
        return self
