"""A way to open a backend in, checks that it keeps its port's promises out: plain functions that assert.

Use them with any test runner, or with none::

    for check in store_checks():
        check.run(fresh)            # fresh(): a new place; calling what it returns opens a store there

    @pytest.mark.parametrize("check", store_checks(), ids=lambda check: check.name)
    def test_my_store(check, tmp_path):
        check.run(lambda: lambda: MyStore(tmp_path))
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pyrepl3.errors import SessionInUseError
from pyrepl3.records import Cell, Output, Receipt, Snapshot
from pyrepl3.testing import buffers, lines
from pyrepl3.testing.pieces import Fresh, make_delta, make_receipt, read_values, refused


class StoreCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: ``name`` is the claim, ``run`` raises AssertionError where it is not kept."""

    name: str
    run: Callable[[Fresh], None]


def store_checks(*, durable: bool = True) -> list[StoreCheck]:
    """What every Store must do. Without ``durable`` those that close and open again are left out."""
    checks = [*_ALWAYS, *buffers.ALWAYS, *lines.ALWAYS]
    if durable:
        checks += [*_DURABLE, *buffers.DURABLE, *lines.DURABLE]
    return [StoreCheck(name=check.__name__.lstrip("_"), run=check) for check in checks]


# --- the promises -----------------------------------------------------------------------------


def _a_new_store_is_empty(fresh: Fresh) -> None:
    store = fresh()()
    assert store.load() == Snapshot(epoch=0)
    assert list(store.history()) == []
    store.close()


def _what_is_committed_is_loaded(fresh: Fresh) -> None:
    store = fresh()()
    delta = make_delta({"x": b"1", "y": b""}, groups={("a", "b"): b"\x00\xff" * 100}, engine=b"e")
    number = store.commit(delta, make_receipt(1), parent=0)
    snapshot = store.load()
    assert snapshot.epoch == number > 0
    assert read_values(snapshot) == {
        "x": b"1",
        "y": b"",
        "a": b"\x00\xff" * 100,
        "b": b"\x00\xff" * 100,
    }
    assert snapshot.engine == b"e"
    assert not snapshot.lost
    store.close()


def _later_epochs_replace_delete_and_lose_names(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"a": b"1", "b": b"2", "c": b"3"}), make_receipt(1), parent=0)
    second = store.commit(
        make_delta({"a": b"4"}, deleted=("b",), lost={"c": "why"}), make_receipt(2), parent=first
    )
    third = store.commit(make_delta({"b": b"5", "c": b"6"}), make_receipt(3), parent=second)
    assert read_values(store.load(second)) == {"a": b"4"}
    assert store.load(second).lost == {"c": "why"}
    assert read_values(store.load(third)) == {"a": b"4", "b": b"5", "c": b"6"}
    assert read_values(store.load(first)) == {"a": b"1", "b": b"2", "c": b"3"}
    assert not store.load(third).lost
    store.close()


def _a_blob_counts_only_for_names_that_are_still_in_it(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta(groups={("a", "b"): b"both"}), make_receipt(1), parent=0)
    store.commit(make_delta({"b": b"own"}), make_receipt(2), parent=first)
    blobs = store.load().blobs
    assert [(blob.names, blob.data) for blob in blobs] == [(("a",), b"both"), (("b",), b"own")]
    store.close()


def _blobs_come_in_the_order_of_their_epochs(fresh: Fresh) -> None:
    store = fresh()()
    at = 0
    for n in range(30):
        at = store.commit(
            make_delta({f"n{n % 7}": b"%d" % n, f"z{n}": b"%d" % n}), make_receipt(n), parent=at
        )
    written = [int(blob.data) for blob in store.load().blobs]
    assert written == sorted(written)
    store.close()


def _engine_state_is_that_of_the_epoch(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta(engine=b"one"), make_receipt(1), parent=0)
    second = store.commit(make_delta(engine=b"one"), make_receipt(2), parent=first)
    third = store.commit(make_delta(engine=b"two"), make_receipt(3), parent=second)
    fourth = store.commit(make_delta(), make_receipt(4), parent=third)
    found = [store.load(epoch).engine for epoch in (first, second, third, fourth)]
    assert found == [b"one", b"one", b"two", b""]
    store.close()


