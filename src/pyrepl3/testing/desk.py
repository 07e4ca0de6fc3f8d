"""A runner in; cells for it, and what it has told, in one place for the checks that use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from pyrepl3.ports import Runner
from pyrepl3.records import Cell, Event, Outcome, Output

type Open = Callable[[], Awaitable[Runner]]
"""Gives a new runner with an empty namespace of its own."""

PATIENCE = 60.0
"""Seconds that one check may take before it counts as failed."""


class Desk:
    """A runner, cells for it, and what it has told."""

    runner: Runner

    def __init__(self, open_runner: Open) -> None:
        self.open_runner = open_runner
        self.events: list[Event] = []
        self.count = 0
        self._up = threading.Event()

    def cell(self, source: str, *, background: bool = False, parallel: bool = False) -> Cell:
        """The next cell."""
        self.count += 1
        n = self.count
        return Cell(
            id=f"check-c{n}",
            n=n,
            source=source,
            filename=f"<check {n}>",
            background=background,
            parallel=parallel,
        )

    def observe(self, event: Event) -> None:
        """Take an event."""
        self.events.append(event)
        if isinstance(event, Output) and "up" in event.text:
            self._up.set()

    async def run(
        self, source: str, *, background: bool = False, parallel: bool = False
    ) -> Outcome:
        """Run a cell to its outcome."""
        cell = self.cell(source, background=background, parallel=parallel)
        return await self.runner.run(cell, self.observe)

    def start(
        self, source: str, *, background: bool = False, parallel: bool = False
    ) -> asyncio.Task[Outcome]:
        """Run a cell beside the check."""
        return asyncio.ensure_future(self.run(source, background=background, parallel=parallel))

    async def when_up(self, do: Callable[[], Any]) -> Any:
        """Wait until a cell has printed ``up``, then ``do()``; on a thread, for the loop may be held."""

        def wait() -> Any:
            assert self._up.wait(PATIENCE), "the cell's output did not come while it ran"
            self._up.clear()
            return do()

        return await asyncio.to_thread(wait)

    def text(self, cell_id: str) -> str:
        """What a cell has written to its stdout."""
        return "".join(
            event.text
            for event in self.events
            if isinstance(event, Output) and event.cell_id == cell_id
        )
