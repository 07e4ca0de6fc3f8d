"""Many sessions, and for long: nothing acknowledged is lost, nothing hangs, nothing is left over.

``PYREPL3_CAMPAIGN=1`` gives them their full size: ten minutes of kills, 200 sessions at once.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.errors import WorkerDiedError
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.run.usage import private_bytes

FULL = bool(os.environ.get("PYREPL3_CAMPAIGN"))
SECONDS = 600 if FULL else 3
SESSIONS = 200 if FULL else 8
MOST_PRIVATE = 8 * 1024 * 1024

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc"),
    pytest.mark.timeout(1200),
]


async def keep_running(session, going_on, told, kill):
    """Run cells, each of which adds a number; all that were acknowledged must be there. What came is told.

    A cell is acknowledged by the number of its epoch: one whose worker died between its end and its
    checkpoint has none, and a notice says so.
    """
    acknowledged, n = [], 0
    while going_on():
        n += 1
        kill.set()
        outcome = await asyncio.wait_for(session.run(f"log.append({n})"), 60)
        kept = bool(outcome.epoch) and outcome.ok
        told["kept" if kept else "lost"] += 1
        if kept:
            acknowledged.append(n)
    log = None
    while log is None:
        with suppress(WorkerDiedError):  # the last kill may come late
            log = await asyncio.wait_for(session.fetch("log"), 60)
    known = set(acknowledged)  # once: ten minutes bring twenty thousand
    assert [k for k in log if k in known] == acknowledged
    assert len(set(log)) == len(log) <= n


async def kill_now_and_then(pool, pids, running, kill, seed):
    """Kill a worker, and seldom the zygote, at a random moment of a cell."""
    choose = random.Random(seed)
    while running():
        await kill.wait()
        kill.clear()
        await asyncio.sleep(choose.random() * 0.2)
        victims = pids()
        with suppress(ProcessLookupError):  # it has just ended by itself
            if choose.random() < 0.05 and pool._forker.pid is not None:
                os.kill(pool._forker.pid, signal.SIGKILL)
            elif victims:
                number = choose.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
                os.kill(choose.choice(victims), number)


async def test_no_acknowledged_cell_is_lost_under_random_kills(tmp_path):
    with pyrepl3.Pool(warm=1) as pool:
        openings = [
            pyrepl3.open_session(
                f"kept{n}" if n % 2 else None,
                store=tmp_path if n % 2 else None,
                isolation="process",
                pool=pool,
            )
            for n in range(4)
        ]
        sessions = [await opening.__aenter__() for opening in openings]
        for session in sessions:
            assert (await session.run("log = []")).epoch
        kill, told = asyncio.Event(), Counter()
        until = time.monotonic() + SECONDS

        def going_on():  # longer where a busy machine has not come to both yet
            return time.monotonic() < until or not (told["lost"] and told["kept"])

        killing = asyncio.create_task(
            kill_now_and_then(
                pool,
                lambda: [opening.runner.pid for opening in openings if opening.runner.pid],
                going_on,
                kill,
                20261123,
            )
        )
        await asyncio.gather(*(keep_running(s, going_on, told, kill) for s in sessions))
        killing.cancel()
        for opening in openings:
            await opening.__aexit__(None, None, None)


async def test_many_sessions_at_once_hold_little_each():
    with pyrepl3.Pool(warm=0) as pool:
        runners = [ProcessRunner(f"s{n}", pool=pool) for n in range(SESSIONS)]
        for runner in runners:
            await runner.start()
            cell = pyrepl3.Cell(id=f"{runner.name}-c1", n=1, source="x = 1", filename="<one>")
            assert (await runner.run(cell, lambda _: None)).ok
        assert pool.count == SESSIONS
        held = [private_bytes(runner.pid) for runner in runners]
        assert max(held) < MOST_PRIVATE, max(held)
        for runner in runners:
            await runner.aclose()
        assert pool.count == 0
    assert not Path(f"/proc/{runners[0].pid}").exists()
