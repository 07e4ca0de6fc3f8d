from __future__ import annotations

import pytest

from pyrepl3.snapshot.reaches import ESCAPES, reaches


def names(source, start):
    namespace = {"__name__": "cells"}
    exec(source, namespace)
    return reaches(start, namespace)


@pytest.mark.parametrize(
    ("source", "start", "found"),
    [
        ("def f(): return a + b.attr", "f", {"f", "a", "b", "attr"}),
        ("def f(): return g()\ndef g(): return h\nh = 1", "f", {"f", "g", "h"}),
        ("class C:\n    def m(self): return a\nc = C()", "c", {"c", "a"}),
        ("class A:\n    def m(self): return a\nclass B(A): pass", "B", {"B", "a"}),
        ("import functools\ndef f(): return a\np = functools.partial(f)", "p", {"p", "a"}),
        ("class C:\n    @property\n    def p(self): return a\n    @staticmethod\n    def s(): return b\n    @classmethod\n    def c(cls): return d", "C", {"C", "a", "b", "d"}),
        ("def f():\n    def g(): return deep\n    return g", "f", {"f", "deep"}),
        ("def w(f):\n    def inner(): return f()\n    return inner\n@w\ndef f(): return a", "f", {"f", "a"}),
        ("x = 1", "x", {"x"}),
        ("", "unknown", {"unknown"}),
    ],
)  # fmt: skip
def test_what_code_behind_a_name_mentions_is_found(source, start, found):
    assert found <= names(source, [start])


def test_recursion_ends():
    assert "f" in names("def f(): return g()\ndef g(): return f()", ["f"])


def test_library_code_is_not_followed():
    assert "__globals__" not in names("import json", ["json"])
    assert names("from json import dumps", ["dumps"]) == {"dumps"}


def test_escapes_are_seen():
    assert names("def f(): g()\ndef g(): exec('x = 1')", ["f"]) & ESCAPES == {"exec"}


def test_objects_that_lie_about_their_class_are_followed_by_their_type():
    source = "class C:\n    @property\n    def __class__(self): raise RuntimeError\n    def m(self): return a\nc = C()"
    assert "a" in names(source, ["c"])
