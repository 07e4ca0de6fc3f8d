"""The protocol of Resonate: kept in a file, in memory, and by other servers where they are named.

``PYREPL3_RESONATE_URL=http://localhost:8001`` asks a server, ``PYREPL3_RESONATE_POSTGRES=postgresql://…`` a
database with resonate.sql in it, over psql.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from resonate.connections import HttpConnection, SSEConnection

from pyrepl3.durable.embedded import Embedded, now_ms
from pyrepl3.testing.resonate import PATIENCE, resonate_checks

URL = os.environ.get("PYREPL3_RESONATE_URL")
DATABASE = os.environ.get("PYREPL3_RESONATE_POSTGRES")


class Postgres:
    """A connection to resonate.sql: two psql, one of which looks for what is due and to be sent."""

    def __init__(self, group):
        self.group, self.receivers = group, []

    def unicast(self):
        return f"poll://uni@{self.group}/checks"

    def resolve_target(self, target):
        return f"poll://any@{target}"

    def recv(self, callback):
        self.receivers.append(callback)

    async def start(self):
        self.requests, self.looks = await self._psql(), await self._psql()
        self.turn = asyncio.Lock()
        self.polling = asyncio.create_task(self._poll())

    async def _psql(self):
        return await asyncio.create_subprocess_exec(
            "psql", "-qAt", DATABASE, stdin=-1, stdout=-1, limit=1 << 24
        )

    async def stop(self):
        self.polling.cancel()
        for psql in (self.requests, self.looks):
            psql.stdin.close()
            await psql.wait()

    async def _query(self, psql, query):
        psql.stdin.write(query.encode() + b";\n")
        return json.loads(await psql.stdout.readline())

    async def send(self, req, headers=None):
        async with self.turn:
            return json.dumps(
                await self._query(self.requests, f"SELECT resonate.resonate_rpc($req${req}$req$)")
            )

    async def _poll(self):
        target, unicast = self.resolve_target(self.group), self.unicast()
        while True:
            await self._query(self.looks, "SELECT resonate.process_timeouts()")
            executes = f"SELECT json_build_object('id', task_id, 'version', version) AS task FROM resonate.dequeue_execute('{target}')"
            unblocks = f"SELECT promise FROM resonate.dequeue_unblock('{unicast}')"
            for kind, query in (("execute", executes), ("unblock", unblocks)):
                rows = f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) found"
                for data in await self._query(
                    self.looks, f"SELECT replace(({rows})::text, E'\\n', '')"
                ):
                    for receiver in self.receivers:
                        receiver(json.dumps({"kind": kind, "data": data}))
            await asyncio.sleep(0.02)


class Clock:
    """The time, which may be set forward: a schedule fires once a minute at most."""

    def __init__(self):
        self.ahead, self.connections = 0, []

    def __call__(self):
        return now_ms() + self.ahead

    def advance(self, to):
        self.ahead = max(to - now_ms(), 0)
        for connection in self.connections:
            connection.nudge()


def connect_to(where, path, clock):
    """How the checks reach a server."""

    def connect(group):
        match where:
            case "server":
                return HttpConnection(URL), SSEConnection(URL, group=group, pid="checks")
            case "postgres":
                connection = Postgres(group)
            case "file":
                connection = Embedded(path / "durable.db", clock=clock)
            case _:
                connection = Embedded(":memory:", clock=clock)
        clock.connections.append(connection)
        return connection, connection

    return connect


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("check", resonate_checks(), ids=lambda check: check.name)
@pytest.mark.parametrize(
    "where",
    [
        "file",
        "memory",
        pytest.param("server", marks=pytest.mark.skipif(not URL, reason="no server is named")),
        pytest.param("postgres", marks=pytest.mark.skipif(not DATABASE, reason="none is named")),
    ],
)
async def test_the_protocol(check, where, tmp_path):
    clock = Clock()
    advance = clock.advance if where in ("file", "memory") else None
    await check.run(connect_to(where, tmp_path, clock), advance=advance)
