"""Steps of cells, over a Durability in memory: what is made again after a crash, and what is not."""

from __future__ import annotations

import asyncio

import pytest

from pyrepl3.errors import (
    AsyncContextError,
    DurabilityError,
    StepError,
    StepMismatchError,
    StepValueError,
)
from pyrepl3.records import Cell, Done, Failed, Interrupted, Notice, Outcome
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.scopes import Scope
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.testing.durability import FakeDurability
from pyrepl3.testing.fakes import Seen

HEAD = "from pyrepl3 import step, sleep, ask, step_key\nimport asyncio\n"


def name_cell(cell_id, source):
    return Cell(id=cell_id, n=1, source=source, filename="").durable_name


class Process:
    """A runner on what was kept; ``crash`` gives the next one, whose namespace is empty."""

    def __init__(self, kept: FakeDurability, done: list) -> None:
        self.kept, self.done = kept, done
        self.seen = Seen()
        self.runner = ThreadRunner(NamespaceManager(name="demo"), durability=kept)
        names = self.runner.namespace.get_for_execution()
        names["done"] = done  # the outside world: it survives
        names["here"] = self

    async def run(self, source: str, n: int = 1, *, background: bool = False) -> Outcome:
        cell = Cell(
            id=f"demo-c{n}",
            n=n,
            source=HEAD + source,
            filename=f"<demo {n}>",
            background=background,
        )
        return await self.runner.run(cell, self.seen)

    async def value(self, source: str, n: int = 1):
        return (await self.run(source, n)).unwrap()

    async def crash(self) -> Process:
        await self.runner.aclose()
        return Process(self.kept.again(), self.done)


@pytest.fixture
async def process():
    """The first process; whichever one a test ends with, all are closed."""
    first = Process(FakeDurability(), [])
    runners = []
    crash = Process.crash

    async def crash_and_remember(self):
        other = await crash(self)
        runners.append(other.runner)
        return other

    Process.crash = crash_and_remember
    try:
        yield first
    finally:
        Process.crash = crash
        for runner in (first.runner, *runners):
            await runner.aclose()


MAKE = "def make(x):\n    done.append(x)\n    return x * 2\n"


async def test_a_finished_step_is_not_made_again(process):
    source = MAKE + "a = step(make, 1); b = step(make, 2); (a, b)"
    assert await process.value(source) == (2, 4)
    process = await process.crash()
    assert await process.value(source) == (2, 4)
    assert process.done == [1, 2]


async def test_a_finished_step_is_not_made_again_in_async_code(process):
    source = (
        "async def make(x):\n    done.append(x); await asyncio.sleep(0); return x * 2\n"
        "a = await step(make, 1); b = await step(make, 2); (a, b)"
    )
    assert await process.value(source) == (2, 4)
    process = await process.crash()
    assert await process.value(source) == (2, 4)
    assert process.done == [1, 2]


async def test_a_step_in_flight_is_made_again_with_the_same_key(process):
    source = (
        "def make(x):\n    done.append((x, step_key()))\n    if x == 2 and len(done) < 3: raise SystemExit\n"
        "    return x\n"
        "step(make, 1) + step(make, 2) + step(make, 3)"
    )
    assert isinstance((await process.run(source)).error, SystemExit)
    process = await process.crash()
    assert await process.value(source) == 6
    assert [x for x, _ in process.done] == [1, 2, 2, 3]
    keys = [key for _, key in process.done]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


async def test_loops_and_functions_of_earlier_cells_make_steps_too(process):
    await process.value(MAKE + "def many(n): return [step(make, i) for i in range(n)]")
    assert await process.value("many(3)", 2) == [0, 2, 4]
    process = await process.crash()
    await process.value(MAKE + "def many(n): return [step(make, i) for i in range(n)]")
    assert await process.value("many(3)", 2) == [0, 2, 4]
    assert process.done == [0, 1, 2]


PARALLEL = {
    "gather": "r = await asyncio.gather(*[work(i) for i in range(5)])",
    "gather of steps": "r = await asyncio.gather(*(step(make, i) for i in range(5)))",
    "TaskGroup": (
        "async with asyncio.TaskGroup() as group:\n"
        "    tasks = [group.create_task(work(i)) for i in range(5)]\n"
        "r = [task.result() for task in tasks]"
    ),
    "to_thread": "r = await asyncio.gather(*[asyncio.to_thread(plain, i) for i in range(5)])",
    "a pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(3) as pool: r = list(pool.map(plain, range(5)))"
    ),
    "threads": (
        "import threading\nr = [None] * 5\n"
        "def into(i): r[i] = plain(i)\n"
        "threads = [threading.Thread(target=into, args=(i,)) for i in range(5)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    ),
    "as they end": (  # of tasks: coroutines it starts in the order of a set
        "tasks = [asyncio.create_task(work(i)) for i in range(5)]\n"
        "r = sorted([await each for each in asyncio.as_completed(tasks)])"
    ),
    "tasks of tasks": (
        "async def both(i): return (await asyncio.gather(work(i), work(i)))[0]\n"
        "r = await asyncio.gather(*[both(i) for i in range(5)])"
    ),
    "a library that makes tasks of its own": (
        "async def other(): pass\n"
        "async def library(i):\n"
        "    if random.random() < 0.5: await asyncio.create_task(other())\n"
        "    return await work(i)\n"
        "r = await asyncio.gather(*[library(i) for i in range(5)])"
    ),
}


