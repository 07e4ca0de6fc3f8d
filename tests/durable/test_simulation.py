"""A server, its disk, three workers and a bad network, in virtual time: the same seed, the same trace.

What runs is the state machine on real rows; workers lose messages, answers and their lives, the server
dies before and after its commits, leases run out. When it calms down all work is done, and what had been
settled is what it was.
"""

from __future__ import annotations

import json
import os
import random

import msgspec
import pytest

from pyrepl3.durable.rows import Rows
from pyrepl3.durable.state.ledger import Rules
from pyrepl3.durable.state.machine import Machine
from pyrepl3.durable.state.records import Execute
from pyrepl3.durable.state.requests import PromiseCreate, TaskCreate, read_data

SEEDS = 1000 if os.environ.get("PYREPL3_CAMPAIGN") else 15
FOREVER = 1 << 50
TARGET = {"resonate:target": "poll://any@w"}
RULES = Rules(leases=True, tries=None)
ROOTS = {"a": ["b", "c"], "b": ["c"], "c": [], "d": ["a"]}  # who waits for whom, after its steps


def request(kind, **data):
    return read_data(kind, msgspec.Raw(json.dumps(data).encode()))


def value_of(name):
    return {"data": f"value of {name}"}


def settling(name):
    data = {"id": name, "state": "resolved", "value": value_of(name)}
    return {"kind": "promise.settle", "data": data}


def work(worker, id_, version, did):
    """What a worker does with a task: yields requests, gets replies, and ends where it is refused."""
    reply = yield request("task.acquire", id=id_, version=version, pid=worker, ttl=2_000)
    while reply.status == 200:
        held = {"id": id_, "version": reply.data["task"].version}
        for n in range(3):
            step = f"{id_}:{n}"
            made = {"id": step, "timeoutAt": FOREVER, "tags": {"resonate:scope": "local"}}
            reply = yield request(
                "task.fence", **held, action={"kind": "promise.create", "data": made}
            )
            if reply.status != 200:
                return
            promise = reply.data["action"]["data"]["promise"]
            if promise.state == "pending":
                did.append(step)
                reply = yield request("task.fence", **held, action=settling(step))
                if reply.status != 200:
                    return
                promise = reply.data["action"]["data"]["promise"]
            assert json.loads(bytes(promise.value)) == value_of(step)
        waits = [
            {"kind": "promise.register_callback", "data": {"awaited": root, "awaiter": id_}}
            for root in ROOTS[id_]
        ]
        if waits:
            while waits:
                reply = yield request("task.suspend", **held, actions=waits[:1])
                if reply.status != 300:
                    return
                waits.pop(0)
        yield request("task.fulfill", **held, action=settling(id_))
        return


