"""What could not be kept is made again by its cell, where the user asks; who made it is told."""

from __future__ import annotations

import pytest

import pyrepl3
from pyrepl3.errors import StoreError
from pyrepl3.records import Cell, Epoch, Notice, Receipt, Restored
from pyrepl3.session.recompute import find_makers
from pyrepl3.snapshot import rebuild
from pyrepl3.testing.fakes import FakeStore, Seen


def open_at(path, **options):
    return pyrepl3.open_session("demo", store=path, **options)


async def test_a_lost_name_comes_back_with_the_cell_that_made_it(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run("a = 1")
        await session.run("g = (i for i in [a])")
        await session.run("b = [g]")
    async with open_at(tmp_path) as session:
        assert session.lost["g"].endswith("(made by cell 2)")
        assert session.lost["b"].endswith("(made by cell 3)")
        outcome = await session.run("g")
        assert "made by cell 2" in str(outcome.error)


async def test_recompute_makes_lost_names_again_and_changes_no_other(tmp_path):
    seen = Seen()
    async with open_at(tmp_path) as session:
        await session.run("import threading\ndata = [1]; lock = threading.Lock(); runs = 1")
        await session.run("data = [1, 2, 3]; del runs")
        await session.run("held = [lock]")
    async with open_at(tmp_path, recompute=True, observe=seen) as session:
        assert session.lost == {}
        (restored,) = seen.of(Restored)
        assert restored.recomputed == {"lock", "held"}
        outcome = await session.run("lock.acquire(), held[0] is lock, data")
        assert outcome.text == "(True, True, [1, 2, 3])"
        assert "runs" not in await session.variables()
        assert [epoch.receipt.cell.n for epoch in await session.history()][:3] == [1, 2, 3]
    async with open_at(tmp_path) as session:
        assert session.lost.keys() == {"lock", "held"}
        await session.restore(session.epoch, recompute=True)
        assert session.lost == {}


async def test_what_another_python_has_left_is_made_again_by_its_cells(tmp_path, monkeypatch):
    """Lost when it is restored, not when it was stored: bytecode is for one version."""
    seen = Seen()
    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "MAKER", "cpython-399")
        async with open_at(tmp_path) as session:
            await session.run(
                "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\nruns = [1]"
            )
            await session.run("ps = [P(1)]\ndef f(): return ps[0].x")
            await session.run("runs.append(2); ps[0].x = 5")
    async with open_at(tmp_path) as session:
        assert session.lost.keys() == {"P", "ps", "f"}
        assert session.lost["P"].endswith("recompute makes it again (made by cell 1)")
        assert session.lost["ps"].endswith("(made by cell 2)")
    async with open_at(tmp_path, recompute=True, observe=seen) as session:
        assert session.lost == {}
        (restored,) = seen.of(Restored)
        assert restored.recomputed == {"P", "f"}
        assert restored.names >= {"P", "f", "ps", "runs"}
        # The list was changed after the cell that made it: loaded from the store, not made again.
        assert (await session.run("f(), type(ps[0]) is P, ps, runs")).text == (
            "(5, True, [P(x=5)], [1, 2])"
        )
        await session.run("y = 1")
    async with open_at(tmp_path) as session:  # by this Python, as any session
        assert session.lost == {}
        assert (await session.run("f(), type(ps[0]) is P")).text == "(5, True)"


async def test_what_was_stored_whole_is_loaded_whatever_its_own_cell_would_make(
    tmp_path, monkeypatch
):
    """Also where one cell made both, and where it fails when it runs again."""
    flag = tmp_path / "flag"
    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "MAKER", "cpython-399")
        async with open_at(tmp_path / "s") as session:
            await session.run("class P:\n    def get(self): return self.x\nps = [P()]\nn = 1")
            await session.run(
                f"import pathlib\nassert not pathlib.Path({str(flag)!r}).exists()\nqs = {{'p': P()}}"
            )
            await session.run("ps[0].x = 7; n = 2")
    flag.touch()
    async with open_at(tmp_path / "s") as session:
        assert session.lost.keys() == {"P", "ps", "qs"}
        await session.restore(session.epoch, recompute=True)
        assert session.lost == {}
        assert (await session.run("ps[0].get(), n, type(qs['p']) is P")).text == "(7, 2, True)"


