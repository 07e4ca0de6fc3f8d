"""A pool: workers that nobody else has, a bound on their number, and nothing left over."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate.pool import Pool
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc"),
]


def cell(n, source):
    """A cell."""
    return Cell(id=f"pool-c{n}", n=n, source=source, filename=f"<pool {n}>")


@pytest.fixture
def pool():
    pool = Pool(warm=0, most=3)
    yield pool
    pool.close()


def test_more_than_the_limit_is_refused_and_room_comes_back(pool):
    workers = [pool.lease() for _ in range(3)]
    assert len({worker.pid for worker in workers}) == 3
    with pytest.raises(WorkerDiedError, match="limit of the pool"):
        pool.lease()
    workers[0].kill()
    assert workers[0].wait(10)
    assert os.waitstatus_to_exitcode(workers[0].status) == -signal.SIGKILL
    workers.append(pool.lease())
    assert workers[-1].alive
    for worker in workers:
        worker.sock.close()


def test_a_worker_whose_host_lets_go_of_it_ends(pool):
    worker = pool.lease()
    worker.sock.close()
    assert worker.wait(10)


def test_a_zygote_that_died_is_replaced(pool):
    first = pool.lease()
    pool._process.kill()
    assert first.wait(10)  # it dies with its zygote
    second = pool.lease()
    assert second.alive
    first.sock.close()
    second.sock.close()


def test_a_closed_pool_gives_nothing_and_leaves_nothing(pool):
    worker = pool.lease()
    pool.close()
    pool.close()
    assert worker.wait(10)
    worker.sock.close()
    with pytest.raises(WorkerDiedError, match="closed"):
        pool.lease()


def test_what_is_to_be_preloaded_is_there_and_what_cannot_be_is_no_error(capfd):
    pool = Pool(warm=0, preload=("fractions", "no_such_module_anywhere"))
    try:
        worker = pool.lease()
        assert worker.alive
        worker.sock.close()
    finally:
        pool.close()
    assert "no_such_module_anywhere cannot be preloaded" in capfd.readouterr().err


async def test_many_sessions_leave_no_process_and_no_descriptor(pool):
    async def one(n):
        runner = ProcessRunner(f"s{n}", pool=pool)
        outcome = await runner.run(cell(1, f"{n} + 1"), lambda event: None)
        assert outcome.text == str(n + 1)
        await runner.aclose()
        await runner.aclose()

    await one(0)
    before = len([*Path("/proc/self/fd").iterdir()])
    for n in range(int(os.environ.get("PYREPL3_CAMPAIGN", "0")) * 9_980 + 20):
        await one(n)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert pool.count == 0


async def test_sessions_of_one_pool_know_nothing_of_each_other(pool):
    one, other = (ProcessRunner(name, pool=pool) for name in ("one", "other"))
    try:
        await one.run(cell(1, "import os; os.environ['MINE'] = '1'; x = 1"), lambda event: None)
        outcome = await other.run(
            cell(1, "import os; 'x' in globals(), 'MINE' in os.environ"), lambda event: None
        )
        assert outcome.text == "(False, False)"
        assert one.pid != other.pid
    finally:
        await one.aclose()
        await other.aclose()
