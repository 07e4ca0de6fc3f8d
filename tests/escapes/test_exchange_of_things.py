"""Attempts by what host and session hand to each other: files of the session's directory, functions of the host.

Each attempt on files is harmful with ``open``, which a host might use in the place of ``session.files``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3 import Limits, WorkerDiedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="walls are built on Linux only"),
]

# What a cell puts there; then the host reads or writes `path`. OUTSIDE is a folder with a file "secret".
READS = {
    "a link to a file": ("os.symlink(OUTSIDE + '/secret', 'a')", "a"),
    "a link to a folder": ("os.symlink(OUTSIDE, 'a')", "a/secret"),
    "a link to a link": ("os.symlink('b', 'a'); os.symlink(OUTSIDE + '/secret', 'b')", "a"),
    "a link that goes up": ("os.symlink('../' * 20 + OUTSIDE.lstrip('/'), 'a')", "a/secret"),
    "a link in a folder": ("os.mkdir('a'); os.symlink(OUTSIDE, 'a/b')", "a/b/secret"),
    "a link to the root of a process": ("os.symlink('/proc/self/root', 'a')", "a{outside}/secret"),
    "a path that goes up": ("os.mkdir('a')", "a/../../../../../../../..{outside}/secret"),
    "a path from the root": ("", "{outside}/secret"),
}
WRITES = {
    "a link to a file": ("os.symlink(OUTSIDE + '/secret', 'a')", "a"),
    "a link to what is not there": ("os.symlink(OUTSIDE + '/new', 'a')", "a"),
    "a link to a folder": ("os.symlink(OUTSIDE, 'a')", "a/new"),
    "a link in a folder": ("os.mkdir('a'); os.symlink(OUTSIDE, 'a/b')", "a/b/secret"),
    "a path that goes up": ("os.mkdir('a')", "a/../../../../../../../..{outside}/new"),
}


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"the-secret")
    return folder


async def planted(session, source, outside):
    (await session.run(f"import os\nOUTSIDE = {str(outside)!r}\n{source}")).unwrap()


@pytest.mark.parametrize("name", READS)
async def test_what_a_cell_plants_leads_no_reader_outside(tmp_path, outside, name):
    source, path = READS[name]
    path = path.format(outside=outside)
    own = tmp_path / "own"
    async with pyrepl3.open_session(isolation="confined", workdir=own) as session:
        await planted(session, source, outside)
        assert Path(os.path.join(own, path)).read_bytes() == b"the-secret"  # noqa: PTH118
        with pytest.raises((OSError, ValueError)):
            await session.files.read(path)


@pytest.mark.parametrize("name", WRITES)
async def test_what_a_cell_plants_leads_no_writer_outside(tmp_path, outside, name):
    source, path = WRITES[name]
    path = path.format(outside=outside)
    own = tmp_path / "own"
    before = {"secret": b"the-secret"}

    def there():
        return {file.name: file.read_bytes() for file in outside.iterdir()}

    async with pyrepl3.open_session(isolation="confined", workdir=own) as session:
        await planted(session, source, outside)
        with contextlib.suppress(OSError, ValueError):
            await session.files.write(path, b"harm")
        assert there() == before
        await planted(
            session,
            f"import shutil\nfor n in os.listdir(): shutil.rmtree(n) if os.path.isdir(n) and not os.path.islink(n) else os.remove(n)\n{source}",
            outside,
        )
        Path(os.path.join(own, path)).write_bytes(b"harm")  # noqa: PTH118
        assert there() != before


async def test_a_folder_that_becomes_a_link_and_back_leads_nobody_outside(tmp_path, outside):
    """The race: between the look and the use. Each name is opened in the folder that was opened before."""
    turn = (
        "import threading\ngo = True\n"
        "os.mkdir('real')\nopen('real/secret', 'w').write('mine')\nos.symlink(OUTSIDE, 'link')\n"
        "os.rename('real', 'a')\n"
        "def turn():\n"
        "    while go:\n"
        "        os.rename('a', 'real'); os.rename('link', 'a')\n"
        "        os.rename('a', 'link'); os.rename('real', 'a')\n"
        "threading.Thread(target=turn).start()"
    )
    times = 5000 if os.environ.get("PYREPL3_CAMPAIGN") else 200
    async with pyrepl3.open_session(isolation="confined") as session:
        await planted(session, turn, outside)
        read = 0
        for _ in range(times):
            with contextlib.suppress(OSError):
                found = await session.files.read("a/secret")
                assert found in (b"mine", b"harmless")
                read += 1
            with contextlib.suppress(OSError):
                await session.files.write("a/secret", b"harmless")
        assert read
        await session.run("go = False")
    assert (outside / "secret").read_bytes() == b"the-secret"
    assert [file.name for file in outside.iterdir()] == ["secret"]


WAITS = {
    "a pipe": ("os.mkfifo('a')", "a"),
    "a file without end": ("open('a', 'w').truncate(10**12)", "a"),
    "a folder": ("os.mkdir('a')", "a"),
}


@pytest.mark.parametrize("name", WAITS)
async def test_nothing_keeps_a_reader(outside, name):
    source, path = WAITS[name]
    async with pyrepl3.open_session(isolation="confined") as session:
        await planted(session, source, outside)
        async with asyncio.timeout(60):
            with pytest.raises((OSError, ValueError)):
                await session.files.read(path, most=1000)


# --- functions of the host ---------------------------------------------------------------------------

SEND = """
import itertools, time
from pyrepl3.isolate import messages as m
numbers = itertools.count(10_000)
send = look._calls._send.__self__._send
"""
FORGED = {
    "a function that is not offered": "send(m.Call(n=1, name='secret'), [b'\\x92\\x90\\x80'])",
    "a name with a path": "send(m.Call(n=1, name='look.__globals__'), [b'\\x92\\x90\\x80'])",
    "too many calls": "while True: send(m.Call(n=next(numbers), name='wait'), [b'\\x92\\x90\\x80'])",
    "too many bytes": "send(m.Call(n=1, name='look'), [bytes(9_000_000)])",
    "a number twice": "for _ in '12': send(m.Call(n=1, name='wait'), [b'\\x92\\x90\\x80'])",
}
ANSWERED = {
    "no arguments": "send(m.Call(n=1, name='look'), [b'junk'])",
    "arguments of other types": "send(m.Call(n=1, name='look'), [b'\\x92\\x91\\x07\\x80'])",
    "arguments that are too deep": "send(m.Call(n=1, name='look'), [b'\\x92\\x91' + b'\\x91' * 100_000 + b'\\x07\\x80'])",
    "a pickle": "import pickle; send(m.Call(n=1, name='look'), [pickle.dumps([['x'], {}])])",
    "an unknown code": "send(m.Call(n=1, name='look'), [b'\\x92\\x91\\xd4\\x7f\\x00\\x80'])",
    "what was dropped": "send(m.Drop(n=77)); send(m.Drop(n=-1))",
}


@pytest.fixture
def offered():
    """Functions, and what they were called with. ``secret`` is one of the host's that is not offered."""
    seen: list[str] = []

    async def look(text: str) -> str:
        seen.append(text)
        return text

    async def wait() -> None:
        await asyncio.Event().wait()

    return {"look": look, "wait": wait}, seen


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_call_ends_its_worker_and_calls_nothing(offered, name):
    tools, seen = offered
    async with pyrepl3.open_session(
        isolation="confined", tools=tools, limits=Limits(wall=100)
    ) as session:
        (await session.run("kept = 41")).unwrap()
        outcome = await session.run(f"{SEND}{FORGED[name]}\ntime.sleep(90)")
        assert isinstance(outcome.error, WorkerDiedError)
        assert "no message of its own" in str(outcome.error)
        assert seen == []
        assert (await session.run("kept + 1, await look('x')")).text == "(42, 'x')"


@pytest.mark.parametrize("name", ANSWERED)
async def test_what_is_no_call_reaches_no_function(offered, name):
    tools, seen = offered
    async with pyrepl3.open_session(isolation="confined", tools=tools) as session:
        await session.run(SEND + ANSWERED[name])
        assert (await session.run("await look('x')")).text == "'x'"
        assert seen == ["x"]
