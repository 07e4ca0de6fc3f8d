"""Where it is asked for, what goes past Python's streams is the cell's output as well."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pyrepl3 import AsyncExecutor, LimitExceededError, Limits, Notice, capture_fds, open_session
from pyrepl3.testing.fakes import Seen


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


WRITERS = {
    "os.write": ("import os; _ = os.write(1, b'raw\\n')", "stdout", "raw\n"),
    "stderr": ("import os; _ = os.write(2, b'raw\\n')", "stderr", "raw\n"),
    "subprocess": ("import subprocess; _ = subprocess.run(['echo', 'child'])", "stdout", "child\n"),
    "system": ("import os; _ = os.system('echo out; echo err >&2')", "stderr", "err\n"),
    "await": (
        "import asyncio\n"
        "child = await asyncio.create_subprocess_exec('echo', 'later')\n"
        "_ = await child.wait()",
        "stdout",
        "later\n",
    ),
    "print too": ("print('printed')", "stdout", "printed\n"),
    "halved": ("import os\nfor b in 'ü\\n'.encode(): os.write(1, bytes([b]))", "stdout", "ü\n"),
}


@pytest.mark.parametrize(("source", "stream", "text"), WRITERS.values(), ids=WRITERS)
async def test_it_goes_to_the_cell(source, stream, text):
    seen = Seen()
    async with open_session(observe=seen, stages=[capture_fds]) as session:
        outcome = await session.run(source)
        assert outcome.ok
        assert seen.text(outcome.cell.id, stream) == text


async def test_the_descriptors_are_given_back_after_each_cell_and_none_leaks():
    before = [os.fstat(fd)[:2] for fd in (1, 2)]
    async with open_session(stages=[capture_fds]) as session:
        await session.run("1")
        grown = []
        for _ in range(4):  # what others do meanwhile shows in one stretch, a leak in each
            open_now = open_fds()
            for _ in range(5):
                await session.run("import os; os.system('true'); 1 / 0")
            grown.append(open_fds() - open_now)
        assert min(grown) <= 0, grown
        assert [os.fstat(fd)[:2] for fd in (1, 2)] == before


async def test_a_second_cell_runs_without_and_is_told():
    seen = Seen()
    async with open_session(observe=seen, stages=[capture_fds]) as session:
        await session.run("import asyncio\nstarted, go = asyncio.Event(), asyncio.Event()")
        first = asyncio.create_task(session.run("started.set()\nawait go.wait()"))
        second = await session.run("await started.wait()\ngo.set()", background=True)
        assert (await first).ok
        assert second.ok
    # Which of the two came second nobody can know.
    assert [e.kind for e in seen.events if isinstance(e, Notice)] == ["not-captured"]


async def test_the_output_limit_holds_for_children_and_the_descriptors_come_back():
    before = [os.fstat(fd)[:2] for fd in (1, 2)]
    async with open_session(stages=[capture_fds], limits=Limits(output=1000)) as session:
        outcome = await session.run("import subprocess; subprocess.run(['yes'])")
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "output"
        assert (await session.run("1 + 1")).value == 2
        async with asyncio.timeout(60):
            while [os.fstat(fd)[:2] for fd in (1, 2)] != before:
                await asyncio.sleep(0.01)


async def test_a_child_that_outlives_its_cell_does_not_keep_it():
    async with open_session(stages=[capture_fds]) as session:
        source = "import subprocess; child = subprocess.Popen(['sleep', '100'])"
        assert (await session.run(source)).ok
        assert (await session.run("child.kill(); child.wait()")).ok


async def test_without_an_observer_there_is_nobody_to_give_it_to():
    executor = AsyncExecutor(stages=[capture_fds])
    assert await executor.execute("import os; os.write(1, b'')") == 0
    executor.close()
