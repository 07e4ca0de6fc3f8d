"""Cells in worker processes: starts, round trips, output, interrupts; beside kernels and other sandboxes."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import sessions, worker_peers
from benchmarks.measure import Batch, Cost, clock, in_turns
from benchmarks.peers import calibrate, in_session
from benchmarks.report import Report, Table, Target
from pyrepl3 import Policy, Pool, Session, open_session
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.records import Cell, Finished, Output

OURS = "a worker, to Finished"
READY = "ours: a warm worker, pandas preloaded"
CONFINED = "ours: the same, confined"
PLAIN = "x = 1 + 1"
CAMPAIGN = bool(os.environ.get("PYREPL3_CAMPAIGN"))
FULL = 10  # rounds; fewer are quick ones
GRACE = 1.0  # seconds that a worker which does not answer has

_numbers = itertools.count(1)


def run(report: Report, *, rounds: int) -> None:
    """Tables and targets; ``rounds`` of the slowest things."""
    calibrate(report)
    asyncio.run(_run(report, rounds))


async def _run(report: Report, rounds: int) -> None:
    with ExitStack() as stack:
        kernels = {}
        starts = Table("## A session of its own process, ready", READY, unit="ms")
        for name, package in (("python3", "ipykernel"), ("akernel", "akernel")):
            begun = clock()
            try:
                kernels[package] = stack.enter_context(worker_peers.kernel(name))
            except Exception as error:
                report.note(f"Without {package}: {error!r}")
                continue
            kernels[package](PLAIN)
            starts.add("to the first reply", {f"{package}, started once": Cost([clock() - begun])})
        try:
            checkout = stack.enter_context(worker_peers.monty())
        except Exception as error:
            checkout = None
            report.note(f"Without pydantic-monty: {error!r}")
        await _starts(starts, checkout, rounds)
        report.table(starts)
        ready = starts.rows[READY]["ready"]
        report.scaled("warm session ready, pandas preloaded", 10, "ms", _ms(ready))
        walled = starts.rows[CONFINED]["ready"]
        report.scaled("warm session ready, confined", 15, "ms", _ms(walled))
        if "ipykernel" in kernels:
            kernel = starts.rows["ipykernel, started once"]["to the first reply"]
            report.at_least("warm session ready, ipykernel takes", 30, kernel, ready)
        await _trips(report, kernels, checkout, rounds)
    await _output(report, rounds)
    await _network(report, rounds)
    await _interrupts(report, max(3, rounds // 3))
    quick = rounds < FULL
    await sessions.at_once(report, 20 if quick else 200)
    await sessions.one_by_one(report, 10_000 if CAMPAIGN else 50 if quick else 500)


def _ms(cost: Cost) -> list[float]:
    return [sample * 1e3 for sample in cost.samples]


def _cell(source: str) -> Cell:
    n = next(_numbers)
    return Cell(id=f"bench-c{n}", n=n, source=source, filename=f"<bench {n}>")


# --- starts ---------------------------------------------------------------------------------------


async def _starts(table: Table, checkout: Callable[[], object] | None, rounds: int) -> None:
    with (
        Pool(preload=("numpy", "pandas")) as loaded,
        Pool(warm=0) as plain,
        tempfile.TemporaryDirectory() as workdir,
    ):
        first = {
            "ours: the first of a pool (exec, imports, fork)": await _first(max(3, rounds // 4))
        }
        for pool in (loaded, plain):
            await _start(pool, waits=False)  # its zygote
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            READY: lambda: _start(loaded, waits=True),
            CONFINED: lambda: _start(loaded, waits=True, workdir=workdir),
            "ours: forked for it, nothing preloaded": lambda: _start(plain, waits=False),
            "multiprocessing, forkserver": lambda: asyncio.to_thread(
                worker_peers.start_process, "forkserver"
            ),
            "multiprocessing, spawn": lambda: asyncio.to_thread(
                worker_peers.start_process, "spawn"
            ),
        }
        if checkout is not None:
            ways["pydantic-monty, a warm checkout"] = lambda: _check_out(checkout)
        costs = {name: Cost() for name in ways}
        for _ in range(rounds + 1):
            for name, way in ways.items():
                costs[name].samples.append(await way())
        for cost in costs.values():
            del cost.samples[0]  # files that are read for the first time
    table.add("ready", {**costs, **first})


async def _first(rounds: int) -> Cost:
    cost = Cost()
    for _ in range(rounds):
        begun = clock()
        with Pool(warm=0) as pool:
            runner = ProcessRunner("first", pool=pool)
            await runner.start()
            cost.samples.append(clock() - begun)
            await runner.aclose()
    return cost


async def _start(pool: Pool, *, waits: bool, workdir: str = "") -> float:
    """Seconds until a session has its worker, with ``workdir`` a confined one."""
    while waits and not pool._idle:
        await asyncio.sleep(0.005)
    if waits:
        await asyncio.sleep(0.02)  # it is forked, and what forked it is done, too
    policy = Policy() if workdir else None
    runner = ProcessRunner("start", pool=pool, policy=policy, workdir=workdir)
    begun = clock()
    await runner.start()
    spent = clock() - begun
    await runner.aclose()
    return spent


async def _check_out(checkout: Callable[[], object]) -> float:
    begun = clock()
    with checkout() as session:  # type: ignore[attr-defined]
        spent = clock() - begun
        session.feed_run(PLAIN)
    return spent


# --- round trips ----------------------------------------------------------------------------------


async def _trips(
    report: Report,
    kernels: dict[str, worker_peers.Run],
    checkout: Callable[[], object] | None,
    rounds: int,
) -> None:
    table = Table("## A plain cell in a process of its own, there and back", OURS)
    with Pool(warm=0) as pool, ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        bare = ProcessRunner("trips", pool=pool)
        await bare.start()
        ways = {OURS: _to_finished(bare)}
        quick = stack.enter_context(multiprocessing.get_context("forkserver").Pool(1))
        quick.apply(int)
        ways["multiprocessing.Pool.apply(int)"] = worker_peers.as_batch(lambda _: quick.apply(int))
        for name, kernel in kernels.items():
            ways[f"{name}, to idle"] = worker_peers.as_batch(kernel)
        if checkout is not None:
            monty = stack.enter_context(checkout())  # type: ignore[arg-type]
            ways["pydantic-monty feed_run"] = worker_peers.as_batch(monty.feed_run)
        try:
            ways["smolagents, in this process"] = worker_peers.as_batch(worker_peers.smolagents())
        except ImportError:
            report.note("Without smolagents")
        async with (
            open_session(isolation="process", pool=pool) as memory,
            open_session("durable", store=Path(folder), isolation="process", pool=pool) as durable,
        ):
            ways["Session.run, epochs in memory"] = in_session(memory)
            ways["Session.run, durable: epochs on disk"] = in_session(durable)
            costs = await in_turns(ways, lambda n: [PLAIN] * n, rounds=rounds, warm_up=20)
        await bare.aclose()
    table.add("same plain cell", costs)
    report.table(table)
    report.at_most_us("plain cell through a worker, to Finished", 250, costs[OURS])
    for name, bound in (("ipykernel", 10), ("akernel", 4)):
        if f"{name}, to idle" in costs:
            report.at_least(
                f"plain cell, {name} takes", bound, costs[f"{name}, to idle"], costs[OURS]
            )


def _to_finished(runner: ProcessRunner) -> Batch:
    async def batch(sources: list[str]) -> float:
        spent = begun = 0.0

        def see(event: object) -> None:
            nonlocal spent
            if isinstance(event, Finished):
                spent += clock() - begun

        for source in sources:
            begun = clock()
            await runner.run(_cell(source), see)
        return spent

    return batch


# --- network --------------------------------------------------------------------------------------

_SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(65536):
                if data[0]: connection.sendall(data)
            connection.sendall(b"!")
"""
_CLIENT = """
import socket, time
def connect():
    s = socket.create_connection(("127.0.0.1", {port}))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
def trip():
    with connect() as s:
        for n in range(250):
            if n == 50: begun = time.perf_counter()
            s.sendall(b"x"); s.recv(1)
        return (time.perf_counter() - begun) / 200
def send():
    with connect() as s:
        begun = time.perf_counter()
        s.sendall(bytes(50_000_000)); s.shutdown(socket.SHUT_WR); s.recv(1)
        return time.perf_counter() - begun
"""


