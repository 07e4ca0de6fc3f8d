"""What a Resonate server keeps and sends: promises, tasks, schedules, changes to rows, messages."""

from __future__ import annotations

import base64
from typing import Literal, Protocol

import msgspec

type PromiseState = Literal[
    "pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout"
]
type TaskState = Literal["pending", "acquired", "suspended", "halted", "fulfilled"]

NOTHING = msgspec.Raw(b"{}")
"""A parameter or a value without headers and without data."""


class Promise(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A durable promise, as it goes over the wire. Times are milliseconds since 1970.

    ``param`` and ``value`` are JSON that nobody here reads: ``{"headers": …, "data": base64}``.
    """

    id: str
    state: PromiseState = "pending"
    param: msgspec.Raw = NOTHING
    value: msgspec.Raw = NOTHING
    tags: dict[str, str] = {}
    timeout_at: int
    created_at: int
    settled_at: int | None = None

    @property
    def target(self) -> str | None:
        """Where the task of this promise is sent; None: it has no task."""
        return self.tags.get("resonate:target")

    @property
    def external(self) -> bool:
        """Whether others may wait for it: it has a task, is a timer, or says so."""
        tags = self.tags
        return (
            "resonate:target" in tags
            or tags.get("resonate:timer") == "true"
            or tags.get("resonate:external") == "true"
        )


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The work that settles the promise of the same id.

    ``version`` grows with each acquiring: what an earlier holder sends is refused. ``deadline``: when
    it is sent again (pending) or taken back (acquired). ``tries`` counts releases without progress,
    ``trouble`` is the last refusal that the holder got, ``hopeless`` that trying again cannot help.
    """

    id: str
    state: TaskState = "pending"
    version: int = 0
    resumes: int = 0
    ttl: int | None = None
    pid: str | None = None
    deadline: int | None = None
    tries: int = 0
    trouble: str = ""
    hopeless: bool = False


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as others see it."""

    id: str
    state: TaskState
    version: int
    resumes: int
    ttl: int | None
    pid: str | None


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Makes a promise whenever ``cron`` (five fields, UTC) says so."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: msgspec.Raw = NOTHING
    promise_tags: dict[str, str] = {}
    created_at: int
    next_run_at: int
    last_run_at: int | None = None


class Created(msgspec.Struct, frozen=True):
    """A new promise, and its task if it has one."""

    promise: Promise
    task: Task | None


class Settled(msgspec.Struct, frozen=True):
    """A promise that has an end now, and its fulfilled task; nobody waits for it any more."""

    promise: Promise
    task: Task | None


class Tasked(msgspec.Struct, frozen=True):
    """A task in another state; its promise is as it was."""

    task: Task


class Waits(msgspec.Struct, frozen=True):
    """The task ``awaiter`` goes on when the promise ``awaited`` is settled."""

    awaited: str
    awaiter: str


class WaitsNot(msgspec.Struct, frozen=True):
    """The task ``awaiter`` waits for nothing any more, or nobody waits for ``awaited``."""

    awaited: str | None = None
    awaiter: str | None = None


class Scheduled(msgspec.Struct, frozen=True):
    """A schedule that is new, or has fired."""

    schedule: Schedule


class Unscheduled(msgspec.Struct, frozen=True):
    """A schedule that is gone."""

    id: str


type Change = Created | Settled | Tasked | Waits | WaitsNot | Scheduled | Unscheduled


class Execute(msgspec.Struct, frozen=True):
    """Tell whoever is at ``address`` that a task can be acquired."""

    address: str
    id: str
    version: int


class Unblock(msgspec.Struct, frozen=True):
    """Tell whoever is at ``address`` that a promise was settled."""

    address: str
    promise: Promise


type Message = Execute | Unblock


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which promises are searched: all that match, in the order of their ids, from ``after`` on."""

    state: PromiseState | None = None
    tags: dict[str, str] = {}
    limit: int = 100
    after: str = ""


class Shelf(Protocol):
    """Where promises are that the machine does not hold: all of them, with every change so far."""

    def find(self, id_: str) -> tuple[Promise, Task | None] | None:
        """A promise and its task; None: there is no such promise."""
        ...

    def search(self, query: Query) -> list[Promise]:
        """The promises that match, at most ``query.limit``, by id."""
        ...


def view(task: Task) -> TaskView:
    """What others may see of a task."""
    return TaskView(
        id=task.id,
        state=task.state,
        version=task.version,
        resumes=task.resumes,
        ttl=task.ttl,
        pid=task.pid,
    )


def error_value(message: str) -> msgspec.Raw:
    """A value that clients of Resonate raise as an error with this text."""
    told = msgspec.json.encode({"__type": "error", "message": message})
    return msgspec.Raw(b'{"data":"%s"}' % base64.b64encode(told))
