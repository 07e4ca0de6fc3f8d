"""Live values as text for a type checker: what is said, what is left open, and that nothing of them runs."""

from __future__ import annotations

import ast
import collections
import os
import sys
import types

import pytest

from pyrepl3.run.stubs import look_at
from pyrepl3.run.typetext import TypeTexts, describe_types

SOURCE = """
import typing, dataclasses, enum, functools, json as j
from collections import OrderedDict as Ordered
class Base: ...
class C(Base):
    size: "int" = 1
    def __init__(self, v): self.v, self.w = v, 2
    @classmethod
    def make(cls, *a: int, **k: "C") -> "C": ...
    @staticmethod
    def plain(a, /, b=1, *, c): ...
    @functools.cache
    def cached(self): ...
class Meta(type): ...
class Odd(metaclass=Meta): ...
class Dynamic:
    def __init__(self, **k): self.__dict__.update(k)
def outer():
    class Inner: ...
    return Inner()
@functools.wraps(outer)
def wrapped(*a): ...
c, inner, kept = C(1), outer(), Ordered()
c.extra = "x"
def f(a: typing.Optional[int], b: list["C"] | None = None) -> None: ...
"""


@pytest.fixture
def namespace():
    module = types.ModuleType("stub_cells")
    sys.modules["stub_cells"] = module
    exec(compile(SOURCE, "cells", "exec", dont_inherit=True), module.__dict__)
    yield module.__dict__
    del sys.modules["stub_cells"]


def test_a_stub_says_what_the_values_say(namespace):
    looked = look_at("c, C, Odd, Dynamic, inner, wrapped, kept, f, j, Ordered", namespace)
    assert looked.imports == "from collections import OrderedDict as Ordered; import json as j"
    ast.parse(looked.stub)
    for line in (
        "class C(Base):",
        "class Base:",
        "    size: int",
        "    def __init__(self, v): ...",
        "    def make(cls, *a: int, **k: C) -> C: ...",
        "    def plain(a, /, b=..., *, c): ...",
        "    cached: Any",
        "    extra: str | Any",
        "    v: Any",
        "class Odd(Any):",
        "    def __getattr__(self, name: str, /) -> Any: ...",
        "inner: Any",
        "wrapped: Any",
        "kept: collections.OrderedDict",
        "c: C",
        "def f(a: typing.Optional[int], b: list['C'] | None = ...) -> None: ...",
    ):
        assert line in looked.stub.splitlines(), line
    assert "Meta" not in looked.stub


def test_only_what_the_cell_reads_is_in_it(namespace):
    looked = look_at("x = 1", namespace)
    assert (looked.names, looked.imports, looked.binds) == ((), "", ("x",))
    assert "class" not in looked.stub


CONTAINERS = [
    ([], "list[Any]", "list[Any]"),
    ([1, 2], "list[int]", "list[int | Any]"),
    ([1, "a", None], "list[int | str | None]", "list[int | str | None | Any]"),
    ([1, "a", None, 2.0], "list[Any]", "list[Any]"),
    ({"a": [1]}, "dict[str, list[int]]", "dict[str | Any, list[int | Any] | Any]"),
    ((1, "a"), "tuple[int, str]", "tuple[int, str]"),
    ((), "tuple[()]", "tuple[()]"),
    ((1,) * 9, "tuple[int, ...]", "tuple[int, ...]"),
    ((1,) * 99, "tuple[int | Any, ...]", "tuple[int | Any, ...]"),
    (frozenset({1}), "frozenset[int]", "frozenset[int]"),
    ([[[[1]]]], "list[list[list[list]]]", "list[list[list[list | Any] | Any] | Any]"),
    (collections.deque([1]), "collections.deque", "collections.deque"),
    (int, "type[int]", "type[int]"),
    (None, "None", "None"),
    (len, "types.BuiltinMethodType", "types.BuiltinMethodType"),
    (True, "bool", "bool"),
]


@pytest.mark.parametrize(("value", "shown", "stub"), CONTAINERS, ids=repr)
def test_types_are_told_and_containers_stay_open(value, shown, stub):
    assert TypeTexts({}).of(value) == shown
    assert TypeTexts({}, loose=True).of(value) == stub


def test_a_list_that_holds_itself_ends():
    ring = []
    ring.append(ring)
    assert TypeTexts({}).of(ring) == "list[list[list[list]]]"


def test_no_code_of_the_values_runs():
    ran = []

    class Meta(type):
        def __getattribute__(cls, name):
            ran.append(name)
            return super().__getattribute__(name)

    class Trap(metaclass=Meta):
        def __getattribute__(self, name):
            ran.append(name)
            return super().__getattribute__(name)

        def __repr__(self):
            ran.append("repr")
            return ""

    trap, names = Trap(), {"trap": None, "Trap": Trap, "__name__": "cells"}
    names["trap"] = trap
    ran.clear()
    look_at("trap.a; trap(); Trap.b; [trap]", names)
    describe_types(names, names)
    assert ran == []


def test_names_that_are_no_python_stay_out():
    evil = type("x: int\nimport os", (), {"__module__": "no module\n"})
    names = {"__name__": "cells", "evil": evil(), "Evil": evil, "class": 1, "ok": os}
    looked = look_at("evil, Evil, ok", names)
    ast.parse(looked.stub)
    ast.parse(looked.imports)
    assert "import os" not in looked.stub
    assert looked.imports == "import os as ok"