async def _network(report: Report, rounds: int) -> None:
    """The same code with a socket of its own and, confined, through the host; the server is a process."""
    direct, carried = "a socket of its own", "confined, carried by the host"
    table = Table("## A connection of a cell to a server on this machine", direct)
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        policy = Policy(network=(f"127.0.0.1:{port}",))
        async with (
            open_session(isolation="process") as plain,
            open_session(isolation="confined", policy=policy) as walled,
        ):
            ways = {direct: plain, carried: walled}
            for session in ways.values():
                (await session.run(_CLIENT.format(port=port))).unwrap()
            for column, source in (("1 byte there and back", "trip()"), ("50 MB", "send()")):
                costs = {name: Cost() for name in ways}
                for _ in range(rounds):
                    for name, session in ways.items():
                        outcome = await session.run(source)
                        costs[name].samples.append(
                            float(outcome.text if outcome.ok else outcome.unwrap())
                        )
                table.add(column, costs)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    report.table(table)
    rates = {name: 50 / row["50 MB"].median for name, row in table.rows.items()}
    report.note("; ".join(f"{name}: {rate:.0f} MB/s" for name, rate in rates.items()))


# --- output and interrupts ------------------------------------------------------------------------


async def _output(report: Report, rounds: int) -> None:
    lines = []
    with Pool(warm=0) as pool:
        runner = ProcessRunner("output", pool=pool)
        for megabytes in (1, 30):
            times = []
            for _ in range(rounds + 1):
                size = 0

                def count(event: object) -> None:
                    nonlocal size
                    if isinstance(event, Output):
                        size += len(event.text)

                begun = clock()
                source = f"for _ in range({megabytes * 10}): print('x' * 99_999)"
                await runner.run(_cell(source), count)
                times.append(clock() - begun)
                assert size == megabytes * 1_000_000
            del times[0]
            cost = Cost(times)
            rates = f"{megabytes / cost.median:.0f} MB/s, {megabytes / cost.minimum:.0f} at most"
            lines.append(f"{megabytes} MB of output: {rates}")
            if megabytes == 1:
                report.scaled("1 MB of output, there and read (200 MB/s)", 5, "ms", _ms(cost))
        times = []

        def see(event: object) -> None:
            if isinstance(event, Output):
                times.extend(clock() - float(at) for at in event.text.split())

        source = "import time\nfor _ in range(50): print(time.perf_counter()); time.sleep(0.02)"
        await runner.run(_cell(source), see)
        report.scaled(
            "a line printed, seen (10 ms), the latest of 50", 10, "ms", [max(times) * 1e3]
        )
        await runner.aclose()
    report.note("\n".join(lines))


