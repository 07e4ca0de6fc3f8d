"""What a workdir holds is counted whatever tricks are played, and cells that exceed its limits are stopped."""

from __future__ import annotations

import gc
import mmap
import os
import sys

import pytest

import pyrepl3
from pyrepl3 import LimitExceededError, Limits, MiB, WorkerDiedError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="sessions are confined on Linux only"
)

if sys.platform == "linux":
    from pyrepl3.isolate import workdir
    from pyrepl3.isolate.workdir import ENTRY, measure

ENDLESS = float("inf"), float("inf")


def held(root, pids=(), most=ENDLESS):
    found = measure(str(root), pids, most=most)
    return found.size, found.files


def blocks(path):
    return path.stat().st_blocks * 512


# --- counting ---------------------------------------------------------------------------------------


def test_files_directories_and_links_count_with_what_they_take_on_the_disk(tmp_path):
    assert held(tmp_path) == (0, 0)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"x" * 100_000)
    (below / "empty").touch()
    (tmp_path / "link").symlink_to("/usr/lib")
    made = [tmp_path / "a", below, below / "file", below / "empty"]
    size = sum(map(blocks, made)) + (tmp_path / "link").lstat().st_blocks * 512 + 5 * ENTRY
    assert held(tmp_path) == (size, 5)
    assert size > 100_000


def test_holes_are_not_counted_and_hard_links_once(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    (tmp_path / "full").write_bytes(b"x" * 50_000)
    once = held(tmp_path)
    assert once[0] < 10**6
    os.link(tmp_path / "full", tmp_path / "again")
    assert held(tmp_path) == once


def test_it_looks_no_further_than_it_must(tmp_path):
    for n in range(50):
        (tmp_path / str(n)).touch()
    assert held(tmp_path, most=(float("inf"), 10))[1] == 11


def test_links_are_not_followed_even_where_a_directory_is_swapped_for_one(tmp_path):
    (tmp_path / "out").symlink_to("/")
    assert held(tmp_path)[1] == 1


def test_files_that_were_removed_count_while_they_are_open_or_mapped(tmp_path):
    def more():
        return held(tmp_path, [os.getpid()])[0] - before

    gc.collect()  # what earlier tests have left open goes now, and not while this one counts
    before = held(tmp_path, [os.getpid()])[0]  # what is open beside, in the same file system
    path = tmp_path / "gone"
    path.write_bytes(b"x" * MiB)
    file = path.open("r+b")
    path.unlink()
    assert held(tmp_path) == (0, 0)
    assert MiB <= more() < 2 * MiB
    if sys.version_info >= (3, 13):
        mapped = mmap.mmap(file.fileno(), MiB, trackfd=False)
        assert MiB <= more() < 2 * MiB
        file.close()
        assert MiB <= more() < 2 * MiB
        mapped.close()
    file.close()
    assert more() == 0


def test_what_lies_too_deep_to_be_counted_is_an_error(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(OSError, match="directories in each other"):
        held(tmp_path)


# --- in a session -----------------------------------------------------------------------------------

FILL = """
import os
n = 0
while True:
    with open(f"f{n}", "wb") as file:
        file.write(bytes(2**20))
    n += 1
"""
TIDY = "import os\nfor name in os.listdir(): os.remove(name)\nlen(os.listdir())"


def opened(**limits):
    return pyrepl3.open_session(isolation="confined", limits=Limits(wall=30, **limits))


@pytest.mark.slow
async def test_a_cell_that_fills_its_workdir_is_stopped_and_a_later_one_may_tidy_up():
    async with opened(workdir_bytes=20 * MiB) as session:
        await session.run("kept = 41")
        outcome = await session.run(FILL)
        error = outcome.error
        assert isinstance(error, LimitExceededError)
        assert (error.limit, error.allowed) == ("workdir_bytes", 20 * MiB)
        assert error.used > 20 * MiB
        assert "remove files" in str(error)
        assert (await session.run(TIDY)).text == "0"
        (await session.run("open('f', 'wb').write(bytes(2**20))")).unwrap()
        assert (await session.run("kept + 1")).text == "42"


@pytest.mark.slow
async def test_many_small_files_are_too_many():
    async with opened(workdir_files=100) as session:
        outcome = await session.run("n = 0\nwhile True:\n    open(str(n), 'w').close()\n    n += 1")
        assert isinstance(outcome.error, LimitExceededError)
        assert outcome.error.limit == "workdir_files"
        assert (await session.run("1 + 1")).text == "2"


@pytest.mark.slow
async def test_what_goes_on_between_two_cells_ends_the_worker_and_the_next_cell_is_told():
    async with opened(workdir_bytes=20 * MiB) as session:
        await session.run("kept = 41")
        gone = await _worker(session)
        slowly = FILL.replace("    n += 1", "    n += 1; time.sleep(0.02)").replace(
            "os", "os, time", 1
        )
        source = f"import threading\ndef fill():\n    exec({slowly!r}, {{}})\n"
        await session.run(source + "threading.Thread(target=fill, daemon=True).start()")
        await gone.wait()
        seen = []
        outcome = await session.run("kept + 1", observe=seen.append)
        assert outcome.text == "42"
        told = [event.text for event in seen if getattr(event, "kind", "") == "worker-replaced"]
        assert "workdir_bytes limit exceeded" in told[0]


@pytest.mark.slow
async def test_trying_again_and_again_gets_nowhere(monkeypatch):
    monkeypatch.setattr(workdir, "_ROOM", 16 * MiB)
    async with opened(workdir_bytes=MiB) as session:
        before, used = -1, 0
        for n in range(100):  # each that runs gets as far as one file at least
            outcome = await session.run(FILL.replace("f{n}", f"g{n}-{{n}}"))
            assert isinstance(outcome.error, LimitExceededError)
            before, used = used, outcome.error.used
            if used == before:  # it did not even run
                break
        assert 2 * MiB + workdir._ROOM < used == before
        last = (await session.run("1")).error
        assert isinstance(last, LimitExceededError)
        for name in await session.files.list():
            await session.files.remove(name)
        assert (await session.run("1 + 1")).text == "2"


@pytest.mark.slow
async def test_where_it_cannot_be_counted_the_worker_is_ended():
    async with opened(workdir_files=1000) as session:
        outcome = await session.run(
            "import os, time\nfor _ in range(200):\n    os.mkdir('d')\n    os.chdir('d')\ntime.sleep(20)"
        )
        assert isinstance(outcome.error, WorkerDiedError)
        assert "directories in each other" in str(outcome.error)


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_only_confined_sessions_have_a_workdir_to_limit(isolation):
    with pytest.raises(ValueError, match='isolation="confined"'):
        pyrepl3.open_session(isolation=isolation, limits=Limits(workdir_files=10))


async def _worker(session):
    """An event that is set when the worker of now is gone."""
    return session._runner._link.gone
