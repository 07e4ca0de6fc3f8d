"""Hosts that end, in every way: no worker outlives its host, nor what it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc"),
]

HOST = """
import asyncio, os, sys
import pyrepl3

def observe(event):
    text = getattr(event, "text", "")
    if text.strip():
        print(text, end="", flush=True)

async def main():
    async with pyrepl3.open_session(isolation="process", observe=observe) as session:
        await session.run("import os, subprocess; print('pid', os.getpid(), os.getppid(), flush=True)")
        await session.run("child = subprocess.Popen(['sleep', '300']); print('pid', child.pid, flush=True)")
        {rest}

asyncio.run(main())
"""
BUSY = """await session.run("print('up', flush=True); sum(range(10**12))")"""
IDLE = """print('up', flush=True); await asyncio.sleep(300)"""
STOPPED = """await session.run("import signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)")"""


def start(rest, *, before=()):
    """A host that has said "up", and the processes below it."""
    host = subprocess.Popen(
        [*before, sys.executable, "-c", HOST.format(rest=rest)], stdout=subprocess.PIPE, text=True
    )
    pids = []
    for line in host.stdout:
        words = line.split()
        if words[:1] == ["pid"]:
            pids += map(int, words[1:])
        if words == ["up"]:
            break
    assert len(pids) == 3, pids  # the worker, its zygote, and what the worker has started
    return host, pids


def wait_for_end(pids):
    """Wait until all are gone. Fails by pytest's own timeout."""
    for pid in pids:
        while True:
            try:
                text = Path(f"/proc/{pid}/stat").read_text()
                if text.rpartition(")")[2].split()[0] == "Z":
                    break  # whoever is its parent now has not looked yet
            except OSError:
                break
            time.sleep(0.01)


@pytest.mark.parametrize("rest", [IDLE, BUSY, STOPPED], ids=["idle", "in-c-code", "stopped"])
def test_a_host_that_is_killed_leaves_nothing_behind(rest):
    host, pids = start(rest)
    host.kill()
    host.wait()
    host.stdout.close()
    wait_for_end(pids)


def test_a_zygote_that_is_killed_takes_its_workers_along():
    host, pids = start(BUSY)
    os.kill(pids[1], signal.SIGKILL)
    wait_for_end(pids[:2])
    host.kill()
    host.wait()
    host.stdout.close()
    subprocess.run(["kill", "-9", str(pids[2])], check=False, capture_output=True)


def test_a_host_that_ends_orderly_leaves_nothing_behind():
    host, pids = start("print('up', flush=True)")
    assert host.wait(100) == 0
    host.stdout.close()
    wait_for_end(pids)


def test_under_a_host_that_ignores_signals_cells_can_be_interrupted():
    rest = """
        pass
        task = asyncio.create_task(session.run("import time; print('up', flush=True); time.sleep(300)"))
        await asyncio.sleep(0)
        while not session.interrupt(): await asyncio.sleep(0.01)
        print(type(await task).__name__, flush=True)
        outcome = await session.run("import signal; signal.getsignal(signal.SIGHUP) is signal.SIG_DFL")
        print(outcome.text, flush=True)
"""
    script = HOST.format(rest=rest.strip())
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", "nohup", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Interrupted\n" in done.stdout
    assert done.stdout.endswith("True\n")
