"""The specification's own timed test, under its own name; ``python -m benchmarks`` runs it too."""

from __future__ import annotations

import time

import pytest

from pyrepl3 import AsyncExecutor, NamespaceManager


@pytest.mark.benchmark
async def test_execution_performance():
    """Benchmark execution performance."""
    executor = AsyncExecutor(None, NamespaceManager(), "perf-1")
    await executor.execute("import asyncio")  # the specification's test forgets it

    start = time.perf_counter()
    for _ in range(1000):
        await executor.execute("x = 1 + 1")
    simple_time = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(100):
        await executor.execute("await asyncio.sleep(0)")
    async_time = time.perf_counter() - start

    assert simple_time < 1.0  # < 1 ms per execution
    assert async_time < 1.0  # < 10 ms per async execution
