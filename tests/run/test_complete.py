"""Completion gives whole words from the live namespace, and runs as little of the user's code as it can."""

from __future__ import annotations

import pytest

import pyrepl3
from pyrepl3.run.complete import complete


class Point:
    def __init__(self):
        self.x = 1
        self._hidden = 2

    @property
    def loud(self):
        raise AssertionError("completion must not ask for values")

    def move(self): ...


class Liar:
    def __dir__(self):
        return ["two", "one", "two"]


class Broken:
    def __dir__(self):
        raise SystemExit

    def __getattr__(self, name):
        raise KeyboardInterrupt


NAMESPACE = {
    "point": Point(),
    "pointer": 5,
    "_private": 1,
    "liar": Liar(),
    "broken": Broken(),
    "größe": "x",
    "len": None,
}

CASES = [
    ("poi", ("point", "pointer")),
    ("x = poi", ("point", "pointer")),
    ("print(poi", ("point", "pointer")),
    ("point.x + poi", ("point", "pointer")),
    ("prin", ("print",)),
    ("impor", ("import",)),
    ("awai", ("await",)),
    ("Tru", ("True",)),
    ("grö", ("größe",)),
    ("_pri", ("_private",)),
    ("point.", ("point.loud", "point.move", "point.x")),
    ("point.m", ("point.move",)),
    ("point._h", ("point._hidden",)),
    ("point.x.real.num", ("point.x.real.numerator",)),
    ("point.loud.", ()),
    ("liar.", ("liar.one", "liar.two")),
    ("broken.", ()),
    ("broken.x.y", ()),
    ("nobody.", ()),
    ("", ()),
    ("   ", ()),
    ("point.x ", ()),
    ("f().po", ()),
    ("[].app", ()),
    ("'a'.upp", ()),
    ("1.re", ()),
    ("3po", ()),
    ("x = 1\npoi", ("point", "pointer")),
]


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_completions_at_the_end(source, expected):
    assert complete(source, len(source), NAMESPACE) == expected


def test_what_stands_behind_the_cursor_does_not_count():
    assert complete("poi + 1", 3, NAMESPACE) == ("point", "pointer")
    assert complete("poi", 0, NAMESPACE) == ()
    assert complete("poi", -1, NAMESPACE) == ()
    assert complete("poi", 99, NAMESPACE) == ("point", "pointer")


def test_every_builtin_and_keyword_is_found_once():
    found = complete("l", 1, NAMESPACE)
    assert found == tuple(sorted(set(found)))
    assert {"lambda", "len", "liar", "list", "locals"} <= set(found)


async def test_a_session_completes_at_the_end_or_at_a_cursor():
    async with pyrepl3.open_session() as session:
        await session.run("import math; value = 1")
        assert await session.complete("math.sq") == ("math.sqrt",)
        assert await session.complete("valu + 1", 4) == ("value",)
        assert "math" in await session.variables()


def test_nothing_completes_behind_the_end_of_a_line():
    assert complete("poi\n", 4, NAMESPACE) == ()
    assert complete("poi\n", 3, NAMESPACE) == ("point", "pointer")