def _what_is_stored_anew_and_has_not_changed_keeps_its_epoch(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"a": b"1", "b": b"2"}), make_receipt(1), parent=0)
    joined = make_delta(groups={("a", "c"): b"13"})
    joined = msgspec.structs.replace(joined, same=frozenset({"a"}))
    second = store.commit(joined, make_receipt(2), parent=first)
    names = store.names()
    assert {name: kept.epoch for name, kept in names.items()} == {"a": 1, "b": 1, "c": 2}
    assert names["a"].size == 2
    assert [blob.data for blob in store.load().blobs] == [b"2", b"13"]
    assert [epoch.same for epoch in store.history()] == [frozenset(), {"a"}]
    store.collect(keep=1)
    assert {kept.epoch for kept in store.names().values()} == {second}
    store.close()


def _history_is_the_line_with_its_receipts(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"a": b"123"}), make_receipt(1), parent=0)
    second = store.commit(
        make_delta(deleted=("a",), lost={"g": "why"}), make_receipt(2), parent=first
    )
    line = list(store.history())
    assert [(epoch.epoch, epoch.parent) for epoch in line] == [(first, 0), (second, first)]
    assert [epoch.receipt for epoch in line] == [make_receipt(1), make_receipt(2)]
    assert [epoch.size for epoch in line] == [3, 0]
    assert [set(epoch.stored) for epoch in line] == [{"a"}, set()]
    assert [set(epoch.deleted) for epoch in line] == [set(), {"a"}]
    assert [dict(epoch.lost) for epoch in line] == [{}, {"g": "why"}]
    assert list(store.history(first)) == line[:1]
    assert list(store.history(0)) == []
    store.close()


def _a_branch_leaves_the_other_line_alone(fresh: Fresh) -> None:
    store = fresh()()
    root = store.commit(make_delta({"x": b"root"}), make_receipt(1), parent=0)
    left = store.commit(make_delta({"x": b"left"}), make_receipt(2), parent=root)
    right = store.commit(make_delta({"y": b"right"}), make_receipt(2), parent=root)
    assert right > left > root
    assert read_values(store.load()) == {"x": b"root", "y": b"right"}
    assert read_values(store.load(left)) == {"x": b"left"}
    assert [epoch.epoch for epoch in store.history()] == [root, right]
    assert [epoch.epoch for epoch in store.history(left)] == [root, left]
    again = store.commit(make_delta({"x": b"anew"}), make_receipt(1), parent=0)
    assert again > right
    assert read_values(store.load()) == {"x": b"anew"}
    store.close()


def _move_changes_the_head_and_deletes_nothing(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    second = store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first)
    store.move(first)
    assert store.load().epoch == first
    assert read_values(store.load(second)) == {"x": b"2"}
    third = store.commit(make_delta({"y": b"3"}), make_receipt(2), parent=first)
    assert third > second
    store.move(0)
    assert store.load() == Snapshot(epoch=0, count=2)
    store.close()


def _unknown_epochs_are_refused(fresh: Fresh) -> None:
    store = fresh()()
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    for call in (
        lambda: store.load(first + 1),
        lambda: store.history(first + 1),
        lambda: store.move(first + 1),
        lambda: store.load(-1),
        lambda: store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first + 1),
    ):
        refused(call)
    assert read_values(store.load()) == {"x": b"1"}
    assert store.load().epoch == first
    store.close()


def _any_text_in_a_receipt_can_be_stored(fresh: Fresh) -> None:
    store = fresh()()
    cell = Cell(id="c", n=1, source="x = '\ud800'", filename="<\udcff>")
    receipt = Receipt(
        cell=cell,
        status="failed",
        text="\x00 \ud83d ok",
        error="boom \udfff",
        data={"a/b": {"huge": 10**40, "deep": [{"set": {1}}], 5: object}},
        events=(Output(cell_id="c", stream="stderr", text="\ud800" * 5),),
    )
    delta = make_delta(lost={"g": "a \ud800 reason"})
    store.commit(delta, receipt, parent=0)
    (epoch,) = store.history()
    assert epoch.receipt.status == "failed"
    assert epoch.receipt.text.endswith(" ok")
    assert len(epoch.receipt.events) == 1
    assert store.load().lost.keys() == {"g"}
    store.close()


