"""Digests: where their bytes are, and which need not be looked up again."""

from __future__ import annotations

import msgspec
import pytest

from pyrepl3.errors import StoreError
from pyrepl3.records import CHUNK
from pyrepl3.store import chunks
from pyrepl3.store.chunks import Known, find_places
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
