"""The control socket: another process of the user stops cells and answers questions, nobody else does."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct

import msgspec
import pytest

import pyrepl3
from pyrepl3.errors import SessionError
from pyrepl3.records import Interrupted, Notice
from pyrepl3.session.control import (
    LONGEST,
    SOCKET,
    Answer,
    Collect,
    Control,
    Fork,
    Interrupt,
    Reply,
    Restore,
    Status,
    Undo,
    ask_owner,
)
from pyrepl3.testing.durability import FakeDurability
from pyrepl3.testing.fakes import FakeStore, Seen

UP = "import asyncio; print('up')\n"


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
async def session(seen, tmp_path):
    opening = pyrepl3.open_session(
        "demo", store=FakeStore(), observe=seen, durability=FakeDurability()
    )
    async with opening as session, Control(session, tmp_path):
        yield session


async def ask(folder, request):
    return await asyncio.to_thread(ask_owner, folder, request)


@pytest.mark.parametrize("code", ["await asyncio.sleep(60)", "while True: pass"])
async def test_a_cell_is_stopped_from_outside(session, seen, tmp_path, code):
    running = asyncio.create_task(session.run(UP + code))
    await seen.until_text("up")
    status = await ask(tmp_path, Status())
    assert (status.pid, status.running, status.count) == (os.getpid(), ("demo-c1",), 1)
    assert (await ask(tmp_path, Interrupt(cell="demo-c9"))).error == "no cell demo-c9 runs"
    assert (await ask(tmp_path, Interrupt())).ok
    assert isinstance(await running, Interrupted)
    reply = await ask(tmp_path, Interrupt())
    assert (reply.ok, reply.error) == (False, "no cell runs")


async def test_a_question_is_answered_from_outside(session, seen, tmp_path):
    running = asyncio.create_task(
        session.run("from pyrepl3 import ask\nask('Ship?', choices=['yes', 'no'])")
    )
    await seen.until(lambda event: isinstance(event, Notice) and event.kind == "asking")
    (asked,) = (await ask(tmp_path, Status())).asked
    assert asked.prompt == "Ship?"
    assert "choose one of yes, no" in (await ask(tmp_path, Answer(asked=asked.id, value="x"))).error
    assert (
        "no question nothing" in (await ask(tmp_path, Answer(asked="nothing", value="yes"))).error
    )
    assert (await ask(tmp_path, Answer(asked=asked.id[-3:], value="yes"))).ok
    assert (await running).value == "yes"
    assert (await ask(tmp_path, Status())).asked == ()


async def test_a_session_is_taken_back_forked_and_collected_from_outside(session, tmp_path):
    for cell in ("x = 1", "x = 2", "x = 3"):
        await session.run(cell)
    assert await ask(tmp_path, Undo(n=2)) == Reply(before=3, epoch=1)
    assert await session.fetch("x") == 1
    assert await ask(tmp_path, Restore(epoch=2)) == Reply(before=1, epoch=2)
    assert await ask(tmp_path, Fork(name="new")) == Reply(epoch=2)
    assert (await ask(tmp_path, Fork(name="new"))).error.startswith("session 'new' is in")
    assert (await ask(tmp_path, Collect())).dropped.epochs == 1
    assert "no epoch 3; the nearest are 1, 2" in (await ask(tmp_path, Restore(epoch=3))).error
    assert "only 2 are there" in (await ask(tmp_path, Undo(n=3))).error
    assert (session.epoch, await session.fetch("x")) == (2, 2)


async def test_while_a_cell_runs_it_is_not_taken_back_from_outside(session, seen, tmp_path):
    running = asyncio.create_task(session.run(UP + "await asyncio.sleep(60)"))
    await seen.until_text("up")
    assert "a cell is running (demo-c1)" in (await ask(tmp_path, Undo())).error
    session.interrupt()
    await running


async def test_the_socket_is_the_user_s_alone(session, tmp_path):
    found = (tmp_path / SOCKET).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_what_a_killed_owner_left_is_replaced(seen, tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET))
    left.close()
    assert await ask(tmp_path, Status()) is None
    async with pyrepl3.open_session() as session:
        control = Control(session, tmp_path)
        async with control:
            assert (await ask(tmp_path, Status())).pid == os.getpid()
        assert await ask(tmp_path, Status()) is None
        await control.aclose()
    assert await ask(tmp_path / "nowhere", Status()) is None


async def test_a_directory_with_a_long_name_is_served_too(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with pyrepl3.open_session() as session, Control(session, folder):
        assert (await ask(folder, Status())).pid == os.getpid()


def exchange(folder, data, *, hang_up=False):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(folder / SOCKET))
        client.sendall(data)
        if hang_up:
            return None
        head = client.recv(4)
        return msgspec.msgpack.decode(client.recv(struct.unpack(">I", head)[0]), type=Reply)


async def test_what_is_no_message_is_answered_or_dropped_and_harms_nothing(session, tmp_path):
    for data in (b"\0\0\0\5hello", b"\0\0\0\0", struct.pack(">I", LONGEST + 1)):
        reply = await asyncio.to_thread(exchange, tmp_path, data)
        assert not reply.ok
        assert reply.error
    for data in (b"", b"\0\0", b"\0\0\0\5he"):
        await asyncio.to_thread(exchange, tmp_path, data, hang_up=True)
    assert (await ask(tmp_path, Status())).ok


async def test_an_owner_that_talks_nonsense_is_an_error(tmp_path):
    async def talk(reader, writer):
        await reader.read(4)
        writer.write(b"\0\0\0\5hello")
        writer.close()

    server = await asyncio.start_unix_server(talk, tmp_path / SOCKET)
    with pytest.raises(SessionError, match="does not answer as it should"):
        await ask(tmp_path, Status())
    server.close()
    await server.wait_closed()
