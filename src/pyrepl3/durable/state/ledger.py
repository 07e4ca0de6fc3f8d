"""What is pending, with its indices, and the few transitions from which every operation is made.

Holds pending promises, their tasks, who waits for what, and schedules; what is settled is on the shelf.
Each transition costs the same however much is held or shelved, up to a logarithm. What a transition did
is found in ``changes`` (for the rows) and ``messages`` (to send) until somebody takes it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyrepl3.durable.state.deadlines import Deadlines
from pyrepl3.durable.state.records import (
    NOTHING,
    Change,
    Created,
    Execute,
    Message,
    Promise,
    PromiseState,
    Schedule,
    Settled,
    Shelf,
    Task,
    Tasked,
    Unblock,
    Waits,
    WaitsNot,
    error_value,
)

_replace = msgspec.structs.replace


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between servers. The defaults are the Postgres server's.

    ``leases``: whether a task is taken back when its holder sends no heartbeat. ``tries``: after so many
    releases in a row the promise of a task is rejected (None: never, and each try follows at once);
    before the n-th new try it waits ``backoff * 2**(n-1)``, at most ``backoff_limit``. ``retry``: a task
    that nobody acquires is sent again after this time. ``max_value``: bytes of a parameter or a value,
    as JSON (None: no limit). Times in ms.
    """

    leases: bool = True
    tries: int | None = None
    backoff: int = 100
    backoff_limit: int = 30_000
    retry: int = 5_000
    max_value: int | None = None


