"""Cell ids of the client's own: one run an id, whoever asks how often; and cells that name their base."""

from __future__ import annotations

import asyncio

import pytest

import pyrepl3
from pyrepl3.errors import CellIdError, ReplayedError, SessionClosedError, StaleBaseError
from pyrepl3.records import Done, Failed, Finished, Interrupted, Output, Replayed
from pyrepl3.testing.fakes import FakeStore, Seen


@pytest.fixture(params=["kept", "not kept"])
async def session(request):
    kept = request.param == "kept"
    async with (
        pyrepl3.open_session("demo", store=FakeStore()) if kept else pyrepl3.open_session() as s
    ):
        yield s


COUNT = "n = globals().get('n', 0) + 1\nprint('counted')\nn"


async def test_a_cell_of_one_id_runs_once(session):
    first = await session.run(COUNT, id="order-42")
    assert isinstance(first, Done)
    assert first.cell.id == "order-42"
    again = await session.run(COUNT, id="order-42")
    assert isinstance(again, Replayed)
    assert again.ok
    assert again.text == "1"
    assert again.unwrap() is None
    other = await session.run(COUNT, id="order-43")
    assert other.value == 2


async def test_submitting_twice_at_once_runs_once(session):
    await session.run("import asyncio; go = asyncio.Event(); n = 0")
    source = "n += 1; await go.wait(); n"
    tasks = [asyncio.create_task(session.run(source, id="a")) for _ in range(5)]
    await session.run("go.set()", background=True)
    outcomes = await asyncio.gather(*tasks)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", *["Replayed"] * 4]
    assert {outcome.text for outcome in outcomes} == {"1"}


async def test_another_text_under_the_same_id_is_refused(session):
    await session.run(COUNT, id="a")
    with pytest.raises(CellIdError, match="'a' was used for another text"):
        await session.run(COUNT + " ", id="a")
    await session.run("import asyncio; go = asyncio.Event()")
    running = asyncio.create_task(session.run("await go.wait()", id="b"))
    await asyncio.sleep(0)
    with pytest.raises(CellIdError, match="another text"):
        await session.run("1", id="b")
    await session.run("go.set()", background=True)
    assert (await running).ok


async def test_how_a_cell_failed_is_replayed_too(session):
    first = await session.run("1 / 0", id="a")
    assert isinstance(first, Failed)
    again = await session.run("1 / 0", id="a")
    assert isinstance(again, Replayed)
    assert (again.ok, again.status) == (False, "failed")
    assert "ZeroDivisionError" in again.traceback
    with pytest.raises(ReplayedError, match="ZeroDivisionError"):
        again.unwrap()


async def test_a_caller_who_is_cancelled_leaves_an_interrupted_cell():
    seen = Seen()
    async with pyrepl3.open_session("demo", store=FakeStore(), observe=seen) as session:
        source = "import asyncio; print('up'); await asyncio.sleep(60)"
        first = asyncio.create_task(session.run(source, id="a"))
        await seen.until_text("up")
        second = asyncio.create_task(session.run(source, id="a"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        again = await second
        assert isinstance(again, Replayed)
        assert again.status == "interrupted"


async def test_ids_are_known_after_a_restart_and_the_output_is_told_again():
    store = FakeStore()
    async with pyrepl3.open_session("demo", store=store) as session:
        first = await session.run(COUNT, id="a")
        await session.run(COUNT)
    seen = Seen()
    async with pyrepl3.open_session("demo", store=store.again()) as session:
        again = await session.run(COUNT, id="a", observe=seen)
        assert isinstance(again, Replayed)
        assert (again.epoch, again.text) == (first.epoch, "1")
        assert [type(event) for event in seen.events] == [Output, Finished]
        assert seen.text() == "counted\n"
        assert await session.fetch("n") == 2
        assert isinstance(await session.run(COUNT, id="demo-c2"), Replayed)
        events = [event async for event in session.stream(COUNT, id="a")]
        assert [type(event) for event in events] == [Output, Finished]


async def test_numbers_of_the_session_are_ids_too(session):
    await session.run("1")
    name = session.name
    assert (await session.run("2", id=f"{name}-c2")).cell.n == 2
    with pytest.raises(CellIdError, match=f"next cell is {name}-c3"):
        await session.run("9", id=f"{name}-c9")
    assert (await session.run("3")).cell.n == 3


@pytest.mark.parametrize("bad", ["", " ", "a b", "-a", "ä", "x" * 129, "job-c5", "../x", "a\n"])
async def test_what_cannot_be_an_id_is_refused(session, bad):
    with pytest.raises(CellIdError, match="cannot be the id"):
        await session.run("1", id=bad)
    assert session.count == 0


async def test_a_cell_that_was_undone_may_run_again():
    async with pyrepl3.open_session("demo", store=FakeStore()) as session:
        base = (await session.run("n = 10")).epoch
        assert (await session.run(COUNT, id="a")).value == 11
        await session.restore(base)
        assert isinstance(await session.run(COUNT, id="a"), Done)
        assert isinstance(await session.run(COUNT, id="a"), Replayed)


async def test_an_end_that_is_not_on_disk_is_remembered_in_this_process():
    store = FakeStore()
    async with pyrepl3.open_session("demo", store=store) as session:
        store.fail_commit("before")
        assert (await session.run(COUNT, id="a")).epoch is None
        assert isinstance(await session.run(COUNT, id="a"), Replayed)
        assert await session.fetch("n") == 1


async def test_an_end_that_is_not_on_disk_is_undone_with_what_the_session_was():
    store = FakeStore()
    async with pyrepl3.open_session("demo", store=store) as session:
        await session.run("n = 0")
        store.fail_commit("before")
        assert (await session.run(COUNT, id="a")).value == 1
        await session.restore(1)
        again = await session.run(COUNT, id="a")
        assert isinstance(again, Done)
        assert again.value == 1


async def test_a_stale_base_is_refused_before_anything_runs():
    async with pyrepl3.open_session("demo", store=FakeStore()) as session:
        assert (await session.run("n = 1", base=0)).cell.base == 0
        with pytest.raises(StaleBaseError, match=r"made for epoch 0.*at epoch 1"):
            await session.run("n = 2", base=0)
        assert (await session.fetch("n"), session.count) == (1, 1)
        assert (await session.run("n = 3", base=1)).cell.base == 1
        with pytest.raises(ValueError, match="background"):
            await session.run("1", base=2, background=True)


async def test_a_base_is_looked_at_when_the_turn_comes():
    async with pyrepl3.open_session("demo", store=FakeStore()) as session:
        first = asyncio.create_task(
            session.run("import asyncio; await asyncio.sleep(0); n = 1", base=0)
        )
        second = asyncio.create_task(session.run("n = 2", base=0))
        assert (await first).ok
        with pytest.raises(StaleBaseError):
            await second
        assert await session.fetch("n") == 1


async def test_a_closed_session_takes_no_ids():
    async with pyrepl3.open_session() as session:
        pass
    with pytest.raises(SessionClosedError):
        await session.run("1", id="a")


async def test_an_interrupted_cell_is_not_run_again():
    seen = Seen()
    async with pyrepl3.open_session(observe=seen) as session:
        source = "import asyncio; print('up'); await asyncio.sleep(60)"
        running = asyncio.create_task(session.run(source, id="a"))
        await seen.until_text("up")
        session.interrupt()
        assert isinstance(await running, Interrupted)
        again = await session.run(source, id="a")
        assert again.status == "interrupted"
