"""Costs and targets in; tables for people and JSON for scripts out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.measure import Cost

REFERENCE = "parse, compile and exec of one line"
PEERS = (
    "ipython",
    "ptpython",
    "prompt-toolkit",
    "ipykernel",
    "akernel",
    "pydantic-monty",
    "smolagents",
)


@dataclass
class Table:
    """Costs by row and column; each is shown beside how many times the cost of ``base`` it is."""

    title: str
    base: str
    unit: str = "µs"
    rows: dict[str, dict[str, Cost]] = field(default_factory=dict)

    def add(self, column: str, costs: dict[str, Cost]) -> None:
        for row, cost in costs.items():
            self.rows.setdefault(row, {})[column] = cost

    def lines(self) -> list[str]:
        columns = list(dict.fromkeys(column for row in self.rows.values() for column in row))
        grid = [[f"{self.unit}: median / minimum, times {self.base}", *columns]]
        for name, row in self.rows.items():
            grid.append([name, *(self._cell(row.get(column), column) for column in columns)])
        return [self.title, "", *markdown(grid)]

    def _cell(self, cost: Cost | None, column: str) -> str:
        if cost is None:
            return ""
        scale = 1e6 if self.unit == "µs" else 1e3
        text = f"{number(cost.median * scale)} / {number(cost.minimum * scale)}"
        base = self.rows.get(self.base, {}).get(column)
        if base is None or base is cost:
            return text
        return f"{text}, {number(cost.median / base.median)}x"


@dataclass
class Row:
    """Seconds that one thing took, each time, in order; ``more`` is what else is to be known."""

    what: str
    times: list[float]
    more: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.times)


@dataclass
class Target:
    """A promise: ``median`` (and ``minimum``, of the fastest rounds) against ``bound``.

    ``slowness``: how much slower this machine is than the one that the bound is meant for, by medians
    and by minima.
    """

    claim: str
    bound: float
    unit: str
    median: float
    minimum: float
    at_least: bool = False
    slowness: tuple[float, float] = (1.0, 1.0)

    @property
    def verdict(self) -> str:
        """``holds``, ``misses``; ``noisy``: medians and the fastest rounds do not agree on it."""
        by_median, by_minimum = self.slowness
        median = self._meets(self.median / by_median)
        minimum = self._meets(self.minimum / by_minimum)
        if median != minimum:
            return "noisy"
        return "holds" if median else "misses"

    def _meets(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def cells(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        bound = f"{sign} {self.bound:g} {self.unit}"
        if self.slowness != (1.0, 1.0):
            bound += f", here {number(self.bound * self.slowness[1])}"
        # What was measured once has no minimum of its own.
        minimum = "" if self.minimum == self.median else f"{number(self.minimum)} {self.unit}"
        return [self.claim, bound, f"{number(self.median)} {self.unit}", minimum, self.verdict]


@dataclass
class Report:
    """All of a run. What is added is printed at once."""

    machine: dict[str, object]
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slowness: tuple[float, float] = (1.0, 1.0)

    def calibrate(self, cost: Cost, reference: float) -> None:
        """Targets that are times from now on are for a machine on which ``cost`` is ``reference`` seconds."""
        self.slowness = cost.median / reference, cost.minimum / reference

    def table(self, table: Table) -> None:
        self.tables.append(table)
        print(*table.lines(), "", sep="\n", flush=True)

    def at_most(self, claim: str, bound: float, ours: Cost, floor: Cost) -> None:
        """A target for the ratio of ``ours`` to ``floor``."""
        median, minimum = ours.median / floor.median, ours.minimum / floor.minimum
        self.targets.append(Target(claim, bound, "x", median, minimum))

    def at_most_x(self, claim: str, bound: float, median: float, minimum: float) -> None:
        """A target for a ratio that was worked out elsewhere."""
        self.targets.append(Target(claim, bound, "x", median, minimum))

    def at_most_us(self, claim: str, bound: float, ours: Cost, floor: Cost | None = None) -> None:
        """A target for ``ours``, or what it is over ``floor``, in µs on the reference machine."""
        median, minimum = ours.median, ours.minimum
        if floor is not None:
            median, minimum = median - floor.median, minimum - floor.minimum
        target = Target(claim, bound, "µs", median * 1e6, minimum * 1e6, slowness=self.slowness)
        self.targets.append(target)

    def at_most_ms(self, claim: str, bound: float, ours: Cost, floor: Cost) -> None:
        """A target for what ``ours`` is over ``floor``, in ms, on any machine."""
        median, minimum = ours.median - floor.median, ours.minimum - floor.minimum
        self.targets.append(Target(claim, bound, "ms", median * 1e3, minimum * 1e3))

    def at_least(self, claim: str, bound: float, peer: Cost, ours: Cost) -> None:
        """A target for how many times ``ours`` goes into ``peer``."""
        median, minimum = peer.median / ours.median, peer.minimum / ours.minimum
        self.targets.append(Target(claim, bound, "x", median, minimum, at_least=True))

    def scaled(self, claim: str, bound: float, unit: str, values: Sequence[float]) -> None:
        """A target for a time, in ``unit`` on the reference machine. ``values``: what each round took."""
        median = statistics.median(values)
        target = Target(claim, bound, unit, median, min(values), slowness=self.slowness)
        self.targets.append(target)

    def rows(self, title: str, rows: Sequence[Row], *, unit: str = "ms") -> None:
        """A table of times, each beside its first and its last tenth: what grows is seen there."""
        scale = 1e6 if unit == "µs" else 1e3
        grid = [[unit, "median", "first", "last", "least", "n", ""]]
        for row in rows:
            tenth = max(len(row.times) // 10, 1)
            parts = (row.times, row.times[:tenth], row.times[-tenth:])
            medians = [number(statistics.median(part) * scale) for part in parts]
            least = number(min(row.times) * scale)
            grid.append([row.what, *medians, least, str(len(row.times)), row.more])
        self.note(f"## {title}\n\n" + "\n".join(markdown(grid)))

    def target(self, claim: str, bound: float, unit: str, value: float) -> None:
        self.targets.append(Target(claim, bound, unit, value, value))

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(text, "", sep="\n", flush=True)

    @property
    def noise(self) -> float:
        """How far medians lie above minima, on average over costs of cells: 1 is a quiet machine."""
        ratios = [
            cost.median / cost.minimum
            for table in self.tables
            if table.unit == "µs"
            for row in table.rows.values()
            for cost in row.values()
        ]
        return sum(ratios) / len(ratios) if ratios else 1.0

    def close(self, seconds: float) -> None:
        grid = [["target", "", "median", "minimum", ""]]
        grid += [target.cells() for target in self.targets]
        print(*markdown(grid), "", sep="\n")
        if self.slowness != (1.0, 1.0):
            print(
                f"This machine takes {number(self.slowness[1])} times as long for {REFERENCE} as the "
                'one that bounds with a "here" are for.'
            )
        if self.noise > 1.25:
            print(f"A busy machine: medians of cells lie {self.noise:.1f} times above minima.")
        print(f"{seconds:.0f} s in all.")

    def as_dict(self) -> dict[str, object]:
        return {
            "machine": self.machine,
            "noise": self.noise,
            "slowness": self.slowness,
            "tables": [asdict(table) for table in self.tables],
            "targets": [{**asdict(t), "verdict": t.verdict} for t in self.targets],
            "notes": self.notes,
        }


def machine() -> dict[str, object]:
    """What a written-down result has to name."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "peers": {name: _version(name) for name in PEERS},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def number(value: float) -> str:
    """Three digits, no exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def markdown(grid: list[list[str]]) -> list[str]:
    """A table that reads well in a terminal and in a README. The first row is the head."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "| " + " | ".join(map(str.ljust, row, widths)) + " |"  # one line a row
        for row in grid
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
