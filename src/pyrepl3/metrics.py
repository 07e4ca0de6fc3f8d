"""Events in, counts and histograms of durations out; as a mapping, and as Prometheus text."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, assert_never

from pyrepl3.errors import LimitExceededError
from pyrepl3.records import (
    Blocked,
    Committed,
    Display,
    Done,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Line,
    Notice,
    Output,
    Replayed,
    Restored,
    Started,
)

if TYPE_CHECKING:
    from pyrepl3.records import Event

# Upper bounds in seconds: three a decade, as in the exponential buckets that OpenTelemetry and
# Prometheus use by default, begun lower because most cells take microseconds.
BUCKETS = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)


class Histogram:
    """Counts by bucket: bounded memory, however many durations. Seconds."""

    __slots__ = ("counts", "largest", "smallest", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.smallest = float("inf")
        self.largest = 0.0

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def add(self, duration: float) -> None:
        """Count one duration; negative ones count as zero."""
        if duration < 0.0:  # noqa: PLR1730
            duration = 0.0
        # Comparisons, not min() and max(): this runs once a cell, and a call costs as much as the rest.
        self.counts[bisect_left(BUCKETS, duration)] += 1
        self.total += duration
        if duration > self.largest:  # noqa: PLR1730
            self.largest = duration
        if duration < self.smallest:  # noqa: PLR1730
            self.smallest = duration

    def quantile(self, q: float) -> float:
        """The duration below which a share ``q`` (0 to 1) lies, interpolated in its bucket; 0 if empty."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not at {q!r}")
        size = self.count
        if not size:
            return 0.0
        rank = q * size
        below = 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = BUCKETS[index - 1] if index else 0.0
                high = BUCKETS[index] if index < len(BUCKETS) else self.largest
                low, high = max(low, self.smallest), min(high, self.largest)
                inside = low + (high - low) * max(0.0, rank - below) / count
                return min(inside, high)  # the sum may be rounded beyond it
            below += count
        return self.largest

    def summary(self) -> dict[str, Any]:
        """``count``, ``sum``, ``min``, ``max`` (seconds) and ``buckets``: upper bound to count."""
        bounds = (*BUCKETS, float("inf"))
        size = self.count
        return {
            "count": size,
            "sum": self.total,
            "min": self.smallest if size else 0.0,
            "max": self.largest,
            "buckets": {bound: n for bound, n in zip(bounds, self.counts, strict=True) if n},
        }


