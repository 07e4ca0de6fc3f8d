"""The same steps on a Resonate server, over HTTP: here the embedded one behind a socket of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from aiohttp import web

import pyrepl3
from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.remote import RemotePromises, connect_to
from pyrepl3.durable.steps import ResonateDurability
from pyrepl3.errors import DurabilityError
from pyrepl3.records import Interrupted
from pyrepl3.testing.durability import durability_checks
from pyrepl3.testing.fakes import Seen

pytestmark = pytest.mark.slow


class Server:
    """Resonate's HTTP and SSE endpoints on a thread of their own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.up = threading.Event()
        self.streams = []

    def serve(self):
        self.loop.run_until_complete(self.start())
        self.up.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.stop())
        self.loop.close()

    async def start(self):
        self.server = Embedded(":memory:")
        self.server.recv(lambda text: [stream.put_nowait(text) for stream in self.streams])
        await self.server.start()
        app = web.Application()
        app.add_routes([web.post("/", self.answer), web.get("/poll/{group}/{pid}", self.poll)])
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self):
        for stream in self.streams:
            stream.put_nowait(None)
        await self.runner.cleanup()
        await self.server.stop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def answer(self, request):
        return web.Response(text=await self.server.send(await request.text()))

    async def poll(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue = asyncio.Queue()
        self.streams.append(queue)
        with contextlib.suppress(ConnectionResetError):  # the client is gone
            while (text := await queue.get()) is not None:
                await response.write(f"data: {text}\n\n".encode())
        return response


@pytest.fixture
def server():
    server = Server()
    server.thread.start()
    assert server.up.wait(20)
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    server.thread.join()


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_steps_on_a_server(check, server, tmp_path):
    def open_promises():
        return RemotePromises(connect_to(server.url))

    check.run(lambda: ResonateDurability(open_promises, name="demo", folder=tmp_path / "steps"))


HEAD = "from pyrepl3 import step, ask\nimport asyncio\n"


async def test_a_session_on_a_server(server, tmp_path):
    done, seen = [], Seen()
    source = HEAD + "[await step(done.append, n) or n for n in range(5)]"
    for again in (False, True):
        async with pyrepl3.open_session(
            "demo", store=tmp_path, resonate=server.url, observe=seen
        ) as session:
            session._runner.namespace.update_namespace({"done": done})
            commit, session._store.commit = session._store.commit, None
            if again:
                session._store.commit = commit
            assert (await session.run(source)).value == [0, 1, 2, 3, 4]
            if not again:
                continue
            running = asyncio.create_task(session.run(HEAD + "await ask('Well?')"))
            await seen.until(lambda event: getattr(event, "kind", "") == "asking")
            (asked,) = await session.asked()
            assert await session.answer(asked.id, "yes")
            assert (await running).value == "yes"
            running = asyncio.create_task(
                session.run(HEAD + "await step(abs, 1); print('up'); await asyncio.sleep(60)")
            )
            await seen.until_text("up")
            (cell,) = session._running.values()
            # From anywhere: another client of the server cancels the promise of the cell.
            other = RemotePromises(connect_to(server.url))
            key = session._durability._cells[cell.durable_name]
            cancelled = await asyncio.wrap_future(other.cancel(key))
            assert cancelled.state == "rejected_canceled"
            assert isinstance(await running, Interrupted)
            await asyncio.wrap_future(other.close())
    assert done == [0, 1, 2, 3, 4]


async def test_sessions_of_one_name_in_two_places_share_no_steps(server, tmp_path):
    done = []
    for place in ("here", "there"):
        async with pyrepl3.open_session(
            "demo", store=tmp_path / place, resonate=server.url
        ) as session:
            session._runner.namespace.update_namespace({"done": done})
            session._store.commit = None
            await session.run(HEAD + "step(done.append, 1)")
    assert done == [1, 1]
    with pytest.raises(ValueError, match="without a name"):
        async with pyrepl3.open_session(resonate=server.url):
            pass


async def test_a_server_that_is_not_there_holds_up_the_step_alone(tmp_path):
    seen = Seen()
    url = "http://127.0.0.1:9"  # nobody listens there
    async with pyrepl3.open_session("demo", store=tmp_path, resonate=url, observe=seen) as session:
        running = asyncio.create_task(session.run(HEAD + "print('up')\nstep(abs, 1)"))
        await seen.until_text("up")
        session.interrupt()
        assert isinstance(await running, Interrupted)
        assert (await session.run("1")).ok
        waiting = session._durability.open("demo-c9-00", 0)
    with pytest.raises(DurabilityError):
        waiting.result(10)
