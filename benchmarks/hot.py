"""What watching costs, by sampling and by counting; and what compiling hot functions gains, or why it does not."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.measure import Cost, clock
from benchmarks.report import Report, Table, markdown, number
from pyrepl3 import ExecutorConfig, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = """
def work(n):
    total, text = 0, []
    for i in range(n):
        if i % 3 == 0:
            total += i * i
        else:
            text.append(str(i))
    return total, len("".join(text))
"""
TURN = "work(300_000)"

KERNELS = {
    "sum of square roots": (
        "import math\ndef f(n, x):\n    t = 0.0\n    for i in range(n):\n"
        "        t += math.sqrt(x * i) / (i + 1.0)\n    return t",
        "f(50_000, 1.5)",
    ),
    "mean of an array": (
        "def f(a):\n    t = 0.0\n    for v in a:\n        t += v\n    return float(t) / len(a)",
        "f(array)",
    ),
    "largest step of an array": (
        "def f(a):\n    best = 0.0\n    for i in range(1, len(a)):\n        d = float(a[i] - a[i - 1])\n"
        "        if d > best:\n            best = d\n    return best",
        "f(array)",
    ),
    "Mandelbrot, one point": (
        "def f(x, y, n):\n    a, b = 0.0, 0.0\n    last = 0.0\n    for i in range(n):\n"
        "        a, b = a * a - b * b + x, 2 * a * b + y\n        if a * a + b * b > 4.0:\n            break\n"
        "        last = a\n    return last",
        "f(-0.1, 0.2, 50_000)",
    ),
    "trace of a matrix product": (
        "def f(m):\n    t = 0.0\n    for i in range(m.shape[0]):\n        for j in range(m.shape[1]):\n"
        "            t += m[i, j] * m[j, i]\n    return float(t)",
        "f(matrix)",
    ),
    "integers, summed": (
        "def f(n):\n    t = 0\n    for i in range(n):\n        t += i\n    return t",
        "f(200_000)",
    ),
    "powers": (
        "def f(n):\n    t = 0.0\n    for i in range(n):\n        t += i ** 0.5\n    return t",
        "f(100_000)",
    ),
    "writes into an array": (
        "def f(a):\n    for i in range(len(a)):\n        a[i] = a[i] * 0.5\n    return 0.0",
        "f(array)",
    ),
    "a list of floats": (
        "def f(a):\n    t = 0.0\n    for v in a:\n        t += v\n    return t",
        "f(floats)",
    ),
    "calls another function": (
        "def g(x): return x * 0.5\ndef f(n):\n    t = 0.0\n    for i in range(n):\n        t += g(i)\n    return t",
        "f(100_000)",
    ),
}
LIVE = "import numpy as np\narray = np.linspace(0.0, 1.0, 50_000)\nmatrix = np.ones((200, 200))\nfloats = [0.5] * 200_000"
PATIENCE = 20.0  # seconds for one function to be decided


async def run(report: Report, *, rounds: int, kernels: bool = True) -> None:
    """Two tables, with the target of sampling."""
    empty = "an empty call for each line"
    costs = {name: Cost() for name in ("off", "sampling", "counting, too", empty)}
    async with open_session() as session:
        assert (await session.run(WORK)).ok
        for turn in range(rounds + 1):
            for name, cost in costs.items():
                await session.hot(
                    name in ("sampling", "counting, too"), counts=name == "counting, too"
                )
                with _empty_calls(on=name == empty):
                    begun = clock()
                    assert (await session.run(TURN)).ok
                    spent = clock() - begun
                if turn:
                    cost.samples.append(spent)
        await session.hot(False)
    table = Table("## Watching a cell of plain Python", "off", unit="ms")
    table.add("the cell", costs)
    report.table(table)
    report.at_most("a cell that is sampled", 1.05, costs["sampling"], costs["off"])
    if kernels:
        await _compile(report)


def _ignore(_code: object, _line: int) -> None:
    pass


@contextmanager
def _empty_calls(*, on: bool) -> Iterator[None]:
    """The floor of counting: ``sys.monitoring`` calls a function that does nothing, each line."""
    monitoring = sys.monitoring
    if not on:
        yield
        return
    monitoring.use_tool_id(monitoring.PROFILER_ID, "floor")
    monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.LINE, _ignore)
    monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.LINE)
    try:
        yield
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)


async def _compile(report: Report) -> None:
    grid = [["function", "came to", "interpreter, ms", "compiled, ms", "times as fast", "why not"]]
    config = ExecutorConfig(
        max_execution_time=None, max_memory_usage=None, denied_modules=None, jit=True
    )
    for name, (source, call) in KERNELS.items():
        async with open_session(config=config) as session:
            assert (await session.run(LIVE)).ok
            assert (await session.run(source)).ok
            due = clock() + PATIENCE
            one = None
            while clock() < due:
                assert (await session.run(f"for _ in range(20): {call}")).ok
                found = (await session.hot()).compiled
                one = next((each for each in found if each.name == "f"), None)
                if one is not None and one.state not in ("compiling", "trying"):
                    break
                await asyncio.sleep(0)
            if one is None:
                grid.append([name, "not hot", "", "", "", ""])
                continue
            times = [number(t * 1e3) if t else "" for t in (one.plain, one.compiled)]
            gain = number(one.speedup) if one.speedup else ""
            grid.append([name, one.state, *times, gain, one.reason])
    report.note("## Hot functions, compiled\n\n" + "\n".join(markdown(grid)))
