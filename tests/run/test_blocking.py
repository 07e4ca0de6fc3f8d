"""One thread for all calls, in order; left behind, it ends by itself and a fresh one takes over."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from pyrepl3.run.aim import MONITOR
from pyrepl3.run.blocking import BlockingThread


@pytest.fixture(autouse=True)
async def _bound():
    async with asyncio.timeout(60):
        yield


async def call(thread, function):
    """The result of a call on the thread."""
    future = asyncio.get_running_loop().create_future()
    thread.submit(lambda: (True, function()), lambda result: future.set_result(result[1]))
    return await future


async def test_calls_run_one_after_the_other_on_one_thread():
    thread = BlockingThread("test")
    order = []
    idents = await asyncio.gather(
        *(call(thread, lambda n=n: order.append(n) or threading.get_ident()) for n in range(20))
    )
    assert len(set(idents)) == 1
    assert idents[0] != threading.get_ident()
    assert order == list(range(20))
    thread.close()


async def test_no_thread_is_started_before_the_first_call():
    before = set(threading.enumerate())  # some of which may end meanwhile
    BlockingThread("test").close()
    assert set(threading.enumerate()) <= before


async def test_a_thread_for_one_call_ends_after_it():
    thread = BlockingThread("test", once=True)
    own = await call(thread, threading.current_thread)
    await asyncio.to_thread(own.join, 50)
    assert not own.is_alive()


async def test_a_thread_that_is_closed_ends_and_a_later_call_gets_another():
    thread = BlockingThread("test")
    first = await call(thread, threading.current_thread)
    thread.close()
    thread.close()
    await asyncio.to_thread(first.join, 50)
    assert not first.is_alive()
    assert await call(thread, threading.current_thread) is not first
    thread.close()


async def test_a_thread_left_behind_ends_when_its_call_does_and_the_next_call_does_not_wait():
    thread, go, begun = BlockingThread("left"), threading.Event(), threading.Event()
    own, results = [], []

    def stuck():
        own.append(threading.current_thread())
        begun.set()
        return True, go.wait(50)

    thread.submit(stuck, results.append)
    assert await asyncio.to_thread(begun.wait, 50)
    assert thread.abandon(own[0].ident)
    MONITOR.release(own[0].ident)  # here it may come to its end; how it is killed is told elsewhere
    assert await call(thread, threading.current_thread) is not own[0]
    go.set()
    await asyncio.to_thread(own[0].join, 50)
    await asyncio.sleep(0)
    assert results == [(True, True)]
    thread.close()


async def test_results_for_a_loop_that_is_closed_are_dropped():
    thread, go, begun = BlockingThread("test"), threading.Event(), threading.Event()

    async def give_up():
        thread.submit(lambda: (True, begun.set() or go.wait(50)), lambda result: None)
        await asyncio.to_thread(begun.wait, 50)

    await asyncio.to_thread(asyncio.run, give_up())
    go.set()
    assert await call(thread, lambda: 1) == 1
    thread.close()


async def test_the_thread_keeps_no_value_alive():
    class Big:
        pass

    thread = BlockingThread("test")
    big = await call(thread, Big)
    gone = weakref.ref(big)
    del big
    await call(thread, lambda: None)
    gc.collect()
    assert gone() is None
    thread.close()
