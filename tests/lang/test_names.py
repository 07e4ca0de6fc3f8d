"""Which global names a cell reads, binds and deletes."""

from __future__ import annotations
import __future__

import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.lang.names import find_names

NAMES = [
    # source, reads, binds, deletes
    ("", "", "", ""),
    ("y = await f(x)", "f x", "y", ""),
    ("x", "x", "", ""),
    ("x.y[z]", "x z", "", ""),
    ("x.y = z", "x z", "", ""),
    ("x += 1", "x", "x", ""),
    ("x, [y, *z] = w", "w", "x y z", ""),
    ("(x := y)", "y", "x", ""),
    ("del x", "", "", "x"),
    ("del x.y, z[0]", "x z", "", ""),
    ("import a.b", "", "a", ""),
    ("import a.b as c", "", "c", ""),
    ("from a import b as c, d", "", "c d", ""),
    ("from a import *", "", "*", ""),
    ("for x in y: z", "y z", "x", ""),
    ("with a as b, c as (d, e): pass", "a c", "b d e", ""),
    ("try: pass\nexcept E as e: x", "E x", "e", "e"),
    ("match x:\n    case {'a': [y, *z], **w} as v: pass", "x", "y z w v", ""),
    ("match x:\n    case A(b=c): pass", "x A", "c", ""),
    ("x: int", "int __annotations__", "__annotations__", ""),
    ("x: int = y", "int y __annotations__", "x __annotations__", ""),
    ("type X[T] = list[T, Y]", "list Y", "X", ""),
    # Comprehensions (inlined since 3.12): what symtable loses.
    ("a = [a for b in c]", "a c", "a", ""),
    ("[x for x in y]", "y", "", ""),
    ("[(w := x) for x in y]", "y", "w", ""),
    ("[[z for z in x] + z for x in y]", "y z", "", ""),
    ("{a: b for a in c for d in e if f}", "b c e f", "", ""),
    ("list(a for b in c)", "list a c", "", ""),
    ("[lambda: (a, b) for b in c]", "a c", "", ""),
    # Functions and classes touch globals when they run.
    ("def f(a, b=c, *d, e: g = h) -> i: return a + j", "c g h i j", "f", ""),
    ("def f():\n    x = y\n    return x", "y", "f", ""),
    ("def f():\n    global x\n    x = 1", "", "f x", ""),
    ("def f():\n    global x\n    del x", "", "f", "x"),
    (
        "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = y\n    return g",
        "y",
        "f",
        "",
    ),
    ("def f():\n    def g():\n        global x\n        x += 1", "x", "f x", ""),
    ("@a\nasync def f(): await b", "a b", "f", ""),
    ("lambda x=y: x + z", "y z", "", ""),
    ("class A(B, metaclass=C): pass", "B C __name__", "A", ""),
    ("class A:\n    x = 1\n    y = x\n    def f(self): return x", "__name__ x", "A", ""),
    ("class A:\n    x = 1\n    y = x", "__name__", "A", ""),
    ("class A:\n    x = x", "__name__ x", "A", ""),
    ("class A:\n    if y: x = 1\n    z = x", "__name__ x y", "A", ""),
    ("class A:\n    x = 1\n    del x\n    y = x", "__name__ x", "A", ""),
    ("class A:\n    global x\n    x = 1", "__name__", "A x", ""),
    ("class A[T](B[T]):\n    x: T = y", "__name__ B y", "A", ""),
    # What can never run is not in the code.
    ("if 0: x = y", "", "", ""),
    ("'about'\nx = 1", "", "__doc__ x", ""),
    # Cells with a return.
    ("if a: return b\nc = d", "a b d", "c", ""),
    ("x: int = 1\nreturn [y := z for z in x]", "int x", "x y", ""),
    ("import a.b\nfor c in d: return await e", "d e", "a c", ""),
    ("class A:\n    x = 1\n    y = x\nreturn A", "__name__ A", "A", ""),
    ("try: pass\nexcept E as e: return", "E", "e", "e"),
]


@pytest.mark.parametrize(("source", "reads", "binds", "deletes"), NAMES, ids=[n[0] for n in NAMES])
def test_names_are_found(source, reads, binds, deletes):
    names = find_names(source)
    # The compiler adds attributes to class bodies that no one wrote.
    assert names.reads == set(reads.split())
    assert names.binds == set(binds.split())
    assert names.deletes == set(deletes.split())


@pytest.mark.slow
def test_more_than_65536_names_are_found_whole():
    source = "\n".join(f"b{i} = r{i}; del d{i}" for i in range(70_000))
    names = find_names(source)
    assert names.reads == {f"r{i}" for i in range(70_000)}
    assert names.binds == {f"b{i}" for i in range(70_000)}
    assert names.deletes == {f"d{i}" for i in range(70_000)}


def test_future_flags_decide_whether_annotations_are_read():
    source = "def f(x: y): pass"
    assert find_names(source).reads == {"y"}
    assert find_names(source, flags=__future__.annotations.compiler_flag).reads == set()


def test_what_does_not_compile_is_an_error():
    with pytest.raises(CompilationError) as caught:
        find_names("x =", filename="<here>")
    assert caught.value.filename == "<here>"