@pytest.mark.parametrize("source", PARALLEL.values(), ids=PARALLEL)
async def test_parallel_steps_have_ids_that_do_not_depend_on_who_is_faster(process, source):
    source = (
        (
            "import random, time\n"
            "def now(x): return x\n"
            "async def make(x):\n    done.append(x); await asyncio.sleep(random.random() / 500); return x\n"
            "async def work(x):\n"
            "    await asyncio.sleep(random.random() / 500)\n"
            "    first = await step(make, x)\n"
            "    await asyncio.sleep(random.random() / 500)\n"
            "    return await step(make, first + 10) - 10\n"
            "def plain(x):\n"
            "    time.sleep(random.random() / 500)\n"
            "    first = step(now, x)\n"
            "    done.append(first)\n"
            "    return step(now, first + 10) - 10\n"
        )
        + source
        + "\nr"
    )
    assert await process.value(source) == [0, 1, 2, 3, 4]
    first, made = set(process.kept.made), len(process.kept.made)
    assert len(first) == made
    assert first
    for _ in range(3):
        process = await process.crash()
        assert await process.value(source) == [0, 1, 2, 3, 4]
        assert process.kept.made == []  # all of them were found
    other = Process(FakeDurability(), [])
    try:
        await other.value(source)
        assert set(other.kept.made) == first
    finally:
        await other.runner.aclose()


async def test_the_steps_of_a_step_have_numbers_of_their_own(process):
    source = (
        MAKE + "def outer():\n    return step(make, 1) + step(make, 2)\n"
        "a = step(outer); b = step(make, 3); (a, b)"
    )
    assert await process.value(source) == (6, 6)
    key = name_cell("demo-c1", HEAD + source)
    assert process.kept.made == [f"{key}-1-1", f"{key}-1-2", f"{key}-1", f"{key}-2"]
    process = await process.crash()
    assert await process.value(source) == (6, 6)
    assert process.done == [1, 2, 3]


async def test_another_step_at_the_same_place_is_an_error_that_shows_both(process):
    source = MAKE + "step(make, len(done) and 'later')"
    await process.run(source)
    process = await process.crash()
    outcome = await process.run(source)
    assert isinstance(outcome.error, StepMismatchError)
    assert "make(0)" in str(outcome.error)
    assert "make('later')" in str(outcome.error)
    assert process.done == [0]


async def test_another_text_begins_anew(process):
    assert await process.value(MAKE + "step(make, 1)") == 2
    process = await process.crash()
    assert await process.value(MAKE + "step(make, 1) + 0") == 2
    assert process.done == [1, 1]


async def test_what_a_step_raises_is_kept(process):
    source = (
        "def fail():\n    done.append(1)\n    raise ValueError('no', 2)\n"
        "try: step(fail)\nexcept ValueError as error: r = error.args\nr"
    )
    assert await process.value(source) == ("no", 2)
    process = await process.crash()
    assert await process.value(source) == ("no", 2)
    assert process.done == [1]


async def test_an_error_that_cannot_be_pickled_comes_back_as_its_text(process):
    source = (
        "class Odd(Exception):\n    def __init__(self, a, b): super().__init__(f'{a} and {b}')\n"
        "def fail():\n    done.append(1)\n    raise Odd(1, 2)\nstep(fail)"
    )
    outcome = await process.run(source)
    assert type(outcome.error).__name__ == "Odd"
    process = await process.crash()
    outcome = await process.run(source)
    assert isinstance(outcome.error, StepError)
    assert "Odd: 1 and 2" in str(outcome.error)
    assert process.done == [1]


@pytest.mark.parametrize("form", ["step(make)", "await step(make)"])
async def test_a_result_that_cannot_be_kept_is_an_error_and_not_made_again(process, form):
    source = (
        f"import threading\ndef make():\n    done.append(1)\n    return threading.Lock()\n{form}"
    )
    for _ in range(2):
        outcome = await process.run(source)
        assert isinstance(outcome.error, StepValueError)
        assert "make" in str(outcome.error)
        assert "lock" in str(outcome.error)
        process = await process.crash()
    assert process.done == [1]


