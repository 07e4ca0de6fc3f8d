"""A worker that is to be stopped is asked, pressed and ended by looks at it, not by the clock."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace

import pytest

from pyrepl3.isolate.stopping import escalate


class Clock:
    """What is to be called later, and what was done to the worker."""

    def __init__(self):
        self.due, self.done = [], []
        worker = SimpleNamespace(signal=self.done.append)
        self.link = SimpleNamespace(worker=worker, end=self.done.append)
        self.flight = SimpleNamespace(
            over=False, heard=False, presses=1, escalating=False, timers=[]
        )

    def call_later(self, seconds, call, *args):
        self.due.append((seconds, call, args))

    def strike(self):
        """The time of all that waits has come, at once: the machine may have stood still for hours."""
        due, self.due = self.due, []
        for _, call, args in due:
            call(*args)
        return sum(seconds for seconds, _, _ in due)


@pytest.fixture
async def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", clock.call_later)
    yield clock
    monkeypatch.undo()


@pytest.mark.parametrize(("heard", "seconds"), [(False, 1.0), (True, 3.25)])
async def test_it_has_its_grace_however_late_the_looks_come(clock, heard, seconds):
    escalate(clock.link, clock.flight, 1.0)
    clock.flight.heard = heard
    waited = clock.strike()
    assert clock.done == ([] if heard else [signal.SIGINT])
    while clock.due:
        waited += clock.strike()
    assert clock.done[-1:] == ["a cell did not stop"]
    assert waited == seconds


async def test_one_that_ends_is_left_alone_and_a_third_request_ends_it_at_once(clock):
    escalate(clock.link, clock.flight, 1.0)
    clock.flight.presses = 3
    escalate(clock.link, clock.flight, 1.0)
    assert clock.done == ["a cell did not stop"]
    assert len(clock.due) == 1
    clock.flight.over = True
    clock.strike()
    assert (clock.done, clock.due) == (["a cell did not stop"], [])
