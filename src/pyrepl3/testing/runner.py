"""A way to open a runner in, checks that it keeps its port's promises out: coroutines that assert.

Use them with any test runner, or with none::

    for check in runner_checks():
        await check.run(open_runner)     # open_runner(): an awaitable that gives a new Runner

    @pytest.mark.parametrize("check", runner_checks(), ids=lambda check: check.name)
    async def test_my_runner(check):
        await check.run(open_my_runner)

Cells go in by ``run``, so the checks hold for a runner in this process and for one behind a pipe;
those marked ``local`` look at values themselves, which only the former can give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from pyrepl3.errors import CancellationError, CompilationError, NamespaceError
from pyrepl3.records import (
    Complete,
    Done,
    Event,
    ExecutionMode,
    Explain,
    Failed,
    Fetch,
    Finished,
    Interrupted,
    ModeReport,
    Started,
    TaskInfo,
    Tasks,
    Variables,
)
from pyrepl3.testing.desk import PATIENCE, Desk, Open
from pyrepl3.testing.looking import LOOKING
from pyrepl3.testing.parallel import PARALLEL
from pyrepl3.testing.restoring import RESTORING


class RunnerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: ``name`` is the claim, ``run`` raises AssertionError where it is not kept."""

    name: str
    check: Callable[[Desk], Awaitable[None]]

    async def run(self, open_runner: Open) -> None:
        """Check a runner, and close it. Raises AssertionError, or TimeoutError for one that hangs."""
        async with asyncio.timeout(PATIENCE):
            desk = Desk(open_runner)
            desk.runner = await open_runner()
            try:
                await self.check(desk)
            finally:
                await desk.runner.aclose()


def runner_checks(*, local: bool = True) -> list[RunnerCheck]:
    """What every Runner must do. Without ``local``, what can be seen from another process."""
    checks = [*_ALWAYS, *PARALLEL, *LOOKING, *RESTORING, *(_LOCAL if local else ())]
    return [RunnerCheck(name=check.__name__.lstrip("_"), check=check) for check in checks]


# --- running ------------------------------------------------------------------------------------


async def _a_cell_ends_in_done_and_its_events_are_in_order(desk: Desk) -> None:
    outcome = await desk.run("print('one'); print('two')\n6 * 7")
    assert isinstance(outcome, Done), outcome
    assert outcome.shown
    assert outcome.text == "42"
    assert isinstance(desk.events[0], Started)
    assert isinstance(desk.events[-1], Finished)
    assert desk.events[-1].outcome == outcome
    assert desk.text(outcome.cell.id) == "one\ntwo\n"
    kinds = [type(event) for event in desk.events]
    assert (kinds.count(Started), kinds.count(Finished)) == (1, 1)


async def _cells_share_their_names_in_every_mode(desk: Desk) -> None:
    for source in ("x = 1", "import time; time.sleep(0); x += 1", "import asyncio"):
        assert (await desk.run(source)).ok
    outcome = await desk.run("await asyncio.sleep(0); x += 1; x")
    assert outcome.text == "3" if isinstance(outcome, Done) else False


async def _what_the_user_s_code_raises_is_an_outcome(desk: Desk) -> None:
    errors = ("ValueError(1)", "SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()")
    for error in errors:
        for before in (
            "",
            "import time; time.sleep(0)\n",
            "import asyncio; await asyncio.sleep(0)\n",
        ):
            outcome = await desk.run(f"{before}raise {error}")
            assert isinstance(outcome, Failed), outcome
            assert repr(outcome.error) == error
            assert error.partition("(")[0] in outcome.traceback
    assert (await desk.run("1")).ok


async def _what_does_not_compile_has_not_run(desk: Desk) -> None:
    outcome = await desk.run("ran = True\nif")
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, CompilationError)
    assert outcome.mode is ExecutionMode.UNKNOWN
    assert "ran" not in await desk.runner.ask(Variables())


async def _a_background_cell_runs_beside_the_others(desk: Desk) -> None:
    assert (await desk.run("import asyncio; go = asyncio.Event()")).ok
    beside = desk.start("print('up'); await go.wait(); print('beside'); 'end'", background=True)
    await desk.when_up(lambda: None)
    outcome = await desk.run("print('front'); go.set()")
    assert outcome.ok
    ended = await beside
    assert isinstance(ended, Done)
    assert ended.text == "'end'"
    assert desk.text(outcome.cell.id) == "front\n"
    assert desk.text(ended.cell.id) == "up\nbeside\n"


