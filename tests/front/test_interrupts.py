"""Ctrl-C while no cell runs, or not yet."""

import asyncio

from pyrepl3.front.interrupts import Interrupts


class Starting:
    """A session whose cell starts after some looks, and which counts the interrupts that reach it."""

    def __init__(self, looks):
        self.looks = looks
        self.reached = asyncio.Event()
        self.count = 0

    def interrupt(self):
        if self.looks:
            self.looks -= 1
            return False
        self.count += 1
        self.reached.set()
        return True


async def test_a_press_before_the_cell_starts_reaches_it_when_it_does():
    interrupts, session = Interrupts(), Starting(looks=3)
    with interrupts.ordered(session):
        await asyncio.to_thread(interrupts.press)
        await session.reached.wait()
    assert session.count == 1


async def test_a_press_before_the_order_counts_too():
    interrupts, session = Interrupts(), Starting(looks=1)
    interrupts.press()
    with interrupts.ordered(session):
        await session.reached.wait()
    assert session.count == 1


async def test_nothing_is_chased_after_the_cell():
    interrupts, session = Interrupts(), Starting(looks=10**9)
    with interrupts.ordered(session):
        interrupts.press()
        await asyncio.sleep(0)
    left = session.looks
    interrupts.press()
    loop = asyncio.get_running_loop()
    later = asyncio.Event()
    loop.call_later(0.03, later.set)
    await later.wait()
    assert session.looks == left
