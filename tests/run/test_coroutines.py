"""Coroutines and tasks that were left behind are counted, listed, limited and ended."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings

import pytest

import pyrepl3
from pyrepl3.errors import LimitExceededError
from pyrepl3.records import Cell, Failed, Output
from pyrepl3.run.coroutines import CoroutineManager, TaskFactory, describe_task, find_tasks
from pyrepl3.run.execution import CURRENT, Execution, Group


@pytest.fixture(autouse=True)
async def _bound():
    async with asyncio.timeout(100):
        yield


async def wait():
    await asyncio.sleep(60)


NOTHING = {"coroutines_closed": 0, "tasks_cancelled": 0, "errors": 0}


async def test_cleaning_up_nothing_counts_nothing():
    assert CoroutineManager().cleanup() == NOTHING


async def test_coroutines_that_nobody_awaited_are_closed_without_a_warning():
    manager, coros = CoroutineManager(), [wait() for _ in range(3)]
    for coro in coros:
        manager.track_coroutine(coro)
    assert manager.cleanup() == {**NOTHING, "coroutines_closed": 3}
    assert manager.cleanup() == NOTHING


async def test_a_coroutine_that_is_gone_or_done_is_not_counted():
    manager = CoroutineManager()

    async def one():
        return 1

    done, gone = one(), one()
    manager.track_coroutine(done)
    manager.track_coroutine(gone)
    assert await done == 1
    gone.close()
    del gone
    gc.collect()
    assert manager.cleanup() == NOTHING


async def test_tracking_keeps_no_coroutine_alive():
    manager = CoroutineManager()

    async def one():
        pass

    coro = one()
    manager.track_coroutine(coro)
    coro.close()
    del coro
    gc.collect()
    assert not manager._coroutines


async def test_tracked_tasks_are_held_and_cancelled_and_their_coroutines_left_to_them():
    manager = CoroutineManager()
    coro = wait()
    task = asyncio.create_task(coro)
    manager.track_coroutine(coro)
    manager.track_task(task)
    await asyncio.sleep(0)
    assert manager.cleanup() == {**NOTHING, "tasks_cancelled": 1}
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not manager._tasks


async def test_a_coroutine_that_refuses_to_close_is_an_error_and_the_others_are_closed():
    manager = CoroutineManager()

    class Refuses:
        def __await__(self):
            while True:
                try:
                    yield
                except GeneratorExit:
                    yield

    async def refuse():
        await Refuses()

    stuck, other = refuse(), wait()
    stuck.send(None)
    manager.track_coroutine(stuck)
    manager.track_coroutine(other)
    assert manager.cleanup() == {**NOTHING, "coroutines_closed": 1, "errors": 1}
    stuck.close()  # the second time it gives in


async def test_a_coroutine_that_runs_right_now_is_an_error_not_a_crash():
    manager = CoroutineManager()
    counted = []

    async def cleans():
        counted.append(manager.cleanup())

    coro = cleans()
    manager.track_coroutine(coro)
    await coro
    assert counted == [{**NOTHING, "errors": 1}]


# --- tasks of cells -------------------------------------------------------------------------------------


async def test_tasks_are_found_by_the_executor_whose_cell_started_them_and_say_where_they_wait():
    loop = asyncio.get_running_loop()
    group, others = Group(), Group()
    found = {}
    for one in (group, others):
        token = CURRENT.set(Execution(Cell(id=f"c{id(one)}", n=1, source="", filename=""), one))
        found[one] = asyncio.create_task(wait(), name="mine")
        CURRENT.reset(token)
    await asyncio.sleep(0)
    assert list(find_tasks(loop, group)) == [found[group]]
    info = describe_task(found[group])
    assert (info.name, info.cell_id) == ("mine", f"c{id(group)}")
    assert info.where.startswith("wait, ")
    assert __file__ in info.where
    for task in found.values():
        task.cancel()


async def test_the_factory_goes_before_the_one_that_was_there_and_only_once():
    loop = asyncio.get_running_loop()
    made = []

    def before(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(before)
    TaskFactory.install(loop)
    factory = loop.get_task_factory()
    TaskFactory.install(loop)
    assert loop.get_task_factory() is factory
    await asyncio.create_task(asyncio.sleep(0))
    assert len(made) == 1
    loop.set_task_factory(None)


async def test_a_task_of_a_cell_is_held_until_it_is_done():
    async with pyrepl3.open_session() as session:
        source = (
            "import asyncio, gc, weakref\n"
            "async def forever(): await asyncio.Future()\n"
            "ref = weakref.ref(asyncio.create_task(forever())); await asyncio.sleep(0)\n"
            "gc.collect(); ref() is not None"
        )
        assert (await session.run(source)).value is True
        assert len(await session.tasks()) == 1


# --- the limit ------------------------------------------------------------------------------------------

FROM_A_SUB_TASK = """
import asyncio
async def spawn():
    try:
        for _ in range(50): asyncio.create_task(asyncio.sleep(60))
    except BaseException as error:
        seen.append(type(error).__name__)
        raise
