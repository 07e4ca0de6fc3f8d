"""SIGKILL in the midst of undo, fork, gc, export or import: what is there afterwards is whole."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import pyrepl3
from pyrepl3.engine.stored import sessions

pytestmark = pytest.mark.slow

KILLS = 60 if os.environ.get("PYREPL3_CAMPAIGN") == "1" else 3

# Works on session "s" at random, for ever; says before each thing what it is about to do.
PROGRAM = """
import asyncio, json, pathlib, random, sys
import pyrepl3

root, seed = json.loads(sys.argv[1])
chance = random.Random(seed)
store = pathlib.Path(root) / "store"

def say(*what):
    print(json.dumps(what), flush=True)

async def main():
    async with pyrepl3.open_session("s", store=store) as session:
        for n in range(10_000):
            what = chance.choice("cell cell cell undo restore fork gc export import".split())
            say(what, session.epoch)
            if what == "cell" or not session.epoch:
                cell = f"x = [*globals().get('x', ()), {session.count + 1}]; big = bytes(200_000)"
                assert (await session.run(cell)).epoch
            elif what == "undo":
                await session.undo(chance.randint(1, min(3, len(await session.history()))))
            elif what == "restore":
                await session.restore(chance.choice(await session.log()).epoch)
            elif what == "fork":
                await session.fork(f"fork-{seed}-{n}", chance.choice(await session.log()).epoch)
            elif what == "gc":
                await session.gc(keep=chance.choice([None, 5]))
            elif what == "export":
                await session.export(store / f"../export-{seed}-{n}")
            else:
                files = sorted(store.parent.glob("export-*"))
                if files:
                    file = chance.choice(files)
                    await asyncio.to_thread(
                        pyrepl3.import_session, file, f"import-{seed}-{n}", store=store
                    )

asyncio.run(main())
"""


async def check(store, name):
    """A session opens, its names are those of its line, and every byte is as it was written."""
    opened = sessions(store).find(name)
    opened.verify()
    opened.close()
    async with pyrepl3.open_session(name, store=store) as session:
        log = {entry.epoch: entry for entry in await session.log()}
        for epoch in {session.epoch, *random.Random(name).sample([*log], min(2, len(log)))}:
            line, at = [], epoch
            while at in log:
                line.append(log[at].n)
                at = log[at].parent
            await session.restore(epoch)
            x = await session.fetch("x") if epoch else []
            # What is too old was collected; then the line starts later than the list.
            assert x[len(x) - len(line) :] == line[::-1]


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_at_any_moment_leaves_whole_sessions(tmp_path, seed):
    store = tmp_path / "store"
    told, chance = [], random.Random(seed)
    for life in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([str(tmp_path), 1000 * seed + life])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(chance.randint(10, 60)):
            line = child.stdout.readline()
            assert line, child.stderr.read()
            told.append(json.loads(line)[0])
        time.sleep(chance.random() * 0.01)  # no event tells that something is half done
        child.send_signal(signal.SIGKILL)
        child.communicate()
        found = [info.name for info in sessions(store).list()]
        assert "s" in found
        for name in found:
            asyncio.run(check(store, name))
        assert all(name == "s" or name.startswith(("fork-", "import-")) for name in found)
    assert {"cell", "undo"} <= set(told)
    # What is not whole is never under a session's name, and is swept by the next making.
    owner = sessions(store).find("s")
    owner.fork("last").close()
    owner.close()
    assert not list(store.glob(".new-*"))