def _size(text: str) -> int:
    """Bytes in UTF-8, the unit of ``Limits.output``."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class ExecutionMetrics:
    """Collect and report execution metrics. Every method may be called from any thread.

    Give ``observe`` to a session (``open_session(observe=metrics.observe)``) or call
    ``record_execution`` yourself, not both for the same cells.
    """

    def __init__(self) -> None:
        # Reentrant: the collector may run a __del__ that prints while this is held.
        self._lock = threading.RLock()
        # By the mode's value: an Enum's hash is Python code, a string's is a number it keeps.
        self._times: dict[str, Histogram] = {}
        self._successful = 0
        self._failed = 0
        self._interrupted = 0
        self._replayed = 0
        self._running = 0
        self._limits: dict[str, int] = {}
        self._notices: dict[str, int] = {}
        self._blocked = 0
        self._output_bytes = 0
        self._displays = 0
        self._commits = 0
        self._committed_bytes = 0
        self._lost = 0
        self._restores = 0
        self._hits = 0
        self._misses = 0
        self._transforms = 0

    def record_execution(self, mode: ExecutionMode, duration: float, success: bool) -> None:  # noqa: FBT001  the specification's signature
        """Count one execution of ``duration`` seconds. Costs less than a microsecond."""
        with self._lock:
            if success:
                self._successful += 1
            else:
                self._failed += 1
            times = self._times.get(mode._value_) or self._begin(mode._value_)
            times.add(duration)

    def observe(self, event: Event) -> None:
        """Count an event. An Observer."""
        with self._lock:
            match event:
                case Started(known=known, wrapped=wrapped):
                    self._hits += known
                    self._misses += not known
                    self._transforms += wrapped
                    self._running += 1
                case Finished(outcome=outcome):
                    self._finish(outcome)
                case Output(text=text):
                    size = _size(text)  # first: more may be printed in this call
                    self._output_bytes += size
                case Display():
                    self._displays += 1
                case Blocked():
                    self._blocked += 1
                case Notice(kind=kind):
                    self._notices[kind] = self._notices.get(kind, 0) + 1
                case Committed(size=size, lost=lost):
                    self._commits += 1
                    self._committed_bytes += size
                    self._lost += len(lost)
                case Restored():
                    self._restores += 1
                case Line():
                    pass
                case _:
                    assert_never(event)

    def _finish(self, outcome: Done | Failed | Interrupted | Replayed) -> None:
        match outcome:
            case Done():
                self._successful += 1
            case Failed(error=error):
                self._failed += 1
                if isinstance(error, LimitExceededError):
                    self._limits[error.limit] = self._limits.get(error.limit, 0) + 1
            case Interrupted():
                self._interrupted += 1
            case Replayed():
                self._replayed += 1
                return
            case _:
                assert_never(outcome)
        self._running = max(0, self._running - 1)
        mode = outcome.mode._value_
        times = self._times.get(mode) or self._begin(mode)
        times.add(outcome.duration)

    def _begin(self, mode: str) -> Histogram:
        times = self._times[mode] = Histogram()
        return times

    def quantile(self, q: float, mode: ExecutionMode | None = None) -> float:
        """Seconds below which a share ``q`` of the executions lies, an estimate; 0 if there were none."""
        with self._lock:
            return self._merged(mode).quantile(q)

    def _merged(self, mode: ExecutionMode | None = None) -> Histogram:
        if mode is not None:
            return self._times.get(mode.value) or Histogram()
        merged = Histogram()
        for times in self._times.values():
            merged.total += times.total
            merged.smallest = min(merged.smallest, times.smallest)
            merged.largest = max(merged.largest, times.largest)
            merged.counts = [a + b for a, b in zip(merged.counts, times.counts, strict=True)]
        return merged

    @property
    def metrics(self) -> dict[str, Any]:
        """All counts now, as a new dict with the specification's keys and some more.

        ``execution_times`` is a histogram's summary (see ``Histogram.summary``), not a list that grows.
        """
        with self._lock:
            looked = self._hits + self._misses
            return {
                "total_executions": self._successful + self._failed + self._interrupted,
                "successful_executions": self._successful,
                "failed_executions": self._failed,
                "interrupted_executions": self._interrupted,
                "replayed_executions": self._replayed,
                "running_executions": self._running,
                "execution_times": self._merged().summary(),
                "mode_distribution": {mode: t.count for mode, t in self._times.items()},
                "cache_hit_rate": self._hits / looked if looked else 0.0,
                "ast_transforms": self._transforms,
                "limits_exceeded": dict(self._limits),
                "notices": dict(self._notices),
                "blocked": self._blocked,
                "output_bytes": self._output_bytes,
                "displays": self._displays,
                "commits": self._commits,
                "committed_bytes": self._committed_bytes,
                "lost_names": self._lost,
                "restores": self._restores,
            }

    def to_prometheus(self) -> str:
        """The same as text for Prometheus to scrape. Raises ImportError where its client is missing.

        ``pyrepl3_execution_seconds{mode}`` is a histogram; ``pyrepl3_running_executions`` and
        ``pyrepl3_cache_hit_rate`` are gauges; all others are counters that end in ``_total``:
        ``pyrepl3_executions{outcome}``, ``pyrepl3_limits_exceeded{limit}``, ``pyrepl3_notices{kind}``,
        and ``pyrepl3_`` with ``blocked``, ``output_bytes``, ``displays``, ``commits``,
        ``committed_bytes``, ``lost_names``, ``restores``, ``ast_transforms``.
        """
        try:
            from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "Prometheus text needs its client: pip install 'pyrepl3[metrics]'",
                name="prometheus_client",
            ) from error
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # a Collector is what has collect()
        return str(generate_latest(registry).decode("utf-8"))

    def collect(self) -> list[Any]:
        """Metric families of prometheus_client: this object can be registered as a collector."""
        from prometheus_client.core import (  # noqa: PLC0415  an extra, loaded when used
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        now = self.metrics
        outcomes = CounterMetricFamily(
            "pyrepl3_executions", "Cells that ran, by outcome", labels=["outcome"]
        )
        for outcome in ("successful", "failed", "interrupted", "replayed"):
            outcomes.add_metric([outcome], now[f"{outcome}_executions"])
        durations = HistogramMetricFamily(
            "pyrepl3_execution_seconds", "Duration of cells, by mode", labels=["mode"]
        )
        with self._lock:
            for mode, times in self._times.items():
                total = 0
                buckets = []
                for bound, count in zip((*BUCKETS, float("inf")), times.counts, strict=True):
                    total += count
                    buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
                durations.add_metric([mode], buckets=buckets, sum_value=times.total)
        limits = CounterMetricFamily(
            "pyrepl3_limits_exceeded", "Cells that a limit stopped", labels=["limit"]
        )
        for limit, count in now["limits_exceeded"].items():
            limits.add_metric([limit], count)
        notices = CounterMetricFamily("pyrepl3_notices", "Notices, by kind", labels=["kind"])
        for kind, count in now["notices"].items():
            notices.add_metric([kind], count)
        families: list[Any] = [outcomes, durations, limits, notices]
        for name, help_text, key in (
            ("pyrepl3_blocked", "Plain cells that held the loop", "blocked"),
            ("pyrepl3_output_bytes", "Bytes that cells wrote, in UTF-8", "output_bytes"),
            ("pyrepl3_displays", "Rich values shown", "displays"),
            ("pyrepl3_commits", "Epochs on disk", "commits"),
            ("pyrepl3_committed_bytes", "Bytes of the values in them", "committed_bytes"),
            ("pyrepl3_lost_names", "Names that could not be stored", "lost_names"),
            ("pyrepl3_restores", "Namespaces that came back", "restores"),
            ("pyrepl3_ast_transforms", "Cells that only the fallback compiles", "ast_transforms"),
        ):
            families.append(CounterMetricFamily(name, help_text, value=now[key]))
        for name, help_text, key in (
            ("pyrepl3_running_executions", "Cells that run now", "running_executions"),
            ("pyrepl3_cache_hit_rate", "Share of cells compiled before", "cache_hit_rate"),
        ):
            families.append(GaugeMetricFamily(name, help_text, value=now[key]))
        return families
