"""Requests about tasks in, replies out; what they change is written into the ledger."""

from __future__ import annotations

import msgspec

from pyrepl3.durable.state import promises
from pyrepl3.durable.state.ledger import Ledger
from pyrepl3.durable.state.records import Promise, Task, view
from pyrepl3.durable.state.requests import (
    PromiseCreate,
    PromiseSettle,
    Reply,
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
    read_data,
)

_replace = msgspec.structs.replace


def get(ledger: Ledger, request: TaskGet) -> Reply:
    """A task."""
    task = ledger.find_task(request.id)
    return Reply(200, {"task": view(task)}) if task else _no_task(request.id)


def create(ledger: Ledger, request: TaskCreate, now: int) -> Reply:
    """A new promise with its task acquired; or the task that was there, acquired if it was pending."""
    action = request.action.data
    if "resonate:target" not in action.tags:
        return Reply(400, f"bad request: a task needs a resonate:target, {action.id!r} has none")
    promise = ledger.find(action.id)
    if promise is None:
        refused = promises.check(ledger, action)
        if refused is not None:
            return refused
        promise = promises.make(action, now)
        task = Task(id=promise.id, state="fulfilled")
        if promise.state == "pending":
            lease = now + request.ttl if ledger.rules.leases else None
            task = Task(
                id=promise.id,
                state="acquired",
                version=1,
                pid=request.pid,
                ttl=request.ttl,
                deadline=lease,
            )
        ledger.create(promise, task)
        return _held(promise, task)
    if promise.target is None:
        return Reply(422, f"promise {promise.id!r} is there and has no task")
    there = ledger.find_task(promise.id)
    assert there is not None
    if there.state == "pending":
        there = ledger.acquire(there, request.pid, request.ttl, now)
    elif there.state != "fulfilled":
        return _conflict(there)
    return _held(promise, there)


def acquire(ledger: Ledger, request: TaskAcquire, now: int) -> Reply:
    """The task, held by ``pid``."""
    task = ledger.find_task(request.id)
    if task is None:
        return _no_task(request.id)
    if task.state != "pending" or task.version != request.version:
        return _conflict(task)
    task = ledger.acquire(task, request.pid, request.ttl, now)
    return _held(ledger.promises[task.id], task)


def release(ledger: Ledger, request: TaskRelease, now: int) -> Reply:
    """The task can be acquired again, at once or after a while; or it has been tried often enough."""
    task = _check_held(ledger, request.id, request.version)
    if isinstance(task, Reply):
        return task
    rules = ledger.rules
    if rules.tries is None:
        ledger.offer(task, now)
        return Reply(200, {})
    task = _replace(task, tries=task.tries + 1)
    if task.hopeless or task.tries >= rules.tries:
        ledger.give_up(task, now)
    else:
        wait = min(rules.backoff * 2 ** (task.tries - 1), rules.backoff_limit)
        ledger.offer(task, now, after=wait)
    return Reply(200, {})


def fulfill(ledger: Ledger, request: TaskFulfill, now: int) -> Reply:
    """The promise of the task, settled."""
    task = _check_held(ledger, request.id, request.version)
    if isinstance(task, Reply):
        return task
    settle = request.action.data
    refused = promises.check_size(ledger, task.id, settle.value)
    if refused is not None:
        return _trouble(ledger, task, refused)
    return promises.settle(ledger, _replace(settle, id=task.id), now)


