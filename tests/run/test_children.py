"""Statements that only compute, in children of a worker: nothing shows but the time. Laws, faults, limits."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyrepl3
from pyrepl3 import Failed, Interrupted, Limits, Output, Policy
from pyrepl3.isolate.confine.seccomp import may_signal_children
from pyrepl3.run.children import count_processors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are for Linux")

FUNCTIONS = """
import gc, os, time, warnings
import pyrepl3.run.children as _children
forks = []
os.register_at_fork(after_in_parent=lambda: forks.append(1))
items, table, base, odd = [1, 2], {'k': [1]}, 10, object()
def spin(n):
    total = 0
    for i in range(n):
        total += i % 7
    return total
def give(what):
    for _ in range(2): pass
    return what
def loud(n):
    for i in range(2): print('loud', n, i, sep='=')
    return n
def fail(n):
    for i in range(3): pass
    return [n][n]
def deep(n): return 1 + deep(n + 1)
def tilts(n):
    for _ in range(2): pass
    return ~True if n else n
def size():
    for _ in range(2): pass
    return len(items) + base
def shown(n):
    items.append(n)
    return n
def many(n): return [i for i in range(n)]
def words(n): return {f'{i}' for i in range(n)}
def wide(n): return len([0] * n) if [i for i in range(2)] else 0
def nan():
    for _ in range(2): x = float('nan')
    return [x, x]
"""
ALWAYS = "_children.WORTH = 0.0\nexecutor = None"  # what is quick is computed in children, too
TWO = "_children.count_processors = lambda: 2"  # at once, wherever this runs
STATE = (
    "{n: repr(v) for n, v in list(globals().items()) if n in set('abcdefvwx') | {'base', 'items'}}"
)


class Bench:
    """A session with a worker of its own, and what its cells have told."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.pid = 0

    async def run(self, source: str, *, parallel: bool = False) -> tuple[Any, str]:
        told, outcome = [], None
        async for event in self.session.stream(source, parallel=parallel):
            if isinstance(event, Output):
                told.append((event.stream, event.text))
            elif isinstance(event, pyrepl3.Finished):
                outcome = event.outcome
        text = "".join(f"{stream}: {text}" if stream == "stderr" else text for stream, text in told)
        return outcome, text

    async def get(self, source: str) -> Any:
        outcome = await self.session.run(source)
        assert outcome.ok, outcome
        return outcome.text

    async def forks(self) -> int:
        return int(await self.get("n_forks = len(forks); forks.clear(); n_forks"))

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(word) for word in text.split()]

    async def busy(self) -> list[int]:
        """The children, as soon as there are any."""
        while not self.children():
            await asyncio.sleep(0.01)
        return self.children()


@asynccontextmanager
async def opened(*, always: bool = True, **options: Any):
    options = {"isolation": "process"} | options
    async with pyrepl3.open_session(**options) as session:
        bench = Bench(session)
        await bench.get(FUNCTIONS + (ALWAYS if always else "") + "\nNone")
        await bench.get(f"{TWO}; None")
        bench.pid = int(await bench.get("os.getpid()"))
        yield bench


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def ended(pids: list[int]) -> None:
    """Wait until they are. Fails by pytest's own timeout."""
    while not gone(pids):
        await asyncio.sleep(0.01)


# --- laws ---------------------------------------------------------------------------------------------

