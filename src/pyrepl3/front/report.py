"""What a run tells, and to whom: the seam between the run and its text, JSON and notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.resume import Plan
from pyrepl3.records import Epoch, Event


class Report(Protocol):
    """Is told what a run does, in order. ``event`` may come on any thread, also between cells."""

    def begin(self, file: SourceFile, session: str | None) -> None:
        """The file was read; nothing has run."""

    def resumed(self, plan: Plan, *, replay: bool) -> None:
        """What of the session's past counts. Not called where it has none."""

    def skipped(self, index: int, cell: SourceCell, epoch: Epoch, *, replay: bool) -> None:
        """A finished cell is passed over; ``replay`` asks for its recorded output."""

    def cell(self, index: int, cell: SourceCell) -> None:
        """The next event Started is that of this cell (``index`` from 0)."""

    def event(self, event: Event) -> None:
        """Something happened in the session."""

    def note(self, text: str) -> None:
        """Something of the run that the user should know."""

    def end(self, status: int, problem: str = "") -> None:
        """The run is over; ``status`` is its exit status, ``problem`` why it could not run."""


class Reports:
    """Several reports as one."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = tuple(reports)

    def begin(self, file: SourceFile, session: str | None) -> None:
        for report in self._reports:
            report.begin(file, session)

    def resumed(self, plan: Plan, *, replay: bool) -> None:
        for report in self._reports:
            report.resumed(plan, replay=replay)

    def skipped(self, index: int, cell: SourceCell, epoch: Epoch, *, replay: bool) -> None:
        for report in self._reports:
            report.skipped(index, cell, epoch, replay=replay)

    def cell(self, index: int, cell: SourceCell) -> None:
        for report in self._reports:
            report.cell(index, cell)

    def event(self, event: Event) -> None:
        for report in self._reports:
            report.event(event)

    def note(self, text: str) -> None:
        for report in self._reports:
            report.note(text)

    def end(self, status: int, problem: str = "") -> None:
        for report in self._reports:
            report.end(status, problem)