class Simulation:
    """All of it; ``trace`` tells what happened, in order."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = 1_000
        self.rows = Rows(":memory:", "NORMAL")
        self.messages, self.trace, self.did, self.settled = [], [], [], {}
        self.running = []  # worker, its work, what it asks next
        self.serve()
        for root in ROOTS:
            self.ask(PromiseCreate(id=root, timeout_at=FOREVER, tags=TARGET), faults=False)

    def serve(self):
        self.machine = Machine(self.rows, RULES)
        self.machine.ledger.load(self.rows.pending(), self.rows.waits(), self.rows.schedules())

    def crash(self):
        self.trace.append("server dies")
        self.rows.rollback()
        self.serve()

    def ask(self, asked, *, faults=True):
        """The reply; None where the server died meanwhile."""
        machine = self.machine
        machine.tick(self.now)
        self.rows.write(machine.take_changes())
        reply = machine.apply(asked) if asked is not None else None
        self.rows.write(machine.take_changes())
        if faults and self.random.random() < 0.02:
            self.crash()
            return None
        self.rows.commit()
        told = machine.take_messages()
        if faults and self.random.random() < 0.02:  # committed, and nobody hears of it
            self.crash()
            return None
        for message in told:
            assert isinstance(message, Execute)
            self.messages.append(message)
        return reply

    def step(self, *, faults=True):
        """One thing that can happen."""
        choices = ["time"]
        choices += ["deliver"] * 3 * bool(self.messages) + ["work"] * 6 * bool(self.running)
        if faults:
            choices += ["drop"] * bool(self.messages) + ["twice"] * bool(self.messages)
            choices += ["die"] * bool(self.running)
        what = self.random.choice(choices)
        if what == "time":
            due = self.machine.due()
            ahead = self.random.choice([1, 50, 1_000, max((due or 0) - self.now, 1)])
            self.now += min(ahead, 10_000)
            self.trace.append(f"now {self.now}")
            self.ask(None, faults=faults)
        elif what == "work":
            self.advance(self.running.pop(self.random.randrange(len(self.running))), faults)
        elif what == "die":
            worker = self.random.choice(self.running)[0]
            self.trace.append(f"{worker} dies")
            self.running = [entry for entry in self.running if entry[0] != worker]
        else:
            message = self.messages.pop(self.random.randrange(len(self.messages)))
            worker = f"w{self.random.randrange(3)}"
            self.trace.append(f"{what} {message.id} {message.version} {worker}")
            if what == "twice":
                self.messages.append(message)
            if what != "drop":
                doing = work(worker, message.id, message.version, self.did)
                self.running.append((worker, doing, next(doing)))
        self.look()

    def advance(self, entry, faults):
        worker, doing, asked = entry
        reply = self.ask(asked, faults=faults)
        self.trace.append(f"{worker} {type(asked).__name__} {getattr(reply, 'status', 'lost')}")
        if reply is None or (faults and self.random.random() < 0.02):
            return  # no answer: this worker gives up, and its lease runs out
        try:
            self.running.append((worker, doing, doing.send(reply)))
        except StopIteration:
            return

    def look(self):
        """What was settled, and committed, stays as it is; who waits is on disk as in memory."""
        waits = self.machine.ledger._awaiters.items()
        tied = [(awaited, awaiter) for awaited, awaiters in waits for awaiter in awaiters]
        assert sorted(self.rows.waits()) == sorted(tied)
        for name in [*ROOTS, *(f"{root}:{n}" for root in ROOTS for n in range(3))]:
            found = self.rows.find(name)
            seen = (found[0].state, bytes(found[0].value)) if found else ("none", b"")
            before = self.settled.get(name)
            assert before in (None, seen), (name, before, seen)
            if seen[0] not in ("none", "pending"):
                self.settled[name] = seen

    def run(self):
        try:
            for _ in range(self.random.randrange(50, 300)):
                self.step()
            for _ in range(2_000):
                if all(self.settled.get(root, ("",))[0] == "resolved" for root in ROOTS):
                    break
                self.step(faults=False)
            assert {*ROOTS} <= self.settled.keys(), "some work was never done"
            assert len(self.settled) == 4 * len(ROOTS)
            assert {*self.did} == self.settled.keys() - ROOTS.keys()
            return self.trace
        finally:
            self.rows.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_all_work_is_done_whatever_fails_and_what_was_settled_stays(seed):
    Simulation(seed).run()


def test_the_same_seed_gives_the_same_trace_and_another_one_another():
    assert Simulation(7).run() == Simulation(7).run() != Simulation(8).run()


def test_a_task_that_is_made_and_held_is_offered_to_others_when_its_holder_dies():
    simulation = Simulation(0)
    data = {"id": "e", "timeoutAt": FOREVER, "tags": TARGET}
    made = request(
        "task.create", pid="w0", ttl=2_000, action={"kind": "promise.create", "data": data}
    )
    assert isinstance(made, TaskCreate)
    assert simulation.ask(made, faults=False).status == 200
    simulation.messages.clear()
    simulation.now += 2_000
    simulation.ask(None, faults=False)
    assert ("e", 1) in [(message.id, message.version) for message in simulation.messages]
    simulation.rows.close()
