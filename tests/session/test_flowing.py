"""A session tells how its cells depend on each other, kept or not, and brings stale results up to date."""

from __future__ import annotations

import pytest

import pyrepl3
from pyrepl3.errors import NamespaceError


@pytest.fixture(params=["in memory", "kept"])
async def session(request, tmp_path):
    options = {} if request.param == "in memory" else {"name": "demo", "store": tmp_path}
    async with pyrepl3.open_session(**options) as session:
        yield session


async def run_all(session, *sources):
    for source in sources:
        assert (await session.run(source)).ok, source


async def test_the_graph_has_the_cells_and_who_used_what_of_whom(session):
    await run_all(session, "a = 1", "b = a + 1", "xs = [b]", "xs.append(a)", "print(len(xs))")
    graph = await session.graph()
    assert [cell.n for cell in graph.cells] == [1, 2, 3, 4, 5]
    assert [(e.source, e.target, e.names) for e in graph.edges] == [
        (1, 2, ("a",)),
        (2, 3, ("b",)),
        (1, 4, ("a",)),
        (3, 4, ("xs",)),
        (3, 5, ("xs",)),
        (4, 5, ("xs",)),
    ]
    assert graph.makers["xs"] == (3, 4)
    assert [cell.n for cell in await session.dependents("a")] == [2, 3, 4, 5]
    assert "c3 -->" in graph.mermaid()


async def test_stale_cells_are_run_again_until_none_is(session):
    await run_all(session, "rate = 2", "def price(n): return n * rate", "total = price(5)")
    await run_all(session, "note = f'total {total}'", "rate = 3")
    assert [(cell.n, dict(cell.because)) for cell in await session.stale()] == [
        (3, {"rate": 5}),
        (4, {"total": 3}),
    ]
    outcomes = await session.rerun_stale()
    assert [outcome.cell.source for outcome in outcomes] == [
        "total = price(5)",
        "note = f'total {total}'",
    ]
    assert await session.fetch("note") == "total 15"
    assert await session.stale() == ()
    assert await session.rerun_stale() == ()


async def test_running_stale_cells_again_stops_at_the_first_that_fails(session):
    await run_all(session, "a = 1", "b = 10 / a", "c = b", "a = 0")
    outcomes = await session.rerun_stale()
    assert [outcome.ok for outcome in outcomes] == [False]
    assert await session.fetch("c") == 10


async def test_a_slice_runs_in_an_empty_session(session):
    await run_all(session, "import asyncio", "noise = 1", "async def get(n): return n * scale")
    await run_all(session, "scale = 4", "got = await get(2)", "noise = got", "del scale")
    found = await session.slice("got")
    assert found.cells == (3, 4, 5)
    async with pyrepl3.open_session() as other:
        assert (await other.run(found.source)).ok
        assert await other.fetch("got") == 8
    with pytest.raises(NamespaceError, match="'nothing'"):
        await session.slice("nothing")


async def test_a_failed_cell_counts_up_to_where_it_failed(session):
    await session.run("a = 1\nb = 2 / 0\nc = 3")
    await session.run("1 +")
    await run_all(session, "d = a")
    graph = await session.graph()
    assert graph.makers["a"] == (1,)
    assert "c" not in graph.makers
    assert [(e.source, e.target) for e in graph.edges] == [(1, 3)]
    assert "2 / 0" not in (await session.slice("d")).source


async def test_what_the_store_saw_change_is_known_and_nothing_else(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        await run_all(session, "import copy, types\nbox = types.SimpleNamespace(v=[1])")
        await run_all(session, "alike = copy.copy(box)", "vars(box)['v'].append(2)")
        await run_all(
            session, "class T:\n    def look(self, x): return len(x.v)\nt = T()", "t.look(box)"
        )
        await run_all(session, "n = len(alike.v)")
        graph = await session.graph()
        assert graph.cells[2].mutates == {"box", "alike"}
        assert not graph.cells[4].may_mutate
        assert graph.makers["alike"] == (2, 3)
        assert (await session.slice("n")).cells == (1, 2, 3, 6)


async def test_what_was_undone_is_no_part_of_it(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        await run_all(session, "a = 1", "b = a", "a = 2")
        assert len(await session.stale()) == 1
        await session.undo()
        assert await session.stale() == ()
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        assert (await session.slice("b")).cells == (1, 2)


async def test_a_session_that_is_not_kept_remembers_its_last_thousand_cells():
    async with pyrepl3.open_session() as session:
        for n in range(1_010):
            await session.run(f"x = {n}")
        assert len((await session.graph()).cells) == 1_000
