"""The specification's durable wrapper on a Resonate instance: a cell runs once, between two checkpoints."""

from __future__ import annotations

import asyncio

import pytest
from resonate import resonate as sdk
from resonate.connections.local import LocalConnection

from pyrepl3.durable.cell import DurableCells, register
from pyrepl3.errors import StaleBaseError, StoreError
from pyrepl3.run.executor import AsyncExecutor
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.testing.fakes import FakeStore


class Host:
    """A process with a Resonate instance and cells; what is on its store survives it."""

    def __init__(self, store):
        self.store = store
        self.manager = NamespaceManager(name="durable")
        self.runner = ThreadRunner(self.manager)
        self.resonate = sdk.Resonate(network=LocalConnection(), subscription_refresh_secs=0)
        self.cells = DurableCells(self.runner, store)
        register(self.resonate, self.cells)

    async def run(self, code, execution_id):
        handle = self.resonate.run(
            f"run-{execution_id}", "async_execute", code=code, execution_id=execution_id
        )
        return await asyncio.wait_for(handle.result(), 20)

    async def close(self):
        await self.resonate.stop()
        await self.runner.aclose()


@pytest.fixture
async def host():
    host = Host(FakeStore())
    yield host
    await host.close()


async def test_a_cell_runs_between_two_checkpoints(host):
    host.manager.update_namespace({"given": 20})
    record = await host.run("x = given + 1\nx", "a")
    assert (record["status"], record["text"], record["epoch"]) == ("done", "21", 2)
    before, after = host.store.history()
    assert before.receipt.cell.id == "a-before"
    assert (after.receipt.cell.id, after.receipt.cell.base) == ("a", 1)
    assert await host.run("x = given + 1\nx", "a") == record  # the promise is settled
    assert len(host.store.history()) == 2


async def test_cells_see_each_other_s_names_and_run_in_turn(host):
    await host.run("import asyncio; n = 0", "a")
    records = await asyncio.gather(
        *(host.run("m = n; await asyncio.sleep(0); n = m + 1; n", f"b{i}") for i in range(4))
    )
    assert sorted(record["text"] for record in records) == ["1", "2", "3", "4"]


async def test_a_cell_that_fails_has_run(host):
    record = await host.run("done = True\n1 / 0", "a")
    assert record["status"] == "failed"
    assert "ZeroDivisionError" in record["error"]
    assert (await host.run("done", "b"))["text"] == "True"


async def test_after_a_crash_the_epoch_on_disk_counts_not_the_promise():
    """Here the promises are gone altogether: as if the process had died before they were settled."""
    store = FakeStore()
    host = Host(store)
    record = await host.run("n = globals().get('n', 0) + 1; n", "a")
    await host.close()
    other = Host(store.again())
    with pytest.raises(StaleBaseError):  # a run that began at another base than the one it had
        await other.cells.run("n", "a", 7)
    assert await other.cells.run("n = globals().get('n', 0) + 1; n", "a", 0) == record
    assert (await other.run("n", "b"))["text"] == "1"
    await other.close()


@pytest.mark.parametrize("value", ["float('nan')", "object()", "lambda: 0", "{1: {2}}"])
async def test_no_value_of_a_cell_goes_through_the_codec(host, value):
    record = await host.run(f"x = {value}\nx", "a")
    assert record["status"] == "done"
    assert record["text"]


async def test_a_store_that_fails_is_an_error_and_is_not_tried_for_ever(host):
    await host.run("x = 1", "a")
    host.store.fail_commit("before")
    with pytest.raises(StoreError):
        await host.run("x = 2", "b")


async def test_the_specification_s_classes_take_a_resonate_instance(host):
    manager = NamespaceManager(host.resonate)
    executor = AsyncExecutor(host.resonate, manager, "spec")
    assert await executor.execute("1 + 1") == 2
    assert executor.resonate is manager.resonate is host.resonate
    await executor.aclose()
