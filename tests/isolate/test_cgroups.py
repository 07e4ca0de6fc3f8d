"""A worker's own cgroup: made where it may be, limited, and gone with all that is in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3 import LimitExceededError, Limits, MiB

if sys.platform != "linux":
    pytest.skip("cgroups are Linux", allow_module_level=True)

from pyrepl3.isolate import cgroups
from pyrepl3.isolate.cgroups import Leaf, find_delegated, sweep

MOUNT = cgroups._mount()
SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


def delegated() -> Path | None:
    """A cgroup where this test may make others, without any controller."""
    return find_delegated(needed=())[0]


@pytest.fixture
def parent():
    """A real cgroup of this test's own."""
    found = delegated()
    if found is None:
        pytest.skip(f"no cgroup may be made here: {find_delegated(needed=())[1]}")
    path = found / f"pyrepl3-test-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    for below in path.glob("*/*/"):
        Leaf(below).end()
    for below in path.glob("*/"):
        Leaf(below).end()
    Leaf(path).end()
    assert not path.exists()


@pytest.fixture
def tree(tmp_path):
    """Files as the kernel has them, to see what is written to them."""

    def make(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        return tmp_path

    return make


def sleeper():
    process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


# --- on the kernel ----------------------------------------------------------------------------------


def test_what_is_in_it_ends_with_it_children_that_left_their_group_too(parent):
    leaf = Leaf(parent / "pyrepl3-leaf")
    leaf.path.mkdir()
    script = (
        "import subprocess, sys\nsys.stdin.readline()\n"
        f"child = subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nchild.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    leaf.enter(process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    assert {process.pid, child} == set(map(int, (leaf.path / "cgroup.procs").read_text().split()))

    leaf.end()

    assert process.wait(timeout=60) == -9
    process.stdin.close()
    process.stdout.close()
    assert not leaf.path.exists()
    due = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < due:
        time.sleep(0.01)  # whoever adopted it has to wait for it
    assert "Z" in _state(child) or not Path(f"/proc/{child}").exists()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_leftovers_of_a_process_that_is_gone_are_ended_those_of_a_living_one_are_not(parent):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = Leaf(parent / f"pyrepl3-{gone.pid}-12345-1")
    reused = Leaf(parent / f"pyrepl3-{os.getpid()}-1-1")  # this number, but another process
    living = Leaf(parent / f"{cgroups._prefix(os.getpid())}-1")
    for leaf in (left, reused, living):
        leaf.path.mkdir()
    with sleeper() as orphan:
        left.enter(orphan.pid)
        sweep(parent)
        assert orphan.wait(timeout=60) == -9
    assert [leaf.path.exists() for leaf in (left, reused, living)] == [False, False, True]


def test_processes_of_others_in_it_mean_that_it_is_not_ours(parent):
    inner = parent / "pyrepl3-inner"
    inner.mkdir()
    # Started by init in the end, so no child of ours.
    script = f"import subprocess; print(subprocess.Popen({SLEEP!r}, stdout=-3, stderr=-3).pid)"
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    other = int(made.stdout.split()[0])
    try:
        Leaf(inner).enter(other)
        found, why = find_delegated(MOUNT, f"/{inner.relative_to(MOUNT)}", needed=())
        assert found is None
        assert "processes of others" in why
    finally:
        Leaf(inner).end()


def test_our_own_processes_in_it_move_to_a_cgroup_of_theirs_so_that_leaves_can_be_limited(parent):
    inner = parent / "pyrepl3-inner"
    inner.mkdir()
    with sleeper() as child:
        Leaf(inner).enter(child.pid)
        found, why = find_delegated(MOUNT, f"/{inner.relative_to(MOUNT)}", needed=())
        assert (found, why) == (inner, "")
        ours = inner / f"{cgroups._prefix(os.getpid())}-host"
        assert (ours / "cgroup.procs").read_text().split() == [str(child.pid)]
        assert not (inner / "cgroup.procs").read_text()
        Leaf(ours).end()
        child.wait(timeout=60)


def test_controllers_that_are_not_there_are_named():
    if MOUNT is None:
        pytest.skip("no cgroups of version 2")
    found, why = find_delegated(needed=("sorcery",))
    assert found is None
    assert "sorcery" in why


def test_no_cgroups_at_all_is_a_reason(tmp_path):
    assert find_delegated(tmp_path, "/none")[0] is None
    assert "was not delegated" in find_delegated(tmp_path, "/none")[1]


# --- what is written --------------------------------------------------------------------------------


def test_memory_counts_from_what_it_holds_when_a_cell_begins(tree):
    path = tree(
        memory__current=str(100 * MiB), memory__max="max", memory__swap__max="max",
        memory__oom__group="0", memory__peak=str(150 * MiB), memory__events="low 0\noom_kill 0\n",
    )  # fmt: skip
    leaf = Leaf(path)
    leaf.limit(Limits(memory=10 * MiB))
    assert int((path / "memory.max").read_text()) == (100 + 10 + 64) * MiB
    assert (path / "memory.swap.max").read_text()[:1] == "0"
    assert (path / "memory.oom.group").read_text() == "1"
    (path / "memory.current").write_text(str(200 * MiB))
    leaf.begin_cell()
    assert int((path / "memory.max").read_text()) == (200 + 10 + 64) * MiB
    assert not leaf.was_out_of_memory()
    (path / "memory.events").write_text("low 0\noom_kill 3\n")
    assert leaf.was_out_of_memory()


def test_processes_are_those_there_are_and_those_allowed(tree):
    path = tree(pids__current="3", pids__max="max")
    Leaf(path).limit(Limits(processes=5))
    assert (path / "pids.max").read_text().startswith("8")


def test_a_limit_that_the_kernel_does_not_know_is_an_error(tree):
    with pytest.raises(FileNotFoundError):
        Leaf(tree(pids__current="3")).limit(Limits(processes=5))


MANY = """
import os, time
pids = []
try:
    for _ in range(50):
        pids.append(os.fork())
        if not pids[-1]:
            time.sleep(60)
            os._exit(0)
finally:
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
"""
# Each holds less than is allowed, all together more.
MUCH = """
import mmap
for _ in range(4):
    if not os.fork():
        held = mmap.mmap(-1, 60 << 20)
        held.write(bytes(60 << 20))
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""

# --- in a session -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_processes_and_memory_of_a_session_are_held_where_cgroups_are():
    found, why = find_delegated()
    if found is None:
        pytest.skip(why)
    limits = Limits(memory=100 * MiB, processes=8)
    async with pyrepl3.open_session(isolation="process", limits=limits, strict=True) as session:
        await session.run("kept = 41")
        outcome = await session.run(MANY)
        assert isinstance(outcome.error, OSError)
        outcome = await session.run(MUCH)
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "memory"
        assert (await session.run("kept + 1")).text == "42"
    assert not list(found.glob(f"{cgroups._prefix(os.getpid())}-[0-9]*"))


@pytest.mark.slow
async def test_where_there_are_none_the_notice_says_why():
    if os.getuid() or find_delegated()[0] is not None:
        pytest.skip("rlimits or cgroups hold processes here")
    async with pyrepl3.open_session(isolation="process", limits=Limits(processes=8)) as session:
        seen = []
        await session.run("1", observe=seen.append)
        told = [event.text for event in seen if getattr(event, "kind", "") == "limit-unheld"]
        assert "nor can a cgroup hold them: " in told[0]
        assert len(told[0]) > len(told[0].split("hold them: ")[0]) + len("hold them: ")
