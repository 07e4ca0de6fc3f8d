"""Requests about promises in, replies out; what they change is written into the ledger."""

from __future__ import annotations

import msgspec

from pyrepl3.durable.state.ledger import Ledger, timed_out
from pyrepl3.durable.state.records import NOTHING, Promise, Query, Task
from pyrepl3.durable.state.requests import (
    PromiseCall,
    PromiseCreate,
    PromiseGet,
    PromiseListen,
    PromiseSearch,
    PromiseSettle,
    Reply,
)

_MOST = 1000  # promises that one search gives at most


def get(ledger: Ledger, request: PromiseGet) -> Reply:
    """A promise."""
    promise = ledger.find(request.id)
    return found(promise) if promise else no_promise(request.id)


def create(ledger: Ledger, request: PromiseCreate, now: int) -> Reply:
    """A promise that is new, or the one that was there."""
    there = ledger.find(request.id)
    if there is not None:
        return found(there)
    refused = check(ledger, request)
    if refused is not None:
        return refused
    promise = make(request, now)
    task = None
    if promise.target is not None:
        task = Task(id=promise.id, state="fulfilled")
        if promise.state == "pending":
            delay = int(promise.tags.get("resonate:delay", "0"))
            deadline = delay if delay > now else now + ledger.rules.retry
            task = Task(id=promise.id, deadline=deadline)
    ledger.create(promise, task)
    if task is not None and task.deadline == now + ledger.rules.retry:
        ledger.announce(promise.id)
    return found(promise)


def make(request: PromiseCreate, now: int) -> Promise:
    """A promise as asked for; one whose time is up before it begins is settled."""
    param = _keep(request.param)
    if request.timeout_at > now:
        return Promise(
            id=request.id,
            param=param,
            tags=request.tags,
            timeout_at=request.timeout_at,
            created_at=now,
        )
    return Promise(
        id=request.id,
        state=timed_out(request.tags),
        param=param,
        tags=request.tags,
        timeout_at=request.timeout_at,
        created_at=request.timeout_at,
        settled_at=request.timeout_at,
    )


def settle(ledger: Ledger, request: PromiseSettle, now: int) -> Reply:
    """The promise, settled now or before."""
    promise = ledger.find(request.id)
    if promise is None:
        return no_promise(request.id)
    if promise.state != "pending":
        return found(promise)
    refused = check_size(ledger, request.id, request.value)
    if refused is not None:
        return refused
    promise = ledger.settle(promise, request.state, _keep(request.value), now)
    ledger.resume(promise, now)
    return found(promise)


def listen(ledger: Ledger, request: PromiseListen) -> Reply:
    """The promise as it is; if it is pending, ``address`` hears of its end."""
    if "://" not in request.address:
        return Reply(400, f"bad request: {request.address!r} is no address (scheme://…)")
    promise = ledger.find(request.awaited)
    if promise is None:
        return no_promise(request.awaited)
    if promise.state == "pending":
        ledger.listeners.setdefault(request.awaited, {})[request.address] = None
    return found(promise)


def call(ledger: Ledger, request: PromiseCall) -> Reply:
    """The promise as it is; if it is pending, the task ``awaiter`` goes on at its end."""
    if request.awaited == request.awaiter:
        return Reply(400, f"bad request: {request.awaiter!r} would wait for itself")
    awaited = ledger.find(request.awaited)
    if awaited is None:
        return no_promise(request.awaited)
    awaiter = ledger.find(request.awaiter)
    if awaiter is None or awaiter.target is None:
        return Reply(422, f"{request.awaiter!r} has no task that could wait")
    if not awaited.external:
        return not_external(awaited)
    if awaited.state == awaiter.state == "pending":
        ledger.wait(awaited.id, awaiter.id)
    return found(awaited)


def search(ledger: Ledger, request: PromiseSearch) -> Reply:
    """A page of promises by id, and the cursor for the next page (None: this is the last)."""
    limit = min(request.limit or 100, _MOST)
    if limit < 0:
        return Reply(400, f"bad request promise.search: limit {limit}")
    tags, after = request.tags or {}, request.cursor or ""
    # One more than asked for tells whether there is another page.
    query = Query(state=request.state, tags=tags, limit=limit + 1, after=after)
    promises = ledger.shelf.search(query)
    more = len(promises) > limit
    page = promises[:limit]
    return Reply(200, {"promises": page, "cursor": page[-1].id if more and page else None})


def found(promise: Promise) -> Reply:
    """The promise was found, or made."""
    return Reply(200, {"promise": promise})


def no_promise(id_: str) -> Reply:
    """There is none."""
    return Reply(404, f"promise {id_!r} not found")


def not_external(promise: Promise) -> Reply:
    """Nobody may wait for this one."""
    return Reply(
        422, f"nobody may wait for {promise.id!r}: it has no task and is not tagged as external"
    )


def check(ledger: Ledger, request: PromiseCreate) -> Reply | None:
    """Why this promise cannot be made; None: it can."""
    if not request.id or "\0" in request.id:
        return Reply(400, f"bad request: {request.id!r} is no id")
    delay = request.tags.get("resonate:delay", "0")
    if not delay.isdecimal():
        return Reply(400, f"bad request: resonate:delay is {delay!r}, not a time in ms")
    return check_size(ledger, request.id, request.param)


def check_size(ledger: Ledger, id_: str, value: msgspec.Raw) -> Reply | None:
    """Why this cannot be kept; None: it can."""
    most = ledger.rules.max_value
    size = memoryview(value).nbytes
    if most is None or size <= most:
        return None
    return Reply(
        413,
        f"promise {id_!r}: {size:,} bytes are more than the {most:,} that a promise may hold; keep the "
        "value elsewhere and let the promise hold its place or its hash",
    )


def _keep(value: msgspec.Raw) -> msgspec.Raw:
    """A copy, so that the request it came in may go."""
    return NOTHING if value == b"null" else value.copy()
