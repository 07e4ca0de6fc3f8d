"""JSON of the Resonate protocol in, typed requests out; and answers back to JSON."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from pyrepl3.durable.state.records import NOTHING, PromiseState

type SettledState = Literal["resolved", "rejected", "rejected_canceled"]


class _Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The data of a request."""


class PromiseGet(_Request, frozen=True, kw_only=True):
    """Read a promise."""

    id: str


class PromiseCreate(_Request, frozen=True, kw_only=True):
    """Make a promise, unless there is one of this id."""

    id: str
    timeout_at: int
    param: msgspec.Raw = NOTHING
    tags: dict[str, str] = {}


class PromiseSettle(_Request, frozen=True, kw_only=True):
    """Settle a promise, unless it has been."""

    id: str
    state: SettledState
    value: msgspec.Raw = NOTHING


class PromiseListen(_Request, frozen=True, kw_only=True):
    """Send a message to ``address`` when ``awaited`` is settled."""

    awaited: str
    address: str


class PromiseCall(_Request, frozen=True, kw_only=True):
    """Let the task ``awaiter`` go on when ``awaited`` is settled."""

    awaited: str
    awaiter: str


class PromiseSearch(_Request, frozen=True, kw_only=True):
    """Find promises by state and tags."""

    state: PromiseState | None = None
    tags: dict[str, str] | None = None
    limit: int | None = None
    cursor: str | None = None


class _CreateAction(_Request, frozen=True, kw_only=True):
    data: PromiseCreate


class _SettleAction(_Request, frozen=True, kw_only=True):
    data: PromiseSettle


class _CallAction(_Request, frozen=True, kw_only=True):
    data: PromiseCall


class _AnyAction(_Request, frozen=True, kw_only=True):
    kind: str
    data: msgspec.Raw


class TaskGet(_Request, frozen=True, kw_only=True):
    """Read a task."""

    id: str


class TaskCreate(_Request, frozen=True, kw_only=True):
    """Make a promise and acquire its task; or acquire the one that waits."""

    pid: str
    ttl: int
    action: _CreateAction


class TaskAcquire(_Request, frozen=True, kw_only=True):
    """Take a pending task."""

    id: str
    version: int
    pid: str
    ttl: int


class TaskRelease(_Request, frozen=True, kw_only=True):
    """Give an acquired task back, undone."""

    id: str
    version: int


class TaskFulfill(_Request, frozen=True, kw_only=True):
    """Settle the promise of an acquired task."""

    id: str
    version: int
    action: _SettleAction


class TaskSuspend(_Request, frozen=True, kw_only=True):
    """Give an acquired task back until one of some promises is settled."""

    id: str
    version: int
    actions: list[_CallAction] = []


class TaskFence(_Request, frozen=True, kw_only=True):
    """Make or settle another promise, on condition that the task is still held."""

    id: str
    version: int
    action: _AnyAction


class _Ref(_Request, frozen=True, kw_only=True):
    id: str
    version: int | None = None


class TaskHeartbeat(_Request, frozen=True, kw_only=True):
    """Prolong the leases of tasks."""

    pid: str
    tasks: list[_Ref] = []


class TaskHalt(_Request, frozen=True, kw_only=True):
    """Stop handing out a task."""

    id: str


class TaskContinue(_Request, frozen=True, kw_only=True):
    """Hand out a halted task again."""

    id: str


class ScheduleGet(_Request, frozen=True, kw_only=True):
    """Read a schedule."""

    id: str


class ScheduleCreate(_Request, frozen=True, kw_only=True):
    """Make a schedule, unless there is one of this id."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: msgspec.Raw = NOTHING
    promise_tags: dict[str, str] = {}


class ScheduleDelete(_Request, frozen=True, kw_only=True):
    """Remove a schedule."""

    id: str


class ScheduleSearch(_Request, frozen=True, kw_only=True):
    """List schedules by the tags of their promises."""

    tags: dict[str, str] | None = None
    limit: int | None = None
    cursor: str | None = None


type Request = (
    PromiseGet
    | PromiseCreate
    | PromiseSettle
    | PromiseListen
    | PromiseCall
    | PromiseSearch
    | TaskGet
    | TaskCreate
    | TaskAcquire
    | TaskRelease
    | TaskFulfill
    | TaskSuspend
    | TaskFence
    | TaskHeartbeat
    | TaskHalt
    | TaskContinue
    | ScheduleGet
    | ScheduleCreate
    | ScheduleDelete
    | ScheduleSearch
)

_DECODERS: dict[str, msgspec.json.Decoder[Request]] = {
    kind: msgspec.json.Decoder(form)
    for kind, form in {
        "promise.get": PromiseGet,
        "promise.create": PromiseCreate,
        "promise.settle": PromiseSettle,
        "promise.register_listener": PromiseListen,
        "promise.register_callback": PromiseCall,
        "promise.search": PromiseSearch,
        "task.get": TaskGet,
        "task.create": TaskCreate,
        "task.acquire": TaskAcquire,
        "task.release": TaskRelease,
        "task.fulfill": TaskFulfill,
        "task.suspend": TaskSuspend,
        "task.fence": TaskFence,
        "task.heartbeat": TaskHeartbeat,
        "task.halt": TaskHalt,
        "task.continue": TaskContinue,
        "schedule.get": ScheduleGet,
        "schedule.create": ScheduleCreate,
        "schedule.delete": ScheduleDelete,
        "schedule.search": ScheduleSearch,
    }.items()
}


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    corr_id: str = ""
    version: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    kind: str
    head: _Head = _Head()
    data: msgspec.Raw = NOTHING


_envelopes = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()


class Reply(msgspec.Struct, frozen=True):
    """``status`` as in HTTP (300: go on at once), ``data`` of its kind, or a text that says what is wrong."""

    status: int
    data: Any


class Call(msgspec.Struct, frozen=True):
    """A request with what its answer must repeat. ``request`` is a Reply where it cannot be read."""

    kind: str
    corr_id: str
    version: str
    request: Request | Reply


def read(text: str | bytes) -> Call:
    """The request in ``text``. Raises msgspec.DecodeError where it is no envelope at all."""
    envelope = _envelopes.decode(text)
    head = envelope.head
    return Call(envelope.kind, head.corr_id, head.version, read_data(envelope.kind, envelope.data))


def read_data(kind: str, data: msgspec.Raw) -> Request | Reply:
    """The request of this kind; a Reply that refuses it where it cannot be read."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return Reply(501, f"not implemented: {kind}")
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        return Reply(400, f"bad request {kind}: {error}")


def write(call: Call, reply: Reply) -> bytes:
    """The answer to ``call`` as JSON."""
    head = {"corrId": call.corr_id, "status": reply.status, "version": call.version}
    return _encoder.encode({"kind": call.kind, "head": head, "data": reply.data})
