"""``python -m external``: other people's tests against us; counts, and every difference with its reason.

Exit status 0 if every difference is in the reviewed list, ``external/expected.toml``; else 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.report import markdown

from external import cpython_tables, ipython_cells, notebooks
from external.cases import Case, Suite, load_reviewed, review

SECONDS = 180
SUITES: dict[str, Callable[[], Suite]] = {
    "ipython": ipython_cells.run,
    "builtin": cpython_tables.run_await,
    "codeop": cpython_tables.run_codeop,
    "nbclient": notebooks.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m external", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--all", action="store_true", help="list reviewed differences one by one")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    begun = time.perf_counter()
    suites = [SUITES[name]() for name in options.suites or SUITES]
    explained, wrong = review(suites, load_reviewed())
    print_counts(suites)
    unreviewed = [case for case, reason in explained if not reason]
    print_reviewed(explained, every=options.all)
    for case in unreviewed:
        print(f"\nNOT REVIEWED {case.suite}, {case.test}: {case.what}")
        print(f"  wanted: {case.wanted}\n  got:    {case.got}")
    for line in wrong:
        print(f"\nexpected.toml: {line}")
    print(f"\n{time.perf_counter() - begun:.0f} s in all")
    return int(bool(unreviewed or wrong))


def print_counts(suites: list[Suite]) -> None:
    grid = [["suite", "cases", "as theirs", "differences"]]
    for suite in suites:
        counts = len(suite.cases), len(suite.cases) - len(suite.differences), len(suite.differences)
        grid.append([suite.source, *map(str, counts)])
    print(*markdown(grid), sep="\n")
    for suite in suites:
        for text in suite.skipped:
            print(f"left out: {suite.name}, {text}")


def print_reviewed(explained: list[tuple[Case, str]], *, every: bool) -> None:
    """One line a reason and test; with ``every`` one a case."""
    grid = [["differences", "suite, test", "reason"]]
    counts = Counter((case.suite, case.test, reason) for case, reason in explained if reason)
    for (suite, test, reason), count in counts.items():
        grid.append([str(count), f"{suite}, {test}", reason])
        for case, its_reason in explained if every else ():
            if (case.suite, case.test, its_reason) == (suite, test, reason):
                grid.append(["", case.what, f"wanted {case.wanted}, got {case.got}"])
    print("", *markdown(grid), sep="\n")


if __name__ == "__main__":
    raise SystemExit(main())
