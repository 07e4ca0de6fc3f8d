"""The commands of ``pyrepl3 sessions`` that look at the past and change it: what they print, and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3

import pytest

import pyrepl3
from pyrepl3.front.cli import main

CELLS = ("x = [1]", "x.append(2)\nprint('two')", "y = sum(x)\ny")


def run(name, *cells, store="store"):
    """Run cells in a session; the repr of the last value."""

    async def work():
        async with pyrepl3.open_session(name, store=store) as session:
            for n, cell in enumerate(cells, 1):
                outcome = await session.run(cell, filename="/job.py", first_line=n)
            return outcome.text

    return asyncio.run(work())


class Commands:
    """Runs ``pyrepl3 sessions`` in this process."""

    def __init__(self, capsys):
        self._capsys = capsys

    def ask(self, *words):
        """What a command prints; it must succeed."""
        status = main(["sessions", *words])
        out, err = self._capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    def refused(self, *words):
        """What a command says that is refused."""
        status = main(["sessions", *words])
        out, err = self._capsys.readouterr()
        assert (status, out) == (2, "")
        assert err.startswith("pyrepl3: ")
        return err


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """Session demo with three cells, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYREPL3_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "100")
    run("demo", *CELLS)
    return Commands(capsys)


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def edges(text):
    """The left edge and the number of each line of a log."""
    return [" ".join(re.match(r"(\D*)(\d+)", line).groups()).split() for line in text.splitlines()]


def test_a_log_draws_what_was_undone(demo):
    lines = demo.ask("log", "demo").splitlines()
    assert [line.split()[:2] for line in lines] == [["●", "1"], ["●", "2"], ["◉", "3"]]
    assert [line.split()[-1] for line in lines] == ["+x", "~x", "+y"]
    said = demo.ask("undo", "demo", "2")
    assert said == (
        "session demo: from epoch 3 to epoch 1; nothing is deleted, this undoes it: "
        "pyrepl3 sessions restore demo 3\n"
    )
    assert run("demo", "x.append(9); x") == "[1, 9]"
    assert edges(demo.ask("log", "demo")) == [
        ["●", "1"],
        ["├─○", "2"],
        ["│", "○", "3"],
        ["◉", "4"],
    ]
    entries = objects(demo.ask("log", "demo", "--json"))
    assert [(e["epoch"], e["parent"], e["on_line"]) for e in entries] == [
        (1, 0, True),
        (2, 1, False),
        (3, 2, False),
        (4, 1, True),
    ]
    demo.ask("restore", "demo", "3")
    assert run("demo", "x, y") == "([1, 2], 3)"


def test_a_cell_is_shown_with_what_it_printed_and_changed(demo):
    shown = demo.ask("show", "demo", "c2")
    assert "epoch 2, after epoch 1" in shown
    assert "/job.py, line 2" in shown
    for section in (
        "\nsource\n    x.append(2)\n    print('two')\n",
        "\noutput\n    two\n",
        "\nchanges\n    - x  ",
    ):
        assert section in shown
    assert demo.ask("show", "demo", "2") == shown == demo.ask("show", "demo", "demo-c2")
    assert "\nvalue\n    3\n" in demo.ask("show", "demo", "3")
    with contextlib.suppress(AttributeError):  # a failed cell has no text
        run("demo", "1 / 0")
    failed = demo.ask("show", "demo", "4")
    assert "failed" in failed
    assert "ZeroDivisionError: division by zero" in failed
    (found,) = objects(demo.ask("show", "demo", "2", "--json"))
    assert found["receipt"]["cell"]["source"] == "x.append(2)\nprint('two')"
    assert found["entry"]["changed"] == ["x"]
    assert [*found["changes"]["changed"]] == ["x"]


