"""Digests: where their bytes are, and which need not be looked up again."""

from __future__ import annotations

import msgspec
import pytest

from pyrepl3.errors import StoreError
from pyrepl3.records import CHUNK
from pyrepl3.store import chunks
from pyrepl3.store.chunks import Absent, Known, digest_of, find_places, read_chunk
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.pieces import make_delta, make_receipt, noise


@pytest.fixture
def store():
    store = SqliteStore(":memory:")
    yield store
    store.close()


def test_places_are_the_same_read_one_by_one_and_all_at_once(store, monkeypatch):
    content = noise(1, 600 * CHUNK)
    store.commit(make_delta(buffers={"x": [content]}), make_receipt(1), parent=0)
    db = store._use()
    digests = [digest for (digest,) in db.execute("SELECT digest FROM chunk")][10:]
    assert len(digests) > chunks._MANY
    wanted = [*digests, b"?" * 32]
    at_once = find_places(db, wanted)
    monkeypatch.setattr(chunks, "_SCAN", 0)
    assert find_places(db, wanted) == at_once
    assert at_once.keys() == set(digests)


def test_a_chunk_that_was_collected_is_not_taken_for_stored(store):
    content = noise(1, 3 * CHUNK)
    first = make_delta(buffers={"x": [content]})
    store.commit(first, make_receipt(1), parent=0)
    without = msgspec.structs.replace(first, chunks={})
    store.commit(without, make_receipt(2), parent=1)  # known, and not looked up
    store.commit(make_delta({"x": b"1"}), make_receipt(3), parent=2)
    store.collect(keep=1)
    with pytest.raises(StoreError, match="neither in the delta nor in the store"):
        store.commit(without, make_receipt(4), parent=3)
    store.commit(first, make_receipt(4), parent=3)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(chunks, "_KNOWN", 3)
    known = Known()
    known.add([b"a", b"b"])
    assert known.without([b"a", b"c"]) == {b"c"}
    known.add([b"c", b"d"])
    assert known.without([b"a", b"b", b"c", b"d"]) == {b"a", b"b"}
    known.add([b"e", b"f", b"g", b"h"])
    assert known.without([b"c", b"e"]) == {b"c", b"e"}


def test_a_list_that_lies_in_a_pack_is_read_and_checked_there(tmp_path):
    """That of a buffer of more than 8 GiB does."""
    store = SqliteStore(tmp_path / "demo")
    content = noise(1, 8 * CHUNK)
    store.commit(make_delta(buffers={"x": [content]}), make_receipt(1), parent=0)
    db, packs = store._db, store._packs
    digest = digest_of(content[CHUNK : 2 * CHUNK])
    row = db.execute("SELECT size, pack, at FROM chunk WHERE digest = ?", (digest,)).fetchone()
    size, pack, at = row
    assert pack
    assert read_chunk(db, packs, digest, row) == content[CHUNK : 2 * CHUNK]
    for place in (
        (size, pack, at + CHUNK),
        (size, pack, -at),
        (size - 1, pack, at),
        (1 << 50, pack, at),
        (-1, pack, at),
        (size, pack, packs.size(pack) - 1),
        (size, pack + 1, at),
    ):
        with pytest.raises(Absent):
            read_chunk(db, packs, digest, place)
    store.close()
