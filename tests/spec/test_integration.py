"""The specification's integration tests, under their own names."""

from __future__ import annotations

import pytest

from pyrepl3 import AsyncExecutor, CompilationError, ExecutionError, NamespaceManager


class Resonate:
    """Stands in for an instance of the SDK: ``run`` keeps it and never calls it."""

    @staticmethod
    def local() -> Resonate:
        return Resonate()


@pytest.mark.asyncio
async def test_mixed_execution_modes():
    """Test mixed sync and async execution."""
    resonate = Resonate.local()
    namespace_manager = NamespaceManager(resonate)
    executor = AsyncExecutor(resonate, namespace_manager, "test-4")

    # Mix of execution modes
    await executor.execute("x = 1")  # Simple sync
    await executor.execute("async def double(n): return n * 2")  # Async def
    await executor.execute("y = await double(x)")  # Top-level await

    assert namespace_manager.namespace.get("y") == 2


@pytest.mark.asyncio
async def test_error_recovery():
    """Test error recovery mechanisms."""
    executor = AsyncExecutor(Resonate.local(), NamespaceManager(), "test-5")

    # Syntax error should not crash executor
    with pytest.raises(SyntaxError) as caught:
        await executor.execute("invalid python code {[}")
    # Amendment 9: it is ours as well.
    assert isinstance(caught.value, CompilationError)
    assert isinstance(caught.value, ExecutionError)

    # Executor should still work
    result = await executor.execute("1 + 1")
    assert result == 2
