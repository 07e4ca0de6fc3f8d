"""``python -m benchmarks.workers``: starts, round trips, output and interrupts of worker processes, beside peers.

The peers are ``multiprocessing`` with spawn and forkserver (a process that answers once), in the same run.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import statistics
import time

from pyrepl3.isolate.pool import Pool
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell, Finished, Output

_clock = time.perf_counter
_numbers = itertools.count(1)


def _cell(source: str) -> Cell:
    n = next(_numbers)
    return Cell(id=f"bench-c{n}", n=n, source=source, filename=f"<bench {n}>")


def _row(name: str, times: list[float], unit: float = 1e3, word: str = "ms") -> None:
    best, median = min(times) * unit, statistics.median(times) * unit
    print(f"| {name} | {median:,.3g} {word} | {best:,.3g} {word} |", flush=True)


def _answer(pipe) -> None:
    pipe.send(1 + 1)


def _peer(method: str, rounds: int) -> list[float]:
    context = multiprocessing.get_context(method)
    times = []
    for _ in range(rounds):
        begun = _clock()
        near, far = context.Pipe()
        process = context.Process(target=_answer, args=(far,))
        process.start()
        near.recv()
        times.append(_clock() - begun)
        process.join()
    return times


def _pool_peer(method: str, rounds: int) -> list[float]:
    times = []
    with multiprocessing.get_context(method).Pool(1) as pool:
        pool.apply(int)
        for _ in range(rounds):
            begun = _clock()
            pool.apply(int)
            times.append(_clock() - begun)
    return times


async def _starts(rounds: int, *, warm: int) -> list[float]:
    pool = Pool(warm=warm)
    times = []
    first = ProcessRunner("first", pool=pool)
    await first.start()
    for n in range(rounds):
        while warm and not pool._idle:
            await asyncio.sleep(0.005)
        begun = _clock()
        runner = ProcessRunner(f"start{n}", pool=pool)
        await runner.start()
        times.append(_clock() - begun)
        await runner.aclose()
    await first.aclose()
    pool.close()
    return times


async def _cold(rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begun = _clock()
        pool = Pool(warm=0)
        runner = ProcessRunner("cold", pool=pool)
        await runner.start()
        times.append(_clock() - begun)
        await runner.aclose()
        pool.close()
    return times


async def _trips(rounds: int) -> None:
    pool = Pool(warm=0)
    runner = ProcessRunner("trips", pool=pool)
    finished: list[float] = []
    whole: list[float] = []

    def see(event) -> None:
        if isinstance(event, Finished):
            finished.append(_clock() - begun)

    for _ in range(rounds):
        begun = _clock()
        await runner.run(_cell("x = 1 + 1"), see)
        whole.append(_clock() - begun)
    _row("plain cell, to Finished", finished, 1e6, "µs")
    _row("plain cell, to its outcome", whole, 1e6, "µs")
    size = 0
    rates = []

    def count(event) -> None:
        nonlocal size
        if isinstance(event, Output):
            size += len(event.text)

    for _ in range(5):
        size, begun = 0, _clock()
        await runner.run(_cell("for _ in range(300): print('x' * 99_999)"), count)
        rates.append(size / (_clock() - begun) / 1e6)
    print(f"| 30 MB of output | {statistics.median(rates):,.0f} MB/s | {max(rates):,.0f} MB/s |")
    for name, source in (
        (
            "interrupt of an await",
            "import asyncio; print('up', flush=True); await asyncio.sleep(60)",
        ),
        ("interrupt of a loop", "print('up', flush=True)\nwhile True: pass"),
        (
            "interrupt of C code, to the next cell's end",
            "print('up', flush=True); sum(range(10**12))",
        ),
    ):
        times = []
        for _ in range(3):
            up = asyncio.Event()
            running = asyncio.create_task(
                runner.run(
                    _cell(source),
                    lambda event, up=up: up.set() if isinstance(event, Output) else None,
                )
            )
            await up.wait()
            await asyncio.sleep(0.02)
            begun = _clock()
            runner.interrupt()
            await running
            if "C code" in name:
                await runner.run(_cell("1"), lambda _: None)
            times.append(_clock() - begun)
        _row(name, times)
    await runner.aclose()
    pool.close()


async def main() -> None:
    """Print one table."""
    print("| | median | best |\n|---|---|---|")
    _row("multiprocessing, spawn", _peer("spawn", 10))
    _row("multiprocessing, forkserver", _peer("forkserver", 20))
    _row("first worker of a process (exec, imports, fork)", await _cold(5))
    _row("worker ready, forked for it", await _starts(30, warm=0))
    _row("worker ready, warm one", await _starts(30, warm=1))
    _row(
        "multiprocessing.Pool.apply (thread hops, pickle)", _pool_peer("forkserver", 500), 1e6, "µs"
    )
    await _trips(1000)


if __name__ == "__main__":
    asyncio.run(main())
