"""Attempts to reach what lies outside of a confined worker: files, secrets, programs, the network, processes.

Each attempt is a cell. In an unprotected process it does its harm, which is small and in sight: it leaves a
mark, ends a decoy, reads a made-up secret. In a confined session none of that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3 import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="walls are built on Linux only"),
]

SECRET = "the-secret-of-the-host"
RAW = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
"""
N = {"x86_64": "x", "aarch64": "a"}[os.uname().machine]
NUMBER = {
    "clone": {"x": 56, "a": 220}[N],
    "socket": {"x": 41, "a": 198}[N],
    "tgkill": {"x": 234, "a": 131}[N],
    "memfd": {"x": 319, "a": 279}[N],
    "execveat": {"x": 322, "a": 281}[N],
    "prlimit": {"x": 302, "a": 261}[N],
    "uring": 425,
}

# Each cell knows W: secret (a file with the secret), victim (a file), folder, mark (a path to make),
# decoy (a process), port (a listener), unix (the path of another), host (the pid of the host).
# Harm: its last expression is true, or the mark is there, or the decoy is gone, or the victim has changed.
FILES = {
    "open": "'the-secret' in open(W['secret']).read()",
    "os.open": "import os\nb'the-secret' in os.read(os.open(W['secret'], os.O_RDONLY), 99)",
    "pathlib": "import pathlib\n'the-secret' in pathlib.Path(W['secret']).read_text()",
    "io.open_code": "import io\nb'the-secret' in io.open_code(W['secret']).read()",
    "mmap": "import mmap, os\nb'the-secret' in mmap.mmap(os.open(W['secret'], os.O_RDONLY), 0, prot=mmap.PROT_READ)[:]",
    "numpy": "import numpy\nb'the-secret' in numpy.fromfile(W['secret'], dtype='u1').tobytes()",
    "linecache": "import linecache\n'the-secret' in ''.join(linecache.getlines(W['secret']))",
    "fopen of libc": RAW
    + "libc.fopen.restype = ctypes.c_void_p\nbool(libc.fopen(W['secret'].encode(), b'r'))",
    "list a folder": "import os\nbool(os.listdir(W['folder']))",
    "scan a folder": "import os\nbool([*os.scandir(W['folder'])])",
    "glob": "import glob\nbool(glob.glob(W['folder'] + '/*'))",
    "a symbolic link": "import os\nos.symlink(W['secret'], 'link1')\n'the-secret' in open('link1').read()",
    "a hard link": "import os\nos.link(W['secret'], W['folder'] + '/link2')\nTrue",
    "through /proc/self/root": "'the-secret' in open('/proc/self/root' + W['secret']).read()",
    "through /proc/self/cwd": "'the-secret' in open('/proc/self/cwd/' + '../' * 20 + W['secret'].lstrip('/')).read()",
    "through the root of the parent": "import os\n'the-secret' in open(f'/proc/{os.getppid()}/root' + W['secret']).read()",
    "by a descriptor of a folder": "import os\nd = os.open(W['folder'], os.O_PATH)\nb'the-secret' in os.read(os.open('secret', os.O_RDONLY, dir_fd=d), 99)",
    "import a file": "import importlib.util as u\ns = u.spec_from_file_location('m', W['module'])\nm = u.module_from_spec(s)\ns.loader.exec_module(m)\nm.loaded",
    "sqlite": "import sqlite3\nsqlite3.connect(W['mark']).execute('create table t (a)')\nTrue",
    "write": "open(W['mark'], 'w').write('x')",
    "append": "open(W['victim'], 'a').write('x')",
    "truncate": "import os\nos.truncate(W['victim'], 0)",
    "remove": "import os\nos.remove(W['victim'])",
    "rename": "import os\nos.rename(W['victim'], W['mark'])",
    "take into the workdir": "import os, shutil\nshutil.move(W['victim'], 'mine')",
    "replace": "import os\nopen('new', 'w').write('x')\nos.replace('new', W['victim'])",
    "make a folder": "import os\nos.mkdir(W['mark'])",
    "make a link outside": "import os\nos.symlink('/x', W['mark'])\nos.path.islink(W['mark'])",
    "make a pipe outside": "import os\nos.mkfifo(W['mark'])",
    "chmod": "import os\nos.chmod(W['victim'], 0o777)",
    "utime": "import os\nos.utime(W['victim'], (1, 1))",
    "a zip with ..": "import zipfile, os\nz = zipfile.ZipFile('z.zip', 'w')\nz.writestr('a', 'x')\nz.close()\nos.makedirs(W['folder'] + '/out')\nzipfile.ZipFile('z.zip').extractall(W['folder'] + '/out')\nTrue",
    "a temporary file elsewhere": "import tempfile\nbool(tempfile.NamedTemporaryFile(dir=W['folder']).name)",
    "a log elsewhere": "import logging\nlogging.FileHandler(W['mark']).close()",
    "chdir": "import os\nos.chdir(W['folder'])\nbool(os.listdir('.'))",
    "the home": "import os\n'the-secret' in open(os.path.join(W['home'], '.netrc')).read()",
    "the shadow": "bool(open('/etc/passwd').read())",
}
SECRETS = {
    "os.environ": "import os\n'the-secret' in str(dict(os.environ))",
    "its own environ": "b'the-secret' in open('/proc/self/environ', 'rb').read()",
    "the environ of the host": "b'the-secret' in open(f\"/proc/{W['host']}/environ\", 'rb').read()",
    "the command line of the host": "bool(open(f\"/proc/{W['host']}/cmdline\", 'rb').read())",
    "the maps of the host": "bool(open(f\"/proc/{W['host']}/maps\").read())",
    "the memory of the host": "import os\nbool(os.open(f\"/proc/{W['host']}/mem\", os.O_RDONLY))",
    "the files of the host": "import os\nbool(os.listdir(f\"/proc/{W['host']}/fd\"))",
    "all processes": "import os\nlen([p for p in os.listdir('/proc') if p.isdigit()]) > 1",
    "getenv of libc": RAW
    + "libc.getenv.restype = ctypes.c_char_p\nb'the-secret' in (libc.getenv(b'PYREPL3_TEST_SECRET') or b'')",
}
PROGRAMS = {
    "os.system": "import os\nos.system(f\"touch {W['mark']}\") == 0",
    "subprocess": "import subprocess\nsubprocess.run(['touch', W['mark']], check=True)",
    "os.popen": "import os\nos.popen(f\"touch {W['mark']}\").read()",
    "os.execv": "import os\nos.execv('/bin/sh', ['sh', '-c', f\"touch {W['mark']}\"])",
    "os.posix_spawn": "import os\nos.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', f\"touch {W['mark']}\"], {}), 0)",
    "os.spawn": "import os\nos.spawnv(os.P_WAIT, '/bin/sh', ['sh', '-c', f\"touch {W['mark']}\"])",
    "pty": "import pty\npty.spawn(['/bin/sh', '-c', f\"touch {W['mark']}\"])",
    "asyncio": "import asyncio\nawait (await asyncio.create_subprocess_exec('touch', W['mark'])).wait()",
    "fork": "import os\npid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)\nTrue",
    "multiprocessing": "import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()\np.join()\np.exitcode == 0",
    "system of libc": RAW + "libc.system(f\"touch {W['mark']}\".encode()) == 0",
    "clone by number": RAW
    + f"pid = libc.syscall({NUMBER['clone']}, 17, 0, 0, 0, 0)\nif not pid: os._exit(0)\npid > 0",
    "vfork of libc": RAW + "pid = libc.fork()\nif not pid: os._exit(0)\npid > 0",
    "a program in memory": RAW + f"fd = libc.syscall({NUMBER['memfd']}, b'x', 0)\nfd >= 0",
    "a program of its own": "import os\nopen('run', 'w').write(f\"#!/bin/sh\\ntouch {W['mark']}\")\nos.chmod('run', 0o755)\nos.execv('./run', ['run'])",
    "the loader of programs": "import os, glob\nl = (glob.glob('/lib64/ld-*') + glob.glob('/lib/ld-*'))[0]\nos.execv(l, [l, '/bin/touch', W['mark']])",
    "more rights": "import os\nos.setuid(0) if os.getuid() else os.setuid(65534)\nTrue",
    "a user namespace": RAW + "libc.unshare(0x10000000) == 0",
    "a device": "import os\nos.mknod('null2', 0o20666, os.makedev(1, 5))\nTrue",
    "io_uring": RAW + f"libc.syscall({NUMBER['uring']}, 1, ctypes.create_string_buffer(200)) >= 0",
}
NETWORK = {
    "a connection": "import socket\nbool(socket.create_connection(('127.0.0.1', W['port']), 20))",
    "a datagram": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', W['port'])) == 1",
    "a Unix socket": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(W['unix'])\nTrue",
    "a pair that names another": "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(b'x', W['unix'] + '-d') == 1",
    "a server": "import socket\nbool(socket.create_server(('127.0.0.1', 0)))",
    "http": "import http.client\nc = http.client.HTTPConnection('127.0.0.1', W['port'], timeout=20)\nc.connect()\nTrue",
    "asyncio": "import asyncio\nbool(await asyncio.open_connection('127.0.0.1', W['port']))",
    "a socket by number": RAW + f"libc.syscall({NUMBER['socket']}, 2, 1, 0) >= 0",
    "a netlink": "import socket\nbool(socket.socket(16, socket.SOCK_RAW))",
}
PROCESSES = {
    "kill": "import os\nos.kill(W['decoy'], 9)",
    "killpg": "import os\nos.killpg(W['decoy'], 9)",
    "a pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(W['decoy']), 9)",
    "tgkill by number": RAW + f"libc.syscall({NUMBER['tgkill']}, W['decoy'], W['decoy'], 9) == 0",
    "ptrace": RAW + "libc.ptrace(0x4206, W['decoy'], 0, 0) == 0",  # PTRACE_SEIZE
    "read its memory": RAW
    + "class V(ctypes.Structure): _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
    "m = [l for l in open(f\"/proc/{W['decoy']}/maps\") if 'r' in l.split()[1]][0]\n"
    "buf = ctypes.create_string_buffer(8)\n"
    "libc.process_vm_readv(W['decoy'], ctypes.byref(V(ctypes.addressof(buf), 8)), 1, ctypes.byref(V(int(m.split('-')[0], 16), 8)), 1, 0) == 8",
    "its limits": RAW
    + f"libc.syscall({NUMBER['prlimit']}, W['decoy'], 7, struct.pack('QQ', 1, 1), None) == 0",
    "its priority": "import os\nos.setpriority(os.PRIO_PROCESS, W['decoy'], 19)\nTrue",
    "the parent": "import os, signal\nos.kill(os.getppid(), 0)\nTrue",
    "a signal by a file": "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, W['decoy'])\nTrue",
    "its processor": "import os\nos.sched_setaffinity(W['decoy'], {0})\nTrue",
    "its memory file": "import os\nbool(os.open(f\"/proc/{W['decoy']}/mem\", os.O_RDWR))",
    "to outlive the host": RAW + "libc.prctl(1, 0) == 0",
}
ATTEMPTS = {
    f"{group}: {name}": source
    for group, table in {
        "files": FILES,
        "secrets": SECRETS,
        "programs": PROGRAMS,
        "network": NETWORK,
        "processes": PROCESSES,
    }.items()
    for name, source in table.items()
}