async def _an_observer_that_raises_is_not_the_cell_s_fault(desk: Desk) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(f"cannot take {type(event).__name__}")

    import sys  # noqa: PLC0415  what is reported there is the check

    told: list[object] = []
    hook, sys.excepthook = sys.excepthook, lambda *error: told.append(error[1])
    try:
        outcome = await desk.runner.run(desk.cell("print('x'); 1"), broken)
    finally:
        sys.excepthook = hook
    assert isinstance(outcome, Done)
    assert told, "the observer's error was reported nowhere"


# --- stopping -----------------------------------------------------------------------------------


async def _an_interrupt_stops_an_await_and_a_loop_and_nothing_else(desk: Desk) -> None:
    assert (await desk.run("import asyncio; kept = 1")).ok
    for source in ("await asyncio.sleep(60)", "while True: pass"):
        running = desk.start(
            f"print('up'); {source}" if "await" in source else f"print('up')\n{source}"
        )
        assert await desk.when_up(desk.runner.interrupt) is True
        outcome = await running
        assert isinstance(outcome, Interrupted), outcome
        assert not outcome.forced
        after = await desk.run("kept")
        assert isinstance(after, Done)
        assert after.text == "1"


async def _clean_up_runs_once_and_code_that_refuses_is_forced(desk: Desk) -> None:
    # It is up where an interrupt that comes at once is inside of the try.
    source = "n = 0\ntry:\n    print('up')\n    while True: pass\nfinally: n += 1"
    running = desk.start(source)
    await desk.when_up(desk.runner.interrupt)
    assert isinstance(await running, Interrupted)
    after = await desk.run("n")
    assert isinstance(after, Done)
    assert after.text == "1"
    refusing = (
        "n = 0\nwhile True:\n    try:\n        n += 1\n        if n == 1: print('up')\n"
        "        while True: pass\n    except BaseException: pass"
    )
    running = desk.start(refusing)
    await desk.when_up(desk.runner.interrupt)
    outcome = await running
    assert isinstance(outcome, Interrupted)
    assert outcome.forced


async def _interrupting_what_does_not_run_is_false(desk: Desk) -> None:
    assert desk.runner.interrupt() is False
    assert desk.runner.interrupt("nobody") is False
    assert (await desk.run("1")).ok
    assert desk.runner.interrupt() is False


async def _the_caller_s_cancellation_stops_the_cell_and_stays_the_caller_s(desk: Desk) -> None:
    assert (await desk.run("import asyncio; seen = []")).ok
    refusing = (
        "while True:\n    try: await asyncio.sleep(60)\n    except BaseException: seen.append(1)"
    )
    for source in ("await asyncio.sleep(60)", f"await asyncio.sleep(0)\n{refusing}"):
        running = desk.start(f"print('up')\n{source}")
        await desk.when_up(lambda: None)
        running.cancel()
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            pass
        else:
            raise AssertionError("the cancellation was swallowed")
        assert isinstance(desk.events[-1], Finished)
        assert (await desk.run("seen")).ok


async def _a_timeout_around_a_cell_is_a_timeout(desk: Desk) -> None:
    assert (await desk.run("import asyncio")).ok
    try:
        async with asyncio.timeout(0.05):
            await desk.run("await asyncio.sleep(60)")
    except TimeoutError:
        pass
    else:
        raise AssertionError("the timeout was swallowed")
    assert (await desk.run("1")).ok


# --- epochs -------------------------------------------------------------------------------------


async def _a_snapshot_has_what_changed_since_the_last_mark(desk: Desk) -> None:
    runner = desk.runner
    assert (await desk.run("x = [1]; y = 'a'")).ok
    first, again = await runner.snapshot(), await runner.snapshot()
    for delta in (first, again):  # nothing is marked: the same once more
        names = {name for blob in delta.blobs for name in blob.names}
        assert names == {"x", "y"}
        assert {"x", "y"} <= delta.reprs.keys()
    await runner.mark()
    assert (await runner.snapshot()).blobs == ()
    assert (await desk.run("x.append(2); del y")).ok
    changed = await runner.snapshot()
    assert {name for blob in changed.blobs for name in blob.names} == {"x"}
    assert changed.deleted == {"y"}


