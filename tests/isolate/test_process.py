"""A Runner in a process of its own: the same promises as in this one, and what only a process can do."""

from __future__ import annotations

import pytest

from pyrepl3.errors import StoreError
from pyrepl3.isolate.pool import Pool
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell, Failed
from pyrepl3.testing.runner import runner_checks


@pytest.fixture(scope="module")
def pool():
    pool = Pool()
    yield pool
    pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", runner_checks(local=False), ids=lambda check: check.name)
async def test_the_conformance_suite(check, pool):
    async def open_runner():
        return ProcessRunner("check", pool=pool)

    await check.run(open_runner)


@pytest.mark.slow
async def test_an_epoch_that_cannot_be_read_fails_the_cell_and_is_tried_again(pool):
    def cell(n, source):
        return Cell(id=f"again-c{n}", n=n, source=source, filename=f"<again {n}>")

    tries = []

    async def revive(restore):
        tries.append(restore)
        if len(tries) == 1:
            raise StoreError("the disk is away")
        return 7

    runner = ProcessRunner("again", pool=pool)
    runner.revive = revive
    events = []
    try:
        assert not (await runner.run(cell(1, "import os; os._exit(1)"), events.append)).ok
        outcome = await runner.run(cell(2, "1"), events.append)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StoreError)
        outcome = await runner.run(cell(3, "1"), events.append)
        assert outcome.text == "1"
        (notice,) = [event for event in events if type(event).__name__ == "Notice"]
        assert "goes on from epoch 7" in notice.text
    finally:
        await runner.aclose()