async def test_a_cell_that_fails_when_run_again_is_told_and_loses_nothing_else(tmp_path):
    seen = Seen()
    flag = tmp_path / "flag"
    async with open_at(tmp_path / "s") as session:
        await session.run(
            f"import pathlib\nassert not pathlib.Path({str(flag)!r}).exists()\ng = iter(i for i in [])"
        )
        await session.run("x = [1]")
    flag.touch()
    async with open_at(tmp_path / "s", recompute=True, observe=seen) as session:
        assert session.lost.keys() == {"g"}
        assert await session.fetch("x") == [1]
        assert any("cell 1 failed when it was run again for g" in n.text for n in seen.of(Notice))


@pytest.mark.parametrize("recompute", [True, False])
async def test_a_past_that_cannot_be_read_costs_no_more_than_who_made_what(monkeypatch, recompute):
    store = FakeStore()
    async with pyrepl3.open_session("demo", store=store) as session:
        await session.run("x = [1]; g = (i for i in [])")
    store = store.again()

    def history(epoch=None):
        raise StoreError("a flipped bit")

    monkeypatch.setattr(store, "history", history)
    async with pyrepl3.open_session("demo", store=store, recompute=recompute) as session:
        assert session.lost.keys() == {"g"}
        assert "made by" not in session.lost["g"]
        assert await session.fetch("x") == [1]


async def test_background_tasks_that_ended_with_their_process_are_told(tmp_path):
    seen = Seen()
    async with open_at(tmp_path) as session:
        await session.run("import asyncio\nasync def poll(): await asyncio.sleep(1000)")
        await session.run("asyncio.get_running_loop().create_task(poll(), name='poller'); x = 1")
    async with open_at(tmp_path, observe=seen):
        (notice,) = [event for event in seen.of(Notice) if event.kind == "restored"]
        assert notice.text.startswith("background task 'poller' of cell demo-c2 was running")


async def test_context_variables_that_cannot_be_stored_are_told_once(tmp_path):
    seen = Seen()
    async with open_at(tmp_path, observe=seen) as session:
        await session.run(
            "import contextvars\nv = contextvars.ContextVar('v'); t = v.set((i for i in []))"
        )
        await session.run("x = 1")
        (notice,) = [event for event in seen.of(Notice) if event.kind == "dropped"]
        assert "a generator" in notice.text


def line(*cells):
    return [
        Epoch(
            epoch=n,
            parent=n - 1,
            receipt=Receipt(cell=Cell(id=f"c{n}", n=n, source=source, filename=""), status="done"),
            lost=dict.fromkeys(lost, "why"),
        )
        for n, (source, lost) in enumerate(cells, 1)
    ]


@pytest.mark.parametrize(
    ("cells", "maker"),
    [
        ([("g = 1", "g"), ("h = 1", "")], 1),
        ([("g = 1", ""), ("g = 2", "g"), ("g", "")], 2),
        ([("g = []", ""), ("g.append(f())", "g")], 1),
        ([("globals()['g'] = 1", "g"), ("print(g)", "")], 1),
        ([("def f():\n    global g\n    g = 1", ""), ("f()", "g")], 1),
        ([("g = ", ""), ("import g", "g")], 2),
    ],
)
def test_the_maker_is_the_last_cell_that_binds_the_name(cells, maker):
    assert find_makers(line(*cells), ["g"])["g"].n == maker


async def test_what_a_lost_name_was_made_from_is_made_again_where_it_has_been_changed(tmp_path):
    seen = Seen()
    async with open_at(tmp_path) as session:
        await session.run("size = 3; other = 'kept'")
        await session.run("def count(): return size")
        await session.run("it = iter(range(count()))")
        await session.run("size = 100; del count")
    async with open_at(tmp_path, recompute=True, observe=seen) as session:
        assert session.lost == {}
        outcome = await session.run("list(it), size, other, 'count' in globals()")
        assert outcome.text == "([0, 1, 2], 100, 'kept', False)"


async def test_what_is_there_as_it_was_is_not_made_again(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run("size = 3; log = []")
        await session.run("log.append('ran'); n = 4")
        await session.run("it = iter(range(size + n))")
    async with open_at(tmp_path, recompute=True) as session:
        assert session.lost == {}
        assert (await session.run("list(it), log")).text == "([0, 1, 2, 3, 4, 5, 6], ['ran'])"


async def test_lost_names_that_stand_on_each_other_come_back_together(tmp_path):
    async with open_at(tmp_path) as session:
        await session.run("text = 'ab'")
        await session.run("chars = (c for c in text)")
        await session.run("upper = (c.upper() for c in chars)")
        await session.run("text = 'gone'")
    async with open_at(tmp_path, recompute=True) as session:
        assert session.lost == {}
        assert (await session.run("list(upper), text")).text == "(['A', 'B'], 'gone')"
