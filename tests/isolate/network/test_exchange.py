"""What the host does for a worker that asks for the network, honest or not. Servers are on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
import threading

import pytest

from pyrepl3.isolate import messages as m
from pyrepl3.isolate.network.carrying import Traffic
from pyrepl3.isolate.network.exchange import CONNECTIONS, Exchange

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="confined workers are on Linux only"
)


class Desk:
    """An exchange, and what it says."""

    def __init__(
        self, *network: str, names: dict[str, list[str]] | None = None, most=None, clock=None
    ):
        self.said: asyncio.Queue[tuple[object, int | None]] = asyncio.Queue()
        self.asked: list[str] = []
        self.names = names or {}
        self.hold = threading.Event()
        self.hold.set()
        loop = asyncio.get_running_loop()

        def post(message, *, hand=None):
            loop.call_soon_threadsafe(self.said.put_nowait, (message, hand))

        def resolve(host):
            self.asked.append(host)
            assert self.hold.wait(60)
            if host not in self.names:
                raise socket.gaierror(socket.EAI_NONAME, "not known")
            return self.names[host]

        options = {} if clock is None else {"clock": clock}
        self.exchange = Exchange(network, Traffic(most), post, resolve=resolve, **options)

    async def look_up(self, host, n=1):
        self.exchange.take(m.Lookup(n=n, host=host))
        found, _ = await self.said.get()
        assert isinstance(found, m.Found)
        return found

    async def dial(self, address, port, n=1):
        """The worker's end, and why there is no connection."""
        self.exchange.take(m.Dial(n=n, address=address, port=port))
        said, fd = await self.said.get()
        if isinstance(said, m.Plugged):
            end = socket.socket(fileno=fd)
            end.setblocking(False)
            said, _ = await self.said.get()
        else:
            end = None
        assert isinstance(said, m.Dialed)
        assert said.n == n
        return end, said.fault

    async def refused(self, address, port):
        end, fault = await self.dial(address, port)
        assert end is None
        assert fault is not None
        return fault.kind == "refused" and "Policy(network=" in fault.text


@pytest.fixture
async def desks():
    made = []

    def make(*network, **options):
        made.append(Desk(*network, **options))
        return made[-1]

    yield make
    for desk in made:
        desk.hold.set()
        desk.exchange.close()
    for desk in made:
        if desk.exchange._thread is not None:
            await asyncio.to_thread(desk.exchange._thread.join)


class Server:
    """Echoes what it hears until it hears no more; ``heard`` has what each connection said."""

    def __init__(self, host="127.0.0.1"):
        self.host = host
        self.heard: list[bytes] = []
        self.over: asyncio.Queue[bytes] = asyncio.Queue()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, self.host, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.at = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        heard = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                heard += data
                writer.write(data)
                await writer.drain()
        writer.close()
        self.heard.append(heard)
        self.over.put_nowait(heard)


@pytest.fixture
async def server():
    async with Server() as server:
        yield server


