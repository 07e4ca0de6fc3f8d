"""What every runner keeps where the awaits of a cell begin early: checks for ``testing.runner``."""

from __future__ import annotations

from pyrepl3.records import Done, ExplainParallel, Failed, Interrupted, ParallelReport, Variables
from pyrepl3.testing.desk import Desk

_MEETING = """
import asyncio
from pyrepl3 import independent
inside, met = 0, asyncio.Event()
@independent
async def meet(n, of):
    global inside
    print('in', n)
    inside += 1
    if inside == of:
        met.set()
    await met.wait()
    print('out', n)
    return n * 10
@independent
async def fail(n):
    print('failing', n)
    raise ValueError(n)
"""


async def _what_runs_at_once_is_told_in_the_order_of_the_text(desk: Desk) -> None:
    assert (await desk.run(_MEETING)).ok
    outcome = await desk.run(
        "a = await meet(1, 3)\nprint('between')\nb, c = await meet(2, 3), 0\nawait meet(3, 3)",
        parallel=True,
    )
    assert isinstance(outcome, Done), outcome
    assert outcome.text == "30"
    told = desk.text(outcome.cell.id)
    assert told == "in 1\nout 1\nbetween\nin 2\nout 2\nin 3\nout 3\n", told
    after = await desk.run("a, b, c")
    assert isinstance(after, Done)
    assert after.text == "(10, 20, 0)"


async def _the_first_error_is_the_first_in_the_text_and_nothing_after_it_is_seen(
    desk: Desk,
) -> None:
    assert (await desk.run(_MEETING)).ok
    outcome = await desk.run(
        "a = await meet(1, 1)\nb = await fail(2)\nc = await meet(3, 1)\nd = await fail(4)",
        parallel=True,
    )
    assert isinstance(outcome, Failed), outcome
    assert repr(outcome.error) == "ValueError(2)"
    assert f'File "<check {outcome.cell.n}>", line 2' in outcome.traceback
    assert desk.text(outcome.cell.id) == "in 1\nout 1\nfailing 2\n"
    names = await desk.runner.ask(Variables())
    assert "a" in names
    assert not {"b", "c", "d"} & names.keys()


async def _an_interrupt_stops_all_that_runs_at_once(desk: Desk) -> None:
    assert (await desk.run(_MEETING)).ok
    running = desk.start(
        "print('up')\na = await meet(1, 9)\nb = await meet(2, 9)\nc = await meet(3, 9)",
        parallel=True,
    )
    await desk.when_up(desk.runner.interrupt)
    assert isinstance(await running, Interrupted)
    names = await desk.runner.ask(Variables())
    assert not {"a", "b", "c"} & names.keys()


async def _which_awaits_may_begin_early_is_explained(desk: Desk) -> None:
    assert (await desk.run(_MEETING)).ok
    report = await desk.runner.ask(
        ExplainParallel(source="a = await meet(1, 1)\nb = await meet(2, 1)\nopen('x')")
    )
    assert isinstance(report, ParallelReport)
    assert report.early == (2,)
    assert [one.why.partition(";")[0] for one in report.statements[:2]] == [
        "declared independent"
    ] * 2
    assert report.statements[2].why.startswith("it awaits nothing")


PARALLEL = (
    _what_runs_at_once_is_told_in_the_order_of_the_text,
    _the_first_error_is_the_first_in_the_text_and_nothing_after_it_is_seen,
    _an_interrupt_stops_all_that_runs_at_once,
    _which_awaits_may_begin_early_is_explained,
)
