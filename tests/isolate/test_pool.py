"""A pool: workers that nobody else has, a bound on their number, and nothing left over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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
    assert workers[0].wait(60)
    assert os.waitstatus_to_exitcode(workers[0].status) == -signal.SIGKILL
    workers.append(pool.lease())
    assert workers[-1].alive
    for worker in workers:
        worker.sock.close()


async def test_ctrl_c_is_not_for_a_worker_that_serves_no_cells_yet(pool):
    """A terminal tells the host and all of its processes; it would end this one with a traceback."""
    worker = pool.lease()
    for _ in range(100):
        worker.signal(signal.SIGINT)
    assert not worker.wait(0.1)
    worker.discard()


def test_a_lease_waits_for_room_where_it_is_told_to():
    with Pool(warm=0, most=1, wait=60) as pool:
        first = pool.lease()
        with ThreadPoolExecutor() as threads:
            second = threads.submit(pool.lease)
            first.kill()
            assert second.result(60).pid != first.pid
            second.result().discard()
        first.sock.close()


def test_workers_that_hold_more_than_is_allowed_leave_no_room():
    with Pool(warm=0, memory=1) as pool:
        first = pool.lease()
        assert 0 < pool.used < 64 * 1024 * 1024
        with pytest.raises(WorkerDiedError, match=r"is the limit of the pool.*Pool\(memory="):
            pool.lease()
        first.discard()
        assert first.wait(60)
        pool.lease().discard()


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP, "said something"])
def test_a_warm_worker_that_came_to_harm_is_not_leased(harm):
    with Pool(warm=0) as pool:
        worker = pool._fork()
        if harm == "said something":
            worker.sock.close()
            worker.sock, other = socket.socketpair()
            other.send(b"x")
            other.close()
        else:
            os.kill(worker.pid, harm)
            while worker.healthy:
                pass
        if worker.alive:
            pool._idle.append(worker)
        leased = pool.lease()
        assert leased.pid != worker.pid
        assert worker.wait(60)
        worker.sock.close()
        leased.discard()


async def test_a_worker_that_dies_before_it_is_ready_is_replaced_if_it_was_a_warm_one():
    with Pool(warm=1) as pool:
        pool.lease().discard()
        while not pool._idle:
            await asyncio.sleep(0)
        runner = ProcessRunner("s", pool=pool)
        worker = pool._take_idle()
        assert worker.warm
        # After it was looked at, and before it has read anything.
        real, pool.lease = pool.lease, lambda: worker
        os.kill(worker.pid, signal.SIGSTOP)
        starting = asyncio.create_task(runner.start())
        while runner._starting.locked() is False:
            await asyncio.sleep(0)
        worker.kill()
        pool.lease = real
        await starting
        assert runner.pid != worker.pid
        await runner.aclose()


def test_a_worker_whose_host_lets_go_of_it_ends(pool):
    worker = pool.lease()
    worker.sock.close()
    assert worker.wait(60)


def test_a_zygote_that_died_is_replaced(pool):
    first = pool.lease()
    os.kill(pool._forker.pid, signal.SIGKILL)
    assert first.wait(60)  # it dies with its zygote
    second = pool.lease()
    assert second.alive
    first.sock.close()
    second.sock.close()


def test_a_closed_pool_gives_nothing_and_leaves_nothing(pool):
    worker = pool.lease()
    pool.close()
    pool.close()
    assert worker.wait(60)
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


STRETCH = 2_500 if os.environ.get("PYREPL3_CAMPAIGN") else 10
STRETCHES = 4
"""What leaks grows in every one of them; what comes once, and late, as a thread does, in one or two."""
MOST = {"objects": STRETCH // 2, "memory": max(400 * STRETCH, 256 * 1024)}
"""Memory of host and zygote together, in bytes."""
MANY_SESSIONS = """
import asyncio, itertools, json, sys, tempfile
from pathlib import Path
from pyrepl3 import open_session
from pyrepl3.isolate.confine import landlock
from pyrepl3.isolate.pool import Pool
from pyrepl3.testing.leftovers import count_held

async def one(n):
    confined = walls and n % 10 == 0
    kind = "confined" if confined else "process"
    async with open_session(isolation=kind, pool=pool) as session:
        write = "open('left', 'w').write('x'); " if confined else ""
        outcome = await session.run(f"{write}{n} + 1")
        assert outcome.text == str(n + 1)

async def main():
    for n in range(20):  # what is loaded or kept once is no leak
        await one(n)
    held = [count_held([pool._forker.pid], folder)]
    for _ in range(stretches):
        for n in range(sessions):
            await one(n)
        held.append(count_held([pool._forker.pid], folder))
    print(json.dumps([after.grown(before) for before, after in itertools.pairwise(held)]))

folder, sessions, stretches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tempfile.tempdir = str(folder)
walls = landlock.version() > 0
with Pool(warm=0, most=3) as pool:
    asyncio.run(main())
"""


@pytest.mark.timeout(1200)
def test_many_sessions_leave_no_process_descriptor_file_object_or_memory(tmp_path):
    """One in ten is confined, and writes into a directory of its own."""
    program = [sys.executable, "-c", MANY_SESSIONS, str(tmp_path), str(STRETCH), str(STRETCHES)]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    grown = json.loads(done.stdout)
    print(grown)
    least = {name: min(stretch[name] for stretch in grown) for name in grown[0]}
    assert {name for name, growth in least.items() if growth > MOST.get(name, 0)} == set(), grown


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
