"""The log and the differences of a session's past, as functions of its epochs."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.errors import EpochNotFoundError, SessionError
from pyrepl3.records import Cell, Epoch, Receipt
from pyrepl3.session.past import (
    check_known,
    compare,
    find_before,
    find_difference,
    find_log,
    list_entries,
    make_fork,
)
from pyrepl3.testing.conformance import make_delta, make_receipt
from pyrepl3.testing.fakes import FakeStore


def epoch(number, parent, stored=(), deleted=(), lost=(), source="x = 1", same=()):
    cell = Cell(id=f"s-c{number}", n=number, source=source, filename="<s>")
    return Epoch(
        epoch=number,
        parent=parent,
        receipt=Receipt(cell=cell, status="done"),
        stored=frozenset(stored),
        deleted=frozenset(deleted),
        lost=dict.fromkeys(lost, "why"),
        same=frozenset(same),
    )


def changes(entries):
    return [(e.added, e.changed, e.removed, tuple(e.lost)) for e in entries]


def test_an_entry_tells_what_its_cell_did_to_the_names_of_its_parent():
    entries = list_entries(
        [
            epoch(1, 0, "ab"),
            epoch(2, 1, "bc", deleted="a"),
            epoch(3, 1, "c", deleted="z", lost="b"),
            epoch(4, 3, "ab"),
        ],
        2,
    )
    assert changes(entries) == [
        (("a", "b"), (), (), ()),
        (("c",), ("b",), ("a",), ()),
        (("c",), ("b",), (), ("b",)),
        ((), ("a", "b"), (), ()),
    ]
    assert [e.on_line for e in entries] == [True, True, False, False]
    assert [e.current for e in entries] == [False, True, False, False]


def test_a_name_that_was_stored_anew_and_has_its_value_is_not_told_as_changed():
    entries = list_entries([epoch(1, 0, "ab"), epoch(2, 1, "abc", same="a")], 2)
    assert changes(entries) == [(("a", "b"), (), (), ()), (("c",), ("b",), (), ())]


def test_the_empty_session_is_on_no_line():
    entries = list_entries([epoch(1, 0, "a")], 0)
    assert [(e.on_line, e.current) for e in entries] == [(False, False)]


def test_an_epoch_in_whose_place_another_came_is_told_so():
    first, late = epoch(2, 1, "b"), epoch(3, 1, "bc")
    late = msgspec.structs.replace(late, receipt=first.receipt)
    log = [epoch(1, 0, "a"), first, late]
    assert [entry.amended for entry in list_entries(log, 3)] == [0, 3, 0]
    # Gone back to it, or gone on from it, it is one of its own.
    assert [entry.amended for entry in list_entries(log, 2)] == [0, 0, 0]
    assert [entry.amended for entry in list_entries([*log, epoch(4, 2)], 4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("source", "line", "more"),
    [
        ("x = 1", "x = 1", False),
        ("\n\nx = 1  \n", "x = 1", False),
        ("x = 1\ny = 2", "x = 1", True),
        ("def f():\n    pass\n\n", "def f():", True),
        ("", "", False),
    ],
)
def test_the_first_line_stands_for_the_source(source, line, more):
    (entry,) = list_entries([epoch(1, 0, source=source)], 1)
    assert (entry.line, entry.more) == (line, more)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 100), st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))
        )
    )
)
def test_entries_agree_with_names_that_are_kept_for_each_epoch(cells):
    """The sets that entries share on the way are never those of another branch."""
    epochs, names = [], {0: frozenset()}
    for n, (number, stored, deleted) in enumerate(cells, 1):
        parent = number % n
        epochs.append(epoch(n, parent, stored, deleted - stored))
        names[n] = (names[parent] | stored) - (deleted - stored)
    for entry in list_entries(epochs[::-1], 0):
        before, after = names[entry.parent], names[entry.epoch]
        assert set(entry.added) == after - before
        assert set(entry.removed) == before - after
        assert set(entry.changed) <= before & after


@pytest.fixture
def store():
    """Two lines from epoch 1: 2 and 3; 4. The head is 4."""
    store = FakeStore()
    store.commit(make_delta({"a": b"1", "b": b"22"}), make_receipt(1), parent=0)
    store.commit(make_delta({"b": b"333"}), make_receipt(2), parent=1)
    store.commit(make_delta({"c": b"1"}, deleted=("a",)), make_receipt(3), parent=2)
    store.commit(make_delta({"a": b"5"}, lost={"g": "a generator"}), make_receipt(4), parent=1)
    return store


def names(difference):
    return (
        [*difference.added],
        [*difference.changed],
        [*difference.removed],
    )


def test_a_difference_goes_across_branches(store):
    found = find_difference(store, 3, 4, name="s")
    assert names(found) == (["a", "g"], ["b"], ["c"])
    old, new = found.changed["b"]
    assert (old.size, old.text, new.size) == (3, "<b>", 2)
    assert found.added["g"].lost == "a generator"
    assert names(find_difference(store, 4, 3, name="s")) == (["c"], ["b"], ["a", "g"])


def test_without_a_first_epoch_it_is_what_the_cell_did(store):
    assert names(find_difference(store, None, 3, name="s")) == (["c"], [], ["a"])
    assert names(find_difference(store, None, 1, name="s")) == (["a", "b"], [], [])
    assert names(find_difference(store, None, 0, name="s")) == ([], [], [])


def test_an_epoch_does_not_differ_from_itself(store):
    assert names(compare(4, store.names(4), 4, store.names(4))) == ([], [], [])


@pytest.mark.parametrize(("before", "after"), [(9, 4), (1, 9), (None, 9)])
def test_an_unknown_epoch_is_refused_with_the_nearest(store, before, after):
    with pytest.raises(EpochNotFoundError, match="no epoch 9; the nearest are 2, 3, 4") as caught:
        find_difference(store, before, after, name="s")
    assert caught.value.near == (2, 3, 4)


def test_a_store_without_epochs_says_so():
    with pytest.raises(EpochNotFoundError, match="has no epoch 3; it has none yet"):
        check_known(FakeStore(), 3, name="s")
    check_known(FakeStore(), 0, name="s")


def test_the_way_back_is_along_the_line(store):
    assert [find_before(store, 3, n, name="s") for n in (1, 2, 3)] == [2, 1, 0]
    assert find_before(store, 4, 1, name="s") == 1


@pytest.mark.parametrize(
    ("at", "n", "message"),
    [(3, 4, "only 3 are there"), (1, 2, "only 1 is there"), (0, 1, "none is there")],
)
def test_more_cells_than_there_are_cannot_be_undone(store, at, n, message):
    with pytest.raises(SessionError, match=message):
        find_before(store, at, n, name="s")


def test_a_number_that_is_none_is_refused(store):
    with pytest.raises(ValueError, match="from 1"):
        find_before(store, 3, 0, name="s")


def test_a_fork_holds_the_line_to_its_epoch(store):
    make_fork(store, "new", 3, of="s")
    assert [epoch.epoch for epoch in store.forks["new"].again().epochs()] == [1, 2, 3]
    with pytest.raises(EpochNotFoundError, match="'s' has no epoch 7"):
        make_fork(store, "other", 7, of="s")
    assert list(store.forks) == ["new"]


def test_the_log_has_all_branches(store):
    assert [entry.epoch for entry in find_log(store, 4)] == [1, 2, 3, 4]
