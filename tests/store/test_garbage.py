"""What a collection leaves: all that kept epochs need, and nothing else; on disk too."""

from __future__ import annotations

import os

import pytest

from pyrepl3.errors import StoreCorruptError
from pyrepl3.records import CHUNK
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.pieces import make_delta, make_receipt, noise, read_values

SMALL = CHUNK // 8  # bytes of a buffer that lies in rows, not in a pack
BIG = 32 * CHUNK
TABLES = ("blob", "chunk", "piece", "pack", "epoch", "keyframe")


@pytest.fixture
def store(tmp_path):
    with_values = SqliteStore(tmp_path / "demo")
    yield with_values
    with_values.close()


def fill(store, contents, *, name="x", parent=0):
    """An epoch for each, which replaces the one before."""
    for n, content in enumerate(contents):
        value = b"%d" % n + bytes(1000)
        delta = make_delta({"v": value}, buffers={name: [content]}, engine=b"engine %d" % n)
        parent = store.commit(delta, make_receipt(n), parent=parent)
    return parent


def count(store):
    return {table: ask(store, f"SELECT count(*) FROM {table}") for table in TABLES}


def ask(store, query):
    (found,) = store._db.execute(query).fetchone()
    return found


def packs_of(tmp_path):
    return {file.name: file.stat() for file in (tmp_path / "demo").glob("pack-*")}


def test_no_row_stays_that_only_dropped_epochs_needed(store, tmp_path):
    small, big = noise(100, SMALL), noise(200, BIG)
    fill(store, [small, big])
    last = fill(store, [noise(n, SMALL) for n in range(5)], parent=2)
    store.commit(
        make_delta({"v": b"1"}, buffers={"x": [small], "y": [big]}), make_receipt(9), parent=last
    )
    store.collect(keep=1)
    other = SqliteStore(tmp_path / "other")
    other.commit(
        make_delta({"v": b"1"}, buffers={"x": [small], "y": [big]}),
        make_receipt(9),
        parent=0,
    )
    assert count(store) == count(other)
    assert read_buffers(store.load()) == {"x": [small], "y": [big]}
    store.verify()
    other.close()


@pytest.mark.slow
def test_no_map_stays_of_an_epoch_that_was_dropped(store):
    at = 0
    for n in range(300):
        at = store.commit(make_delta({f"n{n % 5}": b"%d" % n}), make_receipt(n), parent=at)
    assert ask(store, "SELECT count(*) FROM keyframe") > 0
    store.collect(keep=3)
    assert ask(store, "SELECT count(*) FROM keyframe") == 0
    assert len(store.history()) == 3


def test_one_collection_after_the_other_drops_what_became_garbage_meanwhile(store):
    at = fill(store, [noise(1, SMALL), noise(2, SMALL)])
    store.collect(keep=1)
    alone = count(store)
    fill(store, [noise(3, SMALL), noise(4, SMALL)], parent=at)
    assert store.collect(keep=1).epochs == 2
    assert read_buffers(store.load()) == {"x": [noise(4, SMALL)]}
    assert count(store) == alone


def test_a_pack_more_than_half_of_which_is_garbage_is_written_anew(store, tmp_path):
    contents = [noise(n, BIG) for n in range(3)]
    fill(store, contents)
    before = sum(stat.st_size for stat in packs_of(tmp_path).values())
    assert before >= 3 * BIG
    collected = store.collect(keep=1)
    assert sum(stat.st_size for stat in packs_of(tmp_path).values()) < 1.1 * BIG
    assert collected.size > 1.9 * BIG
    assert read_buffers(store.load()) == {"x": [contents[-1]]}
    store.verify()


@pytest.mark.parametrize(
    ("needed", "garbage"),
    [(40 * CHUNK, 32 * CHUNK), (5 * CHUNK, 12 * CHUNK)],
    ids=["half", "little"],
)
def test_a_pack_with_less_garbage_is_left_alone(store, tmp_path, needed, garbage):
    """Half of it at most, or less than a megabyte: copying it would cost more than it gives."""
    fill(store, [noise(1, garbage), noise(2, needed)])
    before = packs_of(tmp_path)
    store.collect(keep=1)
    found = packs_of(tmp_path)
    assert [(name, stat.st_ino, stat.st_size) for name, stat in found.items()] == [
        (name, stat.st_ino, stat.st_size) for name, stat in before.items()
    ]
    assert read_buffers(store.load()) == {"x": [noise(2, needed)]}


def test_a_pack_that_cannot_be_read_to_its_end_is_not_replaced_by_half_of_it(store, tmp_path):
    """What is kept of it may come back yet, from a copy of the file."""
    contents = [noise(n, BIG) for n in range(3)]
    fill(store, contents)
    (pack,) = (tmp_path / "demo").glob("pack-*")
    whole = pack.read_bytes()
    os.truncate(pack, len(whole) - CHUNK)
    store.collect(keep=1)
    with pytest.raises(StoreCorruptError, match="'x'"):
        store.verify()
    pack.write_bytes(whole)
    store.verify()
    assert read_buffers(store.load()) == {"x": [contents[-1]]}


def test_the_database_gets_smaller_when_a_quarter_of_it_is_free(store, tmp_path):
    at = 0
    for n in range(40):
        at = store.commit(make_delta({"v": noise(n, 15_000)}), make_receipt(n), parent=at)
    store._folding.wait()
    file = tmp_path / "demo" / "session.db"
    assert file.stat().st_size + file.with_name("session.db-wal").stat().st_size > 600_000
    store.collect(keep=1)
    assert file.stat().st_size < 100_000
    assert file.with_name("session.db-wal").stat().st_size == 0
    assert len(read_values(store.load())["v"]) == 15_000


@pytest.mark.parametrize(("kept", "dropped"), [(90, 10), (4, 4)], ids=["less", "few pages"])
def test_a_database_with_less_that_is_free_is_not_written_anew(store, kept, dropped):
    values = {f"n{n}": noise(n, 15_000) for n in range(kept)}
    at = store.commit(make_delta(values), make_receipt(1), parent=0)
    for n in range(dropped):
        at = store.commit(make_delta({"v": noise(1000 + n, 15_000)}), make_receipt(n), parent=at)
    store.commit(make_delta({"v": b"1"}), make_receipt(n), parent=at)
    store.collect(keep=1)
    assert ask(store, "PRAGMA freelist_count") >= 3 * dropped


def test_a_collection_that_cannot_tell_what_is_needed_drops_nothing_and_the_session_goes_on(store):
    at = fill(store, [noise(1, BIG), noise(2, BIG)])
    lists = store._db.execute("SELECT digest FROM chunk WHERE size % 32 = 0 AND size < 4096")
    (digest,) = lists.fetchone()
    store._db.execute("UPDATE chunk SET at = at + 1000000 WHERE digest = ?", (digest,))
    at = store.commit(make_delta({"w": b"1"}), make_receipt(3), parent=at)
    before = count(store)
    with pytest.raises(StoreCorruptError):
        store.collect(keep=2)
    assert count(store) == before
    store.commit(make_delta({"w": b"2"}), make_receipt(4), parent=at)
    assert len(store.history()) == 4
