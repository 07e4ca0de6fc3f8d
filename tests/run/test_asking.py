"""input(), getpass() and sys.stdin of a cell ask whoever runs it; without anybody they read the process's."""

from __future__ import annotations

import asyncio
import io
import sys
import threading

import pytest

import pyrepl3
from pyrepl3.records import Failed, Interrupted
from pyrepl3.testing.fakes import Seen


class Person:
    """Answers with lines in turn, then is gone. Remembers the questions and the threads they came on."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.questions = []

    def __call__(self, prompt, secret):
        self.questions.append((prompt, secret))
        if not self.lines:
            raise EOFError("nobody there")
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def ask(seen):
    """Open a session with a person who answers."""
    return lambda *lines: pyrepl3.open_session(observe=seen, ask=Person(*lines))


WAYS = {
    "input": ("input('name? ')", "Ann", [("name? ", False)]),
    "no prompt": ("input()", "Ann", [("", False)]),
    "odd prompt": ("input(5)", "Ann", [("5", False)]),
    "getpass": ("import getpass; getpass.getpass('pw: ')", "Ann", [("pw: ", True)]),
    "getpass default": ("from getpass import getpass; getpass()", "Ann", [("Password: ", True)]),
    "readline": ("import sys; sys.stdin.readline()", "Ann\n", [("", False)]),
    "buffer": ("import sys; sys.stdin.buffer.readline()", b"Ann\n", [("", False)]),
    "read some": ("import sys; sys.stdin.read(2)", "An", [("", False)]),
    "next": ("import sys; next(sys.stdin)", "Ann\n", [("", False)]),
    "awaited": ("await __import__('asyncio').sleep(0)\ninput('?')", "Ann", [("?", False)]),
    "to_thread": ("import asyncio; await asyncio.to_thread(input, '?')", "Ann", [("?", False)]),
    "thread": (
        "import threading\nfound = []\nt = threading.Thread(target=lambda: found.append(input('?')))\n"
        "t.start(); t.join(); found[0]",
        "Ann",
        [("?", False)],
    ),
    "task": (
        "import asyncio\nasync def f(): return input('?')\nawait asyncio.create_task(f())",
        "Ann",
        [("?", False)],
    ),
}


@pytest.mark.parametrize(("source", "value", "questions"), WAYS.values(), ids=WAYS)
async def test_whoever_runs_the_cell_is_asked(source, value, questions, seen):
    person = Person("Ann", "Bob")
    async with pyrepl3.open_session(observe=seen, ask=person) as session:
        outcome = await session.run(source)
    assert outcome.unwrap() == value
    assert person.questions == questions
    assert seen.text() == "", "the prompt is the asker's to show"


async def test_the_whole_of_stdin_ends_where_the_answers_end(ask):
    async with ask("a", "b") as session:
        assert (await session.run("import sys; sys.stdin.read()")).value == "a\nb\n"
    async with ask("a", "b") as session:
        assert (await session.run("import sys; [*sys.stdin]")).value == ["a\n", "b\n"]
    async with ask("a", "b") as session:
        assert (await session.run("import sys; sys.stdin.readlines()")).value == ["a\n", "b\n"]
    async with ask("é", "b") as session:
        outcome = await session.run("import sys; sys.stdin.buffer.read()")
        assert outcome.value == "é\nb\n".encode()
    async with ask("abc", "de") as session:
        outcome = await session.run(
            "import sys; f = sys.stdin; f.read(1), f.readline(1), f.readline(), f.read(5), f.read(5)"
        )
        assert outcome.value == ("a", "b", "c\n", "de\n", "")


async def test_what_the_asker_raises_the_cell_sees(ask):
    async with ask() as session:
        outcome = await session.run("input()")
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, EOFError)
        assert outcome.traceback.count("  File ") == 1, "frames of the asker are the host's"
        assert outcome.traceback.endswith("EOFError: nobody there\n")
    async with ask(KeyboardInterrupt(), "later") as session:
        outcome = await session.run("input()")
        assert type(outcome.error) is KeyboardInterrupt
        assert (await session.run("input()")).value == "later"


async def test_output_before_a_question_is_shown_before_it():
    order = []

    def observe(event):
        if hasattr(event, "stream"):
            order.append(event.text)

    def ask(prompt, secret):
        order.append(f"asked {prompt}")
        return ""

    async with pyrepl3.open_session(observe=observe, ask=ask) as session:
        await session.run("print('hello', end=' '); input('who? ')")
    assert order == ["hello ", "asked who? "]


async def test_what_the_asker_prints_is_the_host_s(seen, capsys):
    def ask(prompt, secret):
        print("asking")
        return "x"

    async with pyrepl3.open_session(observe=seen, ask=ask) as session:
        await session.run("input()")
    assert capsys.readouterr().out == "asking\n"
    assert seen.text() == ""


async def test_two_cells_of_a_session_that_ask_at_once_take_turns(seen):
    asking, answered, most = [], threading.Event(), []

    def ask(prompt, secret):
        asking.append(prompt)
        most.append(len(asking))
        answered.wait(60)
        asking.remove(prompt)
        return prompt.upper()

    async with pyrepl3.open_session(observe=seen, ask=ask) as session:
        cells = [
            asyncio.create_task(session.run(f"input('{who}')", background=who != "a"))
            for who in "abc"
        ]
        await asyncio.sleep(0)
        answered.set()
        outcomes = [await cell for cell in cells]
    assert [outcome.unwrap() for outcome in outcomes] == ["A", "B", "C"]
    assert max(most) == 1


@pytest.mark.parametrize("prefix", ["", "await __import__('asyncio').sleep(0)\n"])
async def test_a_cell_that_waits_for_an_answer_can_be_interrupted(seen, prefix):
    """The late answer is dropped; a new question does not wait for it."""
    asked, late = threading.Event(), threading.Event()
    answers = iter([late.wait, lambda _: "second"])

    def ask(prompt, secret):
        asked.set()
        return str(next(answers)(100))

    async with pyrepl3.open_session(observe=seen, ask=ask) as session:
        running = asyncio.create_task(session.run(f"{prefix}input()"))
        await asyncio.to_thread(asked.wait)
        session.interrupt()
        outcome = await running
        assert isinstance(outcome, Interrupted)
        assert not outcome.abandoned
        assert (await session.run("input()")).value == "second"
        late.set()
        assert (await session.run("1")).value == 1


async def test_a_cell_that_put_its_own_stdin_there_reads_that(ask):
    async with ask("asked") as session:
        outcome = await session.run("import io, sys; sys.stdin = io.StringIO('typed\\n'); input()")
        assert outcome.value == "typed"
        assert (await session.run("input()")).value == "asked"


async def test_without_anybody_to_ask_the_process_s_stdin_is_read(monkeypatch, seen):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\nthree\n"))
    async with pyrepl3.open_session(observe=seen) as session:
        assert (await session.run("input('? ')")).value == "one"
        assert (await session.run("import sys; sys.stdin.readline()")).value == "two\n"
        assert (await session.run("sys.stdin.read()")).value == "three\n"
        assert isinstance((await session.run("input()")).error, EOFError)
    assert seen.text(stream="stdout") == "? ", "the prompt is output then"


async def test_the_host_s_own_input_reads_the_process_s_stdin(monkeypatch, ask):
    monkeypatch.setattr(sys, "stdin", io.StringIO("host\n"))
    async with ask("cell") as session:
        assert input() == "host"
        assert (await session.run("input()")).value == "cell"


async def test_a_process_without_stdin_gives_a_cell_the_end_of_it(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    async with pyrepl3.open_session() as session:
        assert isinstance((await session.run("input()")).error, EOFError)
        assert (await session.run("import sys; sys.stdin.read()")).value == ""
    assert sys.stdin is None
