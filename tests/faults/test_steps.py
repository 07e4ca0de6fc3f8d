"""Steps of cells in processes that are killed: what was finished is never done again, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

# Runs one cell in session "kept" and prints what it came to.
PROGRAM = """
import asyncio, json, sys
import pyrepl3

async def main():
    async with pyrepl3.open_session("kept", store="store") as session:
        outcome = await session.run(sys.argv[1], id="job")
        value = repr(outcome.value) if outcome.ok else outcome.traceback
        sys.__stdout__.write(json.dumps([type(outcome).__name__, value, outcome.epoch]))

asyncio.run(main())
"""

HEAD = """
import asyncio, os, signal, time
from pyrepl3 import ask, sleep, step, step_key

def note(text):
    fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\\n".encode())
    os.close(fd)

def die_once(where):
    if not os.path.exists(where):
        os.close(os.open(where, os.O_CREAT))
        os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Place:
    """A directory with a store; what cells note there survives their processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, source):
        source = HEAD + textwrap.dedent(source)
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, source],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, source, *, killed=False):
        """Run the cell in a new process: its outcome; or None, if it is to be killed and was."""
        process = self.start(source)
        out, err = process.communicate(timeout=100)
        if killed:
            assert process.returncode == -signal.SIGKILL, err
            return None
        assert process.returncode == 0, err
        return json.loads(out)

    def command(self, *words):
        done = subprocess.run(
            [sys.executable, "-m", "pyrepl3", "sessions", *words, "--store", "store"],
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def log(self):
        log = self.path / "log"
        return log.read_text().splitlines() if log.exists() else []

    def wait_for(self, line, process):
        """Until a cell has noted ``line``."""
        while line not in self.log:
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


CELL = """
    {define} work(i):
        note(f"{{i}} {{step_key()}}")
        if i == 2:
            die_once("inside")
        return i * 10

    r = []
    for i in range(4):
        r.append({call}step(work, i))
        if i == 1:
            die_once("between")
    r
