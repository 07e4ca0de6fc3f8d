"""What the specification promises of each of its classes, as amended, where its own tests do not look."""

from __future__ import annotations

import asyncio
import sys

import pytest

import pyrepl3
from pyrepl3 import (
    AsyncContextError,
    AsyncExecutor,
    CancellationError,
    CompilationCache,
    CompilationError,
    CoroutineManager,
    ErrorRecovery,
    EventLoopCoordinator,
    ExecutionCancellation,
    ExecutionError,
    ExecutionMetrics,
    ExecutionMode,
    ExecutorConfig,
    ImportController,
    MiB,
    NamespaceError,
    NamespaceManager,
)


def test_every_class_of_the_specification_is_importable_from_pyrepl3():
    names = """AsyncExecutor ExecutionMode NamespaceManager EventLoopCoordinator CoroutineManager
        ExecutionCancellation CompilationCache ErrorRecovery ExecutorConfig ExecutionMetrics
        ImportController ExecutionError CompilationError AsyncContextError NamespaceError
        CancellationError""".split()
    for name in names:
        assert getattr(pyrepl3, name).__name__ == name


def test_the_four_errors_are_execution_errors():
    for error in (CompilationError, AsyncContextError, NamespaceError, CancellationError):
        assert issubclass(error, ExecutionError)


def test_modes_have_the_values_of_the_specification():
    assert {mode.name: mode.value for mode in ExecutionMode} == {
        "TOP_LEVEL_AWAIT": "top_level_await",
        "ASYNC_DEF": "async_def",
        "BLOCKING_SYNC": "blocking_sync",
        "SIMPLE_SYNC": "simple_sync",
        "UNKNOWN": "unknown",
    }


def test_the_default_configuration_is_that_of_the_specification():
    config = ExecutorConfig()
    assert config.max_execution_time == 30.0
    assert config.max_memory_usage == 512 * MiB
    assert config.max_coroutines == 1000
    assert config.enable_compilation_cache
    assert config.enable_ast_optimization
    assert config.cache_size == 1000
    assert config.allow_imports
    assert config.allowed_modules is None
    assert config.denied_modules == {"os", "sys", "subprocess"}
    assert not config.trace_execution
    assert config.collect_stats
    assert config.verbose_errors


def test_a_bad_setting_is_refused_with_its_name():
    with pytest.raises(ValueError, match="max_execution_time must be positive or None"):
        ExecutorConfig(max_execution_time=0)
    with pytest.raises(TypeError, match="Unexpected keyword argument 'max_time'"):
        ExecutorConfig(max_time=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="a set of module names, not the string 'os'"):
        ExecutorConfig(denied_modules="os")  # type: ignore[arg-type]


async def test_settings_take_effect_only_where_they_are_passed():
    free = AsyncExecutor(None, NamespaceManager(), "free")
    assert await free.execute("import sys; sys.platform") == sys.platform
    strict = AsyncExecutor(None, NamespaceManager(), "strict", config=ExecutorConfig())
    with pytest.raises(ImportError, match="sys"):
        await strict.execute("import sys")
    assert await strict.execute("import json; json.dumps([1])") == "[1]"
    strict.close()


async def test_what_does_not_compile_is_unknown_and_raises_with_a_proposal():
    executor = AsyncExecutor()
    assert executor.analyze_execution_mode("if x\n  pass") is ExecutionMode.UNKNOWN
    with pytest.raises(CompilationError) as caught:
        await executor.execute("if 1\n    x = 5")
    assert caught.value.proposal == "if 1:\n    x = 5"
    assert caught.value.changes
    assert "x" not in executor.namespace.namespace  # nothing of it has run
    assert executor.stats["mode_counts"][ExecutionMode.UNKNOWN] == 1


async def test_execute_raises_the_users_own_exception_and_remembers_it():
    executor = AsyncExecutor()
    await executor.execute("class Mine(Exception): pass\nerror = Mine('why')")
    with pytest.raises(Exception, match="why") as caught:
        await executor.execute("raise error")
    namespace = executor.namespace.namespace
    assert caught.value is namespace["error"]
    assert namespace["_last_exception"] is caught.value
    frames = []
    step = caught.value.__traceback__
    while step is not None:
        frames.append(step.tb_frame.f_code.co_filename)
        step = step.tb_next
    assert frames == [__file__, f"<{executor.namespace.name} cell 2>"]  # none of ours between


async def test_stats_keep_their_keys():
    executor = AsyncExecutor()
    await executor.execute("1")
    await executor.execute("return 5")
    with pytest.raises(ZeroDivisionError):
        await executor.execute("1 / 0")
    stats = executor.stats
    assert stats["executions"] == 3
    assert stats["errors"] == 1
    assert stats["ast_transforms"] == 1
    assert stats["mode_counts"][ExecutionMode.SIMPLE_SYNC] == 3


def test_the_cache_gives_each_cell_its_own_file_name():
    cache = CompilationCache(max_size=2)
    code = compile("x = 1", "<a>", "exec")
    assert cache.get_compiled("x = 1", "<a>", "exec", 0) is None
    cache.store_compiled("x = 1", "<a>", "exec", 0, code)
    found = cache.get_compiled("x = 1", "<b>", "exec", 0)
    assert found is not None
    assert found.co_filename == "<b>"
    assert (cache.hits, cache.misses) == (1, 1)


