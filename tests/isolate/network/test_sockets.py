"""Ordinary code in confined sessions that may reach a server: it works unchanged, or is told why not."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import struct
import sys
import threading

import pytest
import trustme

import pyrepl3
from pyrepl3 import Limits, Policy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="walls are built on Linux only"),
]


class Hello(http.server.BaseHTTPRequestHandler):
    """Says hello, and how much it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"hello")

    def do_POST(self):
        self.answer(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@contextlib.contextmanager
def served(context=None):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ports(authority):
    """Of a plain server, one by TLS, and a socket that nobody listens at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with served() as plain, served(context) as tls, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield plain, tls, closed.getsockname()[1]


GET = "b'GET / HTTP/1.0\\r\\n\\r\\n'"
ORDINARY = {
    "create_connection": f"import socket\nwith socket.create_connection(('127.0.0.1', PORT), 30) as s:\n    s.sendall({GET})\n    found = s.makefile('rb').read()\nfound[-5:]",
    "a name": f"with socket.create_connection(('localhost', PORT)) as s:\n    s.sendall({GET})\n    found = s.makefile('rb').read()\nfound[-5:]",
    "connect": f"s = socket.socket()\ns.connect(('127.0.0.1', PORT))\ns.settimeout(30)\ns.sendall({GET})\ns.shutdown(socket.SHUT_WR)\nfound = b''.join(iter(lambda: s.recv(9), b''))\ns.close()\nfound[-5:]",
    "with a timeout": f"s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)\ns.settimeout(30)\ns.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)\ns.connect(('127.0.0.1', PORT))\ns.sendall({GET})\nfound = b''.join(iter(lambda: s.recv(9), b''))\ns.close()\nfound[-5:]",
    "without blocking": "import select, errno\ns = socket.socket()\ns.setblocking(False)\nassert s.connect_ex(('127.0.0.1', PORT)) == errno.EINPROGRESS\nselect.select([], [s], [], 30)\nassert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0\nassert s.getpeername() == ('127.0.0.1', PORT)\nassert s.connect_ex(('127.0.0.1', PORT)) == errno.EISCONN\ns.setblocking(True)\ns.sendall("
    + GET
    + ")\nfound = s.makefile('rb').read()\ns.close()\nfound[-5:]",
    "selectors": "import selectors\ns = socket.socket()\ns.setblocking(False)\ns.connect_ex(('127.0.0.1', PORT))\nwith selectors.DefaultSelector() as all_of:\n    all_of.register(s, selectors.EVENT_WRITE)\n    all_of.select(30)\n    s.send("
    + GET
    + ")\n    all_of.modify(s, selectors.EVENT_READ)\n    all_of.select(30)\n    found = s.recv(4)\ns.close()\nb'hello' if found == b'HTTP' else found",
    "from a thread": "import threading\nfound = []\ndef go():\n    with socket.create_connection(('127.0.0.1', PORT)) as s:\n        s.sendall("
    + GET
    + ")\n        found.append(s.makefile('rb').read())\nt = [threading.Thread(target=go) for _ in range(9)]\n[x.start() for x in t]\n[x.join() for x in t]\nassert len(found) == 9\nfound[0][-5:]",
    "names": "found = socket.getaddrinfo('localhost', PORT, type=socket.SOCK_STREAM)\nassert found == [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', PORT))], found\nassert socket.getaddrinfo('127.0.0.1', str(PORT), type=socket.SOCK_STREAM)[0][4] == ('127.0.0.1', PORT)\nassert socket.gethostbyname('localhost') == '127.0.0.1'\nb'hello'",
    "http.client": "import http.client\nc = http.client.HTTPConnection('localhost', PORT, timeout=30)\nc.request('GET', '/')\nfound = c.getresponse().read()\nc.request('POST', '/', body=bytes(3_000_000))\nassert c.getresponse().read() == b'3000000'\nc.close()\nfound",
    "urllib": "import urllib.request\nurllib.request.urlopen(f'http://127.0.0.1:{PORT}/').read()",
    "https": "import ssl, urllib.request\ncontext = ssl.create_default_context(cadata=CA)\nurllib.request.urlopen(f'https://localhost:{TLS}/', context=context).read()",
    "ssl, wrapped after": f"with socket.create_connection(('127.0.0.1', TLS)) as raw, context.wrap_socket(raw, server_hostname='127.0.0.1') as s:\n    assert s.getpeername() == ('127.0.0.1', TLS)\n    assert s.version() in ('TLSv1.2', 'TLSv1.3')\n    s.sendall({GET})\n    found = s.recv(4) and s.recv(9999)\nb'hello' if b'200 OK' in found else found",
    "ssl, wrapped before": f"s = context.wrap_socket(socket.socket(), server_hostname='localhost')\ns.settimeout(30)\ns.connect(('localhost', TLS))\ns.sendall({GET})\nfound = s.recv(9999)\ns.close()\nb'hello' if b'200 OK' in found else found",
    "asyncio": f"import asyncio\nreader, writer = await asyncio.open_connection('localhost', PORT)\nwriter.write({GET})\nfound = await reader.read()\nassert writer.get_extra_info('peername') == ('127.0.0.1', PORT)\nwriter.close()\nawait writer.wait_closed()\nfound[-5:]",
    "asyncio, by TLS": f"reader, writer = await asyncio.open_connection('localhost', TLS, ssl=context)\nwriter.write({GET})\nfound = await reader.read()\nwriter.close()\nfound[-5:]",
    "sock_connect": f"loop = asyncio.get_running_loop()\ns = socket.socket()\ns.setblocking(False)\nawait loop.sock_connect(s, ('127.0.0.1', PORT))\nawait loop.sock_sendall(s, {GET})\nfound = await loop.sock_recv(s, 4)\ns.close()\nb'hello' if found == b'HTTP' else found",
    "many at once": f"async def one():\n    reader, writer = await asyncio.open_connection('127.0.0.1', PORT)\n    writer.write({GET})\n    found = await reader.read()\n    writer.close()\n    return found[-5:]\nfound = await asyncio.gather(*[one() for _ in range(40)])\nassert len(set(found)) == 1\nfound[0]",
    "requests": "import requests\nr = requests.get(f'http://localhost:{PORT}/', timeout=30)\nr.content",
    "httpx": "import httpx\nwith httpx.Client(verify=context) as client:\n    assert client.get(f'https://localhost:{TLS}/').text == 'hello'\nasync with httpx.AsyncClient() as client:\n    found = (await client.get(f'http://localhost:{PORT}/')).content\nfound",
    "aiohttp": "import aiohttp\nasync with aiohttp.ClientSession() as client, client.get(f'http://127.0.0.1:{PORT}/') as r:\n    found = await r.read()\nfound",
    "another socket": "a, b = socket.socketpair()\na.send(b'hello')\na.getpeername(), b.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)\nb.recv(5)",
    "a copy": f"s = socket.create_connection(('127.0.0.1', PORT))\ncopy = s.dup()\ns.close()\nassert copy.getpeername() == ('127.0.0.1', PORT)\ncopy.sendall({GET})\nfound = copy.makefile('rb').read()\ncopy.close()\nfound[-5:]",
}


async def test_ordinary_code_works_unchanged(ports, authority):
    plain, tls, _ = ports
    policy = Policy(network=(f"127.0.0.1:{plain}", f"127.0.0.1:{tls}"))
    went = {}
    async with pyrepl3.open_session(
        isolation="confined", strict=True, policy=policy, limits=Limits(wall=60)
    ) as session:
        names = f"PORT, TLS, CA = {plain}, {tls}, {authority.cert_pem.bytes().decode()!r}"
        (await session.run(names)).unwrap()
        for name, source in ORDINARY.items():
            outcome = await session.run(source)
            went[name] = outcome.text if outcome.ok else repr(outcome.error)
    assert went == dict.fromkeys(ORDINARY, "b'hello'")


REFUSED = {
    "a port": "import socket\nsocket.create_connection(('127.0.0.1', OTHER), 30)",
    "a port, without blocking": "import asyncio\ns = socket.socket()\ns.setblocking(False)\nawait asyncio.get_running_loop().sock_connect(s, ('127.0.0.1', OTHER))",
    "a port, by asyncio": "await asyncio.open_connection('127.0.0.1', OTHER)",
    "a name": "socket.create_connection(('example.org', 443))",
    "a name, by asyncio": "await asyncio.open_connection('example.org', 443)",
    "a name, to look up": "socket.getaddrinfo('example.org', None)",
    "a name, in the old way": "socket.gethostbyname('example.org')",
}
REFUSED_OTHERWISE = {
    "datagrams": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "only by TCP"),
    "a server": ("socket.create_server(('127.0.0.1', 0))", "from no address of its own"),
    "a server without an address": (
        "s = socket.socket()\ns.bind(('', 0))\ns.listen()",
        "serves nobody",
    ),
}


async def test_what_is_not_listed_is_refused_with_a_cure(ports):
    policy = Policy(network=(f"127.0.0.1:{ports[0]}",))
    async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
        (await session.run(f"OTHER = {ports[1]}")).unwrap()
        for name, source in REFUSED.items():
            error = (await session.run(source)).error
            assert isinstance(error, PermissionError), name
            assert "does not list" in str(error), name
            assert "open_session(policy=Policy(network=(" in str(error), name
        for name, (source, text) in REFUSED_OTHERWISE.items():
            error = (await session.run(source)).error
            assert isinstance(error, PermissionError), name
            assert text in str(error), name
        assert (await session.run("1 + 1")).text == "2"


async def test_without_a_list_a_name_is_refused_with_a_cure():
    async with pyrepl3.open_session(isolation="confined") as session:
        for source in (
            "import socket\nsocket.create_connection(('example.org', 443))",
            "socket.create_connection(('127.0.0.1', 443))",
            "socket.gethostbyname('example.org')",
        ):
            error = (await session.run(source)).error
            assert isinstance(error, PermissionError)
            assert "Policy(network=('example.org:443',))" in str(error)


async def test_the_wall_stands_and_says_where_it_is_open(ports):
    at = f"127.0.0.1:{ports[0]}"
    policy = Policy(network=(at,))
    async with pyrepl3.open_session(isolation="confined", policy=policy, strict=True) as session:
        [wall] = [wall for wall in await session.walls() if wall.name == "network"]
        assert wall.stands
        assert wall.detail == f"but for {at}, to which the host connects"


async def test_nobody_there_is_told_as_ever(ports):
    closed = ports[2]
    policy = Policy(network=(f"127.0.0.1:{closed}",))
    async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
        (await session.run(f"import socket, asyncio, errno\nAT = ('127.0.0.1', {closed})")).unwrap()
        for source in (
            "socket.create_connection(AT)",
            "await asyncio.open_connection(*AT)",
            "s = socket.socket()\ns.settimeout(30)\ns.connect(AT)",
            "s.connect(AT)",
        ):
            assert isinstance((await session.run(source)).error, ConnectionRefusedError), source
        assert (await session.run("s.connect_ex(AT) == errno.ECONNREFUSED")).text == "True"
        assert (await session.run("s.getpeername()")).error.errno == 107


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


async def test_a_connection_that_takes_too_long_is_given_up_or_interrupted(deaf):
    policy = Policy(network=(f"127.0.0.1:{deaf}",))
    async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
        (await session.run(f"import socket, asyncio\nAT = ('127.0.0.1', {deaf})")).unwrap()
        timed_out = (await session.run("socket.create_connection(AT, 0.2)")).error
        assert isinstance(timed_out, TimeoutError)
        source = "async with asyncio.timeout(0.2):\n    await asyncio.open_connection(*AT)"
        assert isinstance((await session.run(source)).error, TimeoutError)
        up = asyncio.Event()

        def observe(event):
            if getattr(event, "text", "").startswith("up"):
                up.set()

        running = asyncio.create_task(
            session.run("print('up', flush=True)\nsocket.create_connection(AT)", observe=observe)
        )
        await up.wait()
        assert session.interrupt()
        assert isinstance(await running, pyrepl3.Interrupted)
        assert (await session.run("1 + 1")).text == "2"


class Listener:
    """A server that says when each connection to it has ended."""

    async def __aenter__(self):
        self.came: asyncio.Queue[None] = asyncio.Queue()
        self.over: asyncio.Queue[bytes] = asyncio.Queue()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        self.came.put_nowait(None)
        heard = b""
        with contextlib.suppress(OSError):
            heard = await reader.read()
        writer.close()
        self.over.put_nowait(heard)


async def test_connections_end_with_their_worker_and_with_their_session():
    async with Listener() as listener:
        policy = Policy(network=(f"127.0.0.1:{listener.port}",))
        connect = f"import socket\ns = socket.create_connection(('127.0.0.1', {listener.port}))"
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            (await session.run(connect)).unwrap()
            await listener.came.get()
            outcome = await session.run("import os, signal\nsignal.raise_signal(signal.SIGKILL)")
            assert isinstance(outcome.error, pyrepl3.WorkerDiedError)
            assert await listener.over.get() == b""
            assert isinstance((await session.run("s")).error, NameError)  # dead, and declared
            assert "socket" in session.lost["s"]
            (await session.run(connect)).unwrap()
            await listener.came.get()
        assert await listener.over.get() == b""


RESET = {
    "recv": "s = socket.create_connection(AT, 30)\nwhile s.recv(100): pass",
    "asyncio": "reader, _ = await asyncio.open_connection(*AT)\nawait reader.read()",
    "a program's own buffers": "socket.create_connection(AT).makefile('rb').read()",
}


async def test_a_connection_that_its_server_resets_is_no_ordinary_end():
    def reset(connection):
        connection.send(b"half of it")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        threading.Event().wait(0.05)  # or the reset takes the bytes with it
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        at = server.getsockname()
        policy = Policy(network=(f"127.0.0.1:{at[1]}",))
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            (await session.run(f"import asyncio, socket\nAT = {at}")).unwrap()
            for name, source in RESET.items():
                running = asyncio.create_task(session.run(source))
                reset((await asyncio.to_thread(server.accept))[0])
                outcome = await running
                assert isinstance(outcome.error, ConnectionResetError), (name, outcome)


async def test_the_bytes_of_a_session_are_counted_over_its_workers():
    async with Listener() as listener:
        policy = Policy(network=(f"127.0.0.1:{listener.port}",), traffic=500_000)
        connect = (
            f"import socket\ns = socket.create_connection(('127.0.0.1', {listener.port}))\n"
            "s.sendall(bytes(400_000))\ns.close()"
        )
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            (await session.run(connect)).unwrap()
            assert len(await listener.over.get()) == 400_000
            await session.run("import os\nos._exit(1)")
            await session.run(connect)
            await session.run("s = 0")
            assert len(await listener.over.get()) <= 100_000
            error = (await session.run(connect)).error
            assert isinstance(error, PermissionError)
            assert "Policy(traffic=" in str(error)


async def test_more_connections_than_allowed_are_an_error_and_the_session_goes_on():
    async with Listener() as listener:
        policy = Policy(network=(f"127.0.0.1:{listener.port}",))
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            source = f"import socket\nall_of = [socket.create_connection(('127.0.0.1', {listener.port})) for _ in range(65)]"
            error = (await session.run(source)).error
            assert isinstance(error, OSError)
            assert "64 connections at once" in str(error)


async def test_a_worker_without_room_for_a_descriptor_goes_on():
    async with Listener() as listener:
        policy = Policy(network=(f"127.0.0.1:{listener.port}",))
        limits = Limits(open_files=40)
        async with pyrepl3.open_session(
            isolation="confined", policy=policy, limits=limits
        ) as session:
            source = (
                "import os, socket\n"
                "kept = [socket.socket()]\n"
                "full = []\n"
                "try:\n    while True: full.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError: pass\n"
                f"kept[0].connect(('127.0.0.1', {listener.port}))"
            )
            assert (await session.run(source)).error.errno == 24
            await session.run("for fd in full: os.close(fd)")
            again = f"kept[0].connect(('127.0.0.1', {listener.port}))\nkept[0].getpeername()[1]"
            assert (await session.run(again)).text == str(listener.port)


async def test_a_program_and_a_forked_child_have_no_network():
    async with Listener() as listener:
        policy = Policy(network=(f"127.0.0.1:{listener.port}",), subprocesses=True)
        connect = f"import socket; socket.create_connection(('127.0.0.1', {listener.port}))"
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            source = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {connect!r}], capture_output=True, text=True).stderr"
            assert "Permission denied" in (await session.run(source)).text
            source = (
                "import os\nreading, writing = os.pipe()\npid = os.fork()\n"
                f"if not pid:\n    try:\n        {connect}\n    except OSError as error:\n"
                "        os.write(writing, str(error).encode())\n    os._exit(0)\n"
                "os.waitpid(pid, 0)\nos.read(reading, 999)"
            )
            assert "forked process has no way" in (await session.run(source)).text
        assert listener.came.empty()
