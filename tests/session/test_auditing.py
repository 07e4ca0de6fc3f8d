"""Late changes: found in idle time and by flush, in the place of their epoch, told; and what is not certain."""

from __future__ import annotations

import asyncio
import sys
import threading

import msgspec
import pytest

import pyrepl3
from pyrepl3.records import Blob, Committed, Delta, Notice, Started
from pyrepl3.session.auditing import amend, is_empty
from pyrepl3.testing.fakes import Seen

HIDE = "import sys, types\nholder = types.ModuleType('holder'); x = [1]; holder.x = x"


def open_at(path, **options):
    return pyrepl3.open_session("demo", store=path, **options)


async def hide(session):
    """A change that no cell names: from outside of all cells."""
    (await session.fetch("holder")).x.append(2)


async def test_flush_puts_a_late_change_on_disk_in_the_place_of_its_epoch(tmp_path):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run(HIDE)
        outcome = await session.run("y = 1")
        await hide(session)
        await session.flush()
        line = await session.history()
        assert [epoch.receipt.cell.n for epoch in line] == [1, 2]
        assert line[-1].parent == line[0].epoch
        assert line[-1].epoch == session.epoch > outcome.epoch
        assert {"x", "holder", "y"} <= line[-1].stored
        assert all(epoch.audited for epoch in line[-1:])
        (notice,) = [event for event in seen.of(Notice) if event.kind == "late-change"]
        assert notice.cell_id == "demo-c2"
        assert notice.text.endswith("stored now: holder, x")
        assert seen.of(Committed)[-1].epoch == session.epoch
        # A client that still knows the epoch by its first number goes on.
        assert (await session.run("x", base=outcome.epoch)).text == "[1, 2]"
    async with open_at(tmp_path) as session:
        assert await session.fetch("x") == [1, 2]
        assert await session.fetch("y") == 1


async def test_it_is_found_in_idle_time_without_being_asked(tmp_path):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run(HIDE)
        await session.run("y = 1")
        await hide(session)
        await seen.until(lambda event: isinstance(event, Notice) and event.kind == "late-change")
        await seen.until(lambda event: isinstance(event, Committed) and event.epoch == 3)