def test_a_session_is_shown_with_its_names(demo):
    lines = demo.ask("show", "demo").splitlines()
    assert lines[0] == "session demo, at epoch 3"
    assert [line.split()[0] for line in lines[1:]] == ["x", "y"]
    assert lines[1].endswith("[1, 2]")
    (found,) = objects(demo.ask("show", "demo", "--json"))
    assert (found["epoch"], sorted(found["names"])) == (3, ["_", "x", "y"])


def test_epochs_are_compared(demo):
    whole = demo.ask("diff", "demo", "1", "3")
    assert whole.splitlines()[0] == "from epoch 1 to epoch 3: 1 added, 1 changed"
    assert demo.ask("diff", "demo", "1") == whole
    assert demo.ask("diff", "demo").startswith("from epoch 2 to epoch 3: 1 added\n+ y ")
    assert demo.ask("diff", "demo", "3", "3") == "from epoch 3 to epoch 3: no differences\n"
    (found,) = objects(demo.ask("diff", "demo", "3", "0", "--json"))
    assert sorted(found["removed"]) == ["_", "x", "y"]


def test_a_fork_is_a_session_of_its_own(demo):
    assert "session what-if is demo at epoch 2" in demo.ask("fork", "demo", "what-if", "2")
    assert run("what-if", "x.append(7); x") == "[1, 2, 7]"
    assert run("demo", "x, y") == "([1, 2], 3)"
    assert "'what-if' is in " in demo.refused("fork", "demo", "what-if")
    assert "cannot name a session" in demo.refused("fork", "demo", "a b")
    assert "nearest are 2, 3, 4" in demo.refused("fork", "demo", "new", "44")


def test_a_session_goes_to_another_machine_as_one_file(demo, tmp_path):
    assert "wrote session demo to demo.pyrepl3" in demo.ask("export", "demo", "demo.pyrepl3")
    assert "demo.pyrepl3 exists" in demo.refused("export", "demo", "demo.pyrepl3")
    other = ("--store", "other")
    assert "imported session demo" in demo.ask("import", "demo.pyrepl3", *other)
    assert "sessions import demo.pyrepl3 NEW-NAME" in demo.refused("import", "demo.pyrepl3", *other)
    demo.ask("import", "demo.pyrepl3", "copy", *other)
    assert run("copy", "x, y", store="other") == "([1, 2], 3)"
    (tmp_path / "rubbish").write_text("no export")
    assert "no export of a session" in demo.refused("import", "rubbish")
    assert "cannot import" in demo.refused("import", "missing")


def test_what_is_stored_is_compared_with_its_checksums(demo, tmp_path):
    assert demo.ask("verify", "demo") == "session demo: all of 3 epochs is as written\n"
    with contextlib.closing(sqlite3.connect(tmp_path / "store" / "demo" / "session.db")) as db:
        db.execute("UPDATE blob SET data = zeroblob(size) WHERE id = (SELECT max(id) FROM blob)")
        db.commit()
    assert "cannot be read back as written" in demo.refused("verify", "demo")


def test_garbage_goes_and_what_is_left_is_whole(demo):
    demo.ask("undo", "demo")
    assert "dropped 1 epoch," in demo.ask("gc", "demo")
    assert edges(demo.ask("log", "demo")) == [["●", "1"], ["◉", "2"]]
    assert "nearest are 1, 2" in demo.refused("restore", "demo", "3")
    assert "dropped 1 epoch," in demo.ask("gc", "demo", "--keep", "1")
    assert run("demo", "x") == "[1, 2]"


def test_what_is_not_there_is_told_in_one_line(demo):
    for words in (("log", "gone"), ("show", "gone"), ("undo", "gone"), ("fork", "gone", "new")):
        assert "no session 'gone'" in demo.refused(*words)
    assert "no epoch or cell '9'" in demo.refused("show", "demo", "9")
    assert "only 3 are there" in demo.refused("undo", "demo", "4")
    assert [line.split()[0] for line in demo.ask().splitlines()] == ["NAME", "demo"]
