"""Each limit stops a cell in every mode, names itself and the cure, and leaves the session alive."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest

from pyrepl3 import (
    AsyncExecutor,
    ExecutorConfig,
    Failed,
    LimitExceededError,
    Limits,
    MiB,
    open_session,
)
from pyrepl3.config import unlimited
from pyrepl3.testing.busy import run_in_time

SWALLOW = "\n    try:\n        {}\n    except BaseException:\n        pass"

WALL = {
    "await": "import asyncio\nawait asyncio.sleep(60)",
    "plain": "while True: pass",
    "blocking": "import time\ntime.sleep(60)",
    "async loop": "async def f():\n    while True: pass\nawait f()",
    "swallowed": "while True:" + SWALLOW.format("while True: pass"),
    "swallowed await": "import asyncio\nwhile True:" + SWALLOW.format("await asyncio.sleep(60)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("source", WALL.values(), ids=WALL)
async def test_a_cell_that_takes_too_long_is_stopped(source, background):
    if background and source.startswith(("async def", "while True:\n    try:\n        while")):
        pytest.skip("holds the loop of the session, which is the foreground's as well")
    async with open_session(limits=Limits(wall=0.1)) as session:
        async with asyncio.timeout(60):
            assert (await run_in_time(session, "x = 1")).ok
            outcome = await session.run(source, background=background)
        assert isinstance(outcome, Failed)
        error = outcome.error
        assert isinstance(error, LimitExceededError)
        assert (error.limit, error.allowed) == ("wall", 0.1)
        assert error.used >= 0.1
        assert "raise Limits.wall or split the cell" in str(error)
        async with asyncio.timeout(60):
            assert (await run_in_time(session, "x")).value == 1


@pytest.mark.slow
@pytest.mark.parametrize("source", [WALL["await"], WALL["plain"], WALL["swallowed"]])
async def test_the_bare_executor_raises_it(source):
    executor = AsyncExecutor(config=ExecutorConfig(max_execution_time=0.1, denied_modules=None))
    with pytest.raises(LimitExceededError, match="wall limit exceeded"):
        await executor.execute(source)
    async with asyncio.timeout(60):
        while True:
            try:
                assert await executor.execute("1 + 1") == 2
            except LimitExceededError:
                continue  # held up by others
            break
    executor.close()


OUTPUT = {
    "plain": "for _ in range(10 ** 9): print('x' * 100)",
    "one print": "print('x' * 10 ** 6)",
    "await": "import asyncio\nwhile True:\n    print('x' * 100)\n    await asyncio.sleep(0)",
    "blocking": "import time\nwhile True:\n    print('x' * 100)\n    time.sleep(0)",
    "stderr": "import sys\nwhile True: sys.stderr.write('x' * 100)",
    "swallowed": "while True:" + SWALLOW.format("print('x' * 100)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", OUTPUT.values(), ids=OUTPUT)
async def test_a_cell_that_prints_too_much_is_stopped_and_what_fits_is_shown(source):
    seen = []
    async with open_session(limits=Limits(output=1000), observe=seen.append) as session:
        async with asyncio.timeout(60):
            outcome = await session.run(source)
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "output"
        assert outcome.error.used > 1000
        text = "".join(e.text for e in seen if type(e).__name__ == "Output")
        assert 900 <= len(text) <= 1000
        assert (await session.run("print('again')")).ok  # the limit is a cell's, not the session's


async def test_a_bare_executor_that_nobody_observes_has_the_limit_too(capsys):
    executor = AsyncExecutor(config=ExecutorConfig(max_output=20))
    try:
        assert await executor.execute("print('ab'); 1") == 1
        with pytest.raises(LimitExceededError):
            await executor.execute("while True: print('0123456789')")
    finally:
        await executor.aclose()
    assert capsys.readouterr().out == "ab\n0123456789\n012345678"


async def test_output_up_to_the_limit_is_no_fault():
    async with open_session(limits=Limits(output=6)) as session:
        assert (await session.run("print('ä' * 2, end='xx')")).ok  # bytes of UTF-8
        assert not (await session.run("print('ä' * 2, end='xxx')")).ok


TASKS = {
    "create_task": "import asyncio\nfor _ in range(50): asyncio.create_task(asyncio.sleep(60))",
    "gather": "import asyncio\nawait asyncio.gather(*(asyncio.sleep(60) for _ in range(50)))",
    "group": (
        "import asyncio\nasync with asyncio.TaskGroup() as group:\n"
        "    for _ in range(50): group.create_task(asyncio.sleep(60))"
    ),
    "swallowed": (
        "import asyncio\nwhile True:" + SWALLOW.format("asyncio.create_task(asyncio.sleep(60))")
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("source", TASKS.values(), ids=TASKS)
async def test_a_cell_that_starts_too_many_tasks_is_stopped(source):
    async with open_session(limits=Limits(coroutines=10)) as session:
        async with asyncio.timeout(60):
            outcome = await session.run(source)
        assert isinstance(outcome.error, LimitExceededError)
        assert (outcome.error.limit, outcome.error.allowed) == ("coroutines", 10)
        assert (await session.run("1 + 1")).value == 2
        del outcome
    gc.collect()  # the coroutines that found no task are to complain here, where that is expected


async def test_tasks_that_are_done_do_not_count():
    source = "import asyncio\nfor _ in range(50): await asyncio.create_task(asyncio.sleep(0))"
    async with open_session(limits=Limits(coroutines=10)) as session:
        assert (await session.run(source)).ok


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_the_bare_executor_counts_the_tasks_of_cells_and_no_others():
    executor = AsyncExecutor(
        config=ExecutorConfig(max_coroutines=2, max_execution_time=None, denied_modules=None)
    )
    mine = [asyncio.ensure_future(asyncio.sleep(0)) for _ in range(5)]
    with pytest.raises(LimitExceededError, match="coroutines limit exceeded"):
        await executor.execute(
            "import asyncio\ntasks = [asyncio.create_task(asyncio.sleep(9)) for _ in range(5)]"
        )
    more = [asyncio.ensure_future(asyncio.sleep(0)) for _ in range(5)]
    await asyncio.gather(*mine, *more)
    await executor.aclose()
    gc.collect()


MEMORY = {
    "bit by bit": "data = []\nwhile True: data.append(b'x' * 2 ** 20)",
    "await": "import asyncio\ndata = []\nwhile True:\n    data.append(b'x' * 2 ** 20)\n"
    "    await asyncio.sleep(0)",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", MEMORY.values(), ids=MEMORY)
async def test_a_cell_by_which_the_process_grows_too_much_is_stopped(source):
    async with open_session(limits=Limits(memory=100 * MiB)) as session:
        async with asyncio.timeout(60):
            outcome = await session.run(source)
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "memory"
        assert outcome.error.used > 100 * MiB
        assert (await session.run("data = None; 1 + 1")).value == 2


ONE_CALL = {
    "plain": "data = b'x' * 2 ** 28",
    "await": "import asyncio\nawait asyncio.sleep(0)\ndata = b'x' * 2 ** 28",
    "blocking": "import time\ntime.sleep(0)\ndata = b'x' * 2 ** 28",
}


HUGE = """
import asyncio, sys
from pyrepl3 import Failed, LimitExceededError, Limits, MiB, open_session

async def main():
    async with open_session(limits=Limits(memory=100 * MiB)) as session:
        await session.run("kept = 1")
        outcome = await session.run(sys.argv[1])
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "memory"
        assert outcome.error.used > 100 * MiB
        assert (await session.run("data = None; kept")).value == 1

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ONE_CALL.values(), ids=ONE_CALL)
def test_one_huge_allocation_in_c_is_noticed_when_the_call_is_over(source):
    """Nothing can look while the call holds the GIL; the cell may have come to its end by then.

    In a process of its own: what earlier tests used is given back to the system in the midst of the cell.
    """
    done = subprocess.run(
        [sys.executable, "-c", HUGE, source],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


async def test_a_limit_that_is_kept_costs_nothing():
    async with open_session(config=ExecutorConfig(denied_modules=None)) as session:
        assert (await session.run("import asyncio\nawait asyncio.sleep(0, 5)")).value == 5


async def test_limits_replace_those_of_the_configuration():
    config = unlimited()
    async with open_session(config=config, limits=Limits(output=10)) as session:
        assert not (await session.run("print('x' * 20)")).ok
