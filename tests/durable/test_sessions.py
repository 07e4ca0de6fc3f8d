"""Steps in sessions that are kept: what lies on disk meanwhile and afterwards, and who may stop a cell."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest

import pyrepl3
from pyrepl3.errors import DurabilityError, StepValueError
from pyrepl3.records import Done, Failed, Interrupted
from pyrepl3.testing.fakes import Seen

HEAD = "from pyrepl3 import step, sleep, ask, step_key\nimport asyncio\n"


def rows(path):
    """How many promises there are in the session's file."""
    db = sqlite3.connect(path / "durable.db")
    try:
        return db.execute("SELECT count(*) FROM promise").fetchone()[0]
    finally:
        db.close()


async def test_what_a_cell_s_steps_left_goes_when_its_epoch_is_on_disk(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        source = (
            HEAD + "for i in range(20): await step(str, i)\n"
            "await step(bytes, 100_000)\nawait sleep(0)\n"
            "await asyncio.gather(*(step(str, i) for i in range(20)))"
        )
        assert (await session.run(source)).ok
    assert rows(tmp_path / "demo") == 0
    assert not list((tmp_path / "demo" / "steps").iterdir())


async def test_steps_that_a_failed_commit_left_are_found_again(tmp_path):
    """The epoch is not on disk, so after a crash the cell runs again."""
    done = []
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        session._runner.namespace.update_namespace({"done": done})
        commit, session._store.commit = session._store.commit, None  # a disk that fails
        source = HEAD + "step(done.append, 1)"
        outcome = await session.run(source)
        assert outcome.ok
        assert outcome.epoch is None
        session._store.commit = commit
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        session._runner.namespace.update_namespace({"done": done})
        assert (await session.run(source)).epoch == 1
    assert done == [1]
    assert rows(tmp_path / "demo") == 0


async def test_a_collection_of_epochs_leaves_the_steps_of_a_cell_that_may_run_again(tmp_path):
    done = []
    source = HEAD + "step(done.append, 1)"
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        await session.run("x = 1")
        session._runner.namespace.update_namespace({"done": done})
        commit, session._store.commit = session._store.commit, None  # a disk that fails
        assert (await session.run(source)).epoch is None
        session._store.commit = commit
        await session.gc(keep=1)
        assert rows(tmp_path / "demo") > 0
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        session._runner.namespace.update_namespace({"done": done})
        assert (await session.run(source)).ok
    assert done == [1]
    assert rows(tmp_path / "demo") == 0


async def test_steps_of_a_past_that_was_left_are_not_those_of_another(tmp_path):
    done = []
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        session._runner.namespace.update_namespace({"done": done})
        first = (await session.run("n = 1")).epoch
        await session.run("n = 2")
        commit, session._store.commit = session._store.commit, None
        source = HEAD + "step(done.append, 1); 3"
        assert (await session.run(source)).epoch is None
        session._store.commit = commit
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        await session.restore(first)
        session._runner.namespace.update_namespace({"done": done})
        assert (await session.run(source)).ok
    assert done == [1, 1]


async def test_cancelling_the_promise_of_a_cell_stops_it(tmp_path):
    seen = Seen()
    async with pyrepl3.open_session("demo", store=tmp_path, observe=seen) as session:
        for n, code in enumerate(("await asyncio.sleep(60)", "while True: pass"), 1):
            word = "await " if "await" in code else ""
            source = HEAD + f"{word}step(print, 'begun')\nprint('up')\n{code}"
            running = asyncio.create_task(session.run(source))
            await seen.until_text("up", f"demo-c{n}")
            (cell,) = session._running.values()
            cancelled = session._durability.cancel(cell.durable_name)
            assert await asyncio.wrap_future(cancelled)
            assert isinstance(await running, Interrupted)
        assert (await session.run("1")).ok


@pytest.mark.parametrize(
    "value",
    ["float('nan')", "{1: (2, {3})}", "__import__('datetime').datetime.min", "b'\\xff'", "1 << 99"],
)
async def test_values_that_the_sdk_s_codec_would_change_come_back_as_they_were(tmp_path, value):
    source = HEAD + f"value = {value}\nkept = step(lambda: value)\n(type(kept), repr(kept))"
    seen = []
    for _ in range(2):
        async with pyrepl3.open_session("demo", store=tmp_path) as session:
            session._store.commit = None
            seen.append((await session.run(source)).unwrap())
    assert seen[0] == seen[1]
    assert seen[0][1] == repr(eval(value))


async def test_a_big_result_lies_in_a_file_beside_and_a_damaged_one_is_told(tmp_path):
    done = []
    source = HEAD + "def big():\n    done.append(1)\n    return b'x' * 3_000_000\nlen(step(big))"
    outcomes = []
    for damage in (False, True):
        async with pyrepl3.open_session("demo", store=tmp_path) as session:
            session._runner.namespace.update_namespace({"done": done})
            session._store.commit = None
            outcomes.append(await session.run(source))
        (file,) = (tmp_path / "demo" / "steps").iterdir()
        if not damage:
            file.write_bytes(file.read_bytes()[:-1] + b"y")
    assert isinstance(outcomes[0], Done)
    assert outcomes[0].value == 3_000_000
    assert isinstance(outcomes[1], Failed)
    assert isinstance(outcomes[1].error, DurabilityError)
    assert "damaged" in str(outcomes[1].error)
    assert done == [1]


async def test_a_value_that_cannot_be_kept_does_not_spin(tmp_path):
    done = []
    source = HEAD + "def odd():\n    done.append(1)\n    return lambda: 0\nstep(odd, retries=5)"
    for _ in range(2):
        async with pyrepl3.open_session("demo", store=tmp_path) as session:
            session._runner.namespace.update_namespace({"done": done})
            session._store.commit = None
            outcome = await session.run(source)
            assert isinstance(outcome.error, StepValueError)
    assert done == [1]


async def test_a_durable_file_that_cannot_be_used_is_the_cell_s_error_and_no_more(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        (tmp_path / "demo" / "durable.db").write_bytes(b"no database at all, " * 100)
        outcome = await session.run(HEAD + "step(print, 1)")
        assert isinstance(outcome.error, DurabilityError)
        assert (await session.run("1")).epoch == 2


async def test_many_parallel_steps(tmp_path):
    async with pyrepl3.open_session("demo", store=tmp_path) as session:
        source = HEAD + "sum(await asyncio.gather(*(step(abs, -i) for i in range(300))))"
        assert (await session.run(source)).unwrap() == sum(range(300))
        source = HEAD + "await step(asyncio.sleep, 0, 'beside')"
        both = await asyncio.gather(
            session.run(source), session.run(source, background=True), session.run(source)
        )
        assert [outcome.unwrap() for outcome in both] == ["beside"] * 3


@pytest.mark.slow
def test_a_session_without_steps_loads_and_makes_nothing_of_it(tmp_path):
    program = """if True:
        import asyncio, sys, pyrepl3
        async def main():
            async with pyrepl3.open_session("demo", store=sys.argv[1]) as session:
                await session.run("x = 1")
                found = {name for name in sys.modules if name.split(".")[0].startswith("resonate")}
                assert not found, found
                assert "pyrepl3.durable.embedded" not in sys.modules
                await session.run("from pyrepl3 import step\\nstep(abs, 1)")
                assert "pyrepl3.durable.embedded" in sys.modules
                found = {name for name in sys.modules if name.split(".")[0] == "resonate"}
                assert not found, found
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=60)


# --- carried away -----------------------------------------------------------------------------------


async def cut(store, done, source):
    """A session whose last cell has made its steps, and is not on disk: as after a crash."""
    async with pyrepl3.open_session("demo", store=store) as session:
        await session.run("n = 1")
        session._runner.namespace.update_namespace({"done": done})
        commit, session._store.commit = session._store.commit, None
        assert (await session.run(source)).epoch is None
        session._store.commit = commit


async def go_on(name, store, done, source):
    async with pyrepl3.open_session(name, store=store) as session:
        session._runner.namespace.update_namespace({"done": done})
        return (await session.run(source)).unwrap()


STEPS = HEAD + "step(done.append, 1); step(bytes, 100_000); step(step_key)"


async def test_an_export_takes_the_steps_of_a_cell_that_is_not_over_along(tmp_path):
    done = []
    await cut(tmp_path / "a", done, STEPS)
    pyrepl3.export_session("demo", tmp_path / "one.file", store=tmp_path / "a")
    first = await go_on("demo", tmp_path / "a", done, STEPS)
    assert pyrepl3.import_session(tmp_path / "one.file", store=tmp_path / "b") == "demo"
    assert await go_on("demo", tmp_path / "b", done, STEPS) == first
    assert done == [1]
    assert rows(tmp_path / "b" / "demo") == 0


async def test_a_session_exports_its_own_steps_while_it_is_open(tmp_path):
    done = []
    await cut(tmp_path / "a", done, STEPS)
    async with pyrepl3.open_session("demo", store=tmp_path / "a") as session:
        await session.asked()  # opens the file
        await session.export(tmp_path / "one.file")
    pyrepl3.import_session(tmp_path / "one.file", store=tmp_path / "b")
    await go_on("demo", tmp_path / "b", done, STEPS)
    assert done == [1]


@pytest.mark.parametrize("way", ["fork", "import"])
async def test_another_session_shares_no_steps_with_the_one_it_was_made_of(tmp_path, way):
    done = []
    await cut(tmp_path, done, STEPS)
    if way == "fork":
        async with pyrepl3.open_session("demo", store=tmp_path) as session:
            await session.fork("other")
    else:
        pyrepl3.export_session("demo", tmp_path / "one.file", store=tmp_path)
        pyrepl3.import_session(tmp_path / "one.file", "other", store=tmp_path)
    key = await go_on("other", tmp_path, done, STEPS)
    assert done == [1, 1]
    assert key != await go_on("demo", tmp_path, done, STEPS)
    assert done == [1, 1]
