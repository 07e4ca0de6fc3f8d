"""Whatever is done to a store in whatever order, it tells what a plain dict in memory tells."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyrepl3.records import CHUNK
from pyrepl3.store import garbage, packs
from pyrepl3.store.directory import SessionDirectory
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.fakes import FakeStore
from pyrepl3.testing.pieces import make_delta, make_receipt, noise, read_values

NAMES = st.sampled_from("abcdef")
PIECES = [noise(n, CHUNK) for n in range(6)]
TAILS = [b"", b"t", bytes(5000), noise(9, 20_000)]
VALUES = [b"", b"1", b"22", bytes(40_000), noise(7, 300_000)]
CONTENTS = st.tuples(st.lists(st.integers(0, 5), max_size=9), st.integers(0, len(TAILS) - 1))


def make_content(numbers, tail):
    return b"".join(PIECES[n] for n in numbers) + TAILS[tail]


def tell(store):
    """All that a store says of itself."""
    epochs = list(store.epochs())
    loaded = [store.load(0), *(store.load(each.epoch) for each in epochs)]
    return (
        epochs,
        store.load().epoch,
        list(store.history()),
        [store.names(each.epoch) for each in epochs],
        [
            (
                each.epoch,
                each.count,
                each.lost,
                each.engine,
                each.audited,
                read_values(each),
                read_buffers(each),
            )
            for each in loaded
        ],
    )


class Stores(RuleBasedStateMachine):
    """A real store and a fake, side by side."""

    memory = False

    @initialize()
    def open(self):
        self.folder = Path(tempfile.mkdtemp())
        self.directory = SessionDirectory(self.folder)
        self.real = SqliteStore(":memory:") if self.memory else self.directory.open("s0")
        self.fake, self.n, self.forks = FakeStore(), 0, 0
        self.views = []

    def some_epoch(self, data):
        return data.draw(st.sampled_from([0, *(epoch.epoch for epoch in self.fake.epochs())]))

    @rule(
        data=st.data(),
        values=st.dictionaries(NAMES, st.integers(0, len(VALUES) - 1), max_size=3),
        buffers=st.dictionaries(NAMES, st.lists(CONTENTS, max_size=2), max_size=2),
        deleted=st.sets(NAMES, max_size=2),
        lost=st.sets(NAMES, max_size=1),
        engine=st.sampled_from([b"", b"e", b"f"]),
        audited=st.booleans(),
        head=st.booleans(),
    )
    def commit(self, data, values, buffers, deleted, lost, engine, audited, head):
        parent = self.fake.load().epoch if head else self.some_epoch(data)
        values = {name: VALUES[n] for name, n in values.items() if name not in buffers}
        stored = {*values, *buffers}
        self.n += 1
        delta = make_delta(
            values,
            buffers={
                name: [make_content(*part) for part in parts] for name, parts in buffers.items()
            },
            deleted=tuple(deleted - stored),
            lost=dict.fromkeys(lost - stored - deleted, "why"),
            engine=engine,
            audited=audited,
        )
        receipt = make_receipt(self.n)
        assert self.real.commit(delta, receipt, parent=parent) == self.fake.commit(
            delta, receipt, parent=parent
        )

    @rule(data=st.data())
    def move(self, data):
        epoch = self.some_epoch(data)
        self.real.move(epoch)
        self.fake.move(epoch)

    @rule(data=st.data())
    def audit(self, data):
        epoch = self.some_epoch(data)
        if epoch:
            self.real.audited(epoch)
            self.fake.audited(epoch)

    @rule(keep=st.one_of(st.none(), st.integers(1, 5)))
    @precondition(lambda self: self.fake.load().epoch)
    def collect(self, keep):
        assert self.real.collect(keep=keep).epochs == self.fake.collect(keep=keep).epochs
        assert self.real._packs.numbers() == sorted(self.real._packs.ends)

    @rule(data=st.data())
    def hold(self, data):
        """A buffer that is open stays as it is, whatever comes."""
        snapshot = self.real.load(self.some_epoch(data))
        for blob in snapshot.blobs:
            for buffer in blob.buffers:
                self.views.append((snapshot.open(buffer), bytes(snapshot.open(buffer))))
        del self.views[:-4]

    @rule(data=st.data())
    def fork(self, data):
        """From here on with a fork; what it came from is closed."""
        epoch = self.some_epoch(data)
        self.forks += 1
        name = f"s{self.forks}"
        forked = self.real.fork(name, epoch)
        self.real.close()
        self.real, self.fake = forked, self.fake.fork(name, epoch)

    @rule()
    @precondition(lambda self: not self.memory)
    def reopen(self):
        self.real.close()
        self.real = self.directory.open(f"s{self.forks}")

    @rule()
    @precondition(lambda self: not self.memory)
    def take_elsewhere(self):
        """From here on with what was exported and imported."""
        file = self.folder / f"file{self.forks}"
        self.real.export(file)
        self.real.close()
        self.forks += 1
        self.directory.take_in(file, f"s{self.forks}")
        file.unlink()
        self.real = self.directory.open(f"s{self.forks}")

    @invariant()
    def they_are_alike(self):
        assert tell(self.real) == tell(self.fake)
        self.real.verify()
        for view, content in self.views:
            assert bytes(view) == content

    def teardown(self):
        if hasattr(self, "real"):
            self.real.close()
            shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [False, True], ids=["on-disk", "in-memory"])
def test_a_store_tells_what_a_plain_one_tells(memory, monkeypatch):
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setattr(packs, "FULL", 900_000)
    monkeypatch.setattr(garbage, "_WORTH", 50_000)
    machine = type("Stores", (Stores,), {"memory": memory})
    examples = 25 if settings.default.max_examples < 1000 else 400
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=20, deadline=None)
    )
