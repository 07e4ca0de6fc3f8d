"""A cell's source to code: every form of top-level await, values, file names, flags, odd sources."""

from __future__ import annotations
import __future__

import inspect
import linecache
import sys
import traceback
import warnings
from types import CodeType, FunctionType

import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.lang.compile import compile_cell, renamed
from pyrepl3.records import ExecutionMode

PRELUDE = """
import contextlib

async def f(x=None):
    return x

async def count(n):
    for i in range(n):
        yield i

@contextlib.asynccontextmanager
async def held(x):
    log.append(("in", x))
    yield x
    log.append(("out", x))

def keep(function):
    return function

log = []
"""


async def run(source: str, namespace: dict | None = None, **options: object) -> object:
    """The value of a cell, run as the engine does: with one dict, through eval."""
    if namespace is None:
        namespace = {"__name__": "cells"}
        exec(compile(PRELUDE, "<prelude>", "exec", 0, True), namespace)
    cell = compile_cell(source, "<cell>", **options)
    if cell.wrapped:
        value = FunctionType(cell.body, namespace)()
        return await value if cell.body_async else value
    if cell.body is not None:
        begun = eval(cell.body, namespace)
        if cell.body_async:
            await begun
    if cell.tail is not None:
        value = eval(cell.tail, namespace)
        return await value if cell.tail_async else value
    return None if cell.value_name is None else namespace.get(cell.value_name)


# --- top-level await ------------------------------------------------------------------------------