# Not to be tried without walls: it would change the very process that runs the tests' control.
CONTROL = """
import asyncio, ast, json, os, signal, sys
flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

def attempt(source, world):
    os.chdir(world["folder"] + "/work")
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    names = {"W": world}
    async def go():
        for part, mode in ((tree, "exec"), (last and ast.Expression(last.value), "eval")):
            if part is not None:
                value = eval(compile(part, "<attempt>", mode, flags), names)
                if asyncio.iscoroutine(value):
                    value = await value
        return bool(value) if last is not None else False
    return asyncio.run(go())

for line in sys.stdin:
    source, world = json.loads(line)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(100)
        os.dup2(2, 1)
        try:
            if attempt(source, world):
                os.write(writing, b"1")
        except BaseException as error:
            sys.stderr.write(f"{source!r}: {error!r}\\n")
        os._exit(0)
    os.close(writing)
    harm = os.read(reading, 1)
    os.close(reading)
    os.waitpid(pid, 0)
    print(json.dumps(bool(harm)), flush=True)
"""


class World:
    """What an attempt may harm."""

    def __init__(self, folder: Path, port: int, unix: str) -> None:
        self.folder = folder
        (folder / "work").mkdir(parents=True)
        (folder / "home").mkdir()
        (folder / "secret").write_text(SECRET)
        (folder / "home" / ".netrc").write_text(SECRET)
        (folder / "module.py").write_text("loaded = True\n")
        self.victim = folder / "victim"
        self.victim.write_text("as it was")
        self.before = self._state()
        self.decoy = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.given = {
            "secret": str(folder / "secret"),
            "module": str(folder / "module.py"),
            "victim": str(self.victim),
            "folder": str(folder),
            "home": str(folder / "home"),
            "mark": str(folder / "mark"),
            "decoy": self.decoy.pid,
            "port": port,
            "unix": unix,
            "host": os.getpid(),
        }

    def _state(self) -> object:
        with contextlib.suppress(FileNotFoundError):
            found = self.victim.stat()
            return found.st_ino, found.st_size, found.st_mode, found.st_mtime
        return None

    def harmed(self) -> bool:
        """Whether there is a trace of harm; ends the decoy."""
        # The first deadly signal is what it dies of, however long that takes.
        self.decoy.terminate()
        dead = self.decoy.wait(100) != -signal.SIGTERM
        return dead or os.path.lexists(self.given["mark"]) or self._state() != self.before


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """A TCP port and the path of a Unix socket that take whatever comes (at most 100 connections)."""
    path = str(tmp_path_factory.mktemp("unix") / "s")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        unix.bind(path)
        unix.listen()
        datagrams.bind(f"{path}-d")
        yield tcp.getsockname()[1], path


