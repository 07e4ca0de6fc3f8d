"""A session is read without its lock: while its owner writes, after a kill, and of no session at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pyrepl3.errors import (
    SessionClosedError,
    SessionInUseError,
    SessionNotFoundError,
    StoreCorruptError,
    StoreError,
)
from pyrepl3.store.directory import SessionDirectory
from pyrepl3.testing.conformance import make_delta, make_receipt


@pytest.fixture
def directory(tmp_path):
    return SessionDirectory(tmp_path / "sessions")


@pytest.fixture
def store(directory):
    store = directory.open("a")
    store.commit(make_delta({"x": b"1", "y": b"22"}), make_receipt(1), parent=0)
    store.commit(make_delta({"x": b"333"}, deleted=("y",)), make_receipt(2), parent=1)
    store.commit(make_delta({"z": b"4"}, lost={"g": "why"}), make_receipt(3), parent=1)
    yield store
    store.close()


def test_it_tells_what_the_store_tells(directory, store):
    reader = directory.read("a")
    for epoch in (None, 0, 1, 2, 3):
        assert reader.names(epoch) == store.names(epoch)
        assert reader.history(epoch) == store.history(epoch)
    assert reader.epochs() == store.epochs()
    reader.close()
    store.close()
    again = directory.read("a")
    assert [epoch.epoch for epoch in again.epochs()] == [1, 2, 3]
    again.close()


def test_it_is_one_state_while_the_owner_goes_on(directory, store):
    reader = directory.read("a")
    before = reader.names(), reader.history(), reader.epochs()
    at = store.commit(make_delta({"new": b"1"}), make_receipt(4), parent=3)
    store.move(1)
    assert (reader.names(), reader.history(), reader.epochs()) == before
    reader.close()
    later = directory.read("a")
    assert [epoch.epoch for epoch in later.history()] == [1]
    assert later.epochs()[-1].epoch == at
    later.close()


def test_it_takes_no_lock(directory, store):
    readers = [directory.read("a"), directory.read("a")]
    with pytest.raises(SessionInUseError):
        directory.find("a")
    store.close()
    owner = directory.find("a")
    assert owner.commit(make_delta({"x": b"5"}), make_receipt(4), parent=3) == 4
    owner.close()
    for reader in readers:
        assert len(reader.epochs()) == 3
        reader.close()


def test_after_the_owner_is_gone_reading_leaves_a_session_that_opens(directory, store):
    store.close()
    for _ in range(3):
        reader = directory.read("a")
        reader.epochs()
        reader.close()
    again = directory.find("a")
    assert again.load().epoch == 3
    again.close()


@pytest.mark.slow
def test_what_a_killed_owner_committed_is_read(directory):
    script = (
        "import pathlib, sys\n"
        "from pyrepl3.store.directory import SessionDirectory\n"
        "from pyrepl3.testing.conformance import make_delta, make_receipt\n"
        "store = SessionDirectory(pathlib.Path(sys.argv[1])).open('a')\n"
        "for n in range(5):\n"
        "    store.commit(make_delta({f'x{n}': bytes(n)}), make_receipt(n + 1), parent=n)\n"
        "print('done', flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(directory.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    reader = directory.read("a")
    assert [*reader.names()] == [f"x{n}" for n in range(5)]
    reader.close()


def test_what_is_not_there_is_told(directory, store):
    with pytest.raises(SessionNotFoundError, match="no session 'b'"):
        directory.read("b")
    with pytest.raises(ValueError, match="cannot name a session"):
        directory.read("../a")
    reader = directory.read("a")
    with pytest.raises(StoreError, match="no epoch 9"):
        reader.history(9)
    reader.close()
    reader.close()
    with pytest.raises(SessionClosedError):
        reader.epochs()


def test_what_is_damaged_is_told(directory, store):
    store.close()
    file = directory.root / "a" / "session.db"
    file.unlink()
    with pytest.raises(StoreError, match="missing"):
        directory.read("a")
    file.write_bytes(b"rubbish" * 1000)
    with pytest.raises(StoreCorruptError):
        directory.read("a")