LAWS = {
    "values": ("a = spin(5)\nb = spin(6)\nc = give('x')\nd = give((1.5, b'y', None, True))", True),
    "containers": (
        "a = spin(5)\nb = give({'k': [1, (2,)], 'l': 2j})\nc = give([range(3), -0.0])",
        True,
    ),
    "a tail": ("a = spin(5)\nspin(7)", True),
    "targets": ("a = spin(5)\nb, *c = many(4)\nd = e = give([1])\nd is e", True),
    "output": ("a = loud(1)\nprint('between')\nb = loud(2)\nloud(3)", True),
    "the first error": ("a = loud(1)\nb = fail(2)\nc = fail(3)\nd = loud(4)", True),
    "an error above": ("a = spin(3)\nb = loud(1)\nc = 1 / 0\nd = loud(2)", True),
    "a deep one": ("a = spin(3)\nb = deep(1)\nc = 1", True),
    "a warning": ("a = spin(3)\nb = tilts(1)\nc = tilts(2)", True),
    "inputs bound between": ("a = spin(3)\nbase = 5\nb = size()\nc = size()", True),
    "inputs changed between": ("a = spin(3)\nshown(9)\nb = size()\nc = size()", True),
    "functions changed between": (
        "a = spin(3)\nexec('def size(): return 0')\nb = size()\nc = spin(4)",
        False,
    ),
    "one after the other": ("a = spin(3)\nb = spin(a)\nc = spin(b)\nd = spin(c)", False),
    "what is shared": (
        "a = spin(3)\nb = give(items)\nc = give([table, items])\n(b is items, c[0] is table, c[1] is b)",
        True,
    ),
    "sets keep their order": ("a = spin(3)\nb = words(40)\nc = words(1)\nlist(b)", True),
    "a nan is itself": ("a = spin(3)\nb = nan()\n(b[0] is b[1], b.index(b[1]))", True),
    "an object": ("a = spin(3)\nb = give(odd)\nb is odd", False),
    "with awaits": (
        "import asyncio\na = spin(3)\nawait asyncio.sleep(0)\nb = spin(4)\nc = loud(1)\nd = loud(2)",
        True,
    ),
    "items": (
        "a = [spin(n) for n in range(9) if n % 2]\nb = [spin(n) + m for n in (1, 2) for m in items]",
        True,
    ),
    "items written out": (
        "a, b = spin(3), spin(4)\nc = [loud(1), give(items), spin(5)]\nc[1] is items",
        True,
    ),
    "items that print": ("[loud(n) for n in range(5)]", True),
    "items that fail": ("a = [fail(n and n - 3) for n in (0, 3, 4, 5)]", True),
    "few items": (
        "a = [spin(n) for n in (1,)]",
        False,
    ),
    "items of an iterator": ("a = [spin(n) + m for n, m in enumerate(items)]", True),
    "a return": ("a = spin(3)\nreturn spin(4)", False),
    "no calls": ("a = 1\nb = a\nc = [a, b]", False),
}


@pytest.fixture(scope="module")
def loop_of_module():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def bench(loop_of_module):
    context = opened()
    yield loop_of_module.run(context.__aenter__())
    loop_of_module.run(context.__aexit__(None, None, None))


async def both(bench: Bench, source: str) -> tuple[list[tuple[Any, ...]], int]:
    """In order, and at once: all that can be seen of it. And the forks of the second."""
    found, forks = [], 0
    for parallel in (False, True):
        await bench.get(
            "for n in set('abcdefvwx'): globals().pop(n, None)\n"
            "items[:], table, base = [1, 2], {'k': [1]}, 10\nv, w, x = 7, 8, 9\n"
            "def size():\n    for _ in range(2): pass\n    return len(items) + base\n"
            "gc.collect(); None"
        )
        await bench.forks()
        outcome, told = await bench.run(source, parallel=parallel)
        error = ""
        if isinstance(outcome, Failed):
            cell = f"cell {outcome.cell.n}"
            error = repr(outcome.error) + outcome.traceback.replace(cell, "cell N")
            # Some calls deeper than a cell in order: the statements have a frame of ours below them.
            error = re.sub(r"repeated \d+ more", "repeated N more", error)
        forks = await bench.forks()
        names = await bench.get(STATE)
        found.append(
            (
                type(outcome),
                getattr(outcome, "text", ""),
                error,
                told.replace(outcome.cell.filename, "FILE"),
                names,
            )
        )
        await ended(bench.children())
    return found, forks


@pytest.mark.parametrize("law", LAWS)
def test_what_children_compute_is_what_would_have_been_computed(bench, loop_of_module, law):
    source, expected = LAWS[law]
    (in_order, at_once), forks = loop_of_module.run(both(bench, source))
    assert at_once == in_order
    assert (forks > 0) == expected


