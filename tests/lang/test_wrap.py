"""Cells with a top-level return: their value, where their names land, what their tracebacks show."""

from __future__ import annotations

import asyncio
import builtins
import linecache
import sys
import traceback
from types import FunctionType

import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.parse import parse
from pyrepl3.lang.wrap import has_return, wrap


async def run(source: str, namespace: dict, **options: object) -> object:
    cell = compile_cell(source, "<cell>", **options)
    assert cell.wrapped
    assert cell.tail is None
    namespace.setdefault("__builtins__", builtins)
    value = FunctionType(cell.body, namespace)()
    assert cell.body_async == asyncio.iscoroutine(value)
    return await value if cell.body_async else value


async def same(x=None):
    return x


async def count(n):
    for i in range(n):
        yield i


VALUES = {
    "a value": ("return 1", 1),
    "nothing": ("return", None),
    "the end": ("if False: return 1\n2", None),
    "an awaited value": ("return await same(1)", 1),
    "in if": ("x = 1\nif x:\n    return 'yes'\nreturn 'no'", "yes"),
    "in else": ("if 0: pass\nelse: return 1", 1),
    "in for": ("for i in range(9):\n    if i == 3: return i", 3),
    "in for else": ("for i in (): pass\nelse: return 1", 1),
    "in while": ("n = 0\nwhile True:\n    n += 1\n    if n > 4: return n", 5),
    "in with": ("import contextlib\nwith contextlib.nullcontext(2) as x: return x", 2),
    "in try": ("try: return 1\nfinally: x = 2", 1),
    "in except": ("try: 1 / 0\nexcept ZeroDivisionError as e: return type(e)", ZeroDivisionError),
    "in finally": ("try: pass\nfinally: return 3", 3),
    "in match": ("match [1, 2]:\n    case [_, x]: return x", 2),
    "in async for": ("async for i in count(9):\n    if i == 3: return i", 3),
    "in async with": (
        "import asyncio\nasync with asyncio.timeout(None): return await same(4)", 4),
    "a coroutine is not awaited unasked": ("c = same(1)\nreturn c.close()", None),
    "an asynchronous comprehension": ("return [x async for x in count(2)]", [0, 1]),
    "a lambda": ("return (lambda: 5)()", 5),
    "recursion": ("def f(n):\n    return n and 1 + f(n - 1)\nreturn f(3)", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
async def test_the_value_is_what_was_returned(name):
    source, expected = VALUES[name]
    assert await run(source, {"same": same, "count": count}) == expected


BINDINGS = {
    "assignment": ("x = 1", {"x": 1}),
    "chained": ("x = y = 1", {"x": 1, "y": 1}),
    "unpacking": ("(x, [y, *z]) = 1, [2, 3]", {"x": 1, "y": 2, "z": [3]}),
    "augmented": ("x = 1\nx += 1", {"x": 2}),
    "annotated": ("x: int = 1", {"x": 1}),
    "annotated only": ("x: int", {}),
    "walrus": ("(x := 1)", {"x": 1}),
    "walrus in a comprehension": ("[y := x for x in [1, 2]]", {"y": 2}),
    "walrus in a deep comprehension": ("[{z := y for y in [x]} for x in [3]]", {"z": 3}),
    "walrus in a generator": ("list(y := x for x in [1])", {"y": 1}),
    "walrus in a lambda is its own": ("[(lambda: (y := x))() for x in [1]]", {}),
    "comprehension targets are its own": ("[x for x in [1]]", {}),
    "the same name in and outside a comprehension": ("x = 0\ny = [x for x in [1]]", {"x": 0, "y": [1]}),
    "import": ("import os.path", {"os": __import__("os")}),
    "import as": ("import os.path as p", {"p": __import__("os").path}),
    "from import": ("from sys import path as p, argv", {"p": sys.path, "argv": sys.argv}),
    "for": ("for x, (y, z) in [(1, (2, 3))]: pass", {"x": 1, "y": 2, "z": 3}),
    "async for": ("async for x in count(2): pass", {"x": 1}),
    "with": ("import contextlib as c\nwith c.nullcontext((1, 2)) as (x, y): pass", {"x": 1, "y": 2}),
    "except": ("try: 1 / 0\nexcept Exception as e: x = str(e)", {"x": "division by zero"}),
    "except unbinds": ("e = 1\ntry: 1 / 0\nexcept Exception as e: pass", {}),
    "except star": (
        "try: raise ExceptionGroup('', [KeyError(1)])\nexcept* KeyError as e: x = len(e.exceptions)",
        {"x": 1}),
    "match": (
        "match {'a': [1, 2, 3], 'b': 4}:\n    case {'a': [x, *y], **z} as w: pass",
        {"x": 1, "y": [2, 3], "z": {"b": 4}, "w": {"a": [1, 2, 3], "b": 4}}),
    "del": ("x = 1\ny = 2\ndel x", {"y": 2}),
    "del of an earlier name": ("del old", {"old": None}),
    "def": ("def f(): pass\nf = f.__qualname__", {"f": "f"}),
    "async def": ("async def f(): pass\nf = f.__qualname__", {"f": "f"}),
    "class": ("class A:\n    class B: pass\nA = A.B.__qualname__", {"A": "A.B"}),
    "generic def": ("def f[T](x: T) -> T: return x\nf = f(1), f.__qualname__", {"f": (1, "f")}),
    "generic class": ("class A[T]: x: T\nA = A.__qualname__", {"A": "A"}),
    "type parameter of a bound name": ("T = 1\nclass A[T]: pass\ndel A", {"T": 1}),
    "type alias": ("type X[T] = list[T]\nX = X[int].__origin__.__name__", {"X": "X"}),
    "lambda": ("f = (lambda: 0).__qualname__", {"f": "<lambda>"}),
    "function in a function": (
        "def f():\n    def g(): pass\n    return g.__qualname__\nx = f()\ndel f", {"x": "f.<locals>.g"}),
    "global in a function": ("def f():\n    global x\n    x = 1\nf()\ndel f", {"x": 1}),
    "global at the top": ("global x\nx = 1", {"x": 1}),
    "decorator": ("@(d := str)\ndef f(): pass\nf = f[:9]", {"d": str, "f": "<function"}),
    "default": ("def f(a=(x := 1), *, b=(y := 2)): pass\ndel f", {"x": 1, "y": 2}),
    "base": ("class A((x := object), metaclass=(y := type)): pass\ndel A", {"x": object, "y": type}),
    "docstring": ("'about'\nx = 1", {"x": 1, "__doc__": "about"}),
    "future import": (
        "from __future__ import annotations\ndef f(x: y): pass\nx = f.__annotations__\ndel f",
        {"x": {"x": "y"}, "annotations": __import__("__future__").annotations}),
    "attribute and subscript bind nothing": ("(d := {})[1] = 2", {"d": {1: 2}}),
}  # fmt: skip


def names_in(namespace: dict) -> dict:
    return {
        name: value
        for name, value in namespace.items()
        if name not in {"__builtins__", "count", "c", "contextlib", "__annotations__", "__name__"}
    }


@pytest.mark.parametrize("name", BINDINGS)
async def test_names_land_in_the_namespace_as_without_a_return(name):
    source, expected = BINDINGS[name]
    expected = {k: v for k, v in expected.items() if k != "old"}
    namespace = {"count": count, "old": 1, "__name__": "cells"}
    if "old" not in source:
        del namespace["old"]
    assert await run(f"{source}\nreturn", namespace) is None
    assert names_in(namespace) == expected
    # The same cell without a return is the standard to meet.
    plain = {"count": count, "old": 1, "__name__": "cells"}
    if "old" not in source:
        del plain["old"]
    cell = compile_cell(source, "<cell>")
    for code in (cell.body, cell.tail):
        if code is not None:
            begun = eval(code, plain)
            if asyncio.iscoroutine(begun):
                await begun
    assert names_in(plain) == expected


async def test_functions_of_the_cell_see_each_other_and_later_names():
    namespace: dict = {}
    source = "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\n"
    assert await run(source + "return even(10), [even(x) for x in range(3)]", namespace) == (
        True, [True, False, True],
    )  # fmt: skip
    assert namespace["odd"](3)


ANNOTATIONS = """
def note(x):
    order.append(x)
    return box
class Box:
    def __setattr__(self, name, value): order.append(('set', name))
    def __setitem__(self, key, value): order.append(('set', key))
box, order = Box(), []
x: note('annotation 1') = note('value 1')
note('target 2').attr: note('annotation 2') = note('value 2')
note('target 3')[note('key 3')]: note('annotation 3') = note('value 3')
y: note('annotation 4')
note('target 5').attr: note('annotation 5')
note('target 6')[1:note('key 6'), 2]: note('annotation 6')
if x:
    z: note('annotation 7') = note('value 7')
(w): note('annotation 8') = note('value 8')
"""


async def test_annotated_assignments_evaluate_the_same_in_the_same_order():
    plain: dict = {"__name__": "cells"}
    exec(compile_cell(ANNOTATIONS, "<cell>").body, plain)
    namespace: dict = {"__name__": "cells"}
    order = [
        item if isinstance(item, str) else ("set", "box" if item[1] is not None else None)
        for item in (await run(ANNOTATIONS + "return order", namespace))
    ]
    expected = [item if isinstance(item, str) else ("set", "box") for item in plain["order"]]
    assert order == expected
    assert len(order) > 15


async def test_with_the_future_import_annotations_are_not_evaluated():
    source = "x: nowhere = 1\nnowhere2.a: nowhere = 1\nreturn x"
    with pytest.raises(NameError):
        await run(source, {})
    import __future__

    flags = __future__.annotations.compiler_flag
    assert await run("x: nowhere = 1\nreturn x", {}, flags=flags) == 1
    assert await run("from __future__ import annotations\nx: nowhere = 1\nreturn x", {}) == 1


async def test_what_differs_is_what_the_documentation_says():
    namespace: dict = {"__name__": "cells"}
    assert await run("x = 1\nreturn locals()", namespace) == {}
    await run("exec('y = 1')\nz: int = 1\nreturn", namespace)
    assert "y" not in namespace
    assert "__annotations__" not in namespace
    with pytest.raises(CompilationError, match="cell of its own"):
        compile_cell("from os import *\nreturn 1", "<cell>")


# --- places ---------------------------------------------------------------------------------------

FAILING = """\
import contextlib
class A:
    def method(self, x):
        return [y / 0 for y in x]
def call(f, *args):
    return f(*args)
@contextlib.contextmanager
def inside():
    yield
with inside():
    for _ in range(1):
        é = 'ü'; call(lambda x: A().method(x), (1, 2)) + undefined
"""


def format_error(error: BaseException) -> list[str]:
    # Without our own frame: what is left starts in the cell.
    error.__traceback__ = error.__traceback__.tb_next
    return traceback.format_exception(error)


@pytest.mark.parametrize("suffix", ["", "\n\n# end", "\nx = 1"])
async def test_a_traceback_is_the_same_as_without_the_return(suffix):
    source = FAILING + suffix
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(True), "<cell>")
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            eval(compile_cell(source, "<cell>").body, {"__name__": "cells"})
        plain = format_error(caught.value)
        cell = compile_cell(f"{source}\nreturn 1", "<cell>")
        with pytest.raises(ZeroDivisionError) as caught:
            FunctionType(cell.body, {"__name__": "cells"})()
        assert format_error(caught.value) == plain
        assert "line 12, in <module>" in "".join(plain)
        assert "^^" in "".join(plain)
    finally:
        del linecache.cache["<cell>"]


async def test_lines_count_from_the_first_line_of_the_file():
    with pytest.raises(ZeroDivisionError) as caught:
        await run("x = 1\nif x:\n    1 / 0\nreturn", {}, first_line=31)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.name, frame.lineno, frame.colno) == ("<module>", 33, 4)


