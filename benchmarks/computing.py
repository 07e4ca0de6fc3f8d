"""A process that computes four calls in the ways that are known: the name of a way in, seconds out.

``python -m benchmarks.computing N``: one name a line on stdin; N is the argument of each call.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

CALLS = 4
CRUNCH = """
def crunch(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
"""


def crunch(n: int) -> int:
    """What computes: the same as ``CRUNCH``."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


def calibrate(seconds: float) -> int:
    """The argument with which a call takes about so long here."""
    n = 10_000
    while True:
        begun = time.perf_counter()
        crunch(n)
        took = time.perf_counter() - begun
        if took > seconds / 4:
            return round(n * seconds / took)
        n *= 2


def _send(connection: Connection, n: int) -> None:
    connection.send(crunch(n))
    connection.close()


def by_hand(n: int) -> list[int]:
    """A process and a pipe a call."""
    context = multiprocessing.get_context("fork")
    begun = []
    for _ in range(CALLS):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(theirs, n))
        process.start()
        theirs.close()
        begun.append((process, ours))
    results = []
    for process, ours in begun:
        results.append(ours.recv())
        process.join()
    return results


def main() -> None:
    """Serve."""
    n = int(sys.argv[1])
    most = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(most, mp_context=context)
    list(pool.map(crunch, [1] * most))
    for line in sys.stdin:
        begun = time.perf_counter()
        match line.strip():
            case "in order":
                results = [crunch(n) for _ in range(CALLS)]
            case "by hand":
                results = by_hand(n)
            case "warm pool":
                results = list(pool.map(crunch, [n] * CALLS))
            case _:
                with concurrent.futures.ProcessPoolExecutor(most, mp_context=context) as fresh:
                    results = list(fresh.map(crunch, [n] * CALLS))
        took = time.perf_counter() - begun
        assert len(set(results)) == 1
        print(took, flush=True)
    pool.shutdown()


if __name__ == "__main__":
    main()