TARGETS = st.sampled_from(["v", "w", "x"])
NUMBERS = st.integers(0, 3)
CALLS = st.one_of(
    st.builds("spin({})".format, st.one_of(NUMBERS, TARGETS)),
    st.builds("loud({})".format, st.one_of(NUMBERS, NUMBERS, TARGETS)),
    st.builds("give([{}, items])".format, NUMBERS),
    st.builds("give({})".format, st.one_of(TARGETS, st.just("items"))),
    st.builds("many({})".format, NUMBERS),
    st.just("size()"),
    st.builds("[spin(i) for i in range({})]".format, NUMBERS),
    st.builds("[loud(i) for i in range({})]".format, NUMBERS),
    st.builds("[fail(0), loud({}), give(items)]".format, NUMBERS),
    st.builds("fail({})".format, st.sampled_from([0, 0, 0, 1])),
)
COMPUTING = st.one_of(
    st.builds("{} = {}".format, TARGETS, CALLS),
    st.builds("{} = {} = {}".format, TARGETS, TARGETS, CALLS),
    CALLS,
)
OTHER = st.one_of(
    st.builds("print({})".format, TARGETS),
    st.builds("{} = {}".format, TARGETS, NUMBERS),
    st.builds("{} = shown({})".format, TARGETS, NUMBERS),
    st.builds("base = {}".format, NUMBERS),
    st.builds("exec('base = {}')".format, NUMBERS),
    st.just("items.append(base)"),
    st.just("def size(): return [i for i in range(2)]"),
    st.just("v = w"),
    st.builds("1 / {}".format, st.sampled_from([0, 1, 1])),
)
CELLS = st.lists(st.one_of(COMPUTING, COMPUTING, OTHER), min_size=2, max_size=6).map("\n".join)
MANY = 30 if os.environ.get("PYREPL3_CAMPAIGN") else 1


@pytest.mark.slow
@settings(max_examples=25 * MANY, deadline=None)
@given(CELLS)
def test_any_cell_computed_at_once_is_the_cell_in_order(bench, loop_of_module, source):
    (in_order, at_once), _ = loop_of_module.run(both(bench, source))
    assert at_once == in_order, source


# --- when it is done ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_only_what_may_take_long_goes_to_a_child():
    async with opened(always=False) as bench:
        await bench.get("_children.WORTH = 0.005; None")  # on a fast machine, too
        cell = "a = {0}\nb = {0}\nc = {0}"

        async def forks(call: str) -> int:
            await bench.run(cell.format(call), parallel=True)
            return await bench.forks()

        assert await forks("spin(3)") >= 1  # nobody knows how long it takes
        assert await forks("spin(3)") == 0  # less than a child does
        assert await forks("spin(1_000_000)") == 1  # seen in the first statement
        assert await forks("spin(1_000_000)") >= 1
        assert await forks("size()") >= 1
        assert await forks("len(items)") == 0  # no loop: in order until it was seen to take long
        assert await forks("sum(range(3_000_000))") == 1
        alone = "import math\na = 5\nb = spin(1_000_000)\nc = a"
        await bench.run(alone, parallel=True)
        assert await bench.forks() == 0  # nothing else would go on beside it
        await bench.run(cell.format("spin(1_000_000)"))
        assert await bench.forks() == 0  # not asked for


async def test_a_session_that_hears_of_children_or_is_watched_computes_in_order():
    async with opened() as bench:
        source = "a = spin(3)\nb = spin(4)\n(a, b)"
        for on, off, why in (
            (
                "import signal; signal.signal(signal.SIGCHLD, lambda *_: None)",
                "signal.signal(signal.SIGCHLD, signal.SIG_DFL)",
                "SIGCHLD",
            ),
            (
                "import sys; sys.monitoring.use_tool_id(3, 'x')",
                "sys.monitoring.free_tool_id(3)",
                "somebody watches",
            ),
        ):
            await bench.get(f"{on}; None")
            assert (await bench.run(source, parallel=True))[0].text == "(3, 6)"
            assert await bench.forks() == 0
            report = await bench.session.explain_parallel(source)
            assert why in report.statements[1].why
            await bench.get(f"{off}; None")
        await bench.run(source, parallel=True)
        assert await bench.forks() == 1


async def test_counts_are_whole_since_nothing_is_computed_elsewhere_meanwhile():
    async with opened() as bench:
        await bench.session.hot(True, counts=True)
        outcome, _ = await bench.run("a = spin(30)\nb = spin(40)\n(a, b)", parallel=True)
        assert outcome.text == "(85, 115)"
        assert await bench.forks() == 0
        report = await bench.session.hot(False)
        assert {line.hits for line in report.lines if "total +=" in line.text} == {70}