async def test_an_awaiting_cell_is_named_like_any_other():
    with pytest.raises(ZeroDivisionError) as caught:
        await run("await same()\nreturn 1 / 0", {"same": same})
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "<module>"


# --- which cells are wrapped ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("return", True),
        ("if x:\n    with y:\n        for z in w: return", True),
        ("match x:\n    case 1: pass\n    case 2: return", True),
        ("try: pass\nexcept A: return", True),
        ("try: pass\nexcept* A: return", True),
        ("try: pass\nexcept A: pass\nelse: return", True),
        ("while x: pass\nelse:\n    async with y: return", True),
        ("def f(): return 1", False),
        ("async def f(): return 1", False),
        ("class A:\n    def f(self): return 1", False),
        ("class A:\n    return 1", False),
        ("if x:\n    def f(): return 1", False),
        ("'return'  # return", False),
        ("returned = 1", False),
    ],
)
def test_only_a_return_at_the_top_makes_a_cell_wrapped(source, expected):
    assert has_return(parse(source, "<cell>").body) is expected


def test_a_return_that_python_forbids_everywhere_is_an_error_at_its_place():
    with pytest.raises(CompilationError) as caught:
        compile_cell("x = 1\ntry: pass\nexcept* A: return 1", "<cell>")
    assert "except*" in caught.value.msg
    assert caught.value.lineno == 3


