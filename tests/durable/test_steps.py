"""Steps on Resonate promises keep the port's promises, in a file and over the SDK's client."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from contextlib import closing

import pytest
from resonate.connections.local import LocalConnection

from pyrepl3.durable.blobs import INLINE
from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.local import LocalPromises
from pyrepl3.durable.remote import RemotePromises
from pyrepl3.durable.steps import KEPT, ResonateDurability
from pyrepl3.records import Asked, Kept
from pyrepl3.testing.durability import durability_checks


class Memory(LocalConnection):
    """The SDK's connection, which knows no search, on a state that outlives it."""

    def __init__(self, state):
        super().__init__()
        if state:
            self.state = state[0]
        state.append(self.state)
        original = self.state.apply if not hasattr(self.state, "plain") else self.state.plain
        self.state.plain = original

        def apply(now, request):
            if request["kind"] != "promise.search":
                return original(now, request)
            found = [
                promise.to_record()
                for promise in self.state.promises.values()
                if promise.state == request["state"]
                and request["tags"].items() <= promise.tags.items()
            ]
            return {"kind": "promise.search", "corrId": request["corrId"], "promises": found}

        self.state.apply = apply


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_steps_over_the_sdk_s_client(check, tmp_path):
    state = []

    def connect():
        memory = Memory(state)
        return memory, [memory]

    def open_promises():
        return RemotePromises(connect)

    check.run(lambda: ResonateDurability(open_promises, name="demo", folder=tmp_path / "steps"))


def open_in(folder, **options):
    """Steps in a file of ``folder``."""

    def connect():
        return LocalPromises(Embedded(folder / "durable.db", **options))

    return ResonateDurability(connect, name="demo", folder=folder / "steps")


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_steps_on_the_embedded_server(check, tmp_path):
    check.run(lambda: open_in(tmp_path))


# --- what goes by age -----------------------------------------------------------------------------


class Clock:
    """Milliseconds that a test sets."""

    def __init__(self):
        self.now = 1_000_000_000_000

    def __call__(self):
        return self.now


def kept_in(folder):
    with closing(sqlite3.connect(folder / "durable.db")) as db:
        return {id_ for (id_,) in db.execute("SELECT id FROM promise")}


def test_what_a_cancelled_cell_has_left_goes_by_age_and_steps_of_one_that_is_not_over_stay(
    tmp_path,
):
    clock = Clock()
    big = Kept(mark="f()", data=bytes(INLINE + 1))
    first = open_in(tmp_path, clock=clock)
    for cell in ("demo-c1-00000000", "demo-c5-00000000"):
        key = first.open(cell, 0).result(10).key
        first.step(f"{key}-1", big).result(10)
    assert first.cancel("demo-c1-00000000").result(10)
    first.aclose().result(10)
    for later, gone in ((KEPT - 60, False), (120, True)):
        clock.now += int(later * 1000)
        other = open_in(tmp_path, clock=clock)
        other.open("demo-c2-00000000", 0).result(10)
        other.settle("demo-c2-00000000", 1).result(10)
        other.aclose().result(10)
        left = {"demo-c5-00000000", "demo-c5-00000000-1"}
        if not gone:
            left |= {"demo-c1-00000000", "demo-c1-00000000-1"}
        assert kept_in(tmp_path) == left
        files = {path.stem for path in (tmp_path / "steps").iterdir()}
        assert files == {name for name in left if name.endswith("-1")}
    third = open_in(tmp_path, clock=clock)
    assert third.open("demo-c5-00000000", 0).result(10).known
    assert third.find("demo-c5-00000000-1").result(10) == big
    third.aclose().result(10)


# --- who comes late -------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path):
    """Opens the same place again at each call; what was open is closed."""
    every = []

    def open_again():
        for one in every:
            one.aclose().result(10)
        every.append(open_in(tmp_path))
        return every[-1]

    yield open_again
    for one in every:
        one.aclose().result(10)


