"""Attempts from a confined session that may reach one server: to reach another one, or to use up the host.

Each attempt is a cell. In an unprotected process it reaches a server that it has no business with; in a
session whose policy lists another port of the same machine it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3 import Limits, Policy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="walls are built on Linux only"),
]

# LISTED and OTHER are ports of 127.0.0.1; only the first is in the list.
COMMON = """
import asyncio, ctypes, errno, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
OTHER_AT = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(OTHER), bytes([127, 0, 0, 1]))
NOWHERE = struct.pack("=H14x", socket.AF_UNSPEC)
def listed(): return socket.create_connection(("127.0.0.1", LISTED), 30)
def reached(sock):
    sock.sendall(b"harm")
    sock.close()
"""
ATTEMPTS = {
    "another port": "reached(socket.create_connection(('127.0.0.1', OTHER), 30))",
    "another port, without blocking": "s = socket.socket()\ns.setblocking(False)\nawait asyncio.get_running_loop().sock_connect(s, ('127.0.0.1', OTHER))\nreached(s)",
    "another port, by asyncio": "r, w = await asyncio.open_connection('127.0.0.1', OTHER)\nw.write(b'harm')\nawait w.drain()\nw.close()",
    "an address that is mapped": "s = socket.socket(socket.AF_INET6)\ns.connect(('::ffff:127.0.0.1', OTHER))\nreached(s)",
    "an address in an old form": "s = socket.socket()\ns.connect(('127.1', OTHER))\nreached(s)",
    "an address as a number": "s = socket.socket()\ns.connect(('2130706433', OTHER))\nreached(s)",
    "an address as octal numbers": "s = socket.socket()\ns.connect(('0177.0.0.1', OTHER))\nreached(s)",
    "no address at all": "s = socket.socket()\ns.connect(('', OTHER))\nreached(s)",
    "the address of any": "s = socket.socket()\ns.connect(('0.0.0.0', OTHER))\nreached(s)",
    "the name of the machine": "s = socket.socket()\ns.connect(('localhost', OTHER))\nreached(s)",
    "the class of C": "import _socket\ns = _socket.socket(socket.AF_INET, socket.SOCK_STREAM)\ns.connect(('127.0.0.1', OTHER))\ns.send(b'harm')",
    "the method of C": "import _socket\ns = socket.socket()\n_socket.socket.connect(s, ('127.0.0.1', OTHER))\ns.send(b'harm')",
    "connect by number": "s = socket.socket()\nassert libc.connect(s.fileno(), OTHER_AT, 16) == 0, ctypes.get_errno()\ns.send(b'harm')",
    "a connection, led elsewhere": "s = listed()\ns.setblocking(True)\nlibc.connect(s.fileno(), NOWHERE, 16)\nassert libc.connect(s.fileno(), OTHER_AT, 16) == 0, ctypes.get_errno()\ns.send(b'harm')",
    "a connection that failed, led elsewhere": "s = socket.socket()\ns.settimeout(30)\ns.connect_ex(('127.0.0.1', LISTED))\ns.shutdown(2)\ns.setblocking(True)\nlibc.connect(s.fileno(), NOWHERE, 16)\nassert libc.connect(s.fileno(), OTHER_AT, 16) == 0, ctypes.get_errno()\nlibc.send(s.fileno(), b'harm', 4, 0)",
    "bytes with an address": "s = socket.socket()\nassert libc.sendto(s.fileno(), b'harm', 4, 0x20000000, OTHER_AT, 16) == 4, ctypes.get_errno()",  # MSG_FASTOPEN
    "bytes with an address, on a connection": "s = listed()\ns.setblocking(True)\nlibc.connect(s.fileno(), NOWHERE, 16)\nassert libc.sendto(s.fileno(), b'harm', 4, 0x20000000, OTHER_AT, 16) == 4, ctypes.get_errno()",
    "a descriptor, taken over": "s = listed()\ns.setblocking(True)\ns2 = socket.socket(fileno=os.dup(s.fileno()))\nlibc.connect(s2.fileno(), NOWHERE, 16)\nassert any(libc.connect(s2.fileno(), OTHER_AT, 16) == 0 for _ in range(50)), ctypes.get_errno()\nlibc.send(s2.fileno(), b'harm', 4, 0)",
    "datagrams": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'harm', ('127.0.0.1', OTHER))",
    "datagrams by number": "fd = libc.socket(2, 2, 0)\nassert libc.sendto(fd, b'harm', 4, 0, OTHER_AT, 16) == 4, ctypes.get_errno()",
    "a socket by number": "fd = libc.socket(2, 1, 0)\nassert libc.connect(fd, OTHER_AT, 16) == 0, ctypes.get_errno()\nlibc.send(fd, b'harm', 4, 0)",
    "a program": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', f'import socket; socket.create_connection((\"127.0.0.1\", {OTHER})).sendall(b\"harm\")'], check=True)",
    "a list of its own": "import gc\ntry:\n    from pyrepl3.isolate.network.book import Book\n    for book in [o for o in gc.get_objects() if isinstance(o, Book)]:\n        book._addresses.add(('127.0.0.1', OTHER))\n        book.grants = lambda *_: True\nexcept ImportError: pass\nreached(socket.create_connection(('127.0.0.1', OTHER), 30))",
    "what the machine is called by others": "import fcntl\ns = listed()\nfound = fcntl.ioctl(s, 0x8912, struct.pack('iP', 4096, ctypes.addressof(ctypes.create_string_buffer(4096))))\nassert struct.unpack('iP', found)[0]\nreached(socket.create_connection(('127.0.0.1', OTHER), 30))",
    # Last, since what is after it has only the kernel's sockets.
    "Python's module, loaded anew": "import importlib\nimportlib.reload(socket)\nreached(socket.create_connection(('127.0.0.1', OTHER), 30))",
}
# Only from a worker: there is no pipe elsewhere.
PIPE = """
import stat
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.frames import header
pipes = []
for fd in range(3, 64):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode): pipes.append(fd)
    except OSError: pass
