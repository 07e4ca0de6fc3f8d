"""Attempts from inside: to use the machine up, not to be stopped, to change or to deceive the host, to stay.

The control of each is the same code without walls or limits: a plain process that goes on, or a session in
the host's own process.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3 import Limits, MiB, Policy
from pyrepl3.testing.busy import run_in_time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="walls are built on Linux only"),
]

# --- using the machine up, and not being stopped -----------------------------------------------------

# Harm: it prints "harm", or goes on for longer than it was given.
MACHINE = {
    "memory: one block": "x = bytearray(10**9)\nprint('harm')",
    "memory: many objects": "x = [b'x' * 10**6 for _ in range(800)]\nprint('harm')",
    "memory: mapped": "import mmap\nx = mmap.mmap(-1, 10**9)\nx[::4096] = bytes(len(x[::4096]))\nprint('harm')",
    "memory: an array": "import numpy\nx = numpy.ones(10**8)\nprint('harm')",
    "memory: a long integer": "x = 1 << (8 * 10**9)\nprint('harm')",
    "disk: a big file": "with open('big', 'wb') as f:\n    for _ in range(100): f.write(bytes(10**6))\nprint('harm')",
    "disk: a sparse file": "import os\nopen('sparse', 'w').close()\nos.truncate('sparse', 10**9)\nprint('harm')",
    "disk: many files": "import time\nfor n in range(2000):\n    open(f'n{n}', 'w').close()\n    if n % 100 == 0: time.sleep(0.1)\nprint('harm')",
    "disk: many big files": "import time\nfor n in range(30):\n    with open(f'b{n}', 'wb') as f: f.write(bytes(4 * 10**6))\n    time.sleep(0.1)\nprint('harm')",
    "disk: removed and held": "import os, time\nx = []\nfor n in range(30):\n    x.append(open('r', 'wb', 0)); x[-1].write(bytes(4 * 10**6)); os.remove('r'); time.sleep(0.1)\nprint('harm')",
    "files: too many open": "x = [open('/dev/null') for _ in range(300)]\nprint('harm')",
    "processes: a bomb": "import os\nfor _ in range(5):\n    if not os.fork(): os._exit(0)\nprint('harm')",
    "output: a flood": "for _ in range(10**5): print('harm' * 20)",
    "tasks: a flood": "import asyncio\nt = [asyncio.create_task(asyncio.sleep(9)) for _ in range(500)]\nawait asyncio.sleep(0)\nprint('harm')",
    "time in C: sum": "sum(range(10**12))",
    "time in C: a power": "x = 3 ** (3 ** 19)",
    "time in C: a pattern": "import re\nre.match('(a+)+b', 'a' * 40)",
    "time in C: a search": "'a' * 10**6 + 'b' in ('a' * 10**9)",
    "time in Python": "while True: pass",
    "time asleep": "import time\ntime.sleep(100)",
    "swallows: everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "swallows: in an await": "import asyncio\nasync def f():\n    while True:\n        try: await asyncio.sleep(9)\n        except BaseException: pass\nawait f()",
    "swallows: in finally": "def f():\n    try:\n        while True: pass\n    finally: f()\nf()",
    "swallows: by signals": "import signal\nfor n in (2, 14, 15):\n    signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    "swallows: a mask": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\nsum(range(10**12))",
    "swallows: stops itself": "import os, signal\nsignal.raise_signal(signal.SIGSTOP)\nwhile True: pass",
    "swallows: in a destructor": "class C:\n    def __del__(self):\n        while True: pass\nx = C()\ndel x",
    "swallows: in its repr": "class C:\n    def __repr__(self):\n        while True: pass\nC()",
}
LIMITS = Limits(
    wall=1.0,
    memory=300 * MiB,
    output=MiB,
    coroutines=100,
    file_size=10 * MiB,
    open_files=128,
    workdir_bytes=20 * MiB,
    workdir_files=500,
)
CONTROL = """
import ast, asyncio, sys
code = compile(sys.argv[1], "<attempt>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
async def main():
    found = eval(code, {})
    if found is not None:
        await found
tree = ast.parse(sys.argv[1])
if isinstance(tree.body[-1], ast.Expr) and code.co_flags & 0x80 == 0:
    tail = ast.Expression(tree.body.pop().value)
    names = {}
    exec(compile(tree, "<attempt>", "exec"), names)
    repr(eval(compile(tail, "<attempt>", "eval"), names))
else:
    asyncio.run(main())
"""


@pytest.fixture(scope="module")
def goes_on(tmp_path_factory):
    """Name to whether a process without limits prints harm, or is still at it (or stopped) after a while."""
    folder = tmp_path_factory.mktemp("control")

    def attempt(name: str) -> bool:
        with subprocess.Popen(
            [sys.executable, "-c", CONTROL, MACHINE[name]],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            timed = name.startswith(("time", "swallows"))
            try:
                written = process.communicate(timeout=2 if timed else 100)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return True
            return b"harm" in written[:100]

    with futures.ThreadPoolExecutor(5) as pool:
        return dict(zip(MACHINE, pool.map(attempt, MACHINE), strict=True))


@pytest.fixture(scope="module")
def stopped():
    """Name to what became of the cell, and what the session says afterwards."""

    async def attempt(source: str) -> tuple[str, object, str]:
        async with pyrepl3.open_session(isolation="confined", limits=LIMITS) as session:
            await run_in_time(session, "kept = 41")
            seen = []
            outcome = await session.run(source, observe=seen.append)
            written = "".join(getattr(event, "text", "") for event in seen)[:1000]
            after = await run_in_time(session, "kept + 1")
            return written, outcome, after.text if after.ok else repr(after.error)

    async def main() -> dict[str, tuple[str, object, str]]:
        gate = asyncio.Semaphore(6)

        async def one(source: str) -> tuple[str, object, str]:
            async with gate:
                return await attempt(source)

        found = await asyncio.gather(*map(one, MACHINE.values()))
        return dict(zip(MACHINE, found, strict=True))

    return asyncio.run(main())


@pytest.mark.parametrize("name", MACHINE)
def test_it_takes_what_it_wants_without_limits(goes_on, name):
    assert goes_on[name]


@pytest.mark.parametrize("name", MACHINE)
def test_it_is_stopped_and_the_session_goes_on_with_its_state(stopped, name):
    written, outcome, after = stopped[name]
    assert not outcome.ok
    assert after == "42"
    if not name.startswith("output"):
        assert "harm" not in written


# --- changing and deceiving the host ----------------------------------------------------------------

# A cell, and what the host finds harmed afterwards. ``token`` is a secret object of the host.
HOST = {
    "finds the host's objects": (
        "import gc\nfound = [o for o in gc.get_objects() if type(o) is dict and 'a-token-of-the-host' in map(str, o.values())]\n"
        "found = [o for o in found if '__name__' not in o or o['__name__'] == '__main__' and 'secret' in o]\nresult = bool([o for o in found if 'secret' in o])",
        "await told(session, 'result') == 'True'",
    ),
    "reads the host's frames": (
        "import sys\nframes = [*sys._current_frames().values()]\n"
        "for f in frames:\n    if f.f_back is not None: frames.append(f.f_back)\n"
        "result = any('a-token-of-the-host' in map(str, f.f_globals.values()) for f in frames)",
        "await told(session, 'result') == 'True'",
    ),
    "poisons a builtin": (
        "import builtins\nbuiltins.ascii = lambda o: 'poison'",
        "ascii(1) == 'poison'",
    ),
    "poisons a module": (
        "import fractions\nfractions.poison = True",
        "hasattr(__import__('fractions'), 'poison')",
    ),
    "replaces a module": (
        "import sys, types\nsys.modules['colorsys'] = types.ModuleType('colorsys')",
        "not hasattr(__import__('colorsys'), 'rgb_to_hsv')",
    ),
    "changes a class": (
        "import collections\ncollections.Counter.poison = 1",
        "hasattr(__import__('collections').Counter, 'poison')",
    ),
    "changes the environment": (
        "import os\nos.environ['POISON'] = '1'",
        "'POISON' in os.environ",
    ),
    "changes the directory": (
        "import os\nos.chdir('/usr' if os.path.isdir('/usr') else '/')",
        "os.getcwd() == '/usr'",
    ),
    "changes the path": ("import sys\nsys.path.insert(0, '/poison')", "'/poison' in sys.path"),
    "ends the process": (
        "import threading, os\nos._exit(0)",
        "False",
    ),
    "writes to the terminal": ("import os\nos.write(1, b'harm')", "False"),
    "closes all files": (
        "import os\nos.closerange(3, 64)",
        "not await answers(session)",
    ),
    "sends nonsense": (
        "import os, socket, stat\nfor fd in range(3, 64):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'P3 nonsense' * 99)\n    except OSError: pass",
        "not await answers(session)",
    ),
    "forges an end": (
        "import os, stat\nfrom pyrepl3.isolate import messages as m\nfrom pyrepl3.isolate.frames import header\n"
        "from pyrepl3.records import ExecutionMode\n"
        "head = m.encode(m.Ended(key=bytes(16), status='done', mode=ExecutionMode.SIMPLE_SYNC, placement='loop', text='forged'))\n"
        "for fd in range(3, 64):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, header(len(head)) + head)\n    except OSError: pass\nkept = 'real'",
        "getattr(outcome, 'text', '') == 'forged' or not await answers(session)",
    ),
}
SCRIPT = """
import asyncio, builtins, collections, colorsys, fractions, json, os, sys
import pyrepl3
secret = "a-token-of-the-host"
isolation, source, check = sys.argv[1:]
patience = 3 if isolation == "none" else 45  # some of them end the host's loop

async def told(session, name):
    return (await session.run(name)).text

async def answers(session):
    try:
        async with asyncio.timeout(patience):
            return (await session.run("40 + 2")).text == "42"
    except TimeoutError:
        return False

async def main():
    async with pyrepl3.open_session(isolation=isolation) as session:
        async with asyncio.timeout(patience):
            outcome = await session.run(source)
        names = {**globals(), "session": session, "outcome": outcome}
        import ast
        found = eval(compile(check, "<check>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        harm = await found if asyncio.iscoroutine(found) else found
    os.write(1, b"harm" if harm else b"safe")
    os._exit(0)

asyncio.run(main())
"""
UNSEEN = ("sends nonsense", "forges an end")  # a session in this process has no pipe to write to


def see(isolation: str, name: str) -> str:
    source, check = HOST[name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, isolation, source, check],
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )
    return done.stdout or f"ended {done.returncode} {done.stderr}"


@pytest.fixture(scope="module")
def host():
    """Isolation and name to what was seen."""
    wanted = [("confined", name) for name in HOST]
    wanted += [("none", name) for name in HOST if name not in UNSEEN]
    with futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(wanted, pool.map(lambda one: see(*one), wanted), strict=True))


@pytest.mark.parametrize("name", [name for name in HOST if name not in UNSEEN])
def test_it_harms_a_host_that_runs_it_in_its_own_process(host, name):
    assert host["none", name] != "safe"


@pytest.mark.parametrize("name", HOST)
def test_it_harms_no_host_confined(host, name):
    assert host["confined", name] == "safe"


# --- hostile pickles --------------------------------------------------------------------------------

PICKLES = {
    "a program": "return os.system, (f'touch {mark}',)",
    "code": "return exec, (f\"open({mark!r}, 'w').close()\",)",
    "a secret": "return exec, (f\"from pathlib import Path; Path({mark!r} + '.copy').write_bytes(Path({secret!r}).read_bytes())\",)",
}


@pytest.mark.parametrize("name", PICKLES)
async def test_a_hostile_pickle_is_loaded_behind_the_walls_only(tmp_path, name):
    (tmp_path / "secret").write_text("s")
    mark, copied = tmp_path / "mark", tmp_path / "mark.copy"
    source = (
        f"import os\nmark, secret = {str(mark)!r}, {str(tmp_path / 'secret')!r}\n"
        f"class Evil:\n    def __reduce__(self):\n        {PICKLES[name]}\nevil = Evil()"
    )
    names: dict = {}
    exec(source, names)
    import pickle

    pickle.loads(pickle.dumps(names["evil"]))
    assert mark.exists() or copied.exists(), "it does its harm without walls"
    mark.unlink(missing_ok=True)
    copied.unlink(missing_ok=True)
    for _ in range(2):
        async with pyrepl3.open_session(
            "s", store=tmp_path / "store", isolation="confined"
        ) as session:
            await session.run(source)
            await session.diff(0)
            await session.log()
    assert not mark.exists()
    assert not copied.exists()


# --- staying ----------------------------------------------------------------------------------------

STAYING = {
    "a thread": "import threading\nthreading.Thread(target=beat, daemon=True).start()",
    "a thread that is waited for": "import threading\nthreading.Thread(target=beat).start()",
    "at exit": "import atexit\natexit.register(beat)",
    "a task": "import asyncio\nt = asyncio.create_task(asyncio.to_thread(beat))",
    "a program": "import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', PROGRAM])",
    "a program of its own session": "import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', PROGRAM], start_new_session=True)",
}
BEAT = """
import os, time
def beat():
    while True:
        with open({path!r}, "a") as file: file.write("x")
        time.sleep(0.02)
PROGRAM = '''
import time
while True:
    with open({path!r}, "a") as file: file.write("x")
    time.sleep(0.02)
'''
"""


async def falls_silent(path: Path) -> None:
    """Wait until nobody writes to the file any more; what is written in the moment of the end may be."""
    size = -1
    for _ in range(100):
        if size == path.stat().st_size:
            return
        size = path.stat().st_size
        await asyncio.sleep(0.2)
    pytest.fail("it goes on")


@pytest.mark.parametrize("name", STAYING)
async def test_nothing_outlives_its_session(tmp_path, name):
    path = tmp_path / "beat"
    path.touch()
    policy = Policy(write=(str(tmp_path),), subprocesses="program" in name)
    async with pyrepl3.open_session(isolation="confined", policy=policy) as session:
        await session.run(BEAT.format(path=str(path)))
        outcome = await session.run(STAYING[name])
        if outcome.ok and name != "at exit":
            while not path.stat().st_size:
                await asyncio.sleep(0.01)
    await falls_silent(path)


async def test_a_worker_ends_with_its_killed_host(tmp_path):
    path = tmp_path / "beat"
    path.touch()
    program = (
        "import asyncio, os, sys, pyrepl3\n"
        "async def main():\n"
        f"    policy = pyrepl3.Policy(write=({str(tmp_path)!r},))\n"
        "    async with pyrepl3.open_session(isolation='confined', policy=policy) as session:\n"
        f"        await session.run({BEAT.format(path=str(path))!r})\n"
        "        await session.run('beat()')\n"
        "asyncio.run(main())\n"
    )
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    while not path.stat().st_size:
        await asyncio.sleep(0.01)
    host.send_signal(signal.SIGKILL)
    await host.wait()
    await falls_silent(path)