STEP = Kept(mark="f()", data=b"1")


def test_a_step_of_a_task_that_outlived_its_cell_leaves_nothing(tmp_path, opened):
    one = opened()
    key = one.open("demo-c1-00000000", 0).result(10).key
    one.settle("demo-c1-00000000", 1).result(10)
    assert one.step(f"{key}-1", STEP).result(10) == STEP
    assert one.find(f"{key}-1").result(10) is None
    assert kept_in(tmp_path) == set()


def test_what_a_cell_has_left_is_gone_when_the_session_is_closed_right_after_it(tmp_path, opened):
    one = opened()
    key = one.open("demo-c1-00000000", 0).result(10).key
    for n in range(200):
        one.step(f"{key}-{n}", STEP).result(10)
    one.settle("demo-c1-00000000", 1)
    one.aclose().result(10)
    assert kept_in(tmp_path) == set()


def test_steps_of_a_cell_that_runs_beside_stay_when_a_later_one_ends(tmp_path, opened):
    one = opened()
    key = one.open("demo-c1-00000000", 0).result(10).key
    one.step(f"{key}-1", STEP).result(10)
    one.open("demo-c2-00000000", 0).result(10)
    one.settle("demo-c2-00000000", 1).result(10)
    one.step(f"{key}-2", STEP).result(10)
    again = opened()
    assert again.open("demo-c1-00000000", 0).result(10).known
    assert again.find(f"{key}-1").result(10) == again.find(f"{key}-2").result(10) == STEP


def test_a_cell_that_was_cancelled_while_its_process_was_gone_hears_of_it(opened):
    one = opened()
    one.open("demo-c1-00000000", 0).result(10)
    assert one.cancel("demo-c1-00000000").result(10)
    again = opened()
    told = []
    again.when_cancelled = told.append
    assert again.open("demo-c1-00000000", 0).result(10).known
    assert told == ["demo-c1-00000000"]


class Slow(LocalPromises):
    """On whose way to the server questions wait until ``go``."""

    def __init__(self, embedded):
        super().__init__(embedded)
        self.go = threading.Event()

    def create(self, name, param, tags, until=None):
        if tags["pyrepl3"] != "ask":
            return super().create(name, param, tags, until)
        made = Future()

        def work():
            self.go.wait()
            made.set_result(LocalPromises.create(self, name, param, tags, until).result())

        threading.Thread(target=work).start()
        return made


def test_a_question_that_is_on_its_way_is_waited_for_by_who_looks_for_it_and_who_answers(tmp_path):
    promises = Slow(Embedded(tmp_path / "durable.db"))
    one = ResonateDurability(lambda: promises, name="demo", folder=tmp_path / "steps")
    key = one.open("demo-c1-00000000", 0).result(10).key
    question = Asked(id=f"{key}-1", prompt="?", choices=(), mark="ask")
    asking, asked = one.ask(question.id, question), one.asked()
    answered = one.answer(question.id, b"yes")
    assert one.find(f"{key}-9").result(10) is None  # what was posted before is answered
    promises.go.set()
    assert asked.result(10) == (question,)
    assert answered.result(10)
    assert asking.result(10).data == b"yes"
    one.aclose().result(10)


def test_of_answers_at_once_one_counts_and_the_others_are_told(opened):
    one = opened()
    key = one.open("demo-c1-00000000", 0).result(10).key
    for n in range(20):
        asking = one.ask(f"{key}-{n}", Asked(id=f"{key}-{n}", prompt="?", choices=(), mark="ask"))
        assert [each.id for each in one.asked().result(10)] == [f"{key}-{n}"]
        answers = [one.answer(f"{key}-{n}", b"%d" % m) for m in range(4)]
        counted = [m for m, answer in enumerate(answers) if answer.result(10)]
        assert [b"%d" % m for m in counted] == [asking.result(10).data]
