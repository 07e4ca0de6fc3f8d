"""A Runner in a process of its own: the same promises as in this one, and what only a process can do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from pyrepl3.errors import StoreError, WorkerDiedError
from pyrepl3.isolate.pool import Pool
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell, Complete, Failed, Fetch, Finished, Interrupted, Variables
from pyrepl3.run.offers import make_offers
from pyrepl3.run.usage import is_over
from pyrepl3.testing.runner import runner_checks
from pyrepl3.testing.tools import tool_checks


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


@pytest.mark.parametrize("check", tool_checks(), ids=lambda check: check.name)
async def test_the_conformance_suite_of_host_functions(check, pool):
    async def open_with(tools):
        return ProcessRunner("check", pool=pool, tools=make_offers(tools))

    await check.run(open_with)


HOSTILE = """
import itertools, os
from pyrepl3.isolate import messages as m
worker = search._calls._send.__self__
numbers = itertools.count(10_000)
"""


@pytest.mark.parametrize(
    "attack",
    [
        "while True: worker._send(m.Call(n=next(numbers), name='search'), [b'x'])",
        "worker._send(m.Call(n=1, name='os.system'), [b'']); import time; time.sleep(30)",
        "worker._send(m.Call(n=1, name='search'), [bytes(9_000_000)]); import time; time.sleep(30)",
        "worker._send(m.Call(n=1, name='forever'), [b'']); worker._send(m.Call(n=1, name='forever'),"
        " [b'']); import time; time.sleep(30)",
    ],
    ids=["flood", "another function", "too many bytes", "one number twice"],
)
async def test_a_worker_that_passes_by_the_bounds_is_ended(pool, attack):
    """What waits in the worker is politeness: whoever writes to the pipe is held to it by the host."""

    async def search(x: int) -> int:
        await asyncio.sleep(0.01)
        return x

    async def forever(*x: int) -> None:
        await asyncio.Event().wait()

    tools = make_offers({"search": search, "forever": forever})
    runner = ProcessRunner("hostile", pool=pool, tools=tools)
    source = HOSTILE + attack.replace("[b'']", "[b'\\x92\\x90\\x80']")
    try:
        cell = Cell(id="hostile-c1", n=1, source=source, filename="<hostile>")
        outcome = await runner.run(cell, lambda event: None)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, WorkerDiedError)
        assert "no message of its own" in str(outcome.error)
    finally:
        await runner.aclose()


@pytest.mark.slow
async def test_an_epoch_that_cannot_be_read_fails_the_cell_and_is_tried_again(pool):
    def cell(n, source):
        return Cell(id=f"again-c{n}", n=n, source=source, filename=f"<again {n}>")

    tries = []

    async def revive(restore):
        tries.append(runner._link)
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
        assert tries[0].gone.is_set()  # nothing of that worker is left open
        outcome = await runner.run(cell(3, "1"), events.append)
        assert outcome.text == "1"
        (notice,) = [event for event in events if type(event).__name__ == "Notice"]
        assert "goes on from epoch 7" in notice.text
    finally:
        await runner.aclose()


@pytest.mark.parametrize("source", ["while True: pass", "import asyncio\nawait asyncio.sleep(60)"])
async def test_an_interrupt_right_behind_its_cell_stops_it(source, pool):
    """Both may come in one read: the cell is not begun yet when the interrupt is heard."""
    runner = ProcessRunner("behind", pool=pool)
    await runner.start()
    for n in range(1, 6):
        cell = Cell(id=f"behind-c{n}", n=n, source=source, filename="<behind>")
        running = asyncio.create_task(runner.run(cell, lambda _: None))
        await asyncio.sleep(0)
        assert runner.interrupt(cell.id)
        assert isinstance(await running, Interrupted)
    cell = Cell(
        id="behind-c6", n=6, source="import asyncio; len(asyncio.all_tasks())", filename="<>"
    )
    assert (await runner.run(cell, lambda _: None)).text == "0"  # those of the engine are hidden
    await runner.aclose()


async def test_a_caller_who_gives_up_gets_its_cancellation_when_the_cell_is_over(pool):
    runner = ProcessRunner("given-up", pool=pool)
    ended = []
    cell = Cell(id="given-up-c1", n=1, source="while True: pass", filename="<given up>")
    begun = asyncio.Event()

    def see(event):
        begun.set()
        if isinstance(event, Finished):
            ended.append(event.outcome)

    running = asyncio.create_task(runner.run(cell, see))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [type(outcome) for outcome in ended] == [Interrupted]
    await runner.aclose()


async def test_an_answer_that_nobody_waits_for_any_more_costs_the_worker_nothing(pool):
    """A completion that Ctrl-C ended, say: its state would be gone with the worker."""
    runner = ProcessRunner("patience", pool=pool)

    def cell(n, source):
        return Cell(id=f"patience-c{n}", n=n, source=source, filename=f"<patience {n}>")

    try:
        await runner.run(cell(1, "x = 1"), lambda event: None)
        for question in (Complete(source="x.", cursor=2), Fetch(name="x"), Variables()):
            asking = asyncio.create_task(runner.ask(question))
            await asyncio.sleep(0)  # it is sent
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        outcome = await runner.run(cell(2, "x"), lambda event: None)
        assert outcome.text == "1"
    finally:
        await runner.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at workers through /proc")
async def test_a_worker_whose_death_is_reported_late_died_of_what_it_died_of(pool):
    """A busy machine: its connection is closed, and who waits for it has not come to that yet."""
    runner = ProcessRunner("late", pool=pool)
    told = []
    runner.when_died = told.append
    await runner.start()
    link, zygote = runner._link, pool._forker.pid
    os.kill(zygote, signal.SIGSTOP)
    try:
        os.kill(runner.pid, signal.SIGSEGV)
        while not is_over(runner.pid):
            await asyncio.sleep(0)
        link.end_closed()
    finally:
        os.kill(zygote, signal.SIGCONT)
    await link.gone.wait()
    assert "SIGSEGV" in str(told[0])
    await runner.aclose()