def test_namespace_manager_returns_what_changed_and_guards_engine_names():
    manager = NamespaceManager()
    value = [1]
    assert manager.update_namespace({"a": value}) == {"a": value}
    assert manager.update_namespace({"a": value}) == {}
    assert manager.get_for_execution("async") is manager.get_for_execution("thread")
    with pytest.raises(NamespaceError, match="__builtins__"):
        manager.update_namespace({"b": 1, "__builtins__": {}})
    assert "b" not in manager.namespace  # all or nothing
    snapshot = manager.get_snapshot()
    snapshot["a"] = None
    assert manager.namespace["a"] is value


def test_thread_results_merge_by_identity():
    manager = NamespaceManager()
    manager.update_namespace({"same": [1], "old": 1, "gone": 2})
    base = dict(manager.namespace)
    results = {**base, "old": 3, "new": 4}
    del results["gone"]
    results["same"].append(2)  # in place: the live value has it already
    assert manager.merge_thread_results(results, base) == {"old": 3, "new": 4}
    assert manager.namespace == {"same": [1, 2], "old": 3, "new": 4}


async def test_a_queued_coroutine_runs_at_the_flush():
    async def answer(n: int) -> int:
        return n

    async def fail() -> None:
        raise ValueError("no")

    coordinator = EventLoopCoordinator(AsyncExecutor())
    assert coordinator.ensure_event_loop() is asyncio.get_running_loop()
    task = coordinator.queue_for_async(answer(1))
    assert task is not None
    assert await task == 1
    coordinator.message_queue += [answer(2), fail()]
    two, failure = await coordinator.flush_queue()
    assert two == 2
    assert isinstance(failure, ValueError)
    assert coordinator.message_queue == []


def test_a_loop_made_by_the_coordinator_is_closed_by_it():
    coordinator = EventLoopCoordinator()

    async def answer() -> int:
        return 3

    coro = answer()
    assert coordinator.queue_for_async(coro) is None
    loop = coordinator.ensure_event_loop()
    assert coordinator.owns_loop
    assert loop.run_until_complete(coordinator.flush_queue()) == [3]
    coordinator.close()
    assert loop.is_closed()


async def test_cleanup_counts_what_it_closed_and_cancelled():
    manager = CoroutineManager()
    coro = asyncio.sleep(0)
    manager.track_coroutine(coro)
    task = asyncio.ensure_future(asyncio.sleep(60))
    manager.track_task(task)
    assert manager.cleanup() == {"coroutines_closed": 1, "tasks_cancelled": 1, "errors": 0}
    await asyncio.wait([task])
    assert task.cancelled()
    assert manager.cleanup() == {"coroutines_closed": 0, "tasks_cancelled": 0, "errors": 0}


async def test_cancellation_stops_an_await_and_runs_its_callbacks():
    executor = AsyncExecutor()
    cancellation = ExecutionCancellation(executor)
    called = []
    with cancellation.cancellable_execution():
        cancellation.add_cancel_callback(lambda: called.append(1))
        running = asyncio.ensure_future(
            executor.execute("import asyncio\nevent = asyncio.Event()\nawait event.wait()")
        )
        while not executor._running_tasks:
            await asyncio.sleep(0)
        cancellation.cancel_execution()
        with pytest.raises(asyncio.CancelledError):
            cancellation.check_cancelled()
        with pytest.raises(CancellationError):
            await running
        assert called == [1]
    cancellation.check_cancelled()  # fresh again
    assert await executor.execute("1 + 1") == 2


def test_recovery_proposes_and_never_replaces_a_running_loop():
    broken = "if True\n    x = 1"
    with pytest.raises(SyntaxError) as caught:
        compile(broken, "<cell>", "exec")
    assert ErrorRecovery.handle_compilation_error(caught.value, broken) == "if True:\n    x = 1"

    async def inside() -> None:
        loop = asyncio.get_running_loop()
        assert not ErrorRecovery.handle_async_context_error(RuntimeError("no running event loop"))
        assert asyncio.get_running_loop() is loop

    asyncio.run(inside())


def test_metrics_keep_their_keys():
    metrics = ExecutionMetrics()
    metrics.record_execution(ExecutionMode.SIMPLE_SYNC, 0.25, True)
    metrics.record_execution(ExecutionMode.SIMPLE_SYNC, 0.5, False)
    assert set(metrics.metrics) >= {
        "total_executions",
        "successful_executions",
        "failed_executions",
        "execution_times",
        "mode_distribution",
        "cache_hit_rate",
        "ast_transforms",
    }
    assert metrics.metrics["total_executions"] == 2
    assert metrics.metrics["mode_distribution"] == {"simple_sync": 2}


def test_import_control_checks_the_top_package():
    controller = ImportController(ExecutorConfig())
    with pytest.raises(ImportError, match="os"):
        controller.controlled_import("os.path")
    assert controller.controlled_import("json").__name__ == "json"


async def test_what_a_cell_runs_in_an_executor_made_outside_a_loop():
    """The specification's constructor makes a loop where none runs; ours makes it when asked."""

    def work() -> int:
        executor = AsyncExecutor(None, NamespaceManager(), "outside")
        source = "import asyncio\nawait asyncio.sleep(0, 7)"
        value: int = executor.loop.run_until_complete(executor.execute(source))
        assert executor.owns_loop
        executor.close()
        assert not executor.owns_loop
        return value

    assert await asyncio.to_thread(work) == 7
