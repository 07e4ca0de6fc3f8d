"""``%`` commands: which lines are some, how they are completed, what they say to bad usage."""

from __future__ import annotations

import io

import pytest

import pyrepl3
from pyrepl3.front.console import Console
from pyrepl3.front.percent import COMMANDS, Percent, complete, guess, parse, usage
from pyrepl3.testing.fakes import FakeStore

LINES = {
    "%log": ("log", ""),
    "  %undo  2 ": ("undo", "2"),
    "%diff 1 2": ("diff", "1 2"),
    "%export 'a b'": ("export", "'a b'"),
    "%log?": ("log", "?"),
    "%nothing": None,
    "%": None,
    "%%time": None,
    "x = 5 %log": None,
    "%log\nx = 1": None,
    "!ls": None,
}


@pytest.mark.parametrize(("line", "found"), LINES.items())
def test_a_line_is_a_command_or_none(line, found):
    assert parse(line) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%", tuple(sorted(COMMANDS))),
        ("%lo", ("log", "lost")),
        ("%undo", ("undo",)),
        ("%nothing", ()),
        ("%undo 1", ()),
        ("x = 5 %lo", None),
        ("lo", None),
    ],
)
def test_names_of_commands_are_completed(text, words):
    assert complete(text, len(text)) == words


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("%restor 1", "did you mean %restore EPOCH?"),
        ("%Undo", "did you mean %undo [N]?"),
        ("%lprun f()", ""),
        ("%", ""),
    ],
)
def test_a_slip_is_told_what_it_may_have_meant(line, meant):
    assert guess(line) == meant


class Typed:
    """A prompt without a terminal: lines in, what is shown and noted out."""

    def __init__(self, session):
        self._out = io.StringIO()
        self._notes = []
        self._percent = Percent(
            session,
            Console(self._out, io.StringIO(), environ={"COLUMNS": "100"}),
            self._notes.append,
        )

    async def __call__(self, line):
        """What is printed, and then what is noted."""
        self._out.truncate(0)
        self._out.seek(0)
        self._notes.clear()
        assert await self._percent.run(line)
        return "\n".join([*self._out.getvalue().splitlines(), *self._notes])


@pytest.fixture
async def session():
    async with pyrepl3.open_session("s", store=FakeStore()) as session:
        for cell in ("x = [1]", "x.append(2)", "g = (n for n in x)"):
            await session.run(cell)
        yield session


@pytest.fixture
def typed(session):
    return Typed(session)


async def test_each_command_tells_what_it_takes_and_does(typed):
    listed = await typed("%help")
    for name, command in COMMANDS.items():
        told = await typed(f"%{name}?")
        assert told == await typed(f"%{name} --help")
        assert usage(name) in told
        assert command.about in told
        assert command.about in listed


async def test_the_timeline_is_drawn(typed, session):
    lines = (await typed("%log")).splitlines()
    assert [line.split()[:2] for line in lines] == [["*", "1"], ["*", "2"], ["@", "3"]]
    assert lines[-1].split()[-1] == "!g"
    assert len((await typed("%log 1")).splitlines()) == 1


async def test_undo_and_restore_tell_what_changed_and_the_way_back(typed, session):
    said = await typed("%undo 2")
    assert "from epoch 3 to epoch 1: 1 changed, 1 removed" in said
    assert "- x" in said
    assert "%restore 3 undoes this" in said
    assert await session.fetch("x") == [1]
    assert "%restore 1 undoes this" in await typed("%restore 3")
    assert await session.fetch("x") == [1, 2]
    assert await typed("%restore 3") == "at epoch 3 already"


async def test_cells_and_names_are_shown(typed):
    assert (await typed("%show")).startswith("session s, at epoch 3\ng ")
    shown = await typed("%show c2")
    assert "source\n    x.append(2)" in shown
    assert "+ x" in shown
    assert "no epoch or cell '9'" in await typed("%show 9")
    assert "from epoch 1 to epoch 3" in await typed("%diff 1")
    assert "from epoch 1 to epoch 2" in await typed("%diff 1 2")
    assert await typed("%lost") == "g: a generator cannot be stored; recreate it after a restart"


