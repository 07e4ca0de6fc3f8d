"""What is due is called, in order, on one thread that nothing ends; what was cancelled is not kept."""

from __future__ import annotations

import signal
import sys
import threading

from pyrepl3.run.watchdog import Watchdog


def test_calls_come_in_the_order_of_their_time_whatever_the_order_they_were_asked_in():
    watchdog, called, done = Watchdog("test"), [], threading.Event()
    timers = [
        watchdog.call_later(delay, lambda delay=delay: called.append(delay))
        for delay in (0.3, 0.1, 0.2, 0.0)
    ]
    watchdog.call_later(0.4, done.set)
    assert done.wait(60)
    times = dict(zip((0.3, 0.1, 0.2, 0.0), (timer.when for timer in timers), strict=True))
    assert called == sorted(times, key=times.__getitem__)  # by when they were asked for, too


def test_calls_due_at_once_come_in_the_order_they_were_asked_for():
    watchdog, called, done = Watchdog("test"), [], threading.Event()
    for n in range(100):
        watchdog.call_later(0, lambda n=n: called.append(n))
    watchdog.call_later(0.01, done.set)
    assert done.wait(60)
    assert called == list(range(100))


def test_a_cancelled_call_is_not_made():
    watchdog, called, done = Watchdog("test"), [], threading.Event()
    go = threading.Event()
    watchdog.call_later(
        0, go.wait
    )  # its thread is kept: the call cannot come before it is cancelled
    timer = watchdog.call_later(0, lambda: called.append(1))
    timer.cancel()
    timer.cancel()
    watchdog.call_later(0, done.set)
    go.set()
    assert done.wait(60)
    assert called == []


def test_a_call_that_raises_is_reported_and_the_next_is_made(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.append(error[1]))
    watchdog, done = Watchdog("test"), threading.Event()
    watchdog.call_later(0, lambda: 1 / 0)
    watchdog.call_later(0.01, done.set)
    assert done.wait(60)
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_a_call_may_ask_for_the_next_one():
    watchdog, done, left = Watchdog("test"), threading.Event(), [5]

    def again():
        left[0] -= 1
        if left[0]:
            watchdog.call_later(0, again)
        else:
            done.set()

    watchdog.call_later(0, again)
    assert done.wait(60)


def test_timers_that_were_cancelled_do_not_pile_up():
    """A limit of 30 s on quick cells: each cell starts a timer and cancels it."""
    watchdog = Watchdog("test")
    for _ in range(50_000):
        watchdog.call_later(3600, list).cancel()
    done = threading.Event()
    watchdog.call_later(0, done.set)
    assert done.wait(60)
    assert len(watchdog._heap) < 20_000


def test_a_signal_handler_may_ask_while_its_thread_is_asking():
    """Main thread: the handler runs between any two bytecodes of call_later, with its lock held."""
    watchdog, done, asked, called = Watchdog("test"), threading.Event(), [], []

    def handler(*_):
        asked.append(watchdog.call_later(0, lambda: called.append(1)))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while len(asked) < 100:
            watchdog.call_later(3600, list).cancel()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    watchdog.call_later(0.01, done.set)
    assert done.wait(60)
    assert len(called) == len(asked)


def test_the_thread_keeps_nothing_of_a_call_that_was_made():
    import gc
    import weakref

    class Big:
        def __call__(self):
            done.set()

    watchdog, done, later = Watchdog("test"), threading.Event(), threading.Event()
    big = Big()
    gone = weakref.ref(big)
    watchdog.call_later(0, big)
    del big
    assert done.wait(60)
    watchdog.call_later(0, later.set)
    assert later.wait(60)
    gc.collect()
    assert gone() is None
