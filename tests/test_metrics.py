"""Metrics come from events alone, in bounded memory, and Prometheus can read them."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pyrepl3 import ExecutionMetrics, ExecutionMode, Limits, open_session
from pyrepl3.metrics import BUCKETS, Histogram
from pyrepl3.records import (
    Blocked,
    Cell,
    Committed,
    Display,
    Finished,
    Interrupted,
    Line,
    Notice,
    Output,
    Replayed,
    Restored,
    Started,
)


async def test_events_of_a_session_are_all_it_needs():
    metrics = ExecutionMetrics()
    async with open_session(observe=metrics.observe, limits=Limits(output=100)) as session:
        await session.run("print('abc')")
        await session.run("1 / 0")
        await session.run("import asyncio\nawait asyncio.sleep(0)")
        await session.run("print('x' * 1000)")
        await session.run("if")
        await session.run("return 1")
        await session.run("return 1")
    found = metrics.metrics
    assert found["cache_hit_rate"] == 1 / 7
    assert found["ast_transforms"] == 2
    assert found["total_executions"] == 7
    assert found["successful_executions"] == 4
    assert found["failed_executions"] == 3
    assert found["limits_exceeded"] == {"output": 1}
    assert found["mode_distribution"] == {"simple_sync": 5, "top_level_await": 1, "unknown": 1}
    assert found["running_executions"] == 0
    assert found["execution_times"]["count"] == 7
    assert 4 <= found["output_bytes"] <= 104


def test_memory_does_not_grow_with_the_number_of_executions():
    metrics = ExecutionMetrics()
    for step in range(10_000):
        metrics.record_execution(ExecutionMode.SIMPLE_SYNC, step / 1000, success=True)
    times = metrics.metrics["execution_times"]
    assert times["count"] == 10_000
    assert len(times["buckets"]) <= len(BUCKETS) + 1
    assert times["max"] == 9.999


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0, 1))
@example([0.0, 301.0, 301.0, 641.5203954959435], 1.0)  # rounded beyond the largest
def test_a_quantile_lies_in_the_bucket_of_the_true_one(durations, q):
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    estimate = histogram.quantile(q)
    rank = max(1, -(-len(durations) * q // 1))  # the smallest whole rank that reaches the share
    true = sorted(durations)[int(rank) - 1]
    bounds = (0.0, *BUCKETS, float("inf"))
    low = max(bound for bound in bounds if bound < true or bound == 0.0)
    high = min(bound for bound in bounds[1:] if bound >= true)
    assert low <= estimate <= high
    assert min(durations) <= estimate <= max(durations)


def test_output_is_counted_in_bytes_as_its_limit_is():
    metrics = ExecutionMetrics()
    for text in ("abc", "é", "\ud800"):
        metrics.observe(Output(cell_id="c1", stream="stdout", text=text))
    assert metrics.metrics["output_bytes"] == 3 + 2 + 3


def test_an_event_that_comes_while_one_is_counted_is_counted_too():
    """As a finaliser's print does, where a collection comes in."""
    metrics = ExecutionMetrics()

    class Text(str):
        __slots__ = ()

        def isascii(self):
            metrics.observe(Output(cell_id="c1", stream="stdout", text="between"))
            return True

    metrics.observe(Output(cell_id="c1", stream="stdout", text=Text("four")))
    assert metrics.metrics["output_bytes"] == len("between") + len("four")


def test_every_kind_of_event_is_counted_or_passed_over():
    metrics = ExecutionMetrics()
    cell = Cell(id="c1", n=1, source="x", filename="<cell>")
    mode = ExecutionMode.BLOCKING_SYNC
    events = [
        Started(cell=cell, mode=mode, placement="thread"),
        Started(cell=cell, mode=mode, placement="thread"),
        Blocked(cell_id="c1", seconds=1.0),
        Display(cell_id="c1", data={}),
        Line(cell_id="c1", line=1),
        Notice(cell_id="c1", kind="unawaited", text=""),
        Committed(cell_id="c1", epoch=1, size=100, lost={"f": "a file"}),
        Restored(epoch=1, names=frozenset()),
        Finished(outcome=Interrupted(cell=cell, mode=mode, duration=2.0)),
        Finished(outcome=Replayed(cell=cell)),
    ]
    for event in events:
        metrics.observe(event)
    found = metrics.metrics
    assert found["running_executions"] == 1
    assert found["interrupted_executions"] == found["replayed_executions"] == 1
    assert found["total_executions"] == 1
    assert found["mode_distribution"] == {"blocking_sync": 1}
    assert found["blocked"] == found["displays"] == found["restores"] == found["commits"] == 1
    assert found["notices"] == {"unawaited": 1}
    assert (found["committed_bytes"], found["lost_names"]) == (100, 1)
    assert metrics.quantile(0.5, mode) == metrics.quantile(1.0) == 2.0


def test_a_clock_that_went_back_counts_as_no_time():
    histogram = Histogram()
    histogram.add(-1.0)
    assert histogram.summary() == {"count": 1, "sum": 0, "min": 0, "max": 0, "buckets": {1e-5: 1}}
    assert histogram.quantile(1.0) == 0.0


def test_an_impossible_quantile_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        ExecutionMetrics().quantile(2)


def test_without_executions_everything_is_zero():
    metrics = ExecutionMetrics()
    assert metrics.quantile(0.5) == 0.0
    assert metrics.metrics["cache_hit_rate"] == 0.0
    assert metrics.metrics["execution_times"]["min"] == 0.0


def test_prometheus_reads_what_we_write():
    metrics = ExecutionMetrics()
    metrics.record_execution(ExecutionMode.SIMPLE_SYNC, 0.02, success=True)
    metrics.record_execution(ExecutionMode.SIMPLE_SYNC, 0.3, success=False)
    cell = Cell(id="c1", n=1, source="", filename="")
    for known in (False, True, True, True):
        metrics.observe(
            Started(cell=cell, mode=ExecutionMode.SIMPLE_SYNC, placement="loop", known=known)
        )
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.to_prometheus())
        for sample in family.samples
    }
    assert samples["pyrepl3_executions_total", ("outcome", "successful")] == 1
    assert samples["pyrepl3_executions_total", ("outcome", "failed")] == 1
    mode = ("mode", "simple_sync")
    assert samples["pyrepl3_execution_seconds_count", mode] == 2
    assert samples["pyrepl3_execution_seconds_sum", mode] == pytest.approx(0.32)
    assert samples["pyrepl3_execution_seconds_bucket", ("le", "0.025"), mode] == 1
    assert samples["pyrepl3_cache_hit_rate",] == 0.75


def test_two_collectors_do_not_meet():
    """Each text has a registry of its own: no error about names that are there twice."""
    assert ExecutionMetrics().to_prometheus() == ExecutionMetrics().to_prometheus()


def test_without_the_client_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from pyrepl3 import ExecutionMetrics\n"
        "try: ExecutionMetrics().to_prometheus()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'pyrepl3[metrics]'" in done.stdout


def test_threads_lose_no_count():
    metrics = ExecutionMetrics()

    def work():
        for _ in range(2000):
            metrics.record_execution(ExecutionMode.ASYNC_DEF, 0.001, success=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.metrics["mode_distribution"] == {"async_def": 8000}