def suspend(ledger: Ledger, request: TaskSuspend) -> Reply:
    """The task waits; 300 where something that it would wait for is settled: it is still held."""
    awaited = [action.data.awaited for action in request.actions]
    if not awaited or request.id in awaited or len({*awaited}) < len(awaited):
        return Reply(400, "bad request: a task waits for promises other than its own, each once")
    task = _check_held(ledger, request.id, request.version)
    if isinstance(task, Reply):
        return task
    wanted: list[Promise] = []
    for id_ in awaited:
        promise = ledger.find(id_)
        if promise is None:
            return _trouble(ledger, task, Reply(422, f"promise {id_!r} not found"))
        wanted.append(promise)
    for promise in wanted:
        if not promise.external:
            return _trouble(ledger, task, promises.not_external(promise))
    if any(promise.state != "pending" for promise in wanted):
        ledger.put(_replace(task, resumes=0))
        return Reply(300, {"preload": []})
    for id_ in awaited:
        ledger.wait(id_, task.id)
    ledger.put(
        _replace(
            task,
            state="suspended",
            resumes=0,
            pid=None,
            ttl=None,
            deadline=None,
            tries=0,
            trouble="",
        )
    )
    return Reply(200, {"preload": []})


def fence(ledger: Ledger, request: TaskFence, now: int) -> Reply:
    """What another promise came to, made or settled on condition that the task is held."""
    action = read_data(request.action.kind, request.action.data)
    if isinstance(action, Reply):
        return action
    if not isinstance(action, PromiseCreate | PromiseSettle):
        return Reply(422, f"a fence makes or settles a promise, not {request.action.kind}")
    if action.id == request.id:
        return Reply(400, f"bad request: {request.id!r} cannot settle itself behind its own fence")
    task = _check_held(ledger, request.id, request.version)
    if isinstance(task, Reply):
        return task
    if isinstance(action, PromiseCreate):
        done = promises.create(ledger, action, now)
    else:
        done = promises.settle(ledger, action, now)
    if done.status != 200:
        return _trouble(ledger, task, done)
    head = {"corrId": "", "status": 200, "version": ""}
    inner = {"kind": request.action.kind, "head": head, "data": done.data}
    return Reply(200, {"action": inner, "preload": []})


def heartbeat(ledger: Ledger, request: TaskHeartbeat, now: int) -> Reply:
    """The leases that ``pid`` holds begin anew."""
    for ref in request.tasks:
        task = ledger.tasks.get(ref.id)
        if task is None or task.state != "acquired" or task.pid != request.pid:
            continue
        if task.version == ref.version and ledger.rules.leases:
            ledger.put(_replace(task, deadline=now + (task.ttl or 0)))
    return Reply(200, {})


def halt(ledger: Ledger, request: TaskHalt) -> Reply:
    """The task is handed out no more; who holds it has lost it."""
    task = ledger.find_task(request.id)
    if task is None:
        return _no_task(request.id)
    if task.state == "fulfilled":
        return _conflict(task)
    if task.state != "halted":
        ledger.messages.pop(task.id, None)
        ledger.put(_replace(task, state="halted", pid=None, ttl=None, deadline=None))
    return Reply(200, {})


def go_on(ledger: Ledger, request: TaskContinue, now: int) -> Reply:
    """A halted task is handed out again."""
    task = ledger.find_task(request.id)
    if task is None:
        return _no_task(request.id)
    if task.state != "halted":
        return _conflict(task)
    ledger.offer(task, now)
    return Reply(200, {})


def _check_held(ledger: Ledger, id_: str, version: int) -> Task | Reply:
    task = ledger.find_task(id_)
    if task is None:
        return _no_task(id_)
    if task.state != "acquired" or task.version != version:
        return _conflict(task)
    return task


def _trouble(ledger: Ledger, task: Task, reply: Reply) -> Reply:
    """Remember why the holder of a task will give it back; too much is too much at the next try, too."""
    noted = _replace(task, trouble=str(reply.data), hopeless=reply.status == 413)
    ledger.tasks[task.id] = noted  # no row: it matters only until the release, in this process
    return reply


def _held(promise: Promise, task: Task) -> Reply:
    return Reply(200, {"task": view(task), "promise": promise, "preload": []})


def _no_task(id_: str) -> Reply:
    return Reply(404, f"task {id_!r} not found")


def _conflict(task: Task) -> Reply:
    return Reply(409, f"conflict: task {task.id!r} is {task.state}, version {task.version}")
