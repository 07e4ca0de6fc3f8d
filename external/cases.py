"""Cases with what others want of them and what we do in; differences, matched with the reviewed list, out."""

from __future__ import annotations

import platform
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

REVIEWED = Path(__file__).with_name("expected.toml")


@dataclass(frozen=True)
class Case:
    """One case of somebody's test: ``wanted`` is theirs, ``got`` is ours, both in a few words."""

    suite: str
    test: str
    what: str
    wanted: str
    got: str

    @property
    def differs(self) -> bool:
        return self.wanted != self.got


@dataclass
class Suite:
    """All cases of one source, and why some of it was left out."""

    name: str
    source: str
    cases: list[Case] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, test: str, what: str, wanted: str, got: str) -> None:
        self.cases.append(Case(self.name, test, " ".join(what.split()), wanted, got))

    @property
    def differences(self) -> list[Case]:
        return [case for case in self.cases if case.differs]


@dataclass(frozen=True)
class Reviewed:
    """One entry of the list: differences of this test, with these parts, are known and right.

    ``what`` and ``got`` are parts of a case's text, empty for any. ``count`` is exact: one more or one
    less has to be looked at. ``python`` is a version such as "3.13", empty for every one.
    """

    suite: str
    test: str
    count: int
    reason: str
    what: str = ""
    got: str = ""
    python: str = ""

    def covers(self, case: Case) -> bool:
        return (
            (self.suite, self.test) == (case.suite, case.test)
            and self.what in case.what
            and self.got in case.got
        )

    def __str__(self) -> str:
        parts = [part for part in (self.suite, self.test, self.what, self.got) if part]
        return ", ".join(parts)


def load_reviewed(path: Path = REVIEWED) -> list[Reviewed]:
    """The entries that hold on this Python, in their order: the first that covers a case counts."""
    version = ".".join(platform.python_version_tuple()[:2])
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["difference"]
    found = [Reviewed(**entry) for entry in entries]
    return [entry for entry in found if entry.python in ("", version)]


def review(
    suites: list[Suite], reviewed: list[Reviewed]
) -> tuple[list[tuple[Case, str]], list[str]]:
    """Each difference with its reason (empty: nobody has reviewed it), and what is wrong in the list."""
    used: Counter[Reviewed] = Counter()
    explained = []
    for suite in suites:
        for case in suite.differences:
            entry = next((entry for entry in reviewed if entry.covers(case)), None)
            if entry is not None:
                used[entry] += 1
            explained.append((case, "" if entry is None else entry.reason))
    ran = {suite.name for suite in suites}
    wrong = [
        f"{entry}: reviewed {entry.count}, found {used[entry]}"
        for entry in reviewed
        if entry.suite in ran and used[entry] != entry.count
    ]
    return explained, wrong
