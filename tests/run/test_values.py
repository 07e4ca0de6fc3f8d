"""What a step came to as bytes, and calls by their marks: the same in every process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from pyrepl3.errors import StepError, StepValueError
from pyrepl3.run.values import decode, encode_error, encode_value, mark_call


def call(*args, **kwargs):
    return mark_call(None, len, args, kwargs)


def test_a_mark_says_what_is_called_with_what():
    assert mark_call(None, len, (), {}) == "len()"
    assert mark_call("named", len, (), {}) == "named()"
    assert call(1, "a", None, key=2.5).startswith("len(1, 'a', None, key=2.5) #")
    assert call([1, 2], {"a": 1}, {3}).startswith("len(<list of 2>, <dict of 1>, <set of 1>) #")
    assert call(object()).startswith("len(<object>) #")
    assert len(call("x" * 10_000, *["y" * 100] * 100)) < 300


DIFFERENT = [
    (1,),
    (True,),
    (1.0,),
    ("1",),
    (b"1",),
    ([1],),
    ((1,),),
    ({1},),
    ({1: 2},),
    ({2: 1},),
    ([[1], 2],),
    ([[1, 2]],),
    ("x" * 100 + "a",),
    ("x" * 100 + "b",),
    (list(range(9_999)),),
    ([*range(9_998), 0],),
    (1, 2),
    (2, 1),
    (len,),
    (repr,),
    (float("nan"),),
    (0.0,),
    (-0.0,),
    ("\ud800",),
]


def test_other_arguments_have_another_mark():
    marks = [call(*args) for args in DIFFERENT]
    assert len(set(marks)) == len(marks)
    assert marks == [call(*args) for args in DIFFERENT]
    assert call(a=1, b=2) != call(a=2, b=1)


def test_a_partial_is_the_call_that_it_stands_for():
    partial = functools.partial(functools.partial(max, 1), 2, key=abs)
    assert mark_call(None, partial, (3,), {}) == mark_call(None, max, (1, 2, 3), {"key": abs})


def test_values_that_hold_themselves_have_a_mark_too():
    loop = []
    loop.append(loop)
    assert call(loop) == call(loop)


@pytest.mark.slow
def test_marks_do_not_depend_on_the_process():
    program = (
        "from pyrepl3.run.values import mark_call\n"
        "class Thing: pass\n"
        "values = [{'b', 'a', 'c'}, frozenset('xyz'), Thing(), Thing, lambda: 0, {('a', 1): {'z', 'y'}}]\n"
        "print([mark_call(None, len, [value], {'k': value}) for value in values])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


class OddError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}{b}")


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError


class Turncoat:
    def __reduce__(self):
        raise KeyError("no")


class Late:
    """Can be written, not read."""

    def __reduce__(self):
        return int, ("no number",)


def test_ends_come_back():
    data, unfit = encode_value({"a": [1]}, "f")
    assert unfit is None
    assert decode(data, "f") == (True, {"a": [1]})
    ok, error = decode(encode_error(KeyError("k"), "f"), "f")
    assert not ok
    assert repr(error) == "KeyError('k')"
    assert error.__notes__ == ["kept from when f ran first"]


def test_what_cannot_be_kept_is_told():
    for value in (Turncoat(), lambda: 0, (x for x in ())):
        data, unfit = encode_value(value, "f")
        assert isinstance(unfit, StepValueError)
        ok, error = decode(data, "f")
        assert not ok
        assert type(error) is StepValueError
        assert str(error) == str(unfit)
        assert f"result of f, of type {type(value).__qualname__}," in str(error)
    for error in (OddError(1, 2), SilentError(lambda: 0), ValueError(lambda: 0)):
        ok, again = decode(encode_error(error, "f"), "f")
        assert not ok
        assert type(again) is StepError
        assert str(again).startswith(f"f raised {type(error).__name__}")


def test_what_cannot_be_read_any_more_is_told():
    data, unfit = encode_value(Late(), "f")
    assert unfit is None
    ok, error = decode(data, "f")
    assert not ok
    assert isinstance(error, StepValueError)
    assert "kept, but cannot be read: ValueError" in str(error)
