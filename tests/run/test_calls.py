"""Calls: begun once, by whichever host has them."""

from __future__ import annotations

import asyncio
import threading

from pyrepl3.run.calls import Awaited
from pyrepl3.run.host import LoopHost


async def test_a_call_that_was_sent_to_two_hosts_begins_once():
    """The second one took over from the first, which is stuck, and still has it in its queue."""
    begun = []

    async def work():
        begun.append(1)
        return 5

    hosts = [LoopHost("first"), LoopHost("second")]
    call = Awaited(work)
    for host in hosts:
        call.send(host)
    ended = [threading.Event() for _ in hosts]
    for host, event in zip(hosts, ended, strict=True):
        host.when_ended = event.set
        host.start()
    assert await call.future == 5
    for host, event in zip(hosts, ended, strict=True):
        host.stop()
        assert await asyncio.to_thread(event.wait, 20)
    assert begun == [1]