@pytest.mark.parametrize("form", ["", "await "], ids=["plain", "awaited"])
async def test_a_step_that_always_fails_is_tried_so_often_and_no_more(process, form):
    source = (
        "def fail():\n    done.append(1)\n    raise OSError('down')\n"
        f"{form}step(fail, retries=3, backoff=0.001)"
    )
    for _ in range(2):
        outcome = await process.run(source)
        assert isinstance(outcome.error, OSError)
        assert len(process.done) == 4
        process = await process.crash()


@pytest.mark.parametrize("form", ["", "await "], ids=["plain", "awaited"])
async def test_a_step_that_fails_at_first_is_tried_again(process, form):
    source = (
        "def try_it():\n    done.append(step_key())\n    if len(done) < 3: raise OSError\n    return len(done)\n"
        f"{form}step(try_it, retries=5, backoff=0)"
    )
    assert await process.value(source) == 3
    assert len(set(process.done)) == 1


async def test_values_come_back_as_they_were(process):
    source = (
        "import math, datetime, decimal\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: float\n"
        "values = [math.nan, -0.0, math.inf, 1 << 80, (1, [2]), {1: {'a'}}, b'\\x00', 'ü\\ud800', None,\n"
        "          datetime.date(2026, 1, 2), decimal.Decimal('1.10'), Point(1.5), b'x' * 100_000]\n"
        "kept = [step(lambda v=value: v, name='give') for value in values]\n"
        "[(type(a) is type(b), repr(a) == repr(b)) for a, b in zip(values, kept)]"
    )
    for _ in range(2):
        assert set(await process.value(source)) == {(True, True)}
        process = await process.crash()


async def test_a_coroutine_function_in_plain_code_says_what_to_write(process):
    for source in ("async def f(): pass\nstep(f)", "async def f(): pass\nstep(lambda: f())"):
        outcome = await process.run(source)
        assert isinstance(outcome.error, AsyncContextError)
        assert "await step(" in str(outcome.error)


async def test_plain_parts_of_a_cell_that_awaits_are_awaited_too(process):
    """The part before the last expression is compiled apart, as plain code."""
    source = MAKE + "later = step(make, 1)\nawait later"
    assert await process.value(source) == 2


async def test_a_plain_function_called_by_a_coroutine_waits(process):
    source = (
        MAKE + "def plain(): return step(make, 1)\nasync def main(): return plain()\nawait main()"
    )
    assert await process.value(source) == 2


async def test_an_awaited_plain_function_runs_beside_the_loop(process):
    source = (
        "import threading\ngo = threading.Event()\n"
        "async def open_it(): go.set()\n"
        "await asyncio.gather(step(go.wait, 20), open_it())"
    )
    assert (await process.value(source))[0] is True


async def test_an_interrupt_in_a_try_that_fails_ends_the_cell(process):
    def fail():  # no code of the cell: what is to stop it has not been raised
        assert process.runner.interrupt()
        raise ValueError("of the try")

    process.fail = fail
    outcome = await process.run("step(here.fail, retries=1, backoff=60)")
    assert isinstance(outcome, Interrupted)
    assert not outcome.forced


async def test_a_timeout_ends_a_try(process):
    source = (
        "async def slow():\n    done.append(1); await asyncio.sleep(60)\n"
        "await step(slow, timeout=0.01, retries=1, backoff=0)"
    )
    outcome = await process.run(source)
    assert isinstance(outcome.error, TimeoutError)
    assert process.done == [1, 1]
    outcome = await process.run("step(print, timeout=1)")
    assert isinstance(outcome.error, ValueError)


@pytest.mark.parametrize(
    "wait",
    [
        "sleep(60)",
        "await sleep(60)",
        "ask('Well?')",
        "await ask('Well?')",
        "step(lambda: 1 / 0, retries=1, backoff=60)",
        "step(lambda: [None for i in iter(int, 1)])",
        "await step(asyncio.sleep, 60)",
    ],
)
async def test_whatever_a_step_waits_for_can_be_interrupted(process, wait):
    running = asyncio.create_task(process.run(f"print('up')\n{wait}"))
    await process.seen.until_text("up")
    assert process.runner.interrupt()
    outcome = await running
    assert isinstance(outcome, Interrupted)
    assert not outcome.forced
    assert await process.value("1 + 1", 2) == 2


async def test_an_interrupted_step_is_not_finished(process):
    source = "def forever():\n    done.append(1)\n    while len(done) < 2: print('up')\n    return 7\nstep(forever)"
    running = asyncio.create_task(process.run(source))
    await process.seen.until_text("up")
    process.runner.interrupt()
    assert isinstance(await running, Interrupted)
    process = await process.crash()
    assert await process.value(source) == 7
    assert process.done == [1, 1]