@pytest.fixture(scope="module")
def control(tmp_path_factory, listener):
    """What each attempt does in a process without walls: name to whether there was harm."""
    import json

    root = tmp_path_factory.mktemp("control")
    env = {**os.environ, "PYREPL3_TEST_SECRET": SECRET}
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    complaints: list[str] = []
    assert process.stderr is not None
    reading = threading.Thread(target=lambda: complaints.extend(process.stderr), daemon=True)
    reading.start()
    harm = {}
    with process:
        for n, (name, source) in enumerate(ATTEMPTS.items()):
            world = World(root / str(n), *listener)
            world.given["host"] = process.pid
            process.stdin.write(json.dumps([source, world.given]) + "\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            harm[name] = said or world.harmed()
            world.harmed()
        process.stdin.close()
    reading.join()
    return harm, "".join(complaints)


@pytest.fixture(scope="module")
def confined(tmp_path_factory, listener):
    """The same in one confined session, whose host has the secret in its environment."""
    root = tmp_path_factory.mktemp("confined")

    async def main() -> dict[str, tuple[bool, str]]:
        harm = {}
        async with pyrepl3.open_session(
            isolation="confined", strict=True, limits=Limits(wall=60)
        ) as session:
            for n, (name, source) in enumerate(ATTEMPTS.items()):
                world = World(root / str(n), *listener)
                (await session.run(f"W = {world.given!r}")).unwrap()
                outcome = await session.run(source)
                said = outcome.ok and outcome.text not in ("", "False", "None", "0")
                told = outcome.text if outcome.ok else repr(outcome.error)
                harm[name] = said or world.harmed(), told
                world.harmed()
            assert (await session.run("1 + 1")).text == "2"
        return harm

    os.environ["PYREPL3_TEST_SECRET"] = SECRET
    try:
        return asyncio.run(main())
    finally:
        del os.environ["PYREPL3_TEST_SECRET"]


@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_does_its_harm_without_walls(control, name):
    harm, complaints = control
    assert harm[name], complaints


@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_fails_confined(confined, name):
    harm, told = confined[name]
    assert not harm, told