"""


@pytest.mark.parametrize(
    ("define", "call"), [("def", ""), ("async def", "await ")], ids=["plain", "awaited"]
)
def test_a_kill_between_steps_and_one_inside_a_step(place, define, call):
    source = CELL.format(define=define, call=call)
    place.run(source, killed=True)  # between the second step and the third
    place.run(source, killed=True)  # inside the third
    assert place.run(source) == ["Done", "[0, 10, 20, 30]", 1]
    assert place.run(source)[0] == "Replayed"
    made = [line.split() for line in place.log]
    assert [i for i, _ in made] == ["0", "1", "2", "2", "3"]
    keys = dict(made)
    assert len(set(keys.values())) == 4
    assert made[2] == made[3]  # the same key for the step that was in flight


def test_parallel_steps_that_were_finished_are_not_made_again(place):
    source = """
        import random
        async def work(i):
            await asyncio.sleep(random.random() / 50)
            note(f"made {i}")
            if i == 5:
                while sum(line.startswith("kept") for line in open("log")) < 4:
                    await asyncio.sleep(0.001)
                die_once("inside")
            return i
        async def one(i):
            await asyncio.sleep(random.random() / 50)
            value = await step(work, i)
            note(f"kept {i}")
            return value
        async with asyncio.TaskGroup() as group:
            first = asyncio.gather(*(one(i) for i in range(5)))
            tasks = [group.create_task(one(i)) for i in range(5, 10)]
        await first + [task.result() for task in tasks]
    """
    place.run(source, killed=True)
    kept = {line.split()[1] for line in place.log if line.startswith("kept")}
    assert len(kept) >= 4
    assert place.run(source)[:2] == ["Done", repr([*range(10)])]
    made = Counter(line.split()[1] for line in place.log if line.startswith("made"))
    assert {made[i] for i in kept} == {1}
    assert made["5"] == 2


def test_a_sleep_is_over_when_its_time_is_though_nobody_lived(place):
    source = """
        note("sleeps")
        sleep(0.2)
        step(note, "slept")
        die_once("after")
        'up'
    """
    place.run(source, killed=True)
    assert place.run(source)[:2] == ["Done", "'up'"]
    assert place.log == ["sleeps", "slept", "sleeps"]


def test_a_question_is_answered_while_the_process_is_dead_and_while_it_lives(place):
    source = """
        note("asks")
        first = ask("First?", choices=("yes", "no"))
        note(first)
        second = ask("Second?")
        (first, second)
    """
    process = place.start(source)
    while "First?" not in (said := place.command("ask", "kept"))[1]:
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    status, text = place.command("ask", "kept")  # nobody has it open now
    assert (status, text.split("  ")[1:]) == (0, ["First?", "(yes, no)\n"])
    assert said[1] == text
    asked = text.split()[0]
    assert place.command("answer", "kept", asked, "maybe")[0] == 2
    assert place.command("answer", "kept", asked, "yes") == (0, "answered\n")
    status, text = place.command("answer", "kept", asked, "no")
    assert (status, "no question" in text) == (2, True)
    process = place.start(source)
    place.wait_for("yes", process)
    while "Second?" not in place.command("ask", "kept")[1]:
        assert process.poll() is None, process.communicate()
    assert place.command("answer", "kept", "2", "of course") == (0, "answered\n")
    out, err = process.communicate(timeout=100)
    assert json.loads(out)[:2] == ["Done", "('yes', 'of course')"], err
    assert place.command("ask", "kept") == (0, "nothing is asked in session kept\n")


@pytest.mark.parametrize("code", ["await asyncio.sleep(60)", "while True: pass", "sleep(60)"])
def test_a_cell_is_stopped_by_a_command_of_another_process(place, code):
    process = place.start(f"note('up')\n{code}")
    place.wait_for("up", process)
    assert place.command("interrupt", "kept") == (0, "interrupted\n")
    out, err = process.communicate(timeout=100)
    assert json.loads(out)[0] == "Interrupted", err
    status, text = place.command("interrupt", "kept")
    assert (status, "no cell runs" in text) == (2, True)


KILLS = 200 if os.environ.get("PYREPL3_CAMPAIGN") == "1" else 10


@pytest.mark.timeout(400 if KILLS == 10 else 1800)
def test_random_kills_never_make_a_finished_step_again(place):
    """Some cells that are killed at any moment, each until it is through."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        source = f"""
            # round {rounds}
            async def work(i):
                note(f"made {rounds} {{i}} {{step_key()}}")
                await asyncio.sleep({dice.random() / 100})
                return i * i
            async def one(i):
                value = await step(work, i)
                note(f"kept {rounds} {{i}}")
                return value
            note("up {rounds}")
            total = 0
            for i in range(20):
                total += await one(i)
            total += sum(await asyncio.gather(*(one(i) for i in range(20, 40))))
            total
        """
        program = PROGRAM.replace('id="job"', f'id="job{rounds}"')
        while True:
            before = len(place.log)
            process = subprocess.Popen(
                [sys.executable, "-c", program, HEAD + textwrap.dedent(source)],
                cwd=place.path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if killed < KILLS and dice.random() < 0.95:
                moment = dice.randrange(60)  # lines of the log
                while len(place.log) < before + moment and process.poll() is None:
                    time.sleep(0.001)
                process.kill()
            out, err = process.communicate(timeout=100)
            if process.returncode == -signal.SIGKILL:
                killed += 1
                continue
            assert process.returncode == 0, (seed, err)
            kind, value, _ = json.loads(out)
            assert kind in ("Done", "Replayed"), (seed, value)
            if kind == "Done":
                assert value == repr(sum(i * i for i in range(40))), seed
            break
    kept, keys = set(), {}
    for line in place.log:
        word, *rest = line.split()
        if word == "made":
            which = tuple(rest[:2])
            assert which not in kept, (seed, line)
            assert keys.setdefault(which, rest[2]) == rest[2], (seed, line)
        elif word == "kept":
            kept.add(tuple(rest))
    assert len(kept) == 40 * rounds
    assert len(set(keys.values())) == len(keys)