class Ledger:
    """The part of a Resonate server's state that can still change. Not thread-safe."""

    def __init__(self, shelf: Shelf, rules: Rules) -> None:
        self.shelf = shelf
        self.rules = rules
        self.promises: dict[str, Promise] = {}
        self.tasks: dict[str, Task] = {}
        self.schedules: dict[str, Schedule] = {}
        self.listeners: dict[str, dict[str, None]] = {}
        """By promise: addresses, in the order in which they came."""
        self.expiries = Deadlines()
        self.turns = Deadlines()
        """When a task is sent again or taken back."""
        self.firings = Deadlines()
        self.changes: list[Change] = []
        self.messages: dict[str, Message] = {}
        """By the task or the listening it is about: the last one counts."""
        self._unwritten: dict[str, tuple[Promise, Task | None]] = {}
        """Settled since changes were taken last: not pending, and not on the shelf yet."""
        self._awaiters: dict[str, dict[str, None]] = {}
        self._awaited: dict[str, dict[str, None]] = {}

    def load(
        self,
        promises: Iterable[tuple[Promise, Task | None]],
        waits: Iterable[tuple[str, str]],
        schedules: Iterable[Schedule],
    ) -> None:
        """Take over what is pending: as rows have it, with no changes and no messages."""
        for promise, task in promises:
            self._hold(promise, task)
        for awaited, awaiter in waits:
            self._tie(awaited, awaiter)
        for schedule in schedules:
            self.schedules[schedule.id] = schedule
            self.firings.set(schedule.id, schedule.next_run_at)

    def find(self, id_: str) -> Promise | None:
        """A promise, pending or not."""
        held = self.promises.get(id_)
        if held is not None:
            return held
        shelved = self._unwritten.get(id_) or self.shelf.find(id_)
        return shelved[0] if shelved else None

    def find_task(self, id_: str) -> Task | None:
        """The task of a promise, pending or not."""
        if id_ in self.promises:
            return self.tasks.get(id_)
        shelved = self._unwritten.get(id_) or self.shelf.find(id_)
        return shelved[1] if shelved else None

    def take_changes(self) -> list[Change]:
        """What was changed since the last time, in order; it is on the shelf before anything else happens."""
        if not self.changes:
            return []
        taken, self.changes = self.changes, []
        self._unwritten.clear()
        return taken

    def create(self, promise: Promise, task: Task | None) -> None:
        """Add a promise that is not there yet; its task may be acquired already."""
        if promise.state == "pending":
            self._hold(promise, task)
        else:
            self._unwritten[promise.id] = promise, task
        self.changes.append(Created(promise, task))

    def settle(self, promise: Promise, state: PromiseState, value: msgspec.Raw, at: int) -> Promise:
        """End a pending promise: its task is fulfilled, listeners are told, awaiters go on."""
        id_ = promise.id
        settled = _replace(promise, state=state, value=value, settled_at=at)
        task = self.tasks.pop(id_, None)
        if task is not None:
            task = Task(id=id_, state="fulfilled", version=task.version)
            self.turns.drop(id_)
            self.messages.pop(id_, None)
        del self.promises[id_]
        self.expiries.drop(id_)
        self._unwritten[id_] = settled, task
        self.changes.append(Settled(settled, task))
        for address in self.listeners.pop(id_, ()):
            self.messages[f"{id_} {address}"] = Unblock(address, settled)
        self._untie(id_)
        return settled

    def resume(self, promise: Promise, now: int) -> None:
        """Let the tasks go on that wait for a promise that was just settled."""
        awaiters = self._awaiters.pop(promise.id, None)
        if not awaiters:
            return
        self.changes.append(WaitsNot(awaited=promise.id))
        for awaiter in sorted(awaiters):
            waited = self._awaited[awaiter]
            del waited[promise.id]
            if not waited:
                del self._awaited[awaiter]
            task = self.tasks[awaiter]
            if task.state == "suspended":
                self.offer(_replace(task, resumes=1), now)
            else:
                self.put(_replace(task, resumes=task.resumes + 1))

    def offer(self, task: Task, now: int, *, after: int = 0) -> None:
        """Let a task be acquired: say so now, or in ``after`` ms; and again where nobody comes."""
        deadline = now + (after or self.rules.retry)
        self.put(_replace(task, state="pending", pid=None, ttl=None, deadline=deadline))
        if not after:
            self.announce(task.id)

    def announce(self, id_: str) -> None:
        """Send word of a pending task to where its promise says."""
        task, target = self.tasks[id_], self.promises[id_].target
        if target:
            self.messages.pop(id_, None)  # the newest goes last
            self.messages[id_] = Execute(target, id_, task.version)

    def acquire(self, task: Task, pid: str, ttl: int, now: int) -> Task:
        """Hand a pending task to ``pid`` under a new version."""
        self.messages.pop(task.id, None)  # what is still to be sent would be refused
        held = _replace(
            task,
            state="acquired",
            version=task.version + 1,
            resumes=0,
            pid=pid,
            ttl=ttl,
            deadline=now + ttl if self.rules.leases else None,
            trouble="",
        )
        self.put(held)
        return held

    def put(self, task: Task) -> None:
        """The task of a pending promise is like this now."""
        self.tasks[task.id] = task
        self._set_turn(task)
        self.changes.append(Tasked(task))

    def wait(self, awaited: str, awaiter: str) -> None:
        """Both are pending: the task of ``awaiter`` goes on when ``awaited`` is settled."""
        if awaiter not in self._awaiters.get(awaited, ()):
            self._tie(awaited, awaiter)
            self.changes.append(Waits(awaited, awaiter))

    def give_up(self, task: Task, now: int) -> None:
        """Reject the promise of a task that cannot be carried out, with a text that says why."""
        why = task.trouble or (
            "its worker gave it back each time: its function is not registered in this process, or "
            "what it returns cannot be written as JSON; the log of the worker (resonate.core) tells"
        )
        promise = self.promises[task.id]
        times = "once" if task.tries == 1 else f"{task.tries} times"
        message = f"gave up on {task.id!r}, tried {times}: {why}"
        self.resume(self.settle(promise, "rejected", error_value(message), now), now)

    def expire(self, now: int) -> None:
        """Settle the promises whose time is up: timers are resolved, all others rejected."""
        for id_ in self.expiries.take(now):
            promise = self.promises[id_]
            state = timed_out(promise.tags)
            self.resume(self.settle(promise, state, NOTHING, promise.timeout_at), now)

    def turn(self, now: int) -> None:
        """Send word of tasks again that nobody acquired; take back those whose lease is over."""
        for id_ in self.turns.take(now):
            self.offer(self.tasks[id_], now)

    def forget(self, id_: str) -> None:
        """Drop a pending promise and all that hangs on it, as if it had never been; no change is noted."""
        del self.promises[id_]
        self.tasks.pop(id_, None)
        self.listeners.pop(id_, None)
        self.messages.pop(id_, None)
        self.expiries.drop(id_)
        self.turns.drop(id_)
        for awaiter in self._awaiters.pop(id_, ()):
            self._awaited[awaiter].pop(id_)
        for awaited in self._awaited.pop(id_, ()):
            self._awaiters[awaited].pop(id_)

    def _hold(self, promise: Promise, task: Task | None) -> None:
        self.promises[promise.id] = promise
        self.expiries.set(promise.id, promise.timeout_at)
        if task is not None:
            self.tasks[promise.id] = task
            self._set_turn(task)

    def _set_turn(self, task: Task) -> None:
        if task.deadline is not None and task.state in ("pending", "acquired"):
            self.turns.set(task.id, task.deadline)
        else:
            self.turns.drop(task.id)

    def _tie(self, awaited: str, awaiter: str) -> None:
        self._awaiters.setdefault(awaited, {})[awaiter] = None
        self._awaited.setdefault(awaiter, {})[awaited] = None

    def _untie(self, awaiter: str) -> None:
        awaited = self._awaited.pop(awaiter, None)
        if awaited:
            for id_ in awaited:
                awaiters = self._awaiters[id_]
                del awaiters[awaiter]
                if not awaiters:
                    del self._awaiters[id_]
            self.changes.append(WaitsNot(awaiter=awaiter))


def timed_out(tags: dict[str, str]) -> PromiseState:
    """How a promise with these tags ends when its time is up."""
    return "resolved" if tags.get("resonate:timer") == "true" else "rejected_timedout"
