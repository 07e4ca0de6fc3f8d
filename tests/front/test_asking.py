"""Lines for input(): from a pipe, from a terminal, and questions that are dropped."""

import io
import os
import threading

import pytest

from pyrepl3.front.asking import LineReader
from pyrepl3.front.console import Console


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)


def reader(descriptor):
    out = io.StringIO()
    return LineReader(Console(out, io.StringIO(), environ={}), descriptor), out


def test_lines_come_one_by_one_and_then_the_end(pipe):
    read, write = pipe
    os.write(write, b"one\ntw\xc3\xb6\r\nlast")
    os.close(write)
    lines, out = reader(read)
    assert [lines.ask("? ", False), lines.ask("", True), lines.ask("", False)] == [
        "one",
        "twö",
        "last",
    ]
    with pytest.raises(EOFError):
        lines.ask("", False)
    assert out.getvalue() == "? "


def test_a_dropped_question_ends_and_takes_no_line(pipe):
    read, write = pipe
    lines, _ = reader(read)
    ended = []
    asked = threading.Event()
    lines._console.out = lambda _: asked.set()

    def ask():
        try:
            lines.ask("?", False)
        except EOFError:
            ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(10)
    while thread.is_alive():
        lines.drop()
        thread.join(0.01)
    assert ended == [True]
    os.write(write, b"next\n")
    assert lines.ask("", False) == "next"
    os.close(write)


def test_a_drop_without_a_question_does_nothing(pipe):
    read, write = pipe
    lines, _ = reader(read)
    lines.drop()
    os.write(write, b"a\n")
    assert lines.ask("", False) == "a"
    os.close(write)


def test_closed_input_is_its_end():
    lines, _ = reader(-1)
    with pytest.raises(EOFError):
        lines.ask("", False)