seen = []
await asyncio.create_task(spawn())
"""


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("bare", [False, True], ids=["session", "bare executor"])
async def test_too_many_tasks_from_a_sub_task_stop_the_cell_and_not_the_loop(bare):
    """A KeyboardInterrupt in a task would end asyncio.run around a bare executor."""
    limits = pyrepl3.Limits(coroutines=10)
    if bare:
        config = pyrepl3.ExecutorConfig(max_coroutines=10, denied_modules=None)
        executor = pyrepl3.AsyncExecutor(config=config)
        with pytest.raises(LimitExceededError):
            await executor.execute(FROM_A_SUB_TASK)
        assert await executor.execute("seen") == ["LimitExceededError"]
        await executor.aclose()
        return
    async with pyrepl3.open_session(limits=limits) as session:
        outcome = await session.run(FROM_A_SUB_TASK)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, LimitExceededError)
        assert (await session.run("seen")).value == ["LimitExceededError"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_a_background_task_that_starts_too_many_after_its_cell_gets_the_error_itself():
    async with pyrepl3.open_session(limits=pyrepl3.Limits(coroutines=5)) as session:
        source = (
            "import asyncio\ngo = asyncio.Event()\nasync def spawn():\n    await go.wait()\n"
            "    for _ in range(50): asyncio.create_task(asyncio.sleep(60))\n"
            "task = asyncio.create_task(spawn())"
        )
        assert (await session.run(source)).ok
        outcome = await session.run("go.set(); await task")
        assert isinstance(outcome.error, LimitExceededError)
        assert (await session.run("1")).value == 1


# --- un-awaited -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default:coroutine .* was never awaited")
async def test_a_coroutine_that_is_never_awaited_is_reported_with_the_line_that_made_it(
    monkeypatch,
):
    # pytest records warnings instead of having them shown.
    monkeypatch.setattr(
        warnings,
        "_showwarnmsg_impl",
        lambda told: print(f"{told.message}, line {told.lineno}", file=sys.stderr),
    )
    events = []
    async with pyrepl3.open_session(observe=events.append) as session:
        source = "async def f(): pass\n\nf()\nNone\nimport gc; _ = gc.collect()"
        assert (await session.run(source)).ok
        told = "".join(e.text for e in events if isinstance(e, Output) and e.stream == "stderr")
        assert "never awaited" in told
        assert "line 3" in told


async def test_a_coroutine_made_in_one_cell_is_awaited_in_a_later_one():
    async with pyrepl3.open_session() as session:
        assert (await session.run("import asyncio\ncoro = asyncio.sleep(0, 5)")).ok
        assert (await session.run("1")).ok
        assert (await session.run("await coro")).value == 5