async def test_a_session_is_forked_collected_and_exported(typed, session, tmp_path):
    assert "session new is this one at epoch 2" in await typed("%fork new 2")
    assert "'new' is in" in await typed("%fork new")
    await typed("%undo")
    assert "dropped 1 epoch," in await typed("%gc")
    assert len(await session.log()) == 2
    path = tmp_path / "a file"
    assert f"wrote {path}" in await typed(f"%export '{path}'")
    assert path.exists()
    assert f"{path}" in await typed(f"%export '{path}'")


BAD = {
    "%restore": "usage: %restore EPOCH",
    "%restore x": "'x' is no epoch",
    "%restore 77": "no epoch 77; the nearest are 1, 2, 3",
    "%undo 0": "'0' is no count: give a number from 1",
    "%undo 9": "only 3 are there",
    "%undo 1 2": "usage: %undo [N]",
    "%fork": "usage: %fork NAME",
    "%fork a/b": "cannot name a session",
    "%export 'a": "No closing quotation",
}


@pytest.mark.parametrize(("line", "said"), BAD.items())
async def test_bad_usage_is_told_and_changes_nothing(typed, session, line, said):
    assert said in await typed(line)
    assert session.epoch == 3


async def test_without_a_name_the_commands_say_what_to_do():
    async with pyrepl3.open_session() as session:
        typed = Typed(session)
        for line in ("%log", "%undo", "%show", "%diff", "%fork a", "%gc", "%export a"):
            assert "pyrepl3 --session NAME" in await typed(line)
        assert await typed("%lost") == "nothing is lost"


async def test_who_depends_on_whom_is_told(typed, session):
    assert "c3: g = (n for n in x)" in await typed("%graph")
    assert (await typed("%graph dot")).startswith("digraph")
    assert "'svg' is no format" in await typed("%graph svg")
    assert await typed("%slice g") == (
        "# %% cell 1\nx = [1]\n\n# %% cell 2\nx.append(2)\n\n# %% cell 3\ng = (n for n in x)"
    )
    assert "no cell of this session has bound 'y'" in await typed("%slice y")
    assert await typed("%stale") == "nothing is stale"
    await session.run("x = []")
    assert await typed("%stale") == "c3: g = (n for n in x)\n    changed since: x (c4)"


async def test_code_is_checked_and_types_are_told(typed, session, tmp_path):
    said = await typed("%check x.append('a'); missing_one")
    assert "1:16 error: name 'missing_one' is not defined" in said
    assert said.splitlines()[2].index("^") == said.splitlines()[1].index("missing_one")
    assert "types: ty" in said or "types were not checked" in said
    file = tmp_path / "cell.py"
    file.write_text("y = 1\nlist = [y]")
    said = await typed(f"%check {file}")
    assert "2:1 warning: 'list' hides the builtin" in said
    assert "repair: line 2: list became list_" in said
    assert "2: list_ = [y]" in said
    assert "nothing found" in await typed("%check x")
    assert "usage: %check CODE" in await typed("%check")
    assert await session.fetch("x") == [1, 2]
    assert "x  list[int]" in await typed("%types")
    assert await typed("%types x") == "x  list[int]"
    assert await typed("%types nothing") == "no name 'nothing' in this session"


async def test_where_the_time_goes_is_told(typed, session):
    assert "watching; %hot tells" in await typed("%hot counts")
    await session.run("total = 0\nfor n in range(100):\n    total += n")
    said = await typed("%hot off")
    assert "total += n" in said
    assert "100  <s cell 4>:3" in said
    assert "numba: off: pass ExecutorConfig(jit=True)" in said
    assert "not watching: %hot on begins" in await typed("%hot")
    assert await typed("%hot loud") == "'loud' is none of on, off and counts"


async def test_a_fork_of_a_session_without_a_name_promises_nothing(session):
    notes = []
    console = Console(io.StringIO(), io.StringIO())
    await Percent(session, console, notes.append, kept=False).run("%fork new")
    assert "gone with this prompt" in notes[0]
    assert "%export FILE" in notes[0]
    assert "pyrepl3 --session new" not in notes[0]
