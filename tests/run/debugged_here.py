"""Run by ``test_debugger``: two sessions of this process, one of them debugged."""

import asyncio
import threading

import pyrepl3
from pyrepl3.testing.dap import DapClient

SHARED = "def work(n):\n    m = n + 1\n    return m"


def count(ticks, over):
    while not over.wait(0.005):
        ticks.append(None)


async def main():
    ticks, over = [], threading.Event()
    own = threading.Thread(target=count, args=(ticks, over), name="caller")
    own.start()
    limits = pyrepl3.Limits(wall=3)
    async with (
        pyrepl3.open_session(limits=limits) as session,
        pyrepl3.open_session() as other,
    ):
        await session.run(SHARED)
        work = await session.fetch("work")
        server = await session.debug()
        assert {"caller", "MainThread"} <= {each.name for each in threading.enumerate()}
        async with await DapClient.connect(server.host, server.port) as client:
            await client.attach()
            await client.request("configurationDone")
            await session.breakpoint(1, 2)
            cell = asyncio.create_task(session.run("work(1)"))
            thread = (await client.event("stopped"))["threadId"]

            # While it is stopped: this thread, another, a new one, and another session go on.
            before = len(ticks)
            assert work(5) == 6  # the very code that has the breakpoint
            found = []
            new = threading.Thread(target=lambda: found.append(work(7)))
            new.start()
            await asyncio.to_thread(new.join)
            assert found == [8]
            assert await asyncio.to_thread(work, 1) == 2
            assert (await other.run("sum(range(10))")).value == 45
            # It stands for more than its limit allows it to run: that clock stands, too.
            while len(ticks) < before + 640:
                await asyncio.sleep(0.01)
            assert not cell.done()

            await client.request("continue", threadId=thread)
            assert (await cell).value == 2

            # A blocking cell, whose thread the loop leaves to it, and an interrupt of a loop.
            await session.breakpoint(3, 2)
            cell = asyncio.create_task(session.run("import time\ntime.sleep(0)\nwhile True: pass"))
            await client.event("stopped")
            assert session.interrupt()
            assert isinstance(await cell, pyrepl3.Interrupted)
    over.set()
    own.join()
    print("all of it")


asyncio.run(asyncio.wait_for(main(), 100))
