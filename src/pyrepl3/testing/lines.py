"""Checks of what a store does with whole lines of epochs: branches, forks, collections, exports, audits."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pyrepl3.errors import SessionExistsError
from pyrepl3.ports import Store
from pyrepl3.records import CHUNK, KeptName
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.pieces import Fresh, make_delta, make_receipt, noise, read_values, refused


def _grow(store: Store) -> tuple[int, int, int, int]:
    """A root, a branch that was left, and two epochs on the line of the head."""
    root = store.commit(
        make_delta({"x": b"root"}, buffers={"a": [noise(1, 12 * CHUNK)]}, engine=b"e1"),
        make_receipt(1),
        parent=0,
    )
    left = store.commit(
        make_delta({"x": b"left"}, buffers={"l": [noise(2, 30 * CHUNK)]}),
        make_receipt(2),
        parent=root,
    )
    middle = store.commit(
        make_delta({"y": b"middle"}, lost={"g": "why"}), make_receipt(3), parent=root
    )
    head = store.commit(
        make_delta({"x": b"head"}, buffers={"a": [noise(3, 11 * CHUNK)]}, deleted=("y",)),
        make_receipt(4),
        parent=middle,
    )
    return root, left, middle, head


def _all_epochs_are_listed_also_those_off_the_line(fresh: Fresh) -> None:
    store = fresh()()
    assert list(store.epochs()) == []
    root, left, middle, head = _grow(store)
    found = store.epochs()
    assert [(epoch.epoch, epoch.parent) for epoch in found] == [
        (root, 0),
        (left, root),
        (middle, root),
        (head, middle),
    ]
    assert [epoch for epoch in found if epoch.epoch != left] == list(store.history())
    store.close()


def _names_tell_who_wrote_them_and_how_they_look(fresh: Fresh) -> None:
    store = fresh()()
    assert dict(store.names()) == {}
    root, left, middle, head = _grow(store)
    size = len(b"pickle of a")
    assert store.names(root) == {
        "x": KeptName(epoch=root, size=4, text="<x>"),
        "a": KeptName(epoch=root, size=12 * CHUNK + size, text="<a>"),
    }
    assert store.names(left)["x"] == KeptName(epoch=left, size=4, text="<x>")
    assert store.names(middle) == {
        **store.names(root),
        "y": KeptName(epoch=middle, size=6, text="<y>"),
        "g": KeptName(epoch=middle, lost="why"),
    }
    assert store.names() == {
        "x": KeptName(epoch=head, size=4, text="<x>"),
        "a": KeptName(epoch=head, size=11 * CHUNK + size, text="<a>"),
        "g": KeptName(epoch=middle, lost="why"),
    }
    assert dict(store.names(0)) == {}
    refused(lambda: store.names(head + 1))
    store.close()


def _an_epoch_is_audited_when_its_delta_or_somebody_says_so(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    second = store.commit(make_delta({"x": b"2"}, audited=False), make_receipt(2), parent=first)
    assert [epoch.audited for epoch in store.history()] == [True, False]
    assert [store.load(at).audited for at in (0, first, second)] == [True, True, False]
    for _ in range(2):
        store.audited(second)
        assert [epoch.audited for epoch in store.epochs()] == [True, True]
        assert store.load().audited
    store.audited(first)
    refused(lambda: store.audited(second + 1))
    store.close()


def _an_audit_is_there_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    first = store.commit(make_delta({"x": b"1"}, audited=False), make_receipt(1), parent=0)
    store.commit(make_delta({"x": b"2"}, audited=False), make_receipt(2), parent=first)
    store.audited(first)
    store.close()
    store = place()
    assert [epoch.audited for epoch in store.history()] == [True, False]
    store.close()


def _a_fork_has_the_line_and_goes_its_own_way(fresh: Fresh) -> None:
    store = fresh()()
    root, left, middle, head = _grow(store)
    expected = store.load(middle)
    values, contents = read_values(expected), read_buffers(expected)
    fork = store.fork("what-if", middle)
    assert [epoch.epoch for epoch in fork.epochs()] == [root, middle]
    assert list(fork.history()) == list(store.history(middle))
    found = fork.load()
    assert (found.epoch, found.engine, found.lost) == (middle, expected.engine, expected.lost)
    assert (read_values(found), read_buffers(found)) == (values, contents)
    assert found.count == 4, "cell ids of the line that was left are not used again"
    for gone in (left, head):
        refused(lambda gone=gone: fork.load(gone))  # type: ignore[misc] # a default binds it
    new = fork.commit(
        make_delta(buffers={"n": [bytes(20 * CHUNK)]}), make_receipt(5), parent=middle
    )
    assert new > head
    old = store.commit(
        make_delta(buffers={"o": [b"\1" * 20 * CHUNK]}), make_receipt(5), parent=head
    )
    assert read_buffers(store.load(old)).keys() == {"a", "o"}
    store.verify()
    store.close()
    fork.verify()
    assert read_buffers(fork.load()) == {**contents, "n": [bytes(20 * CHUNK)]}
    fork.close()


def _a_fork_of_nothing_is_empty_and_a_bad_one_is_refused(fresh: Fresh) -> None:
    store = fresh()()
    _, _, _, head = _grow(store)
    refused(lambda: store.fork("what-if", head + 1))
    refused(lambda: store.fork("../what-if"), ValueError)
    fork = store.fork("what-if", 0)
    assert fork.load().epoch == 0
    assert list(fork.epochs()) == []
    assert fork.commit(make_delta({"x": b"1"}), make_receipt(9), parent=0) > head
    fork.close()
    store.close()


def _a_fork_does_not_take_the_place_of_another_session(fresh: Fresh) -> None:
    store = fresh()()
    at = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    fork = store.fork("what-if")
    refused(lambda: store.fork("what-if", at), SessionExistsError)
    assert read_values(fork.load()) == {"x": b"1"}
    fork.close()
    refused(lambda: store.fork("what-if", at), SessionExistsError)
    store.close()


def _a_collection_drops_what_does_not_lead_to_the_head(fresh: Fresh) -> None:
    store = fresh()()
    assert store.collect().epochs == 0
    root, left, middle, head = _grow(store)
    before = read_values(store.load()), read_buffers(store.load()), dict(store.names())
    first = read_values(store.load(root)), read_buffers(store.load(root))
    dropped = store.collect()
    assert dropped.epochs == 1
    assert dropped.size >= 0
    assert [epoch.epoch for epoch in store.epochs()] == [root, middle, head]
    refused(lambda: store.load(left))
    refused(lambda: store.move(left))
    assert (read_values(store.load()), read_buffers(store.load()), store.names()) == before
    assert (read_values(store.load(root)), read_buffers(store.load(root))) == first
    store.verify()
    assert store.collect().epochs == 0
    store.close()


def _a_collection_keeps_the_last_epochs_whole(fresh: Fresh) -> None:
    store = fresh()()
    root, _, middle, head = _grow(store)
    kept = [store.load(at) for at in (middle, head)]
    values = [(read_values(each), read_buffers(each), each.lost, each.engine) for each in kept]
    opened = store.load(root)
    ((buffer,),) = (blob.buffers for blob in opened.blobs if blob.buffers)
    assert opened.open is not None
    view = opened.open(buffer)
    content = bytes(opened.open(buffer))
    refused(lambda: store.collect(keep=0), ValueError)
    assert store.collect(keep=2).epochs == 2
    assert bytes(view) == content
    line = store.history()
    assert [(epoch.epoch, epoch.parent) for epoch in line] == [(middle, 0), (head, middle)]
    assert [epoch.receipt for epoch in line] == [make_receipt(3), make_receipt(4)]
    kept = [store.load(at) for at in (middle, head)]
    assert [
        (read_values(each), read_buffers(each), each.lost, each.engine) for each in kept
    ] == values
    texts = {name: each.text for name, each in store.names(middle).items()}
    assert texts == {"x": "<x>", "a": "<a>", "y": "<y>", "g": ""}
    refused(lambda: store.load(root))
    new = store.commit(make_delta({"z": b"1"}), make_receipt(5), parent=head)
    assert new > head
    assert [epoch.epoch for epoch in store.history()] == [middle, head, new]
    assert store.collect(keep=1).epochs == 2
    assert read_values(store.load()) == {"x": b"head", "a": b"pickle of a", "z": b"1"}
    assert store.load().count == 5
    store.verify()
    store.close()


def _many_collections_leave_the_newest_epochs_as_they_were(fresh: Fresh) -> None:
    store = fresh()()
    at, parts = 0, [noise(n, CHUNK) for n in range(12)]
    for n in range(1, 25):
        parts[n * 7 % 12] = noise(100 + n, CHUNK)
        content = b"".join(parts)
        at = store.commit(make_delta(buffers={"x": [content]}), make_receipt(n), parent=at)
        if n % 5 == 0:
            store.collect(keep=3)
            assert read_buffers(store.load()) == {"x": [content]}
    assert len(store.history()) == 7
    store.verify()
    store.close()


def _what_was_collected_stays_gone_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    _, _, middle, head = _grow(store)
    store.collect(keep=2)
    before = read_values(store.load()), read_buffers(store.load()), store.names()
    store.close()
    store = place()
    store.verify()
    assert [epoch.epoch for epoch in store.epochs()] == [middle, head]
    assert (read_values(store.load()), read_buffers(store.load()), store.names()) == before
    store.close()


def _an_export_is_one_file_and_replaces_none(fresh: Fresh) -> None:
    store = fresh()()
    _grow(store)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.pyrepl3"
        store.export(path)
        assert [each.name for each in Path(folder).iterdir()] == [path.name]
        before = path.read_bytes()
        refused(lambda: store.export(path))
        refused(lambda: store.export(Path(folder) / "none" / "session.pyrepl3"))
        assert path.read_bytes() == before
    store.verify()
    store.close()


ALWAYS = (
    _all_epochs_are_listed_also_those_off_the_line,
    _names_tell_who_wrote_them_and_how_they_look,
    _an_epoch_is_audited_when_its_delta_or_somebody_says_so,
    _a_fork_has_the_line_and_goes_its_own_way,
    _a_fork_of_nothing_is_empty_and_a_bad_one_is_refused,
    _a_collection_drops_what_does_not_lead_to_the_head,
    _a_collection_keeps_the_last_epochs_whole,
    _many_collections_leave_the_newest_epochs_as_they_were,
    _an_export_is_one_file_and_replaces_none,
)
DURABLE = (
    _an_audit_is_there_after_closing,
    _a_fork_does_not_take_the_place_of_another_session,
    _what_was_collected_stays_gone_after_closing,
)