async def _an_audit_finds_what_changed_behind_the_names_of_cells(desk: Desk) -> None:
    source = (
        "import threading\nhidden = [1]; go = threading.Event(); over = threading.Event()\n"
        "def change(target):\n    go.wait(30); target.append(2); over.set()\n"
        "threading.Thread(target=change, args=(hidden,)).start()"
    )
    assert (await desk.run(source)).ok
    await desk.runner.snapshot()
    await desk.runner.mark()
    assert await desk.runner.audit(hurry=True)
    assert not (await desk.runner.snapshot()).blobs
    await desk.runner.mark()
    assert (await desk.run("go.set(); over.wait(30)")).ok
    plain = await desk.runner.snapshot()
    assert not any("hidden" in blob.names for blob in plain.blobs)
    assert not plain.audited
    await desk.runner.mark()
    assert await desk.runner.audit(hurry=True)
    found = await desk.runner.snapshot()
    assert found.audited
    assert found.late == {"hidden"}
    assert {name for blob in found.blobs for name in blob.names} == {"hidden"}


# --- looking in ---------------------------------------------------------------------------------


async def _questions_are_answered(desk: Desk) -> None:
    ask = desk.runner.ask
    assert (await desk.run("import asyncio; number, text = 1, 'a'")).ok
    assert (await desk.run("task = asyncio.create_task(asyncio.sleep(60), name='mine')")).ok
    variables = await ask(Variables())
    assert variables["number"] == "int"
    assert "__builtins__" not in variables
    (task,) = await ask(Tasks())
    assert isinstance(task, TaskInfo)
    assert (task.name, task.cell_id) == ("mine", "check-c2")
    assert "number" in await ask(Complete(source="numb", cursor=4))
    report = await ask(Explain(source="await asyncio.sleep(0)"))
    assert isinstance(report, ModeReport)
    assert report.mode is ExecutionMode.TOP_LEVEL_AWAIT


async def _a_question_is_answered_while_a_cell_waits(desk: Desk) -> None:
    assert (await desk.run("import asyncio; number = 1")).ok
    running = desk.start("print('up'); await asyncio.sleep(60)")
    await desk.when_up(lambda: None)
    assert "number" in await desk.runner.ask(Variables())
    assert desk.runner.interrupt()
    assert isinstance(await running, Interrupted)


# --- the end ------------------------------------------------------------------------------------


async def _closing_stops_what_runs_and_may_be_done_twice(desk: Desk) -> None:
    assert (await desk.run("import asyncio; _ = asyncio.create_task(asyncio.sleep(60))")).ok
    running = desk.start("print('up'); await asyncio.sleep(60)")
    await desk.when_up(lambda: None)
    await desk.runner.aclose()
    await desk.runner.aclose()
    assert isinstance(await running, Interrupted)


async def _a_closed_runner_runs_nothing(desk: Desk) -> None:
    await desk.runner.aclose()
    try:
        await desk.run("1")
    except RuntimeError:
        return
    raise AssertionError("a closed runner ran a cell")


# --- values, in this process ----------------------------------------------------------------------


async def _a_value_is_the_object_itself(desk: Desk) -> None:
    outcome = await desk.run("thing = object(); thing")
    assert isinstance(outcome, Done)
    assert await desk.runner.ask(Fetch(name="thing")) is outcome.value
    assert outcome.unwrap() is outcome.value
    try:
        await desk.runner.ask(Fetch(name="nothing"))
    except NamespaceError:
        return
    raise AssertionError("a name that is not bound was fetched")


async def _an_interrupted_cell_has_no_value(desk: Desk) -> None:
    running = desk.start("import asyncio; print('up'); await asyncio.sleep(60)")
    await desk.when_up(desk.runner.interrupt)
    outcome = await running
    assert outcome.value is None
    try:
        outcome.unwrap()
    except CancellationError:
        return
    raise AssertionError("an interrupted cell was unwrapped")


_ALWAYS = (
    _an_audit_finds_what_changed_behind_the_names_of_cells,
    _a_cell_ends_in_done_and_its_events_are_in_order,
    _cells_share_their_names_in_every_mode,
    _what_the_user_s_code_raises_is_an_outcome,
    _what_does_not_compile_has_not_run,
    _a_background_cell_runs_beside_the_others,
    _an_observer_that_raises_is_not_the_cell_s_fault,
    _an_interrupt_stops_an_await_and_a_loop_and_nothing_else,
    _clean_up_runs_once_and_code_that_refuses_is_forced,
    _interrupting_what_does_not_run_is_false,
    _the_caller_s_cancellation_stops_the_cell_and_stays_the_caller_s,
    _a_timeout_around_a_cell_is_a_timeout,
    _a_snapshot_has_what_changed_since_the_last_mark,
    _questions_are_answered,
    _a_question_is_answered_while_a_cell_waits,
    _closing_stops_what_runs_and_may_be_done_twice,
    _a_closed_runner_runs_nothing,
)
_LOCAL = (_a_value_is_the_object_itself, _an_interrupted_cell_has_no_value)
