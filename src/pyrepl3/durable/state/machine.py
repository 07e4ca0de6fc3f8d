"""A request and the time in; a reply, changes for the rows and messages to send out."""

from __future__ import annotations

from typing import assert_never

from pyrepl3.durable.state import promises, schedules, tasks
from pyrepl3.durable.state.ledger import Ledger, Rules
from pyrepl3.durable.state.records import Change, Message, Shelf
from pyrepl3.durable.state.requests import (
    PromiseCall,
    PromiseCreate,
    PromiseGet,
    PromiseListen,
    PromiseSearch,
    PromiseSettle,
    Reply,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)


class Machine:
    """A Resonate server without its wires, its clock and its disk. Not thread-safe.

    Whoever runs it calls ``tick`` and then ``apply`` for one request after the other, writes
    ``take_changes()`` to where ``shelf`` finds them after each of both, and sends ``take_messages()``
    once these are safe. ``ledger.load()`` brings in what is pending. Times are ms since 1970; a clock
    that is set back makes what is due later, and nothing else.
    """

    def __init__(self, shelf: Shelf, rules: Rules | None = None) -> None:
        self.ledger = Ledger(shelf, rules or Rules())
        self._now = 0

    def tick(self, now: int) -> None:
        """Do what is due: schedules fire, promises end, tasks are offered again; in this order."""
        self._now = now
        schedules.fire(self.ledger, now)
        self.ledger.expire(now)
        self.ledger.turn(now)

    def due(self) -> int | None:
        """When ``tick`` has something to do next; None: never, as things stand."""
        ledger = self.ledger
        dues = (ledger.expiries.first(), ledger.turns.first(), ledger.firings.first())
        return min((due for due in dues if due is not None), default=None)

    def release_all(self, now: int) -> None:
        """Nobody holds a task any more: their holders have died with the process they were in."""
        for task in list(self.ledger.tasks.values()):
            if task.state == "acquired":
                self.ledger.offer(task, now)

    def announce_all(self) -> None:
        """Send word of all tasks that wait to be acquired, those that are delayed excepted."""
        for task in list(self.ledger.tasks.values()):
            delay = int(self.ledger.promises[task.id].tags.get("resonate:delay", "0"))
            if task.state == "pending" and not task.tries and delay <= self._now:
                self.ledger.announce(task.id)

    def take_changes(self) -> list[Change]:
        """What was changed since the last time, in order."""
        return self.ledger.take_changes()

    def take_messages(self) -> list[Message]:
        """What is to be sent since the last time, in order."""
        if not self.ledger.messages:
            return []
        taken, self.ledger.messages = list(self.ledger.messages.values()), {}
        return taken

    def apply(self, request: Request) -> Reply:  # noqa: C901 - one branch a request
        """Do what is asked, at the time of the last ``tick``."""
        ledger, now = self.ledger, self._now
        match request:
            case PromiseCreate():
                return promises.create(ledger, request, now)
            case PromiseSettle():
                return promises.settle(ledger, request, now)
            case TaskFence():
                return tasks.fence(ledger, request, now)
            case PromiseGet():
                return promises.get(ledger, request)
            case PromiseListen():
                return promises.listen(ledger, request)
            case PromiseCall():
                return promises.call(ledger, request)
            case PromiseSearch():
                return promises.search(ledger, request)
            case TaskGet():
                return tasks.get(ledger, request)
            case TaskCreate():
                return tasks.create(ledger, request, now)
            case TaskAcquire():
                return tasks.acquire(ledger, request, now)
            case TaskRelease():
                return tasks.release(ledger, request, now)
            case TaskFulfill():
                return tasks.fulfill(ledger, request, now)
            case TaskSuspend():
                return tasks.suspend(ledger, request)
            case TaskHeartbeat():
                return tasks.heartbeat(ledger, request, now)
            case TaskHalt():
                return tasks.halt(ledger, request)
            case TaskContinue():
                return tasks.go_on(ledger, request, now)
            case ScheduleGet():
                return schedules.get(ledger, request)
            case ScheduleCreate():
                return schedules.create(ledger, request, now)
            case ScheduleDelete():
                return schedules.delete(ledger, request)
            case ScheduleSearch():
                return schedules.search(ledger, request)
            case _:
                assert_never(request)