def say(message, times=1):
    head = m.encode(message)
    for fd in pipes:
        try: os.write(fd, (header(len(head)) + head) * times)
        except OSError: pass
"""
FORGED = {
    "a request": "say(m.Dial(n=10**6, address='127.0.0.1', port=OTHER))",
    "a request for a mapped address": "say(m.Dial(n=10**6, address='::ffff:127.0.0.1', port=OTHER))",
    "a request for a link": "say(m.Dial(n=10**6, address='127.0.0.1%lo', port=OTHER))",
    "a name in place of an address": "say(m.Dial(n=10**6, address='localhost', port=OTHER))",
    "a name that is not listed": "say(m.Lookup(n=10**6, host='localhost.localdomain'))",
    "a number that is taken": "s = listed()\nfor n in range(1, 9): say(m.Dial(n=n, address='127.0.0.1', port=OTHER))",
    "no number of a port": "say(m.Dial(n=10**6, address='127.0.0.1', port=OTHER + 65536))",
    "a name without end": "say(m.Lookup(n=10**6, host='a' * 10**6))",
    "a flood of requests": "for _ in range(100): say(m.Dial(n=10**6, address='127.0.0.1', port=OTHER), 100)",
    "a flood of names": "for _ in range(100): say(m.Lookup(n=10**6, host='example.org'), 100)",
    "an answer in place of a question": "say(m.Plugged(n=1))",
}
CONTROL = """
import ast, asyncio, json, os, sys
def attempt(source):
    code = compile(source, "<attempt>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async def main():
        found = eval(code, {})
        if found is not None:
            await found
    asyncio.run(main())

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            attempt(json.loads(line))
        except BaseException as error:
            sys.stderr.write(f"{line}: {error!r}\\n")
            os._exit(1)
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Ear:
    """Hears on a port what it should not, by connections and by datagrams."""

    async def __aenter__(self):
        self.heard: list[bytes] = []
        self.came = asyncio.Event()
        loop = asyncio.get_running_loop()
        while True:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            try:
                self.transport, _ = await loop.create_datagram_endpoint(
                    lambda: self, local_addr=("127.0.0.1", self.port)
                )
            except OSError:  # somebody has the same number for datagrams
                self.server.close()
            else:
                return self

    async def __aexit__(self, *_):
        self.server.close()
        self.transport.close()

    def connection_made(self, transport):
        """Nothing: of datagrams."""

    def connection_lost(self, error):
        """Nothing: of datagrams."""

    def datagram_received(self, data, _):
        self.hear(data)

    async def serve(self, reader, writer):
        self.hear(b"a connection")
        with contextlib.suppress(OSError):
            self.hear(await reader.read())
        writer.close()

    def hear(self, data):
        self.heard.append(data)
        self.came.set()


@pytest.fixture(scope="module")
def control():
    """Name to whether the other server has heard of an unprotected process; and what that said."""

    async def main():
        heard = {}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CONTROL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, source in ATTEMPTS.items():
            async with Ear() as listed, Ear() as other:
                whole = f"LISTED, OTHER = {listed.port}, {other.port}\n{COMMON}\n{source}"
                process.stdin.write(json.dumps(whole).encode() + b"\n")
                if await process.stdout.readline() == b"0\n":  # a datagram may be on its way
                    await asyncio.wait_for(other.came.wait(), 60)
                heard[name] = bool(other.heard)
        _, said = await process.communicate()
        return heard, said.decode()

    return asyncio.run(main())


async def attempt(session, source, listed):
    """Whether the other server has heard, what the cell came to, and what a cell after it does."""
    async with Ear() as other:
        (await session.run(f"LISTED, OTHER = {listed.port}, {other.port}\n{COMMON}")).unwrap()
        outcome = await session.run(source)
        after = (await session.run("40 + 2")).text
        return bool(other.heard), outcome.text if outcome.ok else repr(outcome.error), after


def open_session(listed):
    policy = Policy(network=(f"127.0.0.1:{listed.port}",))
    return pyrepl3.open_session(
        isolation="confined", strict=True, policy=policy, limits=Limits(wall=60)
    )


@pytest.fixture(scope="module")
def confined():
    """Name to what became of an attempt; those that write to the pipe have a session each."""

    async def forge(source):
        async with Ear() as listed, open_session(listed) as session:
            found = await attempt(session, PIPE + source, listed)
            # What the host does for it comes after what it did before.
            listed.came.clear()
            (await session.run("reached(listed())")).unwrap()
            await asyncio.wait_for(listed.came.wait(), 60)  # a server hears of it after its client
            return *found, bool(listed.heard)

    async def main():
        async with Ear() as listed, open_session(listed) as session:
            found = {
                name: (*await attempt(session, source, listed), True)
                for name, source in ATTEMPTS.items()
            }
        forged = await asyncio.gather(*map(forge, FORGED.values()))
        return found | dict(zip(FORGED, forged, strict=True))

    return asyncio.run(main())


@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_reaches_another_server_without_walls(control, name):
    heard, said = control
    assert heard[name], said


@pytest.mark.parametrize("name", [*ATTEMPTS, *FORGED])
def test_it_reaches_nothing_but_what_is_listed(confined, name):
    heard, told, after, still = confined[name]
    assert not heard, told
    assert after == "42"
    assert still


async def test_a_session_that_connects_without_end_uses_up_no_more_than_its_share():
    """Descriptors and threads of the host, while a worker opens what it can and drops it."""
    async with Ear() as listed:
        policy = Policy(network=(f"127.0.0.1:{listed.port}",))
        async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
            before = len(list(Path("/proc/self/fd").iterdir()))
            source = (
                f"import socket\nfailed = 0\nfor _ in range(300):\n"
                f"    try: socket.create_connection(('127.0.0.1', {listed.port}))\n"
                "    except OSError: failed += 1"
            )
            (await session.run(source)).unwrap()
            # Two of the host's for each; the server, which is in this process, too, closes its own a bit later.
            async with asyncio.timeout(60):
                while len(list(Path("/proc/self/fd").iterdir())) - before > 64 * 2 + 20:
                    await asyncio.sleep(0.01)
