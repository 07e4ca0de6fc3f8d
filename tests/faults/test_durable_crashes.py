"""A workflow of twenty steps, wherever its process dies: no finished step runs twice, and none is lost."""

from __future__ import annotations

import inspect
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from resonate.heartbeat import NoopHeartbeat
from resonate.resonate import Resonate

from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.rows import Rows

pytestmark = pytest.mark.slow

CAMPAIGN = bool(os.environ.get("PYREPL3_CAMPAIGN"))


async def work_through(folder, synchronous, steps):
    """Do the workflow, or what is left of it, and tell each step that ran and that is known to be finished."""
    told = os.open(folder / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(told, b"begin\n")
    connection = Embedded(folder / "durable.db", synchronous=synchronous)
    resonate = Resonate(
        network=connection, heartbeat=NoopHeartbeat(), autostart=False, subscription_refresh_secs=0
    )

    async def leaf(ctx, i):
        os.write(told, b"did %d\n" % i)
        return i

    async def work(ctx, steps):
        found = []
        for i in range(steps):
            found.append(await ctx.run(leaf, i))
            os.write(told, b"has %d\n" % i)
        return found

    resonate.register(leaf)
    resonate.register(work)
    resonate.start()
    assert await resonate.run("w", work, steps).result() == [*range(steps)]
    os.write(told, b"end\n")
    await resonate.stop()
    os.close(told)


# Forks a child for each run, so that importing the SDK costs nothing; a child is a process of its own.
KILLS = f"""
import asyncio, logging, os, pathlib, random, signal, sys, time
from resonate.heartbeat import NoopHeartbeat
from resonate.resonate import Resonate
from pyrepl3.durable.embedded import Embedded

logging.disable(logging.CRITICAL)

{inspect.getsource(work_through)}

def fork(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

root, synchronous, kills = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng, killed, n = random.Random(5), 0, 0
while killed < kills:
    folder = root / str(n)
    folder.mkdir()
    n += 1
    code = None
    while code != 0:
        pid = fork(lambda: asyncio.run(work_through(folder, synchronous, 400)))
        time.sleep(rng.uniform(0.01, 0.15))
        if killed < kills:
            os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        assert code in (0, -9), code
        killed += code == -9
"""


def check(folder, steps):
    """Each step was done; one that was finished never again, one that was under way once more a crash."""
    text = (folder / "told").read_text()
    finished, under_way, done = set(), set(), set()
    for line in text.splitlines():
        word, _, n = line.partition(" ")
        if word == "begin":
            under_way = set()
        elif word == "did":
            assert n not in finished, f"step {n} was finished and ran again"
            assert n not in under_way
            under_way.add(n)
            done.add(n)
        elif word == "has":
            finished.add(n)
    assert text.endswith("end\n")
    assert finished == done == {str(n) for n in range(steps)}


class Remains:
    """What a process would leave behind that dies before, inside or after each commit: copies of its files.

    The thread that commits is the only one that writes the database, so that a copy which it makes is what lies
    there at that moment; what is told meanwhile was told before the death.
    """

    def __init__(self, folder, copies):
        self.folder, self.copies, self.commits = folder, copies, 0

    def watch(self, monkeypatch):
        commit, prepare = Rows.commit, Rows._prepare
        watched = lambda rows: self.copy_around(lambda: commit(rows)) if rows.open else None  # noqa: E731
        monkeypatch.setattr(Rows, "commit", watched)
        monkeypatch.setattr(  # makes the tables
            Rows, "_prepare", lambda rows, *args: self.copy_around(lambda: prepare(rows, *args))
        )

    def copy_around(self, commit):
        log = self.folder / "durable.db-wal"
        before = log.stat().st_size if log.exists() else 0
        self.copy("before")
        commit()
        self.copy("after")
        inside = (
            self.copy("inside") / log.name
        )  # of what a commit writes, in order, only a part is there
        os.truncate(inside, random.Random(self.commits).randrange(before, log.stat().st_size))
        self.commits += 1

    def copy(self, where):
        return shutil.copytree(self.folder, self.copies / f"{where}-{self.commits}")


@pytest.fixture
def place():
    """In memory where there is such a place: what a process leaves behind is the same, and it is quicker."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_a_crash_before_inside_and_after_every_commit(place, synchronous, monkeypatch):
    (place / "whole").mkdir()
    remains = Remains(place / "whole", place / "copies")
    with monkeypatch.context() as patch:
        remains.watch(patch)
        await work_through(remains.folder, synchronous, 20)
    assert remains.commits > 20
    copies = sorted(remains.copies.iterdir())
    assert len(copies) == 3 * remains.commits
    for folder in copies:
        await work_through(folder, synchronous, 20)
        check(folder, 20)


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_kill_at_any_moment(tmp_path, synchronous):
    arguments = (str(tmp_path), synchronous, "100" if CAMPAIGN else "5")
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *arguments],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in tmp_path.iterdir():
        check(folder, 400)


def test_the_check_would_notice_a_step_that_ran_twice_and_one_that_is_lost(tmp_path):
    told = tmp_path / "told"
    told.write_text("begin\ndid 0\nhas 0\nbegin\nhas 0\ndid 1\nhas 1\nend\n")
    check(tmp_path, 2)
    for text in ("begin\ndid 0\nhas 0\nbegin\ndid 0\nhas 0\nend\n", "begin\ndid 0\nhas 0\nend\n"):
        told.write_text(text)
        with pytest.raises(AssertionError):
            check(tmp_path, 1 if "begin\ndid 0\nhas 0\nbegin" in text else 2)