async def test_sampling_and_the_optimiser_change_nothing_in_what_is_computed_at_once():
    config = pyrepl3.ExecutorConfig(enable_ast_optimization=True, denied_modules=None)
    async with opened(config=config) as bench:
        await bench.session.hot(True)
        source = "a = spin(30)\nfor i in range(3): base = i\nb = spin(40)\nc = size()\n(a, b, c)"
        outcome, _ = await bench.run(source, parallel=True)
        assert outcome.text == "(85, 115, 4)"
        assert await bench.forks() == 1
        assert (await bench.session.hot(False)).seconds > 0


async def test_a_session_of_this_process_computes_in_order_and_says_what_would_change_that():
    async with pyrepl3.open_session() as session:
        assert (await session.run("def spin(n):\n    for i in range(n): pass\n    return n")).ok
        source = "a = spin(3)\nb = spin(4)\n(a, b)"
        assert (await session.run(source, parallel=True)).value == (3, 4)
        report = await session.explain_parallel(source)
        assert report.early == ()
        assert 'isolation="process"' in report.statements[1].why


@pytest.mark.slow
async def test_a_confined_session_forks_where_its_policy_lets_it():
    source = "a = spin(3)\nb = spin(4)\n(a, b)"
    for policy, expected in (
        (Policy(), 0),
        (Policy(subprocesses=True), int(may_signal_children())),
    ):
        async with opened(isolation="confined", policy=policy) as bench:
            assert (await bench.run(source, parallel=True))[0].text == "(3, 6)"
            assert await bench.forks() == expected


def test_processors_are_counted():
    assert 1 <= count_processors() <= (os.cpu_count() or 1)


# --- what a child must not touch ----------------------------------------------------------------------


async def test_a_child_runs_no_finalizer_no_exit_function_and_flushes_nothing(tmp_path):
    async with opened() as bench:
        await bench.get(
            f"import atexit; log = {str(tmp_path / 'log')!r}\n"
            "def note(text):\n    with open(log, 'a') as file: file.write(text)\n"
            "class Loop:\n    def __init__(self): self.me = self\n    def __del__(self): note('finalized ')\n"
            "atexit.register(note, 'exit ')\n"
            f"held = open({str(tmp_path / 'held')!r}, 'w'); held.write('once'); None"
        )
        await bench.run("gc.disable()\n[Loop() for _ in range(3)]\nNone")
        cell = "a = spin(3)\nb = many(50_000)\nc = many(50_000)\nlen(b) + len(c)"
        assert (await bench.run(cell, parallel=True))[0].text == "100000"
        assert await bench.forks() == 2
        assert not (tmp_path / "log").exists()
        await bench.get("gc.enable(); held.close(); None")
        assert (tmp_path / "held").read_text() == "once"


async def test_a_fork_is_not_warned_about_and_other_warnings_are_told_as_often_as_ever():
    async with opened() as bench:
        await bench.get(
            "warnings.simplefilter('error', DeprecationWarning); filters = warnings.filters[:]; None"
        )
        outcome, told = await bench.run("a = spin(3)\nb = spin(4)\n(a, b)", parallel=True)
        assert (outcome.text, told) == ("(3, 6)", "")
        assert await bench.get("warnings.filters == filters") == "True"
        await bench.get("def warn(): warnings.warn('careful')\nNone")
        cell = "warn()\na = spin(3)\nb = spin(4)\nwarn()"
        told = (await bench.run(cell, parallel=True))[1]
        assert await bench.forks() == 2
        assert told.count("careful") == (await bench.run(cell))[1].count("careful")


# --- faults and limits --------------------------------------------------------------------------------

LONG = "a = spin(3_000_000)\nb = spin(3_000_000)\n(a, b)"
ENDLESS = "a = spin(10**12)\nb = spin(10**12)\nc = spin(10**12)"


@pytest.mark.slow
async def test_a_child_that_dies_is_done_without():
    async with opened() as bench:
        running = asyncio.ensure_future(bench.run(LONG, parallel=True))
        for pid in await bench.busy():
            os.kill(pid, signal.SIGKILL)
        outcome, _ = await running
        assert outcome.text == await bench.get(LONG)


@pytest.mark.slow
@pytest.mark.parametrize("source", [ENDLESS, "import asyncio\nawait asyncio.sleep(0)\n" + ENDLESS])
async def test_an_interrupt_ends_the_children(source):
    async with opened() as bench:
        running = asyncio.ensure_future(bench.run(source, parallel=True))
        pids = await bench.busy()
        bench.session.interrupt()
        outcome, _ = await running
        assert isinstance(outcome, Interrupted)
        await ended(pids)
        assert (await bench.run("1 + 1"))[0].text == "2"