def test_other_errors_in_a_wrapped_cell_are_reported_as_without_the_return():
    for source in (
        "x = 1\nglobal x",
        "x = 1\nbreak",
        "def f():\n    nonlocal y",
        "lambda: await x",
        "class A:\n    y = await x",
        "def f(a, a): pass",
        "*a",
        "x = (yield)",
        "def f():\n    [x async for x in y]",
    ):
        with pytest.raises(CompilationError) as plain:
            compile_cell(source, "<cell>")
        with pytest.raises(CompilationError) as wrapped:
            compile_cell(f"{source}\nreturn", "<cell>")
        assert (wrapped.value.lineno, wrapped.value.offset, wrapped.value.text) == (
            plain.value.lineno, plain.value.offset, plain.value.text,
        )  # fmt: skip


def test_a_cell_that_awaits_but_has_another_error_reports_that_one():
    with pytest.raises(CompilationError, match="'break' outside loop"):
        compile_cell("await x\nbreak\nreturn", "<cell>")


def test_the_function_has_no_closure_and_no_arguments():
    code = wrap(parse("[lambda: x for x in y]\nreturn x", "<cell>"), "", "<cell>", 0, 1)
    assert (code.co_freevars, code.co_argcount, code.co_kwonlyargcount) == ((), 0, 0)
    assert code.co_firstlineno == 1


def test_a_name_that_looks_like_ours_is_the_users():
    cell = compile_cell("_cell = __cell__ = 1\nreturn _cell", "<cell>")
    assert FunctionType(cell.body, {})() == 1