def _odd_names_and_big_blobs_can_be_stored(fresh: Fresh) -> None:
    store = fresh()()
    values = {"": b"0", "naïve": b"1", "x" * 5000: b"2", "a\x00b": b"3", "big": bytes(3_000_000)}
    store.commit(make_delta(values), make_receipt(1), parent=0)
    assert read_values(store.load()) == values
    store.close()


def _hundreds_of_epochs_are_one_line(fresh: Fresh) -> None:
    store = fresh()()
    at, expected = 0, {}
    for n in range(700):
        name = f"n{n % 40}"
        expected[name] = b"%d" % n
        at = store.commit(make_delta({name: expected[name]}), make_receipt(n), parent=at)
    assert read_values(store.load()) == expected
    line = store.history()
    assert [epoch.receipt.cell.n for epoch in line] == list(range(700))
    for n in (0, 39, 255, 256, 257, 400, 699):
        found = read_values(store.load(line[n].epoch))
        assert len(found) == min(n + 1, 40)
        assert found[f"n{n % 40}"] == b"%d" % n
    store.close()


def _close_can_be_called_twice_and_ends_it(fresh: Fresh) -> None:
    store = fresh()()
    store.close()
    store.close()
    for call in (store.load, store.history, lambda: store.move(0)):
        refused(call, Exception)


def _what_was_committed_is_there_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    first = store.commit(
        make_delta({"x": b"1"}, lost={"g": "why"}, engine=b"e"), make_receipt(1), parent=0
    )
    second = store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first)
    before = store.load(), store.load(first), list(store.history())
    store.close()
    store = place()
    assert (store.load(), store.load(first), list(store.history())) == before
    third = store.commit(make_delta({"y": b"3"}), make_receipt(3), parent=second)
    assert third > second
    store.close()


def _the_cell_count_is_the_highest_of_any_epoch(fresh: Fresh) -> None:
    """Else a cell id would be used twice."""
    store = fresh()()
    assert store.load().count == 0
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    second = store.commit(make_delta({"x": b"2"}), make_receipt(5), parent=first)
    third = store.commit(make_delta(), make_receipt(3), parent=second)  # of a background cell
    assert [store.load(epoch).count for epoch in (0, first, second, third)] == [5] * 4
    store.move(first)
    assert store.load().count == 5
    store.close()


def _the_cell_count_is_there_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    first = store.commit(make_delta({"x": b"1"}), make_receipt(7), parent=0)
    store.commit(make_delta({"x": b"1"}), make_receipt(6), parent=first)
    store.move(0)
    store.close()
    store = place()
    assert store.load().count == 7
    store.close()


def _the_head_is_there_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    second = store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first)
    store.move(first)
    store.close()
    store = place()
    assert store.load().epoch == first
    assert store.commit(make_delta(), make_receipt(2), parent=first) > second
    store.close()


def _a_session_is_open_once(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    refused(place, SessionInUseError)
    store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    store.close()
    place().close()


_ALWAYS = (
    _a_new_store_is_empty,
    _what_is_committed_is_loaded,
    _later_epochs_replace_delete_and_lose_names,
    _a_blob_counts_only_for_names_that_are_still_in_it,
    _blobs_come_in_the_order_of_their_epochs,
    _engine_state_is_that_of_the_epoch,
    _what_is_stored_anew_and_has_not_changed_keeps_its_epoch,
    _history_is_the_line_with_its_receipts,
    _a_branch_leaves_the_other_line_alone,
    _move_changes_the_head_and_deletes_nothing,
    _unknown_epochs_are_refused,
    _the_cell_count_is_the_highest_of_any_epoch,
    _any_text_in_a_receipt_can_be_stored,
    _odd_names_and_big_blobs_can_be_stored,
    _hundreds_of_epochs_are_one_line,
    _close_can_be_called_twice_and_ends_it,
)
_DURABLE = (
    _what_was_committed_is_there_after_closing,
    _the_head_is_there_after_closing,
    _the_cell_count_is_there_after_closing,
    _a_session_is_open_once,
)