async def _interrupts(report: Report, rounds: int) -> None:
    with Pool(warm=1) as pool:
        async with open_session(isolation="process", pool=pool) as session:
            await session.run("import asyncio, time; kept = 1")
            for name, source, bound, also in (
                ("an await", "print('up', flush=True); await asyncio.sleep(60)", 20.0, False),
                ("a loop", "print('up', flush=True)\nwhile True: pass", 20.0, False),
                ("time.sleep", "print('up', flush=True); time.sleep(60)", 1e3 * GRACE + 100, True),
                ("C code", "print('up', flush=True); sum(range(10**12))", 1e3 * GRACE + 100, True),
            ):
                times = [await _interrupt(session, source, also) * 1e3 for _ in range(rounds)]
                until = ", until the next cell is over" if also else ""
                cost = Cost(times)
                report.targets.append(
                    Target(f"interrupt of {name}{until}", bound, "ms", cost.median, cost.minimum)
                )


async def _interrupt(session: Session, source: str, also: bool) -> float:
    """Seconds from the interrupt to the end of the cell; ``also``: to that of the next one."""
    up = asyncio.Event()

    async def run() -> None:
        async for event in session.stream(source):
            if isinstance(event, Output):
                up.set()

    running = asyncio.create_task(run())
    await up.wait()
    await asyncio.sleep(0.02)
    begun = clock()
    session.interrupt()
    await running
    spent = clock() - begun
    assert (await session.run("kept")).text == "1"
    return clock() - begun if also else spent
