"""The source of what cells define is found, as long as it lives and no longer."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import linecache
import pickle
import sys
import textwrap
import weakref

import pytest

import pyrepl3
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.sources import KEPT, Sources, is_cell, release_prefix, split_lines, unique_prefix


@pytest.fixture
async def session():
    async with pyrepl3.open_session() as session:
        yield session


DEFINITIONS = {
    "function": ("f", "def f(a,\n      b=1):\n    # why\n    return a + b\n"),
    "async function": ("f", "async def f():\n    return 1\n"),
    "generator": ("f", "def f():\n    yield 1\n"),
    "lambda": ("f", "f = lambda x: x + 1\n"),
    "decorated": (
        "f",
        "@functools.lru_cache\n@contextlib.contextmanager\ndef f():\n    yield 1\n",
    ),
    "class": ("C", "class C:\n    def m(self):\n        return 1\n"),
    "class without methods": ("C", "class C:\n    x = 1\n"),
    "decorated class": ("C", "@dataclasses.dataclass\nclass C:\n    x: int = 1\n"),
    "enum": ("C", "class C(enum.Enum):\n    A = 1\n"),
    "exception": ("C", "class C(Exception):\n    pass\n"),
    "metaclass": ("C", "class C(type):\n    pass\n"),
    "nested class": ("C.D", "class C:\n    class D:\n        x = 1\n"),
    "method": ("C.m", "class C:\n    def m(self):\n        return 1\n"),
    "static method": ("C.m", "class C:\n    @staticmethod\n    def m():\n        return 1\n"),
    "generic class": ("C", "class C[T]:\n    x: T\n"),
    "class of borrowed methods": ("C", "class C:\n    walk = os.walk\n    helper = helper\n"),
}


def body_of(name: str, source: str) -> str:
    """What getsource gives: the whole definition; of a nested one the inner lines."""
    if "." not in name:
        return source
    head = source.index("    class D" if name.endswith("D") else "    ")
    return source[head:]


@pytest.mark.parametrize(("name", "source"), DEFINITIONS.values(), ids=DEFINITIONS)
@pytest.mark.parametrize("where", ["in a cell", "of the host"])
async def test_getsource_finds_what_a_cell_defines(session, name, source, where):
    await session.run(
        "import inspect, contextlib, dataclasses, enum, functools, os\ndef helper(self): return 2"
    )
    await session.run("x = 1\n\n" + source)
    if where == "in a cell":
        found = (await session.run(f"inspect.getsource({name})")).unwrap()
    else:
        found = inspect.getsource((await session.run(name)).unwrap())
    assert found == body_of(name, source)


async def test_getsource_works_in_the_very_cell_that_defines(session):
    outcome = await session.run(
        "import inspect\nclass C:\n    x = 1\ndef f(): pass\ninspect.getsource(C), inspect.getsource(f)"
    )
    assert outcome.value == ("class C:\n    x = 1\n", "def f(): pass\n")


async def test_of_several_definitions_of_a_name_each_object_has_its_own(session):
    await session.run("import inspect\nclass C:\n    x = 1\ndef f(): return 1\nold, older = C, f")
    await session.run("class C:\n    x = 2\ndef f(): return 2")
    outcome = await session.run("[inspect.getsource(o) for o in (C, f, old, older)]")
    assert outcome.value == [
        "class C:\n    x = 2\n",
        "def f(): return 2\n",
        "class C:\n    x = 1\n",
        "def f(): return 1\n",
    ]


async def test_a_local_class_is_found_by_its_methods(session):
    await session.run(
        "def make():\n    class Local:\n        def m(self): pass\n    return Local\nL = make()"
    )
    cls = await session.fetch("L")
    assert inspect.getsource(cls) == "    class Local:\n        def m(self): pass\n"


async def test_a_class_made_by_a_call_has_no_source(session):
    await session.run("Made = type('Made', (), {})")
    with pytest.raises((OSError, TypeError)):
        inspect.getsource(await session.fetch("Made"))


async def test_two_sessions_may_have_classes_of_one_name():
    async with pyrepl3.open_session() as one, pyrepl3.open_session() as two:
        await one.run("class C:\n    x = 1")
        await two.run("class C:\n    x = 2")
        first, second = await one.fetch("C"), await two.fetch("C")
    assert inspect.getsource(first) == "class C:\n    x = 1\n"
    assert inspect.getsource(second) == "class C:\n    x = 2\n"


async def test_other_modules_keep_their_getsource():
    async with pyrepl3.open_session():
        assert inspect.getsource(textwrap.TextWrapper).startswith("class TextWrapper")
        with pytest.raises((OSError, TypeError)):
            inspect.getsource(int)


# --- how long ---------------------------------------------------------------------------------------

FILLER = 1500


@pytest.mark.slow
async def test_sources_of_the_living_outlast_many_cells(session):
    await session.run("import inspect\ndef f(): return 1\nclass C:\n    x = 1\nkept = [lambda: 5]")
    plain = await session.run("y = 6")
    for n in range(FILLER):
        await session.run(f"x = {n}")
    outcome = await session.run("[inspect.getsource(o) for o in (f, C, kept[0])]")
    assert outcome.value == [
        "def f(): return 1\n",
        "class C:\n    x = 1\n",
        "kept = [lambda: 5]\n",
    ]
    assert not is_cell(plain.cell.filename)
    assert linecache.getlines(plain.cell.filename) == []
    outcome = await session.run("1 / 0")
    assert "    1 / 0\n" in outcome.traceback


def compiled(source: str, filename: str) -> dict:
    """Run ``source`` and give its namespace and nested code objects."""
    namespace: dict = {}
    code = compile(source, filename, "exec")
    exec(code, namespace)
    return namespace, tuple(const for const in code.co_consts if hasattr(const, "co_code"))


def test_the_number_of_kept_sources_is_bounded_though_functions_come_and_go():
    sources = Sources()
    for n in range(3 * KEPT):
        name, text = f"<bound {n}>", f"def f(): return {n}\n"
        sources.add(name, text)
        namespace, nested = compiled(text, name)
        sources.hold(name, nested)
        namespace.clear()  # or the function would wait for the collector
    del nested
    kept = [n for n in range(3 * KEPT) if is_cell(f"<bound {n}>")]
    assert kept[-KEPT:] == list(range(2 * KEPT, 3 * KEPT))
    assert len(kept) <= KEPT + 64


def test_the_size_of_kept_sources_is_bounded_but_the_last_stays():
    sources = Sources()
    for n in range(6):
        sources.add(f"<big {n}>", "#" * 5_000_000)
    assert [n for n in range(6) if is_cell(f"<big {n}>")] == [3, 4, 5]
    sources.add("<big 6>", "#" * 20_000_000)
    assert [n for n in range(7) if is_cell(f"<big {n}>")] == [6]


def test_two_cells_may_have_one_file_name_and_the_newest_counts():
    sources = Sources()
    for text in ("a = 1\n", "b = 2\n"):
        sources.add("<same>", text)
    for n in range(KEPT - 1):
        sources.add(f"<filler {n}>", "")
    assert linecache.getlines("<same>") == ["b = 2\n"]
    sources.add("<one more>", "")
    assert not is_cell("<same>")


def test_the_sources_of_a_namespace_go_with_it():
    sources = Sources()
    sources.add("<gone>", "x = 1\n")
    sources.add("/gone/file.py", "x = 1\n", 5)
    del sources
    gc.collect()
    assert not is_cell("<gone>")
    assert "<gone>" not in linecache.cache
    assert "/gone/file.py" not in linecache.cache


def test_a_namespace_that_goes_takes_nothing_from_its_successor_of_the_same_name():
    """A closed session is collected later than the next one of its name is opened."""
    old = NamespaceManager(name="heir")
    old.sources.add("<heir cell 1>", "old = 1\n")
    old.close()
    new = NamespaceManager(name="heir")
    assert new.module_name == old.module_name
    new.sources.add("<heir cell 1>", "new = 1\n")
    del old
    gc.collect()
    assert linecache.getlines("<heir cell 1>") == ["new = 1\n"]
    assert sys.modules[new.module_name] is new.module
    module = new.module_name
    new.close()
    del new
    gc.collect()
    assert module not in sys.modules


def test_a_name_may_be_released_while_another_one_is_chosen():
    """As a collection does that comes in between and finds a namespace nobody has any more."""

    class Name(str):
        __slots__ = ()

        def __hash__(self):
            release_prefix("gone")
            return super().__hash__()

    assert unique_prefix("gone") == "gone"
    assert unique_prefix(Name("chosen")) == "chosen"
    assert unique_prefix("gone") == "gone"
    release_prefix("gone")
    release_prefix("chosen")


def test_names_of_living_namespaces_differ():
    first = unique_prefix("twin")
    assert (first, unique_prefix("twin"), unique_prefix("twin")) == ("twin", "twin~2", "twin~3")


# --- files ------------------------------------------------------------------------------------------


def test_cells_of_a_file_show_where_they_stand_in_it():
    sources = Sources()
    sources.add("/f.py", "a = 1\n")
    sources.add("/f.py", "b = 1\nc = 1", 4)
    assert linecache.getlines("/f.py") == ["a = 1\n", "\n", "\n", "b = 1\n", "c = 1\n"]
    sources.add("/f.py", "b = 2\n", 4)
    sources.add("/f.py", "a = 2\n", 1)
    assert linecache.getlines("/f.py") == ["a = 2\n", "\n", "\n", "b = 2\n", "c = 1\n"]


def test_the_same_file_run_by_another_namespace_starts_afresh():
    first, second = Sources(), Sources()
    first.add("/g.py", "a = 1\n", 3)
    second.add("/g.py", "b = 1\n", 2)
    assert linecache.getlines("/g.py") == ["\n", "b = 1\n"]
    del first
    gc.collect()
    assert is_cell("/g.py"), "it is the second one's now"


# --- lines ------------------------------------------------------------------------------------------

SOURCES = [
    "",
    "\n",
    "x",
    "x\n",
    "x\n\n",
    "a\r\nb\rc\n",
    "'\x0c'\ny",
    "'\x85\u2028\x1c\x1d'\ny\n",
    "\ufeffx\n",
]


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_lines_are_split_where_the_compiler_splits_them(source):
    """A file is read with universal newlines before it is compiled."""
    expected = io.StringIO(source.removeprefix("\ufeff"), newline=None).readlines()
    if expected and not expected[-1].endswith("\n"):
        expected[-1] += "\n"
    assert split_lines(source) == expected


# --- checkpoints --------------------------------------------------------------------------------------


def test_the_living_come_back_after_a_restore_and_stay_for_the_next_one():
    sources = Sources()
    text = "def f(): return 1\n"
    namespace, nested = compiled(text, "<r 1>")
    sources.add("<r 1>", text)
    sources.hold("<r 1>", nested)
    sources.add("<r 2>", "x = 1\n")
    del nested
    assert sources.living() == {"<r 1>": text}
    again = Sources()
    again.restore(sources.living(), [weakref.ref(namespace["f"].__code__)])
    assert again.living() == {"<r 1>": text}
    for n in range(KEPT + 1):
        again.add(f"<r filler {n}>", "")
    assert again.living() == {"<r 1>": text}
    assert namespace["f"]() == 1
    del namespace["f"]
    assert again.living() == {}


def test_what_a_function_that_came_back_makes_keeps_the_source_too():
    text = "def f():\n    def g(): pass\n    return g\n"
    namespace, nested = compiled(text, "<r 3>")
    del nested
    again = Sources()
    again.restore({"<r 3>": text}, [weakref.ref(namespace["f"].__code__)])
    inner = namespace.pop("f")()
    assert again.living() == {"<r 3>": text}
    del inner
    assert again.living() == {}


def test_a_function_that_lived_on_through_a_restore_keeps_its_source():
    text = "def f(): return 1\n"
    namespace, nested = compiled(text, "<r 4>")
    sources = Sources()
    sources.add("<r 4>", text)
    sources.hold("<r 4>", nested)
    del nested
    sources.restore(sources.living())
    assert sources.living() == {"<r 4>": text}
    del namespace["f"]
    assert sources.living() == {}


def test_a_class_without_methods_lives_too():
    text = "class C:\n    x = 1\n"
    namespace, nested = compiled("__name__ = 'made'\n" + text, "<k 1>")
    sources = Sources(namespace, "made")
    sources.add("<k 1>", text)
    sources.hold("<k 1>", nested)
    assert sources.home(namespace["C"]) == "<k 1>"
    assert sources.living() == {"<k 1>": text}
    again = Sources(namespace, "made")
    again.restore(sources.living())
    assert again.home(namespace["C"]) == "<k 1>"
    assert again.living() == {"<k 1>": text}


# --- pickling inside the process ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(pickle.dumps(f)) is f",
        "pickle.loads(pickle.dumps(C)) is C",
        "pickle.loads(pickle.dumps(C.D)) is C.D",
        "vars(pickle.loads(pickle.dumps(C(5)))) == {'x': 5}",
        "pickle.loads(pickle.dumps(E.A)) is E.A",
        "copy.deepcopy(C(5)).x == 5",
    ],
)
async def test_what_a_cell_defines_can_be_pickled_inside_the_process(session, source):
    await session.run(
        "import pickle, copy, enum\ndef f(): return 1\nclass C:\n    def __init__(self, x): self.x = x\n"
        "    class D: pass\nclass E(enum.Enum):\n    A = 1"
    )
    assert (await session.run(source)).unwrap() is True


async def test_the_host_can_pickle_an_object_of_a_class_made_in_a_cell(session):
    await session.run("class C:\n    def __init__(self, x): self.x = x\nc = C(5)")
    value = await session.fetch("c")
    assert (await asyncio.to_thread(pickle.loads, pickle.dumps(value))).x == 5


async def test_pdb_shows_the_lines_of_cells():
    answers = iter(["list", "p a", "continue"])
    seen = []
    async with pyrepl3.open_session(
        observe=seen.append, ask=lambda prompt, secret: next(answers)
    ) as session:
        outcome = await session.run(
            "import pdb\ndef f(a):\n    debugger.set_trace()\n    return a + 1\ndebugger = pdb.Pdb()\nf(41)"
        )
        assert outcome.value == 42, outcome
    text = "".join(event.text for event in seen if hasattr(event, "stream"))
    assert "debugger.set_trace()\n  4" in text
    assert "return a + 1\n  5  \tdebugger = pdb.Pdb()\n" in text
    assert text.endswith("41\n")
