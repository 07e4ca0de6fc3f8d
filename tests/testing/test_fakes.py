"""What is shipped for tests keeps its own promises."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pyrepl3.errors import StoreError
from pyrepl3.records import Display, Output
from pyrepl3.testing.conformance import make_delta, make_receipt, read_values, store_checks
from pyrepl3.testing.fakes import FakeStore, Seen


def places():
    """A fresh FakeStore, and at each later call the next one on its epochs."""
    stores = []

    def place():
        stores.append(stores[-1].again() if stores else FakeStore())
        return stores[-1]

    return place


CHECKS = [check for check in store_checks() if check.name != "a_session_is_open_once"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_fake_store_is_a_store(check):
    check.run(places)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_fails_once_when_told_to(when):
    store = FakeStore()
    store.fail_commit(when)
    with pytest.raises(StoreError, match=when):
        store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    assert read_values(store.load()) == ({} if when == "before" else {"x": b"1"})
    assert store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=0)
    assert read_values(store.load()) == {"x": b"2"}


def test_load_and_move_fail_once_when_told_to():
    store = FakeStore()
    store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    store.fail_load()
    store.fail_move()
    with pytest.raises(StoreError):
        store.load()
    with pytest.raises(StoreError):
        store.move(0)
    assert store.load().epoch == 1
    store.move(0)
    assert store.load().epoch == 0


def output(text, cell_id="a", stream="stdout"):
    return Output(cell_id=cell_id, stream=stream, text=text)


def test_seen_tells_what_was_written_and_shown():
    seen = Seen()
    seen(output("1"))
    seen(output("2", "b"))
    seen(output("3", stream="stderr"))
    seen(Display(cell_id="b", data={"text/plain": "4"}))
    assert (seen.text(), seen.text("a"), seen.text("a", "stderr")) == ("123", "13", "3")
    assert len(seen.shown()) == len(seen.shown("b")) == 1
    assert seen.shown("a") == []


async def test_seen_can_be_waited_for_before_and_after():
    seen = Seen()
    waiting = asyncio.create_task(seen.until_text("ab"))
    await asyncio.sleep(0)
    await asyncio.to_thread(seen, output("xa"))
    assert not waiting.done()
    thread = threading.Thread(target=seen, args=(output("b"),))
    thread.start()
    await waiting
    thread.join()
    await seen.until_text("ab", "a")
    event = await seen.until(lambda event: event.text == "b")
    assert event is seen.events[1]