@pytest.fixture
def deaf():
    """The port of a server that lets nobody in: a connection neither comes about nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def read_all(end):
    loop, found = asyncio.get_running_loop(), b""
    while data := await loop.sock_recv(end, 65536):
        found += data
    return found


def inside():
    """Addresses inside that nobody listed, in all their forms."""
    return [
        *("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "10.0.0.1"),
        *("169.254.169.254", "fe80::1%lo", "64:ff9b::7f00:1", "127.1", "2130706433", "localhost"),
    ]


async def test_bytes_go_both_ways_and_the_end_too(desks, server):
    desk, loop = desks(server.at), asyncio.get_running_loop()
    end, fault = await desk.dial("127.0.0.1", server.port)
    assert fault is None
    data = os.urandom(3_000_000)
    with end:
        echo = asyncio.create_task(read_all(end))
        await loop.sock_sendall(end, data)
        end.shutdown(socket.SHUT_WR)
        assert await echo == data
    assert await server.over.get() == data


async def test_a_connection_that_is_reset_is_reset_for_the_worker_too(desks):
    """What came before is read first; a worker that gives nothing to leave unread reads an end."""

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        desk = desks(f"127.0.0.1:{port}")
        end, fault = await desk.dial("127.0.0.1", port)
        assert fault is None
        connection, _ = await asyncio.to_thread(server.accept)
    with end:
        connection.send(b"half")
        assert await loop.sock_recv(end, 10) == b"half"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        told, _ = await desk.said.get()
        assert (told.n, told.fault.number) == (1, errno.ECONNRESET)
        end.send(b"\0")
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(end, 10)


@pytest.mark.parametrize("address", inside())
async def test_what_is_not_listed_is_refused_and_nobody_hears_of_it(desks, server, address):
    desk = desks("10.9.9.9:1", "example.org:443", f"example.org:{server.port}")
    assert await desk.refused(address, server.port)
    assert server.heard == []
    assert desk.asked == []


async def test_a_port_that_is_not_listed_is_refused(desks, server):
    desk = desks(f"127.0.0.1:{server.port + 1}")
    assert await desk.refused("127.0.0.1", server.port)


async def test_a_name_that_is_not_listed_is_not_even_looked_up(desks):
    desk = desks("example.org:443", "127.0.0.1:80")
    for host in (
        "secret.evil.org",
        "x.example.org",
        "example.org.evil.org",
        "",
        "127.1",
        "EXAMPLE.ORG",
    ):
        found = await desk.look_up(host)
        assert found.fault.kind == "refused"
    assert desk.asked == []


async def test_names_of_this_machine_are_asked_of_nobody(desks):
    desk = desks("127.0.0.1:80")
    assert (await desk.look_up("localhost")).addresses == ("127.0.0.1",)
    assert (await desk.look_up("app.localhost")).addresses == ("127.0.0.1",)
    assert desk.asked == []
    assert (await desks("example.org:80").look_up("localhost")).fault.kind == "refused"


@pytest.mark.parametrize("inward", inside()[:11])
async def test_a_name_that_points_inward_gives_no_address(desks, server, inward):
    desk = desks(f"example.org:{server.port}", names={"example.org": [inward]})
    found = await desk.look_up("example.org")
    assert found.addresses == ()
    assert found.fault.kind == "refused"
    assert "no address of the public network" in found.fault.text
    assert await desk.refused("127.0.0.1", server.port)
    assert server.heard == []


async def test_a_name_that_turns_inward_later_changes_nothing(desks, server):
    """Rebinding: what was looked up is what is connected to, and nothing is looked up for it again."""
    desk = desks(f"example.org:{server.port}", names={"example.org": ["1.1.1.1"]})
    assert (await desk.look_up("example.org")).addresses == ("1.1.1.1",)
    desk.names["example.org"] = ["127.0.0.1", "1.1.1.1"]
    assert (await desk.look_up("example.org")).addresses == ("1.1.1.1",)
    assert await desk.refused("127.0.0.1", server.port)
    assert desk.asked == ["example.org"] * 2


async def test_an_address_inside_that_is_listed_itself_is_reached_by_its_name(desks, server):
    desk = desks(
        f"db.example:{server.port}", server.at, names={"db.example": ["127.0.0.1", "10.0.0.9"]}
    )
    assert (await desk.look_up("db.example")).addresses == ("127.0.0.1",)
    end, fault = await desk.dial("127.0.0.1", server.port)
    assert fault is None
    end.close()
    assert await server.over.get() == b""
    assert desk.asked == ["db.example"]


async def test_a_mapped_address_is_the_one_that_it_maps(desks, server):
    end, fault = await desks(server.at).dial("::ffff:127.0.0.1", server.port)
    assert fault is None
    end.close()


async def test_a_name_that_nobody_knows_says_so(desks):
    fault = (await desks("example.org:443").look_up("example.org")).fault
    assert (fault.kind, fault.number) == ("lookup", socket.EAI_NONAME)


async def test_a_server_that_is_not_there_is_told_by_its_number(desks):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        end, fault = await desks(f"127.0.0.1:{port}").dial("127.0.0.1", port)
    assert fault.number == errno.ECONNREFUSED
    with end:
        assert await read_all(end) == b""


async def test_a_worker_s_end_can_be_written_to_when_there_is_a_connection(desks, deaf, server):
    desk = desks(f"127.0.0.1:{deaf}", server.at)
    desk.exchange.take(m.Dial(n=1, address="127.0.0.1", port=deaf))
    _, fd = await desk.said.get()
    with socket.socket(fileno=fd) as end:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.send(b"x")
        with pytest.raises(BlockingIOError):
            end.recv(1)
    said, _ = await desk.said.get()  # its end was closed: the host gives up, too
    assert said.fault.number == errno.ECONNABORTED
    end, _ = await desk.dial("127.0.0.1", server.port, n=2)
    with end:
        assert end.send(b"x") == 1


async def test_there_are_so_many_connections_at_once_and_no_more(desks, server):
    desk = desks(server.at)
    ends = [(await desk.dial("127.0.0.1", server.port, n=n))[0] for n in range(CONNECTIONS)]
    end, fault = await desk.dial("127.0.0.1", server.port, n=1000)
    assert end is None
    assert (fault.kind, fault.number) == ("system", errno.EMFILE)
    ends.pop().close()
    await server.over.get()
    async with asyncio.timeout(60):
        while fault is not None:  # the host sees it a little later than the server
            end, fault = await desk.dial("127.0.0.1", server.port, n=2000)
    for one in (*ends, end):
        one.close()


async def test_one_who_asks_for_more_than_is_allowed_is_no_honest_one(desks):
    desk = desks("example.org:443")
    desk.hold.clear()
    with pytest.raises(ValueError, match="more is asked"):
        for n in range(m.MOST_ASKED + CONNECTIONS + 1):
            desk.exchange.take(m.Lookup(n=n, host="example.org"))


async def test_a_number_that_is_taken_is_no_second_connection(desks, server):
    desk = desks(server.at)
    end, _ = await desk.dial("127.0.0.1", server.port, n=7)
    other, fault = await desk.dial("127.0.0.1", server.port, n=7)
    assert other is None
    assert fault is not None
    end.close()


async def test_what_was_written_last_arrives_though_its_end_is_closed(desks, server):
    end, _ = await desks(server.at).dial("127.0.0.1", server.port)
    end.send(b"last words")
    end.close()
    assert await server.over.get() == b"last words"


async def test_closing_ends_all_connections_for_both(desks, server, deaf):
    desk = desks(server.at, f"127.0.0.1:{deaf}")
    end, _ = await desk.dial("127.0.0.1", server.port)
    desk.exchange.take(m.Dial(n=2, address="127.0.0.1", port=deaf))
    _, fd = await desk.said.get()
    desk.exchange.close()
    desk.exchange.close()
    with end, socket.socket(fileno=fd) as other:
        other.setblocking(False)
        assert await read_all(end) == b""
        assert await read_all(other) == b""
    assert await server.over.get() == b""
    thread = desk.exchange._thread
    await asyncio.to_thread(thread.join)
    desk.exchange.take(m.Lookup(n=3, host="x"))  # too late, and no fault
    assert not thread.is_alive()


async def test_the_bytes_of_all_connections_are_counted(desks, server):
    desk, loop = desks(server.at, most=1_000_000), asyncio.get_running_loop()
    end, _ = await desk.dial("127.0.0.1", server.port)
    with end:
        with contextlib.suppress(OSError):
            await loop.sock_sendall(end, bytes(3_000_000))
        with contextlib.suppress(ConnectionError):
            assert len(await read_all(end)) < 1_000_000
    assert len(await server.over.get()) <= 1_000_000
    told, _ = await desk.said.get()  # what is cut off is no ordinary end
    assert (told.n, told.fault.number) == (1, errno.ECONNRESET)
    again, fault = await desk.dial("127.0.0.1", server.port, n=2)
    assert again is None
    assert fault.kind == "refused"
    assert "Policy(traffic=" in fault.text


async def test_a_worker_s_end_carries_no_descriptor_to_the_host(desks, server):
    """What comes with the bytes is dropped by the kernel: the host's reads take bytes only."""
    end, _ = await desks(server.at).dial("127.0.0.1", server.port)
    reading, writing = os.pipe()
    with end:
        socket.send_fds(end, [b"x"], [writing])
        os.close(writing)
        assert await asyncio.get_running_loop().sock_recv(end, 9) == b"x"
    assert await asyncio.to_thread(os.read, reading, 1) == b""  # nobody has the other end
    os.close(reading)


async def test_an_address_of_a_name_counts_for_a_while_only(desks, server):
    now = [0.0]
    desk = desks("example.org:443", names={"example.org": ["1.1.1.1"]}, clock=lambda: now[0])
    await desk.look_up("example.org")
    now[0] = 601.0
    assert await desk.refused("1.1.1.1", 443)
