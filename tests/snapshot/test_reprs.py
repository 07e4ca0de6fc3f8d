from __future__ import annotations

import pytest

from pyrepl3.snapshot.reprs import LENGTH, short_repr


class Loud:
    def __repr__(self):
        raise KeyboardInterrupt


class Long:
    def __repr__(self):
        return "x\n" * 10_000


class Bad:
    def __repr__(self):
        return "\ud800"


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        pytest.param(10**5000, "<int of 16610 bits>", id="huge"),
        ("abc", "'abc'"),
        ([1, [2]], "[1, [2]]"),
        ({"k": (1,)}, "{'k': (1,)}"),
        (Plain(), "<Plain>"),
        (Plain, "<class Plain>"),
        (short_repr, "<function short_repr>"),
        (pytest, "<module pytest>"),
        (Loud(), "<Loud: its repr raised>"),
        ([Loud()], "<list: its repr raised>"),
        (Bad(), "\\ud800"),
        (None, "None"),
    ],
)
def test_a_repr_says_what_a_value_is(value, text):
    assert short_repr(value, 100) == text


@pytest.mark.parametrize(
    "value",
    [
        "y" * 10**6,
        list(range(10**6)),
        Long(),
        {i: i for i in range(10**5)},
        b"z" * 999,
        [[[[[[[1]]]]]]] * 99,
    ],
)
def test_a_repr_is_short_whatever_the_value(value):
    assert len(short_repr(value, 100)) <= LENGTH


def test_the_users_own_repr_is_not_asked_of_big_values():
    assert short_repr(Long(), 10**6) == "<Long>"