async def test_an_interrupt_right_after_the_fork_leaves_no_child_behind():
    """It may come in code of Python's library that works for us: before anybody knows of the child."""
    async with opened() as bench:
        await bench.get(
            "import os, signal; me, real = os.getpid(), signal.pthread_sigmask\n"
            "def failing(how, mask):\n    found = real(how, mask)\n"
            "    if how == signal.SIG_SETMASK and os.getpid() == me: raise KeyboardInterrupt\n"
            "    return found\nsignal.pthread_sigmask = failing; None"
        )
        outcome, _ = await bench.run(ENDLESS, parallel=True)
        assert not outcome.ok
        assert await bench.forks() == 1
        assert bench.children() == []
        await bench.get("signal.pthread_sigmask = real; None")


@pytest.mark.slow
async def test_an_interrupt_reaches_a_cell_that_waits_for_a_child():
    async with opened() as bench:
        running = asyncio.ensure_future(
            bench.run("a = spin(3)\nprint('up')\nb = spin(10**12)\nc = 1", parallel=True)
        )
        pids = await bench.busy()
        await asyncio.sleep(0)
        bench.session.interrupt()
        outcome, _ = await running
        assert isinstance(outcome, Interrupted)
        await ended(pids)


@pytest.mark.slow
async def test_children_end_with_their_worker():
    async with opened() as bench:
        running = asyncio.ensure_future(bench.run(ENDLESS, parallel=True))
        pids = await bench.busy()
        os.kill(bench.pid, signal.SIGKILL)
        outcome, _ = await running
        assert isinstance(outcome, Failed)
        await ended(pids)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["wall", "cpu"])
async def test_limits_of_time_count_the_children_and_end_them(limit):
    for allowed in (0.6, 6, 30):  # on a busy machine the first may be over before a child begins
        async with pyrepl3.open_session(
            isolation="process", limits=Limits(**{limit: allowed})
        ) as session:
            bench = Bench(session)
            if not (await session.run(f"{FUNCTIONS}\n{ALWAYS}")).ok:
                continue
            while not (found := await session.run(f"{TWO}\nos.getpid()")).ok:
                pass
            bench.pid = int(found.text)
            running = asyncio.ensure_future(bench.run(ENDLESS, parallel=True))
            looking = asyncio.ensure_future(bench.busy())
            await asyncio.wait([running, looking], return_when=asyncio.FIRST_COMPLETED)
            looking.cancel()
            outcome, _ = await running
            assert isinstance(outcome, Failed)
            assert outcome.error.limit == limit
            if looking.cancelled() or looking.cancelling():
                continue
            await ended(looking.result())
            return
    raise AssertionError("no child began")


@pytest.mark.slow
async def test_memory_is_shared_out_and_what_needs_more_is_computed_in_order():
    limits = Limits(memory=96 * 1024 * 1024)
    async with opened(limits=limits) as bench:
        cell = "a = spin(3)\nb = wide({0})\nc = wide({0})\n(b, c)"
        for n in (1_000, 6_000_000):  # 48 MB: more than a third, less than all
            outcome, _ = await bench.run(cell.format(n), parallel=True)
            assert outcome.text == f"({n}, {n})"
            assert await bench.forks() in (1, 2)  # one, where this process was seen to grow before
        outcome, _ = await bench.run(cell.format(40_000_000), parallel=True)
        assert isinstance(outcome, Failed)


async def test_where_no_process_can_be_had_all_goes_in_order():
    async with opened() as bench:
        await bench.get(
            "def full():\n    raise BlockingIOError\nfork, os.fork = os.fork, full\nNone"
        )
        assert (await bench.run("a = spin(3)\nb = spin(4)\n(a, b)", parallel=True))[
            0
        ].text == "(3, 6)"
        await bench.get("os.fork = fork; None")


async def test_what_is_too_big_to_send_is_computed_in_order():
    async with opened() as bench:
        await bench.get("_children.MOST_SENT = 1000; None")
        outcome, _ = await bench.run("a = spin(3)\nb = many(9_000)\nlen(b)", parallel=True)
        assert outcome.text == "9000"
        assert await bench.forks() == 1
