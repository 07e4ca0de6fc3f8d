"""Durable state in a file: what was answered is there after any end, and the SDK works on it as it is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from resonate.heartbeat import NoopHeartbeat
from resonate.resonate import Resonate

from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.state.requests import PromiseCreate, PromiseGet, PromiseSettle
from pyrepl3.errors import StoreError

FOREVER = 1 << 50
VALUE = msgspec.Raw(b'{"data":"MQ=="}')


@pytest.fixture
def opened(tmp_path):
    """Opens the same file again at each call; what was open is closed."""
    connections = []

    def open_again(**options):
        for connection in connections:
            connection.close()
        connections.append(Embedded(tmp_path / "durable.db", **options))
        return connections[-1]

    yield open_again
    for connection in connections:
        connection.close()


def ask(connection, request):
    return connection.request(request).result(10)


def test_what_was_settled_is_there_when_the_file_is_opened_again(opened):
    first = opened()
    assert ask(first, PromiseCreate(id="a", timeout_at=FOREVER)).status == 200
    assert ask(first, PromiseSettle(id="a", state="resolved", value=VALUE)).status == 200
    found = ask(opened(), PromiseGet(id="a")).data["promise"]
    assert (found.state, bytes(found.value)) == ("resolved", bytes(VALUE))


def test_a_second_opener_is_told_who_has_the_file(tmp_path, opened):
    opened()
    with pytest.raises(StoreError, match=r"in use by pid \d+"):
        Embedded(tmp_path / "durable.db")


async def test_a_workflow_of_the_sdk_runs_on_it(opened):
    connection = opened()
    resonate = Resonate(network=connection, heartbeat=NoopHeartbeat(), autostart=False)

    async def leaf(ctx, n):
        return n

    async def work(ctx, n):
        return [await ctx.run(leaf, i) for i in range(n)]

    resonate.register(leaf)
    resonate.register(work)
    resonate.start()
    async with asyncio.timeout(20):
        assert await resonate.run("here", work, 3).result() == [0, 1, 2]
        assert await resonate.rpc("sent", work, 3).result() == [0, 1, 2]
    await resonate.stop()
