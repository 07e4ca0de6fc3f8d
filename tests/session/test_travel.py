"""A session goes back and forth, forks, compares, forgets and is carried away; a store that fails harms nothing."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import pyrepl3
from pyrepl3.errors import (
    EpochNotFoundError,
    SessionClosedError,
    SessionError,
    SessionExistsError,
    StoreError,
)
from pyrepl3.records import Restored
from pyrepl3.testing.fakes import FakeStore, Seen


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
async def session(store):
    async with pyrepl3.open_session("s", store=store) as session:
        yield session


async def run(session, *cells):
    """Run cells that must succeed; the value of the last."""
    for cell in cells:
        outcome = await session.run(cell)
    return outcome.unwrap()


# --- undo and restore ---------------------------------------------------------------------------


async def test_undo_goes_back_one_cell_or_several(session):
    await run(session, "x = [1]", "x.append(2)", "y = x")
    await session.undo()
    assert await run(session, "'y' in dir(), x") == (False, [1, 2])
    await session.undo(3)
    assert session.epoch == 0
    assert not await session.variables()


async def test_undo_follows_the_line_that_led_here(session):
    await run(session, "x = 1", "x = 2", "x = 3")
    await session.undo(2)
    await run(session, "x = 4")
    await session.undo()
    assert (session.epoch, await session.fetch("x")) == (1, 1)
    await session.restore(3)
    await session.undo()
    assert (session.epoch, await session.fetch("x")) == (2, 2)


async def test_what_was_undone_is_restored_by_its_number(session):
    await run(session, "x = 1", "def f(): return x", "x = 2")
    await session.undo(2)
    await session.restore(3)
    assert await run(session, "f()") == 2


async def test_a_failed_cell_is_undone_too(session):
    await run(session, "x = [1]")
    assert not (await session.run("x.append(2); 1 / 0")).ok
    await session.undo()
    assert await session.fetch("x") == [1]


async def test_undo_is_told_as_a_restore(store):
    seen = Seen()
    async with pyrepl3.open_session("s", store=store, observe=seen) as session:
        await run(session, "x = 1", "g = (n for n in 'ab')")
        await session.undo()
    assert seen.of(Restored)[-1] == Restored(epoch=1, names=frozenset({"x"}), lost={})


async def test_more_than_there_is_cannot_be_undone_and_nothing_happens(session):
    await run(session, "x = 1", "y = 2")
    with pytest.raises(SessionError, match="cannot undo 3 cells of session 's': only 2 are there"):
        await session.undo(3)
    with pytest.raises(ValueError, match="from 1"):
        await session.undo(0)
    assert (session.epoch, await session.fetch("y")) == (2, 2)


async def test_an_unknown_epoch_is_refused_with_the_nearest(session):
    await run(session, "x = 1", "x = 2")
    for call in (session.restore(9), session.diff(1, 9), session.fork("new", 9)):
        with pytest.raises(EpochNotFoundError, match="no epoch 9; the nearest are 1, 2"):
            await call
    assert (session.epoch, await session.fetch("x")) == (2, 2)


@pytest.mark.parametrize("background", [False, True])
async def test_while_a_cell_runs_nobody_goes_anywhere(session, store, background):
    await run(session, "x = 1", "import asyncio; hold = asyncio.Event()")
    running = asyncio.create_task(session.run("x = 2\nawait hold.wait()", background=background))
    while await session.fetch("x") != 2:  # the cell says it by its value
        await asyncio.sleep(0)
    for going in (session.undo(), session.restore(1)):
        with pytest.raises(SessionError, match=r"a cell is running \(s-c3\); interrupt it or wait"):
            await going
    # What only reads, or writes elsewhere, does not wait.
    assert len(await session.log()) == 2
    await session.fork("beside")
    assert [epoch.epoch for epoch in store.forks["beside"].again().epochs()] == [1, 2]
    session.interrupt("s-c3")
    await running


async def test_a_store_that_fails_in_the_midst_of_undo_leaves_one_state_or_the_other(
    session, store
):
    await run(session, "x = 1", "x = 2")
    store.fail_load()
    with pytest.raises(StoreError, match="told to fail"):
        await session.undo()
    assert (session.epoch, await session.fetch("x")) == (2, 2)
    store.fail_move()
    with pytest.raises(StoreError, match="told to fail"):
        await session.undo()
    # The state is that of epoch 1, and so is the parent of what follows.
    await run(session, "y = x")
    assert [epoch.epoch for epoch in await session.history()] == [1, 3]


async def test_undo_goes_to_its_end_though_its_caller_is_cancelled(session):
    await run(session, "x = 1", "x = 2")
    going = asyncio.create_task(session.undo())
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert session.epoch in {1, 2}
    assert await session.fetch("x") == session.epoch


# --- looking ------------------------------------------------------------------------------------


async def test_the_log_tells_what_each_cell_did(session):
    await run(session, "x = 1\ny = 2", "x = 3")
    await session.run("del y; 1 / 0")
    await session.undo(2)
    await run(session, "z = 1")
    log = await session.log()
    assert [(e.epoch, e.parent, e.line, e.more, e.status) for e in log] == [
        (1, 0, "x = 1", True, "done"),
        (2, 1, "x = 3", False, "done"),
        (3, 2, "del y; 1 / 0", False, "failed"),
        (4, 1, "z = 1", False, "done"),
    ]
    plain = [
        [[n for n in names if not n.startswith("_")] for names in (e.added, e.changed, e.removed)]
        for e in log
    ]
    assert plain == [
        [["x", "y"], [], []],
        [[], ["x"], []],
        [[], [], ["y"]],
        [["z"], [], []],
    ]
    assert [e.on_line for e in log] == [True, False, False, True]
    assert [e.current for e in log] == [False, False, False, True]
    assert [e.cell_id for e in log] == ["s-c1", "s-c2", "s-c3", "s-c4"]
    assert all(e.at > 0 and e.size > 0 for e in log)


async def test_a_difference_names_what_changed_without_objects(session):
    await run(session, "x = 1\ny = [1, 2]", "x = 'text'\ndel y\ng = (n for n in 'ab')")
    found = await session.diff(1, 2)
    assert (found.before, found.after) == (1, 2)
    assert (found.changed["x"][0].text, found.changed["x"][1].text) == ("1", "'text'")
    assert found.removed["y"].text == "[1, 2]"
    assert found.removed["y"].size > 0
    assert "generator" in found.added["g"].lost
    assert await session.diff() == found
    assert set((await session.diff(0)).added) == {"x", "g"}
    back = await session.diff(2, 1)
    assert set(back.added) == {"y"}


# --- elsewhere ----------------------------------------------------------------------------------


async def test_a_fork_goes_its_own_way(tmp_path):
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        await run(session, "x = [1]", "x.append(2)", "x.append(3)")
        await session.fork("early", 2)
        await session.fork("late")
        await run(session, "x.append(4)")
        with pytest.raises(SessionExistsError, match=r"'late' is in .* already"):
            await session.fork("late")
        with pytest.raises(ValueError, match="cannot name a session"):
            await session.fork("a/b")
    for name, value in [("early", [1, 2, 9]), ("late", [1, 2, 3, 9]), ("s", [1, 2, 3, 4, 9])]:
        async with pyrepl3.open_session(name, store=tmp_path) as session:
            assert await run(session, "x.append(9)", "x") == value
            await session.undo(2)
            assert await session.fetch("x") == value[:-1]


async def test_a_session_forked_again_and_again_undoes_into_what_it_came_from(tmp_path):
    names = ["a", "b", "c", "d"]
    async with pyrepl3.open_session("a", store=tmp_path) as session:
        await run(session, "x = ['a']")
    for old, new in itertools.pairwise(names):
        async with pyrepl3.open_session(old, store=tmp_path) as session:
            await session.fork(new)
        async with pyrepl3.open_session(new, store=tmp_path) as session:
            await run(session, f"x.append({new!r})")
    async with pyrepl3.open_session("d", store=tmp_path) as session:
        assert await session.fetch("x") == names
        await session.undo(2)
        assert await session.fetch("x") == ["a", "b"]
        assert [entry.cell_id for entry in await session.log()] == ["a-c1", "b-c2", "c-c3", "d-c4"]


async def test_garbage_is_what_was_left_and_what_is_too_old(session):
    await run(session, "x = 1", "x = 2", "x = 3")
    await session.undo()
    await run(session, "x = 4")
    assert (await session.gc()).epochs == 1
    assert [entry.epoch for entry in await session.log()] == [1, 2, 4]
    with pytest.raises(EpochNotFoundError, match="nearest are 1, 2, 4"):
        await session.restore(3)
    assert (await session.gc(keep=2)).epochs == 1
    assert [entry.epoch for entry in await session.log()] == [2, 4]
    with pytest.raises(SessionError, match="only 2 are there"):
        await session.undo(3)
    await session.undo()
    assert await session.fetch("x") == 2
    with pytest.raises(ValueError, match="keep"):
        await session.gc(keep=0)


async def test_garbage_collection_never_drops_where_the_session_is(session, store):
    """Where the head could not be moved, the session is at an epoch that the store would call garbage."""
    await run(session, "x = 1", "x = 2")
    await session.restore(1)
    await run(session, "x = 3")
    store.fail_move()
    with pytest.raises(StoreError):
        await session.restore(2)
    await session.gc()
    assert [entry.epoch for entry in await session.log()] == [1, 2]
    await run(session, "y = x")
    assert (await session.history())[-1].parent == 2


async def test_an_export_is_a_whole_session_elsewhere(tmp_path):
    async with pyrepl3.open_session("s", store=tmp_path / "here") as session:
        await run(session, "x = 1", "x = 2")
        await session.undo()
        await session.export(tmp_path / "file")
        with pytest.raises(StoreError, match="exists"):
            await session.export(tmp_path / "file")
        await run(session, "x = 5")
    name = pyrepl3.import_session(tmp_path / "file", "t", store=tmp_path / "there")
    assert name == "t"
    async with pyrepl3.open_session("t", store=tmp_path / "there") as session:
        assert (session.epoch, await session.fetch("x")) == (1, 1)
        await session.restore(2)
        assert await session.fetch("x") == 2


# --- sessions that cannot ------------------------------------------------------------------------


async def test_a_session_that_is_not_kept_says_how_to_keep_it():
    async with pyrepl3.open_session() as session:
        for call in (
            session.undo(),
            session.restore(1),
            session.log(),
            session.epochs(),
            session.diff(),
            session.fork("new"),
            session.gc(),
            session.export("file"),
        ):
            with pytest.raises(SessionError, match="not kept; open it with a name"):
                await call


async def test_a_closed_session_goes_nowhere(store):
    async with pyrepl3.open_session("s", store=store) as session:
        pass
    for call in (session.undo(), session.log(), session.fork("new"), session.gc()):
        with pytest.raises(SessionClosedError):
            await call


async def test_what_is_only_read_after_a_restore_is_not_told_as_changed(tmp_path):
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        await run(
            session,
            "rows = [3, 1, 2]\nalias = (rows, 'text', {1: 2.5, 'k': None})\ntext = 'a' * 5000",
            "rows.append(4)",
        )
        await session.undo()
        await run(session, "a = max(rows), len(text), alias[1]")
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        await run(session, "b = max(rows), len(text), alias[1]")
        await run(session, "rows.append(5)")
        log = await session.log()
    assert [(entry.added, entry.changed) for entry in log[-3:]] == [
        (("a",), ()),
        (("b",), ()),
        ((), ("alias", "rows")),
    ]


async def test_what_comes_back_is_not_found_to_have_changed(tmp_path):
    """An audit compares bytes: what was only restored must pickle to the same ones."""
    cells = (
        "import math, random",
        "radius = 2\nrows = [3, 1]",
        "area = lambda: math.pi * radius ** 2\ndef f(): return area()",
        "class C:\n    def m(self): return f()\nc = C()",
    )
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        await run(session, *cells)
        await session.flush()
        await run(session, "rows.append(1)")
        await session.undo()
        await run(session, "z = 1")
        await session.flush()
        log = await session.log()
        assert [(entry.added, entry.changed) for entry in log[-1:]] == [(("z",), ())]
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        await run(session, "y = 1")
        await session.flush()
        log = await session.log()
        assert [(entry.added, entry.changed) for entry in log[-1:]] == [(("y",), ())]
        assert session.epoch == log[-1].epoch
        assert not any(entry.amended for entry in log)


async def test_a_value_of_which_a_part_is_shown_has_not_changed(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        for source in ("x = [[1], [2]]", "x[0]", "x.append(3)", "1", "len(x)"):
            (await session.run(source)).unwrap()
        changed = [entry.changed for entry in await session.log()]
        assert [("x" in names) for names in changed] == [False, False, True, False, False]
        assert "x" not in (await session.diff(3)).changed
        assert "x" in (await session.diff(2)).changed
