"""The specification's unit tests, under their own names.

Adapted only where the amendments say so: ``Resonate.local()`` is None or any Resonate instance
(amendment 24), and the flag has its right value (amendment 1).
"""

from __future__ import annotations

import ast

import pytest

from pyrepl3 import AsyncExecutor, ExecutionMode, NamespaceManager


class Resonate:
    """Stands in for an instance of the SDK: ``run`` keeps it and never calls it."""

    @staticmethod
    def local() -> Resonate:
        return Resonate()


@pytest.mark.asyncio
async def test_top_level_await_flag():
    """Test PyCF_ALLOW_TOP_LEVEL_AWAIT flag works."""
    code = "import asyncio; result = await asyncio.sleep(0, 'test')"

    # Create executor
    resonate = Resonate.local()
    namespace_manager = NamespaceManager(resonate)
    executor = AsyncExecutor(resonate, namespace_manager, "test-1")

    # Execute with top-level await
    result = await executor.execute(code)

    assert result == "test"
    assert executor.stats["mode_counts"][ExecutionMode.TOP_LEVEL_AWAIT] == 1
    # Amendment 1: the attribute stays, with the value that CPython gives the flag.
    assert AsyncExecutor.PyCF_ALLOW_TOP_LEVEL_AWAIT == ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


@pytest.mark.asyncio
async def test_execution_mode_detection():
    """Test correct execution mode detection."""
    test_cases = [
        ("await asyncio.sleep(0)", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async def foo(): pass", ExecutionMode.ASYNC_DEF),
        ("import requests; r = requests.get('url')", ExecutionMode.BLOCKING_SYNC),
        ("x = 1 + 1", ExecutionMode.SIMPLE_SYNC),
    ]

    executor = AsyncExecutor(Resonate.local(), NamespaceManager(), "test")

    for code, expected_mode in test_cases:
        mode = executor.analyze_execution_mode(code)
        assert mode == expected_mode


@pytest.mark.asyncio
async def test_namespace_preservation():
    """Test namespace is preserved across executions."""
    resonate = Resonate.local()
    namespace_manager = NamespaceManager(resonate)
    executor = AsyncExecutor(resonate, namespace_manager, "test-2")

    # First execution
    await executor.execute("x = 42")

    # Second execution using previous variable
    result = await executor.execute("result = x * 2")
    assert result == 84

    # Check namespace contains both
    namespace = namespace_manager.namespace
    assert namespace.get("x") == 42
    assert namespace.get("result") == 84


@pytest.mark.asyncio
async def test_coroutine_cleanup():
    """Test coroutines are properly cleaned up."""
    executor = AsyncExecutor(Resonate.local(), NamespaceManager(), "test-3")

    # Track initial state
    initial_coros = len(executor._pending_coroutines)

    # Execute code that creates coroutines
    await executor.execute("import asyncio; coro = asyncio.sleep(0)")

    # Cleanup should occur
    assert len(executor._pending_coroutines) == initial_coros

    # Amendment 12: what the cell bound is the user's, and a later cell may await it.
    await executor.execute("await coro")