async def test_a_sleep_goes_on_while_the_process_is_dead():
    now = [1000.0]
    kept = FakeDurability(lambda: now[0])
    # The clock of what keeps it is far behind: the time is over when it is looked at.
    process = Process(kept, [])
    try:
        await process.value("sleep(3600)")
        await process.value("await sleep(3600)", 2)
        assert sorted(kept._sleeps.values()) == [("sleep(3600)", 4600.0)] * 2
    finally:
        await process.runner.aclose()
    for bad in ("sleep(-1)", "await sleep(float('inf'))", "sleep(float('nan'))"):
        process = Process(FakeDurability(), [])
        try:
            assert isinstance((await process.run(bad)).error, ValueError)
        finally:
            await process.runner.aclose()


@pytest.mark.parametrize("form", ["", "await "], ids=["plain", "awaited"])
async def test_a_question_is_answered_from_outside_and_its_answer_is_kept(process, form):
    source = f"a = {form}ask('Ship it?', choices=('yes', 'no'))\na"
    running = asyncio.create_task(process.run(source))
    notice = await process.seen.until(lambda event: isinstance(event, Notice))
    assert notice.kind == "asking"
    assert "Ship it?" in notice.text
    (asked,) = process.kept.asked().result()
    assert asked.choices == ("yes", "no")
    assert asked.id in notice.text
    process.kept.answer(asked.id, b"yes").result()
    assert (await running).unwrap() == "yes"
    process = await process.crash()
    assert await process.value(source) == "yes"


async def test_a_disk_that_fails_is_an_error_that_a_cell_may_catch(process):
    await process.value("1")
    process.kept.fail_next()
    source = MAKE + "step(make, 1)"
    outcome = await process.run(source, 2)
    assert isinstance(outcome.error, DurabilityError)
    assert (await process.run("1", 3)).ok


async def test_steps_after_the_epoch_of_their_cell_are_made_and_not_kept(process):
    source = (
        MAKE + "async def later():\n    await go.wait(); done.append(await step(make, 5))\n"
        "go = asyncio.Event(); await step(make, 1); task = asyncio.create_task(later())"
    )
    await process.value(source)
    process.kept.settle(name_cell("demo-c1", HEAD + source), 1).result()
    made = len(process.kept.made)
    assert isinstance(await process.run("go.set(); await task", 2), Done)
    assert process.done == [1, 5, 10]
    assert len(process.kept.made) == made


async def test_outside_of_a_durable_session_a_step_is_a_call(process):
    runner = ThreadRunner(NamespaceManager(name="bare"))
    seen = Seen()
    try:
        for n, (source, value) in enumerate(
            (
                ("step(pow, 2, 3)", 8),
                ("await step(pow, 2, 3)", 8),
                ("await step(asyncio.sleep, 0, 'x')", "x"),
                ("sleep(0)", None),
                ("await sleep(0)", None),
                ("len(step(step_key))", 32),
            ),
            1,
        ):
            cell = Cell(id=f"bare-c{n}", n=n, source=HEAD + source, filename=f"<{n}>")
            assert (await runner.run(cell, seen)).unwrap() == value
        cell = Cell(id="bare-c9", n=9, source=HEAD + "step_key()", filename="<9>")
        assert isinstance((await runner.run(cell, seen)).error, StepError)
    finally:
        await runner.aclose()


async def test_cells_with_steps_do_not_hold_the_loop(process):
    for source in (
        "step(print)",
        "import pyrepl3\npyrepl3.step(print)",
        "import pyrepl3 as p\np.ask",
    ):
        outcome = await process.run(source)
        assert outcome.placement == "thread" if isinstance(outcome, (Done, Failed)) else False
    for n, source in enumerate(("step(print)", "pyrepl3.step(print)"), 2):
        cell = Cell(id=f"demo-c{n}", n=n, source=source, filename=f"<{n}>")
        outcome = await process.runner.run(cell, process.seen)
        assert outcome.placement == "thread", source


def test_paths_are_promise_ids_and_differ():
    scope = Scope("")
    children = [
        scope.child(name) for name in ("f", "f", "C.<locals>.Ünïque_9", "<lambda>", "9", "")
    ]
    paths = [child.next_step() for child in children] + [scope.next_step()]
    assert paths[:3] == ["-f-t1-1", "-f-t2-1", "-nque9-t1-1"]
    assert len(set(paths)) == len(paths)
    names = ["demo-c1", "Demo-c1", "demo_c1", "demo.c1", "ä", "x" * 200, "-", "a-"]
    keys = {name_cell(name, "1") for name in names}
    assert len(keys) == len(names)
    for text in (*paths, *keys):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert all(len(key) < 90 for key in keys)
