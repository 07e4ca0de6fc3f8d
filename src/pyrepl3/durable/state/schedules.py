"""Requests about schedules in, replies out; and what schedules make when their time comes."""

from __future__ import annotations

import msgspec

from pyrepl3.durable.state import promises
from pyrepl3.durable.state.cron import next_run
from pyrepl3.durable.state.ledger import Ledger
from pyrepl3.durable.state.records import NOTHING, Schedule, Scheduled, Unscheduled
from pyrepl3.durable.state.requests import (
    PromiseCreate,
    Reply,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
)

_AT_ONCE = 100  # firings that were missed and are made up for before other requests get their turn


def get(ledger: Ledger, request: ScheduleGet) -> Reply:
    """A schedule."""
    schedule = ledger.schedules.get(request.id)
    return _found(schedule) if schedule else _none(request.id)


def create(ledger: Ledger, request: ScheduleCreate, now: int) -> Reply:
    """A schedule that is new, or the one that was there."""
    there = ledger.schedules.get(request.id)
    if there is not None:
        return _found(there)
    try:
        first = next_run(request.cron, now)
    except ValueError as error:
        return Reply(400, f"bad request: {error}")
    refused = promises.check_size(ledger, request.id, request.promise_param)
    if refused is not None:
        return refused
    param = NOTHING if request.promise_param == b"null" else request.promise_param.copy()
    schedule = Schedule(
        id=request.id,
        cron=request.cron,
        promise_id=request.promise_id,
        promise_timeout=request.promise_timeout,
        promise_param=param,
        promise_tags=request.promise_tags,
        created_at=now,
        next_run_at=first,
    )
    _put(ledger, schedule)
    return _found(schedule)


def delete(ledger: Ledger, request: ScheduleDelete) -> Reply:
    """Gone; what it made stays."""
    if ledger.schedules.pop(request.id, None) is None:
        return _none(request.id)
    ledger.firings.drop(request.id)
    ledger.changes.append(Unscheduled(request.id))
    return Reply(200, {})


def search(ledger: Ledger, request: ScheduleSearch) -> Reply:
    """A page of schedules by id, and the cursor for the next page (None: this is the last)."""
    wanted = (request.tags or {}).items()
    after, limit = request.cursor or "", request.limit or 100
    found = sorted(
        schedule.id
        for schedule in ledger.schedules.values()
        if schedule.id > after and wanted <= schedule.promise_tags.items()
    )
    page = [ledger.schedules[id_] for id_ in found[:limit]]
    more = len(found) > len(page) > 0
    return Reply(200, {"schedules": page, "cursor": page[-1].id if more else None})


def fire(ledger: Ledger, now: int) -> None:
    """Make the promises whose time has come; where many were missed, some now and the rest soon."""
    for id_ in ledger.firings.take(now):
        schedule = ledger.schedules[id_]
        for _ in range(_AT_ONCE):
            if schedule.next_run_at > now:
                break
            schedule = _fire(ledger, schedule)
        _put(ledger, schedule)


def _fire(ledger: Ledger, schedule: Schedule) -> Schedule:
    at = schedule.next_run_at
    name = schedule.promise_id.replace("{{.timestamp}}", str(at)).replace("{{.id}}", schedule.id)
    tags = dict(schedule.promise_tags)
    wanted = PromiseCreate(
        id=name, timeout_at=at + schedule.promise_timeout, param=schedule.promise_param, tags=tags
    )
    promises.create(ledger, wanted, at)
    following = next_run(schedule.cron, at)
    return msgspec.structs.replace(schedule, last_run_at=at, next_run_at=following)


def _put(ledger: Ledger, schedule: Schedule) -> None:
    ledger.schedules[schedule.id] = schedule
    ledger.firings.set(schedule.id, schedule.next_run_at)
    ledger.changes.append(Scheduled(schedule))


def _found(schedule: Schedule) -> Reply:
    return Reply(200, {"schedule": schedule})


def _none(id_: str) -> Reply:
    return Reply(404, f"schedule {id_!r} not found")
