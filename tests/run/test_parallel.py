"""Awaits that begin early: nothing shows but the time. The laws one by one, and of any cell together."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyrepl3
from pyrepl3 import (
    AsyncExecutor,
    Cell,
    Display,
    Failed,
    Finished,
    Interrupted,
    NamespaceManager,
    Output,
)
from pyrepl3.testing.fakes import FakeStore

FUNCTIONS = """
import asyncio
from pyrepl3 import independent
begun = []
items = [1]
base = 10
async def ok(n, turns=0):
    print('ok', n)
    for _ in range(turns):
        await asyncio.sleep(0)
    print('done', n)
    return n + base
async def fail(n, turns=0):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise ValueError(f'failed {n}')
async def pair(n): return [n, n + 1]
async def count(): return len(items)
async def loud(n):
    print('loud', n, sep='=')
    return n
def shown(n):
    items.append(n)
    return n
@independent
async def seen(n, turns=1):
    begun.append(n)
    print('seen', n)
    for _ in range(turns):
        await asyncio.sleep(0)
    return [n]
@independent
async def stops(n): raise SystemExit(n)
@independent
async def never(n):
    try:
        await asyncio.sleep(1000)
    finally:
        begun.append(f'dropped {n}')
"""


class Bench:
    """An executor on this loop, and what its cells have told."""

    def __init__(self) -> None:
        self.manager = NamespaceManager(name="parallel")
        self.executor = AsyncExecutor(None, self.manager, "parallel")
        self.names = self.manager.get_for_execution()
        self.n = 0
        self.events: list[Any] = []

    async def run(self, source: str, *, parallel: bool = False) -> Any:
        self.n += 1
        cell = Cell(
            id=f"c{self.n}", n=self.n, source=source, filename=f"<cell {self.n}>", parallel=parallel
        )
        self.events.clear()
        return await self.executor.run(cell, self.events.append)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Output))


@pytest.fixture
async def bench():
    bench = Bench()
    assert (await bench.run(FUNCTIONS)).ok
    yield bench
    await bench.executor.aclose()


async def test_awaits_begin_before_those_above_them_are_done(bench):
    outcome = await bench.run(
        "a = await seen(1, 5)\nb = await seen(2, 1)\nc = await ok(3)", parallel=True
    )
    assert outcome.value == 13
    assert bench.names["begun"] == [1, 2]
    assert bench.text == "seen 1\nseen 2\nok 3\ndone 3\n"


async def test_without_parallel_nothing_begins_early(bench):
    await bench.run("a = await fail(1, 3)\nb = await seen(2)")
    assert bench.names["begun"] == []


async def test_what_began_early_is_cancelled_and_over_when_a_statement_above_it_fails(bench):
    outcome = await bench.run(
        "a = await fail(1, 3)\nb = await never(2)\nc = await seen(3)", parallel=True
    )
    assert repr(outcome.error) == "ValueError('failed 1')"
    assert bench.names["begun"] == [3, "dropped 2"]
    assert bench.text == ""
    assert not {"a", "b", "c"} & bench.names.keys()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_an_error_has_the_traceback_of_its_own_statement(bench):
    outcome = await bench.run(
        "a = await ok(1, 3)\nb = (await ok(1),\n     await fail(2))", parallel=True
    )
    assert isinstance(outcome, Failed)
    lines = outcome.traceback.splitlines()
    assert lines[1] == '  File "<cell 2>", line 3, in <module>'
    assert lines[2].strip() == "await fail(2))"
    assert [line for line in lines if line.startswith("  File")][1:] == [
        '  File "<cell 1>", line 16, in fail'
    ]


async def test_what_would_stop_the_loop_is_an_outcome_in_its_turn(bench):
    outcome = await bench.run("a = await ok(1, 2)\nb = await stops(3)", parallel=True)
    assert repr(outcome.error) == "SystemExit(3)"
    assert bench.names["a"] == 11
    outcome = await bench.run("a = await fail(1, 2)\nb = await stops(3)", parallel=True)
    assert repr(outcome.error) == "ValueError('failed 1')"


async def test_a_result_whose_inputs_have_changed_since_does_not_count(bench):
    source = "a = await ok(1, 2)\nexec('base = 100')\nb = await ok(2)\n(a, b)"
    assert (await bench.run(source, parallel=True)).value == (11, 102)
    assert bench.text == "ok 1\ndone 1\nok 2\ndone 2\n"
    source = "a = await ok(1, 2)\nexec('async def ok(n): return 0')\nb = await ok(2)\n(a, b)"
    assert (await bench.run(source, parallel=True)).value == (101, 0)


async def test_what_can_be_changed_in_place_is_read_after_all_that_may_change_it(bench):
    source = "a = await ok(1, 2)\nshown(5)\nb = await count()\nc = await count()\n(b, c, items)"
    assert (await bench.run(source, parallel=True)).value == (2, 2, [1, 5])


async def test_displays_and_values_keep_their_order(bench):
    source = (
        "from pyrepl3 import display\n"
        "@independent\nasync def show(n):\n    display(n)\n    await asyncio.sleep(0)\n    display(-n)\n"
        "await show(1)\nawait show(2)\nawait ok(3)"
    )
    assert (await bench.run(source, parallel=True)).text == "13"
    told = [e.data["text/plain"] if isinstance(e, Display) else e.text for e in bench.events[1:-1]]
    assert "".join(told) == "1-12-2ok 3\ndone 3\n"
    assert isinstance(bench.events[-1], Finished)


async def test_texts_futures_and_definitions_keep_their_meaning(bench):
    source = (
        "'''The doc.'''\nfrom __future__ import annotations\n"
        "a = await ok(1, 2)\n'no doc'\nx: undefined = 5\n"
        "def later(n: undefined): return n\nb, *c = await pair(2)\n'the value'"
    )
    outcome = await bench.run(source, parallel=True)
    assert outcome.value == "the value", outcome
    names = bench.names
    assert (names["__doc__"], names["x"], names["b"], names["c"]) == ("The doc.", 5, 2, [3])
    assert names["__annotations__"] == {"x": "undefined"}
    assert (await bench.run("import inspect; inspect.getsource(later)")).value.startswith(
        "def later("
    )


@pytest.mark.parametrize(
    "source", ["x = 1; x", "return 5", "await ok(1)", "", "if", "for x in [1]: await ok(x)"]
)
async def test_cells_with_nothing_to_begin_early_run_as_ever(bench, source):
    outcome = await bench.run(source, parallel=True)
    told = bench.text
    again = await bench.run(source)
    assert (type(outcome), outcome.value, told) == (type(again), again.value, bench.text)


async def test_more_awaits_than_may_run_at_once_are_all_run(bench):
    source = "\n".join(f"v{n} = await seen({n})" for n in range(150))
    assert (await bench.run(source, parallel=True)).ok
    assert [bench.names[f"v{n}"] for n in range(150)] == [[n] for n in range(150)]


async def test_the_steps_of_a_statement_are_its_own_early_or_not(tmp_path):
    source = (
        "import asyncio, pyrepl3\nfrom pyrepl3 import independent, step\ncalls = []\n"
        "def note(n): calls.append(n); return n\n"
        "@independent\nasync def work(n): return await step(note, n)\n"
    )
    async with pyrepl3.open_session("steps", store=tmp_path) as session:
        assert (await session.run(source)).ok
        outcome = await session.run(
            "a = await work(1)\nb = await work(2)\nc = await step(note, 3)\n[a, b, c, sorted(calls)]",
            parallel=True,
        )
        assert outcome.value == [1, 2, 3, [1, 2, 3]]
        assert outcome.cell.parallel


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_a_session_runs_statements_at_once_and_explains_it(isolation):
    async with pyrepl3.open_session(store=FakeStore(), name="s", isolation=isolation) as session:
        assert (await session.run(FUNCTIONS)).ok
        source = "a = await ok(1, 3)\nb = await seen(2)\nprint('end')"
        report = await session.explain_parallel(source)
        assert report.early == (2,)
        told = [
            e.text async for e in session.stream(source, parallel=True) if isinstance(e, Output)
        ]
        assert "".join(told) == "ok 1\ndone 1\nseen 2\nend\n"
        assert await session.fetch("b") == [2]


async def test_an_interrupt_of_a_cell_that_refuses_ends_what_began_early(bench):
    source = (
        "@independent\nasync def refuse(n):\n    while True:\n"
        "        try:\n            print('up')\n            await asyncio.sleep(1000)\n"
        "        except BaseException: pass\n"
    )
    assert (await bench.run(source)).ok
    running = asyncio.ensure_future(
        bench.run("a = await refuse(1)\nb = await refuse(2)", parallel=True)
    )
    while not bench.text:
        await asyncio.sleep(0.01)
    assert bench.executor.interrupt()
    assert isinstance(await running, Interrupted)


@pytest.mark.slow
async def test_a_limit_of_time_ends_what_began_early_too():
    # On a busy machine others may hold a cell up for the first one's while.
    for wall in (0.3, 3, 30):
        async with pyrepl3.open_session(limits=pyrepl3.Limits(wall=wall)) as session:
            if not (await session.run(FUNCTIONS)).ok:
                continue
            outcome = await session.run("a = await never(1)\nb = await never(2)", parallel=True)
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, pyrepl3.LimitExceededError)
            assert outcome.error.limit == "wall"
            dropped = sorted(await session.fetch("begun"))
        if dropped:
            break
    assert dropped == ["dropped 1", "dropped 2"]


@pytest.mark.parametrize("counts", [False, True], ids=["sampled", "counted"])
async def test_what_runs_at_once_is_optimised_traced_and_counted_like_any_other(counts):
    config = pyrepl3.ExecutorConfig(enable_ast_optimization=True, trace_execution=True)
    async with pyrepl3.open_session(config=config) as session:
        assert (await session.run(FUNCTIONS)).ok
        await session.hot(True, counts=counts)
        source = (
            "for i in range(3): base = i\na = await seen(1, 3)\nb = await seen(2)\nc = await ok(3)"
        )
        lines, text = [], []
        async for event in session.stream(source, parallel=True):
            if isinstance(event, pyrepl3.Line):
                lines.append(event.line)
            elif isinstance(event, Output):
                text.append(event.text)
        assert "".join(text) == "seen 1\nseen 2\nok 3\ndone 3\n"
        assert await session.fetch("c") == 5
        assert {1, 2, 3, 4} <= set(lines)
        report = await session.hot(False)
        hits = {line.text.strip(): line.hits for line in report.lines}
        assert hits.get("begun.append(n)") == (2 if counts else None)


# --- any cell -----------------------------------------------------------------------------------------

TARGETS = st.sampled_from(["v", "w", "x"])
NUMBERS = st.integers(0, 3)
TURNS = st.integers(0, 4)
CALLS = st.one_of(
    st.builds("await ok({}, {})".format, NUMBERS, TURNS),
    st.builds("await ok({}, {})".format, TARGETS, TURNS),
    st.builds("await seen({}, {})".format, NUMBERS, TURNS),
    st.builds("await seen({}, {})".format, TARGETS, TURNS),
    st.builds("await loud({})".format, NUMBERS),
    st.builds("await loud(f'{{{}}}')".format, TARGETS),
    st.builds("await {}({}, {})".format, st.sampled_from(["fail", "ok", "ok"]), NUMBERS, TURNS),
    st.just("await count()"),
    st.builds("await pair({})".format, NUMBERS),
    st.builds("[await ok(i) for i in range({})]".format, NUMBERS),
)
EARLY = st.one_of(
    st.builds("{} = {}".format, TARGETS, CALLS),
    st.builds("{} = {} = {}".format, TARGETS, TARGETS, CALLS),
    st.builds("{}, {} = {}".format, TARGETS, TARGETS, CALLS),
    CALLS,
)
OTHER = st.one_of(
    st.builds("print('plain', {})".format, TARGETS),
    st.builds("{} = {}".format, TARGETS, NUMBERS),
    st.builds("{} = shown({})".format, TARGETS, NUMBERS),
    st.builds("base = {}".format, NUMBERS),
    st.builds("items = [{}]".format, NUMBERS),
    st.builds("del {}".format, TARGETS),
    st.builds("exec('base = {}')".format, NUMBERS),
    st.builds("exec('items = [{}]')".format, NUMBERS),
    st.just("exec('async def ok(n, turns=0): return [n]')"),
    st.just("async def ok(n, turns=0): return -n"),
    st.just("ok, loud = loud, ok"),
    st.builds("if base > 2: {} = await ok(1)".format, TARGETS),
    st.builds("1 / {}".format, st.sampled_from([0, 1, 1, 1])),
    st.just("assert len(items) < 3, items"),
)
CELLS = st.lists(st.one_of(EARLY, EARLY, OTHER), min_size=1, max_size=7).map("\n".join)
MANY = 30 if os.environ.get("PYREPL3_CAMPAIGN") else 1


def run_both(source: str) -> list[tuple[Any, ...]]:
    async def one(*, parallel: bool) -> tuple[Any, ...]:
        bench = Bench()
        try:
            assert (await bench.run(FUNCTIONS + "\nv, w, x = 7, 8, 9")).ok
            outcome = await bench.run(source, parallel=parallel)
            names = {
                name: repr(value)
                for name, value in bench.names.items()
                if name in {"v", "w", "x", "base", "items", "_"}
            }
            left = asyncio.all_tasks() - {asyncio.current_task()}
            error = repr(outcome.error) if isinstance(outcome, Failed) else ""
            told = outcome.traceback if isinstance(outcome, Failed) else outcome.text
            return type(outcome), repr(outcome.value), error, told, bench.text, names, left
        finally:
            await bench.executor.aclose()

    async def both() -> list[tuple[Any, ...]]:
        return [await one(parallel=False), await one(parallel=True)]

    return asyncio.run(both())


@settings(max_examples=80 * MANY, deadline=None)
@given(CELLS)
def test_a_cell_run_at_once_is_the_cell_run_in_order(source):
    in_order, at_once = run_both(source)
    assert at_once == in_order, source
