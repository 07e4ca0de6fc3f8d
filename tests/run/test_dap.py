"""What editors send to a session's debugger, all of it, and the table of it in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.testing import editor
from pyrepl3.testing.dap import DapClient
from pyrepl3.testing.editing import CELL

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "debug.md"


class Debuggee:
    """A session in a worker process, debugged over its socket."""

    def __init__(self, session, server):
        self.session, self.server = session, server
        self.clients = []

    async def path(self):
        return str(next(Path(self.server.folder).glob("*cell-1.py")))

    async def run(self, source):
        return await self.session.run(source)

    async def reconnect(self):
        client = await DapClient.connect(self.server.host, self.server.port)
        self.clients.append(client)
        return client


@pytest.mark.slow
async def test_what_editors_send_is_answered_as_the_documentation_says():
    async with pyrepl3.open_session(isolation="process") as session:
        assert (await session.run(CELL)).ok
        server = await session.debug()
        async with await DapClient.connect(server.host, server.port) as client:
            debuggee = Debuggee(session, server)
            found = await editor.answers(client, debuggee)
            for other in debuggee.clients:
                await other.close()
    rows = (line.split("|") for line in PAGE.read_text("utf-8").splitlines() if line[:2] == "| ")
    told = {name.strip(): said.strip() for _, name, said, *_ in rows if name.strip()}
    total = told.pop(next(name for name in told if name.startswith("done, of")))
    assert found == told
    assert total == str(sum(said == "yes" for said in found.values()))