async def test_a_normal_exit_waits_for_it(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run(HIDE)
        await session.run("y = 1")
        await hide(session)
    async with open_at(tmp_path) as session:
        assert await session.fetch("x") == [1, 2]
        assert not session.unaudited


async def test_who_goes_back_finds_what_changed_late_when_he_goes_forth_again(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run(HIDE)
        await session.run("y = 1")
        await hide(session)
        await session.undo()
        assert await session.fetch("x") == [1]
        newest = max(entry.epoch for entry in await session.log())
        await session.restore(newest)
        assert await session.fetch("x") == [1, 2]
        assert await session.fetch("y") == 1


async def test_many_fast_cells_and_a_normal_exit_leave_nothing_to_warn_of(tmp_path):
    async with open_at(tmp_path) as session:
        for n in range(12):
            await session.run(f"v{n} = [{n}]")
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        assert not session.unaudited
        assert seen.of(Notice) == []


@pytest.mark.parametrize(
    "late",
    [
        "globals()['new'] = [x]",
        "x.append(2)",
        "del globals()['x']",
        "global x; x = (i for i in ())",
        "import contextvars",
    ],
)
async def test_what_a_thread_does_after_its_cell_is_found(tmp_path, late):
    async with open_at(tmp_path) as session:
        session_names = (
            "import threading\nx = [1]; go = threading.Event(); over = threading.Event()\n"
            f"def late():\n    go.wait()\n    {late}\n    over.set()\n"
            "threading.Thread(target=late).start(); y = 1"
        )
        assert (await session.run(session_names)).ok
        assert (await session.run("z = 1")).ok
        (await session.fetch("go")).set()
        assert (await session.fetch("over")).wait(60)
        await session.flush()
        live = await session.variables()
        names = set(live) - session.lost.keys()
        snapshot = session._store.load()
        assert {name for blob in snapshot.blobs for name in blob.names} == names
        assert set(snapshot.lost) == set(session.lost) & set(live)


async def test_what_a_task_does_after_its_epoch_was_audited_is_found_in_idle_time(tmp_path):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run(HIDE)
        await session.run(
            "import asyncio; loop, go = asyncio.get_running_loop(), asyncio.Event()\n"
            "async def late(): await go.wait(); holder.x.append(2); await asyncio.sleep(3600)\n"
            "task = asyncio.create_task(late())"
        )
        async with asyncio.timeout(20):
            while not (await session.history())[-1].audited:
                await asyncio.sleep(0.01)
        loop, go = await session.fetch("loop"), await session.fetch("go")
        loop.call_soon_threadsafe(go.set)
        await seen.until(lambda event: isinstance(event, Notice) and event.kind == "late-change")
    async with open_at(tmp_path) as session:
        assert await session.fetch("x") == [1, 2]


async def test_an_epoch_that_was_never_audited_says_so_when_it_comes_back(tmp_path):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run("x = 1")
        await session.run("x = 2")
        first = session.epoch
        await session.run("x = 3")
        await session.restore(first)
        assert session.unaudited
        (notice,) = [event for event in seen.of(Notice) if event.kind == "unaudited"]
        assert "epoch 2" in notice.text
        await session.run("y = 2")
        await session.flush()
        await session.restore(session.epoch)
        assert not session.unaudited


@pytest.mark.parametrize(
    ("then", "hidden", "vouched"),
    [
        ("1 / 0", "", True),  # it leaves a name that was not there before
        ("new = [4]", "", True),
        ("x = [2]", "", False),  # what x was before nobody knows any more
        ("new = [4]", "json.held.append(1)", False),  # found with the last one
    ],
)
async def test_an_audit_vouches_for_earlier_epochs_as_far_as_nothing_was_stored_since(
    tmp_path, then, hidden, vouched
):
    async with open_at(tmp_path) as session:
        await session.run("import json; x = [1]; hidden = json.held = [0]")
        await session.flush()
        await session.run("y = [x]; " + hidden)
        before = session.epoch
        assert not session._store.load(before).audited
        await session.run(then)
        await session.flush()
        assert session._store.load().audited
        assert session._store.load(before).audited is vouched


async def test_late_state_of_the_process_comes_back_by_undo_restore_and_in_a_new_process(tmp_path):
    late = (
        "import asyncio, os\nasync def late():\n    await go.wait()\n    os.environ['LATE'] = 'yes'\n    over.set()\n"
        "go, over = asyncio.Event(), asyncio.Event()\nkept = asyncio.create_task(late())"
    )
    ask = "os.environ.get('LATE')"
    async with open_at(tmp_path, isolation="process") as session:
        (await session.run(late)).unwrap()
        (await session.run("go.set(); await over.wait()")).unwrap()
        (await session.run("del kept, go, over")).unwrap()
        await session.flush()
        found = session.epoch
        (await session.run("os.environ['LATE'] = 'no'")).unwrap()
        await session.undo()
        assert (await session.run(ask)).text == "'yes'"
        await session.restore(1)
        assert (await session.run(ask)).text == ""
        await session.restore(found)
    async with open_at(tmp_path, isolation="process") as session:
        assert (await session.run(ask)).text == "'yes'"


async def test_nothing_late_is_no_new_epoch_but_an_audited_one(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run("x = [1]")
        outcome = await session.run("y = 1")
        await session.flush()
        assert session.epoch == outcome.epoch
        assert (await session.history())[-1].audited
        await session.flush()
        assert session.epoch == outcome.epoch


async def test_a_cell_that_starts_ends_an_audit(tmp_path, monkeypatch):
    monkeypatch.setattr("pyrepl3.session.auditing.IDLE", 1000)  # no other one comes between
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run("x = list(map(str, range(30_000)))")
        await session.run("y = 1")
        runner = session._runner
        entered, go = threading.Event(), threading.Event()

        class Slow:
            def __reduce__(self):
                entered.set()
                go.wait(60)
                return list, ()

        sys.modules[__name__].Slow = Slow
        (await session.fetch("x")).append(Slow())
        search = asyncio.ensure_future(runner.audit())
        await asyncio.to_thread(entered.wait, 60)
        cell = asyncio.ensure_future(session.run("y = 2"))
        await seen.until(lambda event: isinstance(event, Started) and event.cell.n == 3)
        go.set()
        assert (await cell).ok
        assert await search is False
        await session.run("x.pop()")


@pytest.mark.slow
async def test_a_task_that_holds_the_loop_does_not_keep_the_session_from_its_end(tmp_path):
    async with asyncio.timeout(100):
        async with open_at(tmp_path) as session:
            await session.run(
                "import asyncio, threading\ngo = asyncio.Event(); held = threading.Event()\n"
                "async def hold():\n    await go.wait()\n    held.set()\n    while True: pass\n"
                "task = asyncio.ensure_future(hold())"
            )
            go, held = await session.fetch("go"), await session.fetch("held")
            session._runner.host.loop.call_soon_threadsafe(go.set)
            assert await asyncio.to_thread(held.wait, 60)


async def test_a_session_without_a_store_has_nothing_to_flush():
    async with pyrepl3.open_session() as session:
        await session.run("x = 1")
        await session.flush()


async def test_a_store_that_fails_is_told_and_the_session_goes_on(tmp_path, monkeypatch):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run(HIDE)
        await session.run("y = 1")
        await hide(session)
        with monkeypatch.context() as patch:

            def fail(*args, **options):
                raise pyrepl3.StoreError("the disk is full")

            patch.setattr(session._store, "commit", fail)
            with pytest.raises(pyrepl3.StoreError, match="full"):
                await session.flush()
        assert [event.kind for event in seen.of(Notice)] == ["unprotected"]
        await session.flush()
    async with open_at(tmp_path) as session:
        assert await session.fetch("x") == [1, 2]


def blob(*names):
    return Blob(names=names, data=b"".join(name.encode() for name in names))


def test_an_amended_delta_does_what_both_do_in_their_order():
    head = Delta(
        blobs=(blob("a", "b"), blob("c"), blob("d")),
        deleted=frozenset({"e", "f", "i"}),
        lost={"g": "why", "h": "why"},
        reprs={"a": "1", "b": "2", "c": "3", "d": "4"},
        engine=b"old",
    )
    late = Delta(
        blobs=(blob("b", "e", "g"),),
        deleted=frozenset({"c", "h"}),
        lost={"d": "gone", "f": "gone"},
        reprs={"b": "5", "e": "6", "g": "7"},
        engine=b"new",
    )
    whole = amend(head, late)
    assert whole.blobs == (msgspec.structs.replace(blob("a", "b"), names=("a",)), *late.blobs)
    assert whole.deleted == {"c", "h", "i"}
    assert whole.lost == {"d": "gone", "f": "gone"}
    assert whole.reprs == {"a": "1", "b": "5", "e": "6", "g": "7"}
    assert whole.engine == b"new"


def test_what_one_of_both_has_changed_is_changed():
    head = Delta(blobs=(blob("a", "b", "c"),), same=frozenset("ab"))
    late = Delta(blobs=(blob("b", "c", "d", "e"),), same=frozenset("bce"))
    assert amend(head, late).same == {"a", "b", "e"}


@pytest.mark.parametrize("field", ["blobs", "deleted", "lost", "engine"])
def test_any_change_makes_a_delta_not_empty(field):
    values = {
        "blobs": (blob("a"),),
        "deleted": frozenset("a"),
        "lost": {"a": "why"},
        "engine": b"x",
    }
    assert is_empty(Delta(), Delta())
    assert not is_empty(Delta(**{field: values[field]}), Delta())


@pytest.mark.parametrize(
    "source",
    [
        "import dataclasses\n@dataclasses.dataclass\nclass v:\n    x: int\n    y: str = 'a'",
        "import enum\nclass v(enum.Enum):\n    A = 1",
        "class v:\n    __slots__ = ('a', 'b')\n    def __init__(s): s.a = 'q'",
        "import typing\nX = typing.TypeVar('X')\nclass v(typing.Generic[X]): pass",
        "import functools\n@functools.lru_cache\ndef v(n): return n",
        "import collections\nv = collections.namedtuple('v', 'x width')",
        "import numpy as np\narr = np.arange(10)\nv = (arr.sum(), arr, np.float64(1))",
        "v = set(range(1000))\nv.difference_update(set(range(1000)) - {0, 5, 8})",
    ],
    ids=["dataclass", "enum", "slots", "generic", "lru_cache", "namedtuple", "numpy", "set"],
)
async def test_what_is_only_read_after_a_restart_has_not_changed(tmp_path, source):
    async with open_at(tmp_path) as session:
        (await session.run(source)).unwrap()
    async with open_at(tmp_path) as session:
        (await session.run("text = repr(v)")).unwrap()
        assert (await session.diff()).changed == {}
