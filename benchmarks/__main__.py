"""``python -m benchmarks``: everything, as tables of ratios; ``--help`` says what else."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
from pathlib import Path

from benchmarks import (
    answering,
    cells,
    check,
    checkpoints,
    debugging,
    durable,
    growth,
    hidden,
    hot,
    kept,
    optimizer,
    parallel,
    startup,
    steps,
    store,
    workers,
)
from benchmarks.measure import clock
from benchmarks.report import Report, machine
from benchmarks.test_performance import test_execution_performance

PARTS = (
    "cells",
    "startup",
    "answering",
    "growth",
    "store",
    "steps",
    "durable",
    "kept",
    "checkpoints",
    "hidden",
    "check",
    "parallel",
    "optimizer",
    "hot",
    "debugging",
    "workers",
    "spec",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--quick", action="store_true", help="under 40 s, and less to rely on")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers there too")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    begun = clock()
    report = Report(machine())
    print(*(f"{name}: {value}" for name, value in report.machine.items()), "", sep="\n")
    failed = False
    for part in options.parts or PARTS:
        try:
            run_part(part, report, quick=options.quick)
        except subprocess.CalledProcessError as error:
            failed = True
            report.note(f"{part} failed: {error}\n{error.stderr}")
    report.close(clock() - begun)
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_dict(), indent=1), encoding="utf-8")
    return int(failed)


def run_part(part: str, report: Report, *, quick: bool) -> None:
    if part == "cells":
        asyncio.run(cells.run(report, rounds=15 if quick else 70))
    elif part == "startup":
        startup.run(report, rounds=4 if quick else 15)
    elif part == "answering":
        answering.run(report, seconds=0.3 if quick else 2.0)
    elif part == "growth":
        kinds = ["plain"] if quick else list(growth.KINDS)
        growth.run(
            report, cells=2_500 if quick else 10_000, kept=0 if quick else 2_000, kinds=kinds
        )
    elif part == "parallel":
        parallel.run(report, rounds=5 if quick else 20)
    elif part == "checkpoints":
        checkpoints.run(report, quick=quick)
    elif part == "store":
        store.run(report, quick=quick)
    elif part == "steps":
        steps.run(report, quick=quick)
    elif part == "durable":
        durable.run(report, quick=quick)
    elif part == "kept":
        kept.run(report, rounds=2 if quick else 7)
    elif part == "optimizer":
        optimizer.run(report, rounds=7 if quick else 25)
    elif part == "workers":
        workers.run(report, rounds=4 if quick else 15)
    elif part == "hidden":
        hidden.run(report, quick=quick)
    elif part == "hot":
        asyncio.run(hot.run(report, rounds=10 if quick else 120, kernels=not quick))
    elif part == "debugging":
        asyncio.run(debugging.run(report))
    elif part == "check":
        asyncio.run(check.run(report, rounds=10 if quick else 40))
    else:
        try:
            asyncio.run(test_execution_performance())
        except AssertionError as error:
            report.note(f"test_execution_performance fails: {error!r}")
        else:
            report.note("test_execution_performance passes.")


if __name__ == "__main__":
    raise SystemExit(main())