FORMS = {
    "expression": ("await f(3)", 3),
    "parentheses": ("(await\n  f(3)\n)", 3),
    "after an import": ("import asyncio; result = await asyncio.sleep(0, 'test')", "test"),
    "assignment": ("x = await f(3)", 3),
    "chained assignment": ("x = y = await f(3)\nx + y", 6),
    "unpacking": ("a, *b = await f([1, 2, 3])\n(a, b)", (1, [2, 3])),
    "annotated assignment": ("x: int = await f(3)", 3),
    "annotation": ("x: await f(int) = 3\n__annotations__['x']", int),
    "augmented assignment": ("x = 1\nx += await f(2)", 3),
    "augmented subscript": ("d = [1]\nd[await f(0)] += await f(2)\nd", [3]),
    "subscript target": ("d = {}\nd[await f('k')] = await f(1)\nd", {"k": 1}),
    "attribute target": ("(await f(keep)).x = 5\nkeep.x", 5),
    "attribute": ("(await f('ab')).upper()", "AB"),
    "subscript": ("(await f('ab'))[await f(1)]", "b"),
    "slice": ("'abcd'[await f(1):await f(3)]", "bc"),
    "argument": ("str(await f(1))", "1"),
    "keyword argument": ("dict(a=await f(1))", {"a": 1}),
    "star arguments": ("max(*await f([1, 2]), **await f({}))", 2),
    "unary": ("-await f(1)", -1),
    "binary": ("await f(1) + await f(2) ** await f(3)", 9),
    "comparison": ("await f(1) < await f(2) < await f(3)", True),
    "and or": ("await f(0) or await f(7) and await f(8)", 8),
    "ternary": ("(await f(1)) if await f(False) else (await f(2))", 2),
    "tuple": ("await f(1), await f(2)", (1, 2)),
    "list": ("[await f(1), *await f([2])]", [1, 2]),
    "set": ("{await f(1), *await f([2])}", {1, 2}),
    "dict": ("{await f(1): await f(2), **await f({3: 4})}", {1: 2, 3: 4}),
    "f-string": ("f'{await f(1)}!'", "1!"),
    "f-string format": ("f'{await f(1.5):{await f(6)}.2f}'", "  1.50"),
    "f-string debug": ("f'{await f(1)=}'", "await f(1)=1"),
    "walrus": ("(x := await f(3)) + x", 6),
    "walrus in await": ("await f(x := 3)\nx", 3),
    "lambda default": ("(lambda x=await f(2): x)()", 2),
    "function default": ("def g(a=await f(1), *, b=await f(2)):\n    return a + b\ng()", 3),
    "generic function default": ("def g[T](a: T = await f(1)) -> T:\n    return a\ng()", 1),
    "parameter annotation": ("def g(a: await f(int)) -> await f(str): ...\ng.__annotations__",
                             {"a": int, "return": str}),
    "decorator": ("@await f(keep)\ndef g():\n    return 1\ng()", 1),
    "decorator of async def": ("@await f(keep)\nasync def g():\n    return 1\nawait g()", 1),
    "decorator of class": ("@await f(keep)\nclass A:\n    x = 1\nA.x", 1),
    "base": ("class A(await f(int)): ...\nA(3)", 3),
    "class keyword": ("class A(metaclass=await f(type)): ...\ntype(A)", type),
    "if": ("if await f(0):\n    x = 1\nelif await f(1):\n    x = 2\nx", 2),
    "while": ("n = 0\nwhile await f(n) < 3:\n    n += await f(1)\nelse:\n    n += 10\nn", 13),
    "for": ("s = 0\nfor i in await f(range(3)):\n    s += await f(i)\ns", 3),
    "async for": ("s = []\nasync for i in count(3):\n    s.append(i)\ns", [0, 1, 2]),
    "async for with all parts": (
        "s = []\nasync for (i), in ((x,) async for x in count(9)):\n"
        "    if i == 1:\n        continue\n    if i == 4:\n        break\n    s.append(i)\n"
        "else:\n    s = None\ns", [0, 2, 3]),
    "async for to the end": ("async for i in count(2): pass\nelse:\n    i = 'end'\ni", "end"),
    "with": ("import contextlib\nwith await f(contextlib.nullcontext(4)) as x:\n    await f()\nx", 4),
    "async with": ("async with held(1) as x:\n    x += 1\n(x, log)", (2, [("in", 1), ("out", 1)])),
    "async with several": (
        "async with (held(1) as a, held(a + 1) as b,):\n    pass\nlog",
        [("in", 1), ("in", 2), ("out", 2), ("out", 1)]),
    "try": (
        "try:\n    await f()\n    raise KeyError\nexcept await f(KeyError) as e:\n    x = await f(1)\n"
        "else:\n    x = await f(2)\nfinally:\n    y = await f(3)\n(x, y)", (1, 3)),
    "except star": (
        "try:\n    raise ExceptionGroup('g', [ValueError(await f(1))])\n"
        "except* ValueError as e:\n    x = await f(e.exceptions[0].args)\nx", (1,)),
    "raise": (
        "try:\n    raise await f(ValueError(1)) from await f(KeyError(2))\n"
        "except ValueError as e:\n    x = (e.args, e.__cause__.args)\nx", ((1,), (2,))),
    "assert": (
        "try:\n    assert await f(0), await f('why')\nexcept AssertionError as e:\n    x = str(e)\nx",
        "why"),
    "del": ("d = {1: 2}\ndel d[await f(1)]\nd", {}),
    "return": ("return await f(1)", 1),
    "return in a loop": ("async for i in count(9):\n    if i == 3: return i", 3),
    "match": (
        "match await f((1, 2)):\n    case (1, y) if await f(y):\n        x = await f(y)\nx", 2),
    "list comprehension": ("[await f(x) for x in await f([1, 2]) if await f(x > 1)]", [2]),
    "set comprehension": ("{await f(x) for x in [1, 1]}", {1}),
    "dict comprehension": ("{await f(x): await f(x + 1) for x in [1]}", {1: 2}),
    "asynchronous comprehensions": (
        "([x async for x in count(3)], {x async for x in count(2)}, {x: 1 async for x in count(1)})",
        ([0, 1, 2], {0, 1}, {0: 1})),
    "nested comprehensions": (
        "[[y async for y in count(x) if await f(y)] for x in [2, 3]]", [[1], [1, 2]]),
    "comprehension over both": ("[(x, y) async for x in count(2) for y in await f('ab')]",
                                [(0, "a"), (0, "b"), (1, "a"), (1, "b")]),
    "walrus in a comprehension": ("[last := await f(x) for x in [1, 2]]\nlast", 2),
    "generator over await": ("list(x for x in await f([1, 2]))", [1, 2]),
    "asynchronous generator": ("[x async for x in (await f(y) for y in [1, 2])]", [1, 2]),
    "beside a type alias": ("type A[T] = list[T]\nawait f(A.__name__)", "A"),
    "beside a nested async def": ("async def g():\n    return await f(5)\nawait g()", 5),
    "beside global": ("def g():\n    global made\n    made = 9\ng(); await f(made)", 9),
    "semicolons": ("x = await f(1); y = await f(2); x + y", 3),
    "both parts": ("x = await f(1)\nawait f(x + 1)", 2),
    "body only": ("x = await f(1)\nx + 1", 2),
    "tail only": ("x = 1\nawait f(x + 1)", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_of_top_level_await_compiles_runs_and_gives_the_right_value(name):
    source, expected = FORMS[name]
    cell = compile_cell(source, "<cell>")
    assert cell.is_async
    assert cell.mode is ExecutionMode.TOP_LEVEL_AWAIT
    assert cell.placement == "loop"
    assert await run(source) == expected


SYNC = {
    "async def": "async def g():\n    await f()\n    async for x in count(1): ...",
    "async method": "class A:\n    async def g(self):\n        async with held(1): ...",
    "nested async def": "def g():\n    async def h():\n        await f()",
    "asynchronous generator in a function": "def g(): return (await f(x) for x in [1])",
    "a call without await": "c = f(); c.close()",
    "the word": "'await f()'  # await f()",
}


@pytest.mark.parametrize("name", SYNC)
async def test_an_await_that_does_not_run_with_the_cell_does_not_count(name):
    cell = compile_cell(SYNC[name], "<cell>")
    assert not (cell.is_async or cell.body_async or cell.tail_async)
    assert cell.mode is not ExecutionMode.TOP_LEVEL_AWAIT
    await run(SYNC[name])


@pytest.mark.parametrize("source", ["(await f(x) for x in [1])", "(x async for x in count(1))"])
async def test_an_asynchronous_generator_makes_the_cell_async_for_the_compiler(source):
    """Nothing is awaited, but the code has CO_COROUTINE, and so it must be awaited."""
    assert compile_cell(f"g = {source}", "<cell>").is_async
    generator = await run(f"g = {source}")
    assert [x async for x in generator] in ([0], [1])


@pytest.mark.parametrize(
    "source",
    [
        "lambda: await f()",
        "def g(): await f()",
        "class A:\n    x = await f()",
        "class A:\n    x = [await f(y) for y in z]",
        "class A[T](await f(object)): ...",
        "type A = await f()",
        "def g():\n    [x async for x in y]",
        "yield 1",
        "x = yield",
        "yield from x",
        "return 1\nyield 2",
        "if x: return await f(1)\nawait (yield)",
        "class A:\n    return 1",
    ],
)
def test_what_python_forbids_stays_forbidden(source):
    with pytest.raises(CompilationError):
        compile_cell(source, "<cell>")


def test_both_parts_say_for_themselves_whether_they_are_async():
    assert [
        (cell.body_async, cell.tail_async)
        for cell in (
            compile_cell(source, "<cell>")
            for source in ("x = await f()\nx", "x = 1\nawait f(x)", "await f()\nawait f()", "x\nx")
        )
    ] == [(True, False), (False, True), (True, True), (False, False)]


# --- what the cell is worth -----------------------------------------------------------------------

VALUES = [
    # source, value_name, shows
    ("", None, False),
    ("# only a comment", None, False),
    ("\n\n", None, False),
    ("pass", None, False),
    ("1", None, True),
    ("1;", None, False),
    ("1 ; ", None, False),
    ("1;  # why", None, False),
    ("1  # no; really", None, True),
    ("1\n# no; really\n", None, True),
    ("1;\n\n# end\n", None, False),
    ("';'", None, True),
    ("x = 1; x", None, True),
    ("x = 1; x;", None, False),
    ("';';", None, False),
    ('""";\n;"""', None, True),
    ('""";\n;""";', None, False),
    ("f';{x};'", None, True),
    ("(1\n)", None, True),
    ("(\n1  # ;\n);", None, False),
    ("(1\n  # ;\n)", None, True),
    ("[';',\n ';']", None, True),
    ("'é;ü' ;", None, False),
    ("'é;ü' # ;", None, True),
    ("1;\r\n", None, False),
    ("';'\r\n2;\r\n", None, False),
    ("';'\f;", None, False),
    ("\ufeff';' ;", None, False),
    ("1 + \\\n1;", None, False),
    ("x = 1", "x", False),
    ("x = 1;", "x", False),
    ("x = y = 1", None, False),
    ("x, y = 1, 2", None, False),
    ("x.y = 1", None, False),
    ("x[0] = 1", None, False),
    ("(x) = 1", "x", False),
    ("x: int = 1", "x", False),
    ("x: int", None, False),
    ("x.y: int = 1", None, False),
    ("x += 1", "x", False),
    ("x[0] += 1", None, False),
    ("1\nx = 2", "x", False),
    ("x = 1\nif x: y = 2", None, False),
    ("def f(): return 1", None, False),
    ("import os", None, False),
    ("(x := 1)", None, True),
    ("return 1", None, True),
    ("return 1;", None, False),
    ("return ';'", None, True),
    ("await f()", None, True),
    ("await f();", None, False),
]


@pytest.mark.parametrize(("source", "value_name", "shows"), VALUES)
@pytest.mark.parametrize("first_line", [1, 40])
def test_the_value_and_whether_it_is_shown(source, value_name, shows, first_line):
    cell = compile_cell(source, "<cell>", first_line=first_line)
    assert (cell.value_name, cell.shows) == (value_name, shows)


@pytest.mark.parametrize("source", ["", "\n", "# x", "\ufeff", "\f"])
def test_an_empty_cell_has_no_code(source):
    cell = compile_cell(source, "<cell>")
    assert cell.body is cell.tail is None
    assert not (cell.names or cell.nested or cell.is_async)
    assert renamed(cell, "<other>").body is None


def test_nothing_runs_before_the_whole_cell_compiles():
    with pytest.raises(CompilationError):
        compile_cell("x = 1\nprint(x)\nbreak", "<cell>")
    with pytest.raises(CompilationError):
        compile_cell("x = 1\n(yield)", "<cell>")


# --- names, nested code ---------------------------------------------------------------------------


def test_names_and_nested_code_are_found_at_any_depth():
    source = (
        "def a():\n    def b():\n        return [lambda: deep for x in y]\n    return b\nz.attr"
    )
    cell = compile_cell(source, "<cell>")
    assert {"a", "deep", "y", "z", "attr"} <= set(cell.names)
    assert len(set(cell.names)) == len(cell.names)
    assert [code.co_name for code in cell.nested] == ["a", "b", "<lambda>"]


def test_a_deeply_nested_cell_is_no_recursion():
    depth = 90
    source = "".join("    " * i + "def f():\n" for i in range(depth)) + "    " * depth + "pass"
    assert len(compile_cell(source, "<cell>").nested) == depth


# --- the tree may be changed before it is compiled ------------------------------------------------


async def test_a_transform_changes_what_runs():
    import ast

    class Double(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.copy_location(ast.Constant(node.value * 2), node)

    assert await run("21", transform=Double().visit) == 42


# --- future flags ---------------------------------------------------------------------------------


async def test_a_future_import_carries_over_to_later_cells_and_to_the_tail():
    first = compile_cell("from __future__ import annotations", "<cell>")
    assert first.flags == __future__.annotations.compiler_flag
    source = "def f(x: not_there): ...\nf.__annotations__"
    assert await run(source, {}, flags=first.flags) == {"x": "not_there"}
    assert compile_cell("1", "<cell>", flags=first.flags).flags == first.flags
    with pytest.raises(NameError):
        await run(source, {})
    lambda_in_tail = "from __future__ import annotations\n(lambda: 0).__code__.co_flags"
    assert await run(lambda_in_tail, {}) & __future__.annotations.compiler_flag


def test_our_own_future_imports_do_not_leak_into_cells():
    assert compile_cell("def f(x: y): ...", "<cell>").flags == 0
    cell = compile_cell("def f(x: y): ...", "<cell>")
    assert not cell.body.co_flags & __future__.annotations.compiler_flag


def test_a_late_future_import_is_an_error_with_its_place():
    with pytest.raises(CompilationError) as caught:
        compile_cell("x = 1\nfrom __future__ import annotations", "<cell>", first_line=5)
    assert (caught.value.lineno, caught.value.offset) == (6, 1)


# --- file names and lines -------------------------------------------------------------------------


def files_in(code: CodeType) -> set[str]:
    found = {code.co_filename}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= files_in(const)
    return found


async def test_cells_with_the_same_text_have_one_compilation_and_each_its_own_file_name():
    source = "class A:\n    def f(self):\n        return (lambda: 1 / 0)()\nA().f()"
    first = compile_cell(source, "<cell 1>")
    second = renamed(first, "<cell 2>")
    assert files_in(first.body) | files_in(first.tail) == {"<cell 1>"}
    assert files_in(second.body) | files_in(second.tail) == {"<cell 2>"}
    assert second.nested == first.nested  # code objects compare without file names …
    assert {code.co_filename for code in second.nested} == {"<cell 2>"}  # … which is the trap
    assert all(any(code is c for c in walk(second)) for code in second.nested)
    for cell in (first, second):
        namespace: dict = {}
        eval(cell.body, namespace)
        with pytest.raises(ZeroDivisionError) as caught:
            eval(cell.tail, namespace)
        frames = traceback.extract_tb(caught.value.__traceback__)[1:]
        assert [(f.filename, f.lineno, f.name) for f in frames] == [
            (cell.filename, 4, "<module>"),
            (cell.filename, 3, "f"),
            (cell.filename, 3, "<lambda>"),
        ]


def walk(cell):
    stack = [code for code in (cell.body, cell.tail) if code is not None]
    while stack:
        code = stack.pop()
        yield code
        stack += [const for const in code.co_consts if isinstance(const, CodeType)]


def test_renaming_to_the_same_name_gives_the_same_object():
    cell = compile_cell("x = 1", "<cell>")
    assert renamed(cell, "<cell>") is cell


async def test_first_line_moves_lines_but_not_columns():
    source = "x = 1\nif x:\n    y = 1 / 0"
    cell = compile_cell(source, "file.py", first_line=101)
    with pytest.raises(ZeroDivisionError) as caught:
        eval(cell.body, {})
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.lineno, frame.end_lineno, frame.colno, frame.end_colno) == (103, 103, 8, 13)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_line_ends_of_any_kind_count_as_one_line(end):
    source = end.join(["x = '''a", "b'''", "\fy = 1 / 0"])
    namespace: dict = {}
    with pytest.raises(ZeroDivisionError) as caught:
        eval(compile_cell(source, "<cell>").body, namespace)
    assert namespace["x"] == "a\nb"
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 3


async def test_a_syntax_error_in_a_cell_that_has_a_name_of_a_file_shows_the_cell(tmp_path):
    """The compiler would show line 2 of the file on disk, which may be another text."""
    path = tmp_path / "cells.py"
    path.write_text("one\ntwo on disk\n")
    with pytest.raises(CompilationError) as caught:
        compile_cell("x = 1\nbreak", str(path))
    assert caught.value.text == "break"


def test_a_traceback_of_a_compilation_error_shows_the_line_and_the_place():
    with pytest.raises(CompilationError) as caught:
        compile_cell("x = 1\nfor é in (1 2): pass", "<cell 7>", first_line=10)
    text = "".join(traceback.format_exception_only(caught.value))
    assert 'File "<cell 7>", line 11' in text
    assert "for é in (1 2): pass\n              ^^^" in text


def test_warnings_of_the_compiler_come_once_with_the_right_line():
    for source in ("x = 1\ny = x is 1\n", "x = 1\ny = '\\d'\n", "x = 1\ny = x is 1\nreturn y"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            compile_cell(source, "<cell>", first_line=3)
        assert [(w.category, w.lineno, w.filename) for w in caught] == [
            (SyntaxWarning, 4, "<cell>")
        ]


# --- odd sources ----------------------------------------------------------------------------------

ODD = {
    "null byte": ("x = 1\ny = 2\0", 2, 6, "null byte"),
    "null byte after CRLF": ("x = 1\r\n\0", 2, 1, "null byte"),
    "lone surrogate": ("x = '\ud800'", 1, 6, "surrogate"),
    "lone surrogate in a comment": ("\n# é \udc80", 2, 5, "surrogate"),
    "brackets": ("(" * 1000 + ")" * 1000, 1, None, "too many nested parentheses"),
    "signs": ("x = 1\ny = " + "-" * 50_000 + "1", 2, 1, "too deep"),
    "sum": ("x = 1\ny = 2\nz = 0" + "+1" * 40_000 + "\nw = 1", 3, 1, "too deep"),
    "attributes": ("a" + ".b" * 100_000, 1, 1, "too deep"),
    "indentation": ("".join(" " * i + "if x:\n" for i in range(120)), 101, None, "indentation"),
    "blocks": ("".join(" " * i + "for i in x:\n" for i in range(40)) + " " * 40 + "pass", None, None,
               "nested blocks"),
    "tabs": ("if x:\n\ty\n        z", 3, None, "tabs"),
    "a huge number": ("x = " + "9" * 5000, 1, None, "4300"),
    "a bad escape": ("\n'\\N{no such name}'", 2, None, "unicode"),
    "nothing after =": ("x =", 1, None, "invalid syntax"),
    "an open string": ("x = '", 1, 5, "unterminated"),
    "return in a class": ("class A:\n    return 1", 2, 5, "'return' outside function"),
    "yield with return": ("return 1\nx = 'é', (yield)", 2, 11, "'yield' outside function"),
    "import * with return": ("from os import *\nreturn 1", 1, 1, "cell of its own"),
    "late future with return": ("x = 1\nfrom __future__ import annotations\nreturn", 2, 1, "beginning"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("first_line", [1, 50])
def test_a_source_that_cannot_be_compiled_says_where_and_what_to_do(name, first_line):
    source, line, offset, words = ODD[name]
    with pytest.raises(CompilationError) as caught:
        compile_cell(source, "<cell>", first_line=first_line)
    error = caught.value
    assert words in error.msg
    assert error.filename == "<cell>"
    assert error.lineno >= first_line
    if line is not None:
        assert error.lineno == line + first_line - 1
    if offset is not None:
        assert error.offset == offset
    assert len(error.text or "") <= 1000
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    # Fit for a terminal, a file, a pickle.
    "".join(traceback.format_exception_only(error)).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    ["x = '" + "a" * 10_000_000 + "'", "# a comment\n" * 900_000 + "x = 1"],
    ids=["string", "comments"],
)
def test_ten_megabytes_compile(source):
    cell = compile_cell(source, "<cell>")
    assert cell.value_name == "x"
    assert cell.size > 10_000_000


@pytest.mark.slow
def test_an_error_in_a_line_of_ten_megabytes_carries_a_window_of_it():
    source = "x = '" + "a" * 10_000_000 + "' 1"
    with pytest.raises(CompilationError) as caught:
        compile_cell(source, "<cell>")
    error = caught.value
    assert len(error.text) <= 1000
    assert error.lineno == 1


def test_a_mark_in_front_and_a_coding_comment_mean_nothing():
    assert compile_cell("\ufeffx = 1", "<cell>").value_name == "x"
    cell = compile_cell("# -*- coding: no-such-thing -*-\nx = 'é'", "<cell>")
    assert "é" in cell.body.co_consts


def test_a_source_in_a_future_dialect_is_no_crash():
    """Whatever flags say, the outcome is a cell or a CompilationError."""
    assert compile_cell("1 != 2", "<cell>").tail is not None
    barry = __future__.barry_as_FLUFL.compiler_flag
    assert compile_cell("1 <> 2", "<cell>", flags=barry).flags == barry
    with pytest.raises(CompilationError):
        compile_cell("1 != 2", "<cell>", flags=barry)


async def test_inspect_sees_the_source_of_a_function_through_linecache():
    source = "x = 1\ndef f():\n    return x\n"
    linecache.cache["<cell 99>"] = (len(source), None, source.splitlines(True), "<cell 99>")
    try:
        namespace: dict = {}
        eval(compile_cell(source, "<cell 99>").body, namespace)
        assert inspect.getsource(namespace["f"]) == "def f():\n    return x\n"
    finally:
        del linecache.cache["<cell 99>"]


def test_what_a_cell_costs_is_known_in_bytes():
    small = compile_cell("x = 1", "<cell>").size
    large = compile_cell("def f():\n" + "    x = [y + 1 for y in z]\n" * 100, "<cell>").size
    assert sys.getsizeof("x = 1") < small < large
