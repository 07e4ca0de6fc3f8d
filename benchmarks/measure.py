"""Ways of doing the same thing in; what each costs, measured in turns on the same machine, out."""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

type Batch = Callable[[list[str]], Awaitable[float]]
"""Runs these cells one after the other. Returns seconds, all that is no part of the work left out."""

clock = time.perf_counter
WARM_UP, CELLS = 40, 60  # a turn


@dataclass
class Cost:
    """Seconds an operation, one sample a round. Samples of one round ran right after each other."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        return min(self.samples)


async def in_turns(
    ways: dict[str, Batch],
    sources: Callable[[int], list[str]],
    *,
    rounds: int,
    warm_up: int = WARM_UP,
) -> dict[str, Cost]:
    """A B C A B C …: each way runs ``CELLS`` cells a turn.

    Many short turns: most are over before the machine does something else, and what it does then hits
    all alike. Each begins with cells that do not count: the processor's caches hold the way before.
    """
    costs = {name: Cost() for name in ways}
    for _ in range(rounds):
        for name, batch in ways.items():
            await batch(sources(warm_up))
            costs[name].samples.append(await batch(sources(CELLS)) / CELLS)
    return costs


def keeping_bytecode(folder: Path) -> dict[str, str]:
    """An environment in which a process finds the bytecode that one before it left in ``folder``."""
    env = os.environ | {"PYTHONPYCACHEPREFIX": str(folder)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def processes_in_turns(
    commands: dict[str, Callable[[], Sequence[str]]], *, rounds: int, bytecode: Path
) -> dict[str, Cost]:
    """Whole processes, from start to exit. Each command runs once before anything counts.

    That run leaves its bytecode in the folder ``bytecode``, as it does in any installation that is in
    use. Raises CalledProcessError, with what it wrote, for a command that fails.
    """
    env = keeping_bytecode(bytecode)
    costs = {name: Cost() for name in commands}
    for turn in range(rounds + 1):
        for name, make in commands.items():
            command = make()
            begun = clock()
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
            spent = clock() - begun
            if done.returncode:
                raise subprocess.CalledProcessError(
                    done.returncode, command, done.stdout, done.stderr
                )
            if turn:
                costs[name].samples.append(spent)
    return costs


async def lag_during(work: Awaitable[object]) -> Cost:
    """How late a 1 ms timer of this loop was, each time, while ``work`` went on."""
    lags = Cost()

    async def tick() -> None:
        while True:
            due = clock() + 0.001
            await asyncio.sleep(0.001)
            lags.samples.append(max(0.0, clock() - due))

    ticking = asyncio.create_task(tick())
    try:
        await work
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
    return lags


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: y a unit of x."""
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    above = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / math.fsum((x - mean_x) ** 2 for x, _ in points)
