"""Streams, colours, the progress line, and output above a prompt."""

import io
import os

import pytest

from pyrepl3.front.console import CLEAR_LINE, Console, colour_traceback, wants_colour


class Terminal(io.StringIO):
    """A terminal's text; both streams of a console may share one."""

    def isatty(self):
        return True


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def terminal(**environ):
    text, time = Terminal(), Time()
    return Console(text, text, environ=environ, clock=time), text, time


def pipes(**environ):
    out, err = io.StringIO(), io.StringIO()
    return Console(out, err, environ=environ), out, err


@pytest.mark.parametrize(
    ("environ", "stream", "colour"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, io.StringIO(), False),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"PYTHON_COLORS": "0", "FORCE_COLOR": "1"}, Terminal(), False),
        ({"PYTHON_COLORS": "1", "NO_COLOR": "1"}, io.StringIO(), True),
    ],
)
def test_colours_follow_the_environment_and_then_the_stream(environ, stream, colour):
    assert wants_colour(stream, environ) is colour


def test_pipes_get_the_text_and_nothing_else():
    console, out, err = pipes()
    console.progress("[1/2] x")
    console.out("a\n")
    console.err("b\n")
    console.line(console.style("c", "note"))
    assert out.getvalue() == "a\n"
    assert err.getvalue() == "b\nc\n"


def test_a_progress_line_makes_way_for_output_and_goes_at_the_end():
    console, text, time = terminal(NO_COLOR="1")
    console.progress("[1/2] x")
    time.now += 1
    console.out("a\n")
    console.progress("")
    assert text.getvalue() == f"[1/2] x{CLEAR_LINE}a\n[1/2] x{CLEAR_LINE}"


def test_a_progress_line_does_not_cut_an_unfinished_line():
    console, text, time = terminal(NO_COLOR="1")
    console.progress("[1/2] x")
    time.now += 1
    console.out("a")
    time.now += 1
    console.out("b\n")
    assert text.getvalue() == f"[1/2] x{CLEAR_LINE}ab\n[1/2] x"


def test_a_chatty_cell_does_not_redraw_each_line():
    console, text, _ = terminal(NO_COLOR="1")
    console.progress("[1/2] x")
    for _n in range(100):
        console.out("a\n")
    assert text.getvalue() == f"[1/2] x{CLEAR_LINE}" + "a\n" * 100


def test_a_label_with_control_characters_is_shown_without_them():
    console, text, _ = terminal(NO_COLOR="1")
    console.progress("[1/2] a\tb\x1b[2Jc")
    assert text.getvalue() == "[1/2] a b [2Jc"


def test_a_long_label_fits_on_one_line():
    console, text, _ = terminal(NO_COLOR="1")
    console.progress("x" * 500)
    assert len(text.getvalue()) < 80


def test_there_is_no_progress_on_a_dumb_terminal():
    console, text, _ = terminal(TERM="dumb")
    console.progress("[1/2] x")
    assert text.getvalue() == ""


def test_a_line_of_ours_starts_on_a_line_of_its_own():
    console, text, _ = terminal(NO_COLOR="1")
    console.out("a")
    console.line("b")
    assert text.getvalue() == "a\nb\n"


def test_what_the_encoding_lacks_is_escaped():
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, "ascii"), io.StringIO(), environ={})
    console.out("é\ud800\n")
    assert raw.getvalue() == b"\\xe9\\ud800\n"


def test_a_reader_that_goes_away_is_noticed_once():
    read, write = os.pipe()
    os.close(read)
    closed = []
    with os.fdopen(write, "w") as stream:
        console = Console(stream, io.StringIO(), environ={})
        console.when_closed = lambda: closed.append(1)
        console.out("a\n")
        console.out("b\n")
    assert console.closed
    assert closed == [1]


def test_above_a_prompt_whole_lines_are_written_when_it_does_no_harm():
    console, text, _ = terminal(NO_COLOR="1")
    calls = []
    with console.above(calls.append):
        console.out("a")
        assert not calls
        console.out("b\nc")
        console.err("d\n")
        assert len(calls) == 1
        assert text.getvalue() == ""
        calls[0]()
        assert text.getvalue() == "ab\ncd\n"
        console.out("e")
        console.out("f\ng")
        calls[1]()
        assert text.getvalue() == "ab\ncd\nef\n"
    assert text.getvalue() == "ab\ncd\nef\ng"


def test_a_late_call_after_the_prompt_writes_nothing_twice():
    console, text, _ = terminal(NO_COLOR="1")
    calls = []
    with console.above(calls.append):
        console.out("a\n")
    calls[0]()
    assert text.getvalue() == "a\n"


def test_a_traceback_is_coloured_and_keeps_its_text():
    plain = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 3, in f\n'
        "    x: int = g(1)\n"
        "             ~^^^\n"
        "  | ExceptionGroup: two (2 sub-exceptions)\n"
        "ValueError: no\n"
    )
    coloured = colour_traceback(plain)
    assert '\x1b[35m"a.py"\x1b[0m' in coloured
    assert "\x1b[31m             ~^^^\x1b[0m" in coloured
    assert "\x1b[1;31mValueError\x1b[0m: no\n" in coloured
    assert "    x: int = g(1)\n" in coloured
    import re

    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
