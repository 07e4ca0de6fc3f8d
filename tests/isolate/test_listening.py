"""Messages are taken at once and in their order, by the loop while it waits and by control while it does not."""

import asyncio
import contextlib
import socket
import threading

import pytest

from pyrepl3 import open_session
from pyrepl3.isolate.channel import Channel
from pyrepl3.isolate.listening import Listener
from pyrepl3.run.host import LoopHost


class Pair:
    """A host's end, a listener behind the other one, its loop on one thread and control on another."""

    def __init__(self):
        near, far = socket.socketpair()
        self.near = Channel(near, blocking=True)
        self.channel = Channel(far, blocking=True)
        self.taken: list[tuple[bytes, str]] = []
        self.came = threading.Semaphore(0)
        self.lost = threading.Event()
        self.slow = None
        self.listener = Listener(self.channel, self.take, lambda _: self.lost.set())
        self.host = LoopHost("test", selector=self.listener.selector())
        self.control = asyncio.new_event_loop()
        self.threads = [
            threading.Thread(target=self.host.serve, name="cells"),
            threading.Thread(target=self.run_control, name="control"),
        ]

    def run_control(self):
        self.listener.attach(self.control)
        self.control.run_forever()
        self.control.close()

    def take(self, head, _parts):
        if head == b"slow":
            return self.slow
        self.taken.append((head, threading.current_thread().name))
        self.came.release()
        return None

    def say(self, *heads):
        for head in heads:
            self.near.send(head)
        for _ in heads:
            assert self.came.acquire(timeout=60)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.host.stop()
        with contextlib.suppress(RuntimeError):  # it has heard the end already
            self.control.call_soon_threadsafe(self.control.stop)
        for thread in self.threads:
            thread.join()
        self.near.close()
        self.channel.close()
        self.listener.leave()


def test_what_comes_while_the_loop_is_held_is_taken_by_control_and_then_by_the_loop_again():
    with Pair() as pair:
        held, go = threading.Event(), threading.Event()
        pair.host.loop.call_soon_threadsafe(lambda: (held.set(), go.wait(60)))
        assert held.wait(60)
        pair.say(b"one", b"two")
        assert [name for _, name in pair.taken] == ["control", "control"]
        asked = threading.Event()
        go.set()
        pair.host.loop.call_soon_threadsafe(asked.set)
        assert asked.wait(60)
        pair.say(b"three")
        assert [head for head, _ in pair.taken] == [b"one", b"two", b"three"]


def test_many_messages_to_a_loop_that_comes_and_goes_are_taken_in_their_order():
    with Pair() as pair:
        for n in range(300):
            if n % 3 == 0:
                pair.host.loop.call_soon_threadsafe(sum, range(20_000))
            pair.near.send(b"%d" % n)
        for _ in range(300):
            assert pair.came.acquire(timeout=60)
        assert [head for head, _ in pair.taken] == [b"%d" % n for n in range(300)]


def test_what_takes_its_time_is_done_when_others_may_be_taken():
    with Pair() as pair:
        inside, go = threading.Event(), threading.Event()
        pair.slow = lambda: (inside.set(), go.wait(60))
        pair.near.send(b"slow")
        assert inside.wait(60)
        pair.say(b"quick")
        go.set()


@pytest.mark.parametrize("how", ["close", "nonsense"])
def test_an_end_and_nonsense_are_told(how):
    with Pair() as pair:
        if how == "close":
            pair.near.close()
        else:
            pair.near.sock.send(b"no frame of ours, and long enough to see that")
        assert pair.lost.wait(60)
        # Nothing is left to be read: a listener that goes on would go on for ever.
        pair.control.call_soon_threadsafe(pair.control.stop)


async def test_a_worker_answers_while_a_task_of_a_cell_that_is_over_holds_its_loop():
    async with open_session(isolation="process") as session:
        source = """
import asyncio
async def hold():
    global held
    held = True
    while held: pass
task = asyncio.create_task(hold())
await asyncio.sleep(0)"""
        running = asyncio.create_task(session.run(source))
        while "held" not in await session.variables():
            await asyncio.sleep(0)
        assert "hold" in await session.complete("hol")
        session.interrupt()
        await running
        assert (await session.run("1 + 1")).text == "2"
