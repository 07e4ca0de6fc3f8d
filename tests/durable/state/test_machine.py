"""The state machine does what a plain model of the protocol does, on any history of requests."""

# ruff: noqa: A002, N803 - the model takes a request's fields by the names that the protocol gives them

from __future__ import annotations

import json
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.durable.rows import Rows
from pyrepl3.durable.state.ledger import Rules
from pyrepl3.durable.state.machine import Machine
from pyrepl3.durable.state.records import Created, Execute, Settled, Tasked
from pyrepl3.durable.state.requests import Reply, read_data

RETRY = 5_000
SETTLED = {"resolved", "rejected", "rejected_canceled"}


class Model:
    """The protocol as one would tell it: dicts, looked through from end to end each time."""

    def __init__(self, rules):
        self.rules = rules
        self.promises, self.tasks, self.schedules = {}, {}, {}
        self.callbacks, self.listeners, self.messages = set(), [], []

    # --- time

    def tick(self, now):
        for schedule in sorted(self.schedules.values(), key=lambda s: (s["nextRunAt"], s["id"])):
            while schedule["nextRunAt"] <= now:
                at = schedule["nextRunAt"]
                name = schedule["promiseId"].replace("{{.id}}", schedule["id"])
                self.promise_create(
                    name.replace("{{.timestamp}}", str(at)),
                    at + schedule["promiseTimeout"],
                    {},
                    schedule["promiseTags"],
                    at,
                )
                schedule |= {"lastRunAt": at, "nextRunAt": at // 60_000 * 60_000 + 60_000}
        due = [
            p for p in self.promises.values() if p["state"] == "pending" and p["timeoutAt"] <= now
        ]
        for p in sorted(due, key=lambda p: (p["timeoutAt"], p["id"])):
            state = "resolved" if p["tags"].get("resonate:timer") == "true" else "rejected_timedout"
            self.end(p, state, {}, p["timeoutAt"], now)
        for t in sorted(self.tasks.values(), key=lambda t: (t["at"] or 0, t["id"])):
            if t["state"] in ("pending", "acquired") and t["at"] is not None and t["at"] <= now:
                self.offer(t, now)

    # --- transitions

    def create(self, id_, timeout, param, tags, now):
        p = self.promises[id_] = {
            "id": id_, "state": "pending", "param": param, "value": {}, "tags": tags,
            "timeoutAt": timeout, "createdAt": now, "settledAt": None,
        }  # fmt: skip
        if timeout <= now:
            timer = tags.get("resonate:timer") == "true"
            p |= {"state": "resolved" if timer else "rejected_timedout"}
            p |= {"createdAt": timeout, "settledAt": timeout}
        if "resonate:target" in tags:
            t = self.tasks[id_] = self.task(id_)
            if timeout <= now:
                t["state"] = "fulfilled"
            elif int(tags.get("resonate:delay", 0)) > now:
                t["at"] = int(tags["resonate:delay"])
            else:
                t["at"] = now + RETRY
                self.announce(t)
        return p

    def task(self, id_):
        return {"id": id_, "state": "pending", "version": 0, "resumes": 0, "ttl": None, "pid": None, "at": None, "tries": 0}  # fmt: skip

    def announce(self, t):
        address = self.promises[t["id"]]["tags"]["resonate:target"]
        self.messages = [m for m in self.messages if m[0] != "execute" or m[2] != t["id"]]
        self.messages.append(("execute", address, t["id"], t["version"]))

    def offer(self, t, now, after=0):
        t |= {"state": "pending", "pid": None, "ttl": None, "at": now + (after or RETRY)}
        if not after:
            self.announce(t)

    def end(self, p, state, value, at, now):
        p |= {"state": state, "value": value, "settledAt": at}
        if p["id"] in self.tasks:
            t = self.tasks[p["id"]]
            t |= {**self.task(p["id"]), "version": t["version"], "state": "fulfilled"}
        self.messages = [m for m in self.messages if m[0] != "execute" or m[2] != p["id"]]
        for awaited, address in self.listeners:
            if awaited == p["id"]:
                self.messages.append(("unblock", address, dict(p)))
        self.listeners = [(a, b) for a, b in self.listeners if a != p["id"]]
        self.callbacks = {(a, b) for a, b in self.callbacks if b != p["id"]}
        for awaited, awaiter in sorted(self.callbacks):
            if awaited == p["id"]:
                t = self.tasks[awaiter]
                if t["state"] == "suspended":
                    t["resumes"] = 1
                    self.offer(t, now)
                else:
                    t["resumes"] += 1
        self.callbacks = {(a, b) for a, b in self.callbacks if a != p["id"]}

    # --- requests

    def apply(self, kind, data, now):
        self.tick(now)
        return getattr(self, kind.replace(".", "_"))(now=now, **data)

    def promise_get(self, id, now):
        return (200, {"promise": self.promises[id]}) if id in self.promises else (404, None)

    def promise_create(self, id, timeoutAt, param, tags, now):
        if id not in self.promises:
            self.create(id, timeoutAt, param, tags, now)
        return 200, {"promise": self.promises[id]}

    def promise_settle(self, id, state, value, now):
        if state not in SETTLED:
            return 400, None
        if id not in self.promises:
            return 404, None
        p = self.promises[id]
        if p["state"] == "pending":
            self.end(p, state, value, now, now)
        return 200, {"promise": p}

    def promise_register_listener(self, awaited, address, now):
        if awaited not in self.promises:
            return 404, None
        p = self.promises[awaited]
        if p["state"] == "pending" and (awaited, address) not in self.listeners:
            self.listeners.append((awaited, address))
        return 200, {"promise": p}

    def external(self, id_):
        tags = self.promises[id_]["tags"]
        return "resonate:target" in tags or "true" in (
            tags.get("resonate:timer"),
            tags.get("resonate:external"),
        )

    def promise_register_callback(self, awaited, awaiter, now):
        if awaited == awaiter:
            return 400, None
        if awaited not in self.promises:
            return 404, None
        if awaiter not in self.tasks or not self.external(awaited):
            return 422, None
        if self.promises[awaited]["state"] == self.promises[awaiter]["state"] == "pending":
            self.callbacks.add((awaited, awaiter))
        return 200, {"promise": self.promises[awaited]}

    def promise_search(self, state, tags, limit, now):
        found = sorted(
            p["id"] for p in self.promises.values()
            if state in (None, p["state"]) and tags.items() <= p["tags"].items()
        )  # fmt: skip
        cursor = found[limit - 1] if len(found) > limit else None
        return 200, {"promises": [self.promises[id_] for id_ in found[:limit]], "cursor": cursor}

    def seen(self, t):
        return {name: t[name] for name in ("id", "state", "version", "resumes", "ttl", "pid")}

    def task_get(self, id, now):
        return (200, {"task": self.seen(self.tasks[id])}) if id in self.tasks else (404, None)

    def take(self, t, pid, ttl, now):
        at = now + ttl if self.rules.leases else None
        t |= {
            "state": "acquired",
            "version": t["version"] + 1,
            "resumes": 0,
            "pid": pid,
            "ttl": ttl,
            "at": at,
        }
        self.messages = [m for m in self.messages if m[0] != "execute" or m[2] != t["id"]]

    def held(self, t):
        return 200, {"task": self.seen(t), "promise": self.promises[t["id"]], "preload": []}

    def task_create(self, pid, ttl, action, now):
        data = action["data"]
        id_ = data["id"]
        if "resonate:target" not in data["tags"]:
            return 400, None
        if id_ not in self.promises:
            before = list(self.messages)
            p = self.create(id_, data["timeoutAt"], data["param"], data["tags"], now)
            self.messages = before
            if p["state"] == "pending":
                self.take(self.tasks[id_], pid, ttl, now)
            return self.held(self.tasks[id_])
        if id_ not in self.tasks:
            return 422, None
        if self.tasks[id_]["state"] == "pending":
            self.take(self.tasks[id_], pid, ttl, now)
        elif self.tasks[id_]["state"] != "fulfilled":
            return 409, None
        return self.held(self.tasks[id_])

    def task_acquire(self, id, version, pid, ttl, now):
        if id not in self.tasks:
            return 404, None
        t = self.tasks[id]
        if t["state"] != "pending" or t["version"] != version:
            return 409, None
        self.take(t, pid, ttl, now)
        return self.held(t)

    def refuse(self, id_, version):
        if id_ not in self.tasks:
            return 404
        t = self.tasks[id_]
        return 409 if t["state"] != "acquired" or t["version"] != version else None

    def task_release(self, id, version, now):
        if status := self.refuse(id, version):
            return status, None
        t = self.tasks[id]
        if self.rules.tries is None:
            self.offer(t, now)
        else:
            t["tries"] += 1
            if t["tries"] == self.rules.tries:
                self.end(self.promises[id], "rejected", ..., now, now)
            else:
                self.offer(t, now, after=self.rules.backoff * 2 ** (t["tries"] - 1))
        return 200, {}

    def task_fulfill(self, id, version, action, now):
        if action["data"]["state"] not in SETTLED:
            return 400, None
        if status := self.refuse(id, version):
            return status, None
        self.end(self.promises[id], action["data"]["state"], action["data"]["value"], now, now)
        return 200, {"promise": self.promises[id]}

    def task_suspend(self, id, version, actions, now):
        awaited = [action["data"]["awaited"] for action in actions]
        if not awaited or id in awaited or len(set(awaited)) < len(awaited):
            return 400, None
        if status := self.refuse(id, version):
            return status, None
        if not all(id_ in self.promises and self.external(id_) for id_ in awaited):
            return 422, None
        t = self.tasks[id]
        t["resumes"] = 0
        if any(self.promises[id_]["state"] != "pending" for id_ in awaited):
            return 300, {"preload": []}
        self.callbacks |= {(id_, id) for id_ in awaited}
        t |= {"state": "suspended", "pid": None, "ttl": None, "at": None, "tries": 0}
        return 200, {"preload": []}

    def task_fence(self, id, version, action, now):
        data = action["data"]
        if data.get("state", "resolved") not in SETTLED or data["id"] == id:
            return 400, None
        if status := self.refuse(id, version):
            return status, None
        status, done = self.apply(action["kind"], data, now)
        if status != 200:
            return status, None
        return 200, {"action": {"kind": action["kind"], "data": done}, "preload": []}

    def task_heartbeat(self, pid, tasks, now):
        for ref in tasks:
            if not self.refuse(ref["id"], ref["version"]) and self.tasks[ref["id"]]["pid"] == pid:
                if self.rules.leases:
                    self.tasks[ref["id"]]["at"] = now + self.tasks[ref["id"]]["ttl"]
        return 200, {}

    def task_halt(self, id, now):
        if id not in self.tasks:
            return 404, None
        t = self.tasks[id]
        if t["state"] == "fulfilled":
            return 409, None
        t |= {"state": "halted", "pid": None, "ttl": None, "at": None}
        self.messages = [m for m in self.messages if m[0] != "execute" or m[2] != id]
        return 200, {}

    def task_continue(self, id, now):
        if id not in self.tasks:
            return 404, None
        if self.tasks[id]["state"] != "halted":
            return 409, None
        self.offer(self.tasks[id], now)
        return 200, {}

    def schedule_create(self, id, cron, promiseId, promiseTimeout, promiseTags, now):
        if id not in self.schedules:
            if cron != "* * * * *":
                return 400, None
            self.schedules[id] = {
                "id": id, "cron": cron, "promiseId": promiseId, "promiseTimeout": promiseTimeout,
                "promiseParam": {}, "promiseTags": promiseTags, "createdAt": now,
                "nextRunAt": now // 60_000 * 60_000 + 60_000, "lastRunAt": None,
            }  # fmt: skip
        return 200, {"schedule": self.schedules[id]}

    def schedule_get(self, id, now):
        return (200, {"schedule": self.schedules[id]}) if id in self.schedules else (404, None)

    def schedule_delete(self, id, now):
        return (200, {}) if self.schedules.pop(id, None) else (404, None)

    def schedule_search(self, tags, now):
        found = [
            s for _, s in sorted(self.schedules.items()) if tags.items() <= s["promiseTags"].items()
        ]
        return 200, {"schedules": found, "cursor": None}


class Shelf:
    """All promises, as the changes have them; to be looked through from end to end."""

    def __init__(self):
        self.all = {}

    def write(self, changes):
        for change in changes:
            match change:
                case Created(promise, task) | Settled(promise, task):
                    self.all[promise.id] = promise, task
                case Tasked(task):
                    self.all[task.id] = self.all[task.id][0], task

    def find(self, id_):
        return self.all.get(id_)

    def search(self, query):
        found = [
            promise
            for id_, (promise, _) in sorted(self.all.items())
            if id_ > query.after
            and query.state in (None, promise.state)
            and query.tags.items() <= promise.tags.items()
        ]
        return found[: query.limit]


# --- histories -------------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "a:1", "a:1.1", "b:1"])
VALUES = st.sampled_from([{}, {"data": "MQ=="}, {"headers": {"x": "y"}, "data": "Mg=="}])
TAGS = st.sampled_from([
    {"resonate:target": "poll://any@w"},
    {"resonate:target": "poll://any@w", "resonate:origin": "a", "kind": "x"},
    {},
    {"resonate:timer": "true", "kind": "x"},
    {"resonate:external": "true", "kind": "y"},
    {"resonate:scope": "local", "resonate:branch": "a"},
    {"resonate:target": "poll://any@v", "resonate:delay": "9000"},
])  # fmt: skip
TIMES = st.sampled_from([500, 4_000, 20_000, 1 << 50])  # added to now, or taken from it
STATES = st.sampled_from(
    ["resolved", "rejected", "rejected_canceled", "rejected_timedout", "pending"]
)
VERSIONS = st.sampled_from(["current", "current", "current", 0, 1])
CREATE = st.fixed_dictionaries({"id": IDS, "timeoutAt": TIMES, "param": VALUES, "tags": TAGS})
SETTLE = st.fixed_dictionaries({"id": IDS, "state": STATES, "value": VALUES})
TTL = st.sampled_from([100, 3_000, 60_000])
PID = st.sampled_from(["p", "q"])


def request(kind, **fields):
    return st.tuples(st.just(kind), st.fixed_dictionaries(fields))


def action(kind, data):
    return st.fixed_dictionaries({"kind": st.just(kind), "head": st.just({}), "data": data})


CALL = st.fixed_dictionaries({"awaited": IDS, "awaiter": IDS})
REQUESTS = st.one_of(
    request("promise.get", id=IDS),
    CREATE.map(lambda data: ("promise.create", data)),
    CREATE.map(lambda data: ("promise.create", data)),
    SETTLE.map(lambda data: ("promise.settle", data)),
    request("promise.register_listener", awaited=IDS, address=st.sampled_from(["poll://uni@g/1", "poll://uni@g/2"])),
    CALL.map(lambda data: ("promise.register_callback", data)),
    request("promise.search", state=st.sampled_from([None, "pending", "resolved"]), limit=st.integers(1, 3),
            tags=st.sampled_from([{}, {"kind": "x"}, {"resonate:origin": "a"}, {"resonate:branch": "a"},
                                  {"kind": "x", "resonate:timer": "true"}, {"resonate:scope": "local"}])),
    request("task.get", id=IDS),
    request("task.create", pid=PID, ttl=TTL, action=action("promise.create", CREATE)),
    request("task.acquire", id=IDS, version=VERSIONS, pid=PID, ttl=TTL),
    request("task.acquire", id=IDS, version=VERSIONS, pid=PID, ttl=TTL),
    request("task.release", id=IDS, version=VERSIONS),
    request("task.fulfill", id=IDS, version=VERSIONS, action=action("promise.settle", SETTLE)),
    request("task.suspend", id=IDS, version=VERSIONS, actions=st.lists(action("promise.register_callback", CALL), max_size=2)),
    request("task.suspend", id=IDS, version=VERSIONS, actions=st.lists(action("promise.register_callback", CALL), min_size=1, max_size=1)),
    request("task.fence", id=IDS, version=VERSIONS, action=action("promise.create", CREATE) | action("promise.settle", SETTLE)),
    request("task.heartbeat", pid=PID, tasks=st.lists(st.fixed_dictionaries({"id": IDS, "version": VERSIONS}), max_size=2)),
    request("task.halt", id=IDS),
    request("task.continue", id=IDS),
    request("schedule.create", id=st.just("s"), cron=st.sampled_from(["* * * * *", "61 * * * *"]), promiseId=st.sampled_from(["{{.id}}-{{.timestamp}}", "b"]),
            promiseTimeout=st.sampled_from([0, 30_000, 90_000]), promiseTags=st.just({"resonate:target": "poll://any@w"})),
    request("schedule.get", id=st.just("s")),
    request("schedule.delete", id=st.just("s")),
    request("schedule.search", tags=st.sampled_from([{}, {"kind": "x"}])),
    st.just(("restart", {})),
)  # fmt: skip
WORKER = {"resonate:target": "poll://any@w"}
BEGUN = [  # two tasks, one of them held, and something to wait for: where most of it happens
    (("task.create", {"pid": "p", "ttl": 60_000, "action": {"kind": "promise.create", "data": {"id": "a", "timeoutAt": 1 << 50, "param": {}, "tags": WORKER}}}), 0),
    (("promise.create", {"id": "b", "timeoutAt": 1 << 50, "param": {}, "tags": WORKER}), 0),
    (("promise.create", {"id": "a:1", "timeoutAt": 20_000, "param": {}, "tags": {"resonate:external": "true"}}), 0),
    (("promise.register_callback", {"awaited": "a:1", "awaiter": "b"}), 0),
]  # fmt: skip
STEPS = st.builds(
    list.__add__,
    st.sampled_from([[], BEGUN, BEGUN]),
    st.lists(
        st.tuples(REQUESTS, st.sampled_from([0, 0, 1, 100, 1_000, 5_000, 61_000])), max_size=40
    ),
)
RULES = st.sampled_from([Rules(), Rules(leases=False, tries=2)])


def fill(data, model, now):
    """Versions and times that depend on what has been before."""
    if isinstance(data, list):
        return [fill(item, model, now) for item in data]
    if not isinstance(data, dict):
        return data
    filled = {name: fill(value, model, now) for name, value in data.items()}
    if filled.get("version") == "current":
        filled["version"] = model.tasks.get(filled["id"], {"version": 0})["version"]
    if "timeoutAt" in filled:
        filled["timeoutAt"] = now + filled["timeoutAt"] - 1_000  # some are over before they begin
    return filled


def plain(value):
    """As JSON has it; inner heads, which say nothing, left out."""
    found = json.loads(msgspec.json.encode(value))
    if isinstance(found, dict) and "action" in found:
        del found["action"]["head"]
    return found


def masked(value):
    """The text of a promise that was given up is ours alone."""
    if isinstance(value, dict):
        given_up = value.get("state") == "rejected" and "settledAt" in value
        return {
            name: "…" if given_up and name == "value" else masked(v) for name, v in value.items()
        }
    return [masked(item) for item in value] if isinstance(value, list) else value


def unpack(message):
    if isinstance(message, Execute):
        return ("execute", message.address, message.id, message.version)
    return ("unblock", message.address, plain(message.promise))


def run(steps, rules, shelf):
    model, machine, now = Model(rules), Machine(shelf, rules), 10_000
    for (kind, fields), wait in steps:
        now += wait
        if kind == "restart":
            if not isinstance(shelf, Rows):
                continue
            shelf.commit()
            machine = Machine(shelf, rules)
            machine.ledger.load(shelf.pending(), shelf.waits(), shelf.schedules())
            model.listeners = []
            continue
        model.tick(now)
        data = fill(fields, model, now)
        wanted = model.apply(kind, data, now)
        parsed = read_data(kind, msgspec.Raw(json.dumps(data).encode()))
        machine.tick(now)
        shelf.write(machine.take_changes())
        got = parsed if isinstance(parsed, Reply) else machine.apply(parsed)
        shelf.write(machine.take_changes())
        assert got.status == wanted[0], (kind, data, got)
        if wanted[1] is not None:
            assert masked(plain(got.data)) == masked(wanted[1]), (kind, data)
        told = [unpack(message) for message in machine.take_messages()]
        assert sorted(map(masked, map(list, told)), key=str) == sorted(
            map(masked, map(list, model.messages)), key=str
        )
        model.messages.clear()
        due = [p["timeoutAt"] for p in model.promises.values() if p["state"] == "pending"]
        due += [
            t["at"]
            for t in model.tasks.values()
            if t["state"] in ("pending", "acquired") and t["at"] is not None
        ]
        due += [s["nextRunAt"] for s in model.schedules.values()]
        assert machine.due() == min(due, default=None)
    for id_, p in model.promises.items():
        promise, task = shelf.find(id_)
        assert masked(plain(promise)) == masked(p)
        assert (task is not None) == (id_ in model.tasks)
        if task is not None:
            held = machine.ledger.find_task(id_)
            assert {
                name: getattr(held, name) for name in model.seen(model.tasks[id_])
            } == model.seen(model.tasks[id_])


@given(STEPS, RULES)
def test_any_history_is_answered_as_the_model_answers_it(steps, rules):
    run(steps, rules, Shelf())


@pytest.mark.slow
@given(STEPS, RULES)
def test_any_history_is_answered_as_the_model_answers_it_on_rows_and_after_restarts(steps, rules):
    rows = Rows(":memory:", "NORMAL")
    try:
        run(steps, rules, rows)
    finally:
        rows.close()


def make_machine(rules=None):
    shelf = Shelf()
    machine, now = Machine(shelf, rules or Rules(leases=False, tries=3, max_value=100)), count(1)

    def ask(kind, **data):
        parsed = read_data(kind, msgspec.Raw(json.dumps(data).encode()))
        machine.tick(next(now))
        shelf.write(machine.take_changes())
        reply = parsed if isinstance(parsed, Reply) else machine.apply(parsed)
        shelf.write(machine.take_changes())
        return reply

    return machine, ask


def acquire(machine, ask, id_="a"):
    if id_ not in machine.ledger.tasks:
        ask("promise.create", id=id_, timeoutAt=1 << 50, tags={"resonate:target": "poll://any@w"})
    version = machine.ledger.tasks[id_].version
    assert ask("task.acquire", id=id_, version=version, pid="p", ttl=1).status == 200
    return version + 1


def error_of(promise):
    import base64

    return json.loads(base64.b64decode(json.loads(bytes(promise.value))["data"]))


def test_a_task_that_is_given_back_again_and_again_ends_in_an_error_that_says_why():
    machine, ask = make_machine()
    for _ in range(3):
        version = acquire(machine, ask)
        assert (
            ask(
                "task.fence",
                id="a",
                version=version,
                action={"kind": "promise.settle", "data": {"id": "no", "state": "resolved"}},
            ).status
            == 404
        )
        ask("task.release", id="a", version=version)
    promise = ask("promise.get", id="a").data["promise"]
    assert promise.state == "rejected"
    assert error_of(promise) == {
        "__type": "error",
        "message": "gave up on 'a', tried 3 times: promise 'no' not found",
    }


def test_what_can_never_be_kept_is_tried_once():
    machine, ask = make_machine()
    version = acquire(machine, ask)
    settle = {
        "kind": "promise.settle",
        "data": {"id": "a", "state": "resolved", "value": {"data": "M" * 200}},
    }
    assert ask("task.fulfill", id="a", version=version, action=settle).status == 413
    ask("task.release", id="a", version=version)
    promise = ask("promise.get", id="a").data["promise"]
    assert promise.state == "rejected"
    assert "bytes are more than the 100" in error_of(promise)["message"]


def test_each_try_waits_twice_as_long_as_the_one_before():
    machine, ask = make_machine(Rules(leases=False, tries=99, backoff=100, backoff_limit=1000))
    waits = []
    for _ in range(6):
        version = acquire(machine, ask)
        machine.take_messages()
        ask("task.release", id="a", version=version)
        assert machine.take_messages() == []
        waits.append(machine.ledger.tasks["a"].deadline - machine._now)
    assert waits == [100, 200, 400, 800, 1000, 1000]


def test_a_clock_that_is_set_back_ends_nothing_too_early():
    machine, ask = make_machine()
    machine.tick(3_600_000)
    ask("promise.create", id="a", timeoutAt=5_000)  # the clock that ``ask`` goes by begins at 1
    assert ask("promise.get", id="a").data["promise"].state == "pending"
    machine.tick(4_999)
    assert "a" in machine.ledger.promises
    machine.tick(5_000)
    assert "a" not in machine.ledger.promises


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        ("promise.create", {"id": "", "timeoutAt": 1}, 400),
        ("promise.create", {"id": "a"}, 400),
        ("promise.create", {"id": "a", "timeoutAt": "soon"}, 400),
        ("promise.create", {"id": "a", "timeoutAt": 9, "tags": {"resonate:target": "x", "resonate:delay": "soon"}}, 400),
        ("promise.create", {"id": "a", "timeoutAt": 1 << 50, "param": {"data": "M" * 200}}, 413),
        ("promise.settle", {"id": "a", "state": "pending"}, 400),
        ("promise.register_listener", {"awaited": "a", "address": "nowhere"}, 400),
        ("promise.search", {"limit": -1}, 400),
        ("task.fence", {"id": "a", "version": 1, "action": {"kind": "promise.get", "data": {"id": "b"}}}, 422),
        ("task.fence", {"id": "a", "version": 1, "action": {"kind": "odd", "data": {}}}, 501),
        ("schedule.create", {"id": "s", "cron": "soon", "promiseId": "p", "promiseTimeout": 1}, 400),
        ("odd", {}, 501),
    ],
)  # fmt: skip
def test_odd_requests_are_refused_and_change_nothing(kind, data, status):
    machine, ask = make_machine()
    reply = ask(kind, **data)
    assert reply.status == status
    assert isinstance(reply.data, str)
    assert not machine.ledger.promises
    assert machine.take_changes() == []
