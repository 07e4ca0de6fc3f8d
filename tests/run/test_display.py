"""Values are shown with their rich reprs; a broken one never ends a cell."""

from __future__ import annotations

import textwrap

import pytest

import pyrepl3
from pyrepl3.records import Done, Failed, Interrupted, Output
from pyrepl3.run.display import display, mime_bundle, safe_repr
from pyrepl3.run.text import LONGEST, bounded, printable
from pyrepl3.testing.fakes import Seen


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
async def session(seen):
    async with pyrepl3.open_session(observe=seen) as session:
        yield session


def rich(**methods):
    """An object whose class has these methods; each gives its value."""
    made = {name: (lambda self, _value=value, **_: _value) for name, value in methods.items()}
    return type("Rich", (), {"__repr__": lambda self: "plain", **made})()


PARTS = [
    ("_repr_html_", "text/html", "<b>x</b>", "<b>x</b>"),
    ("_repr_markdown_", "text/markdown", "*x*", "*x*"),
    ("_repr_svg_", "image/svg+xml", "<svg/>", "<svg/>"),
    ("_repr_png_", "image/png", b"\x89PNG", b"\x89PNG"),
    ("_repr_png_", "image/png", bytearray(b"\x89PNG"), b"\x89PNG"),
    ("_repr_png_", "image/png", "iVBORw==", "iVBORw=="),
    ("_repr_jpeg_", "image/jpeg", b"\xff\xd8", b"\xff\xd8"),
    ("_repr_pdf_", "application/pdf", b"%PDF", b"%PDF"),
    ("_repr_latex_", "text/latex", "$x$", "$x$"),
    ("_repr_json_", "application/json", {"a": [1, None]}, {"a": [1, None]}),
    ("_repr_json_", "application/json", "text", "text"),
    ("_repr_javascript_", "application/javascript", "x()", "x()"),
    ("_repr_html_", "text/html", "\ud800", "\\ud800"),
]


@pytest.mark.parametrize(("method", "mime", "given", "expected"), PARTS)
def test_each_rich_repr_is_a_part_of_the_bundle(method, mime, given, expected):
    data, metadata = mime_bundle(rich(**{method: given}))
    assert data == {mime: expected, "text/plain": "plain"}
    assert type(data[mime]) is type(expected)
    assert metadata == {}


LEFT_OUT = [
    {"_repr_html_": None},
    {"_repr_html_": 5},
    {"_repr_html_": ["<b>"]},
    {"_repr_png_": object()},
    {"_repr_json_": object()},
    {"_repr_json_": {1, 2}},
    {"_repr_mimebundle_": "no dict"},
    {"_repr_mimebundle_": {"text/html": 5}},
    {"_repr_mimebundle_": None},
    {"_repr_mimebundle_": (None, {})},
]


@pytest.mark.parametrize(
    "methods", LEFT_OUT, ids=lambda methods: repr(methods).partition(" at 0x")[0]
)
def test_a_part_that_is_no_part_is_left_out(methods):
    assert mime_bundle(rich(**methods)) == ({"text/plain": "plain"}, {})


def test_a_mimebundle_wins_over_single_reprs_and_brings_its_metadata():
    value = rich(
        _repr_mimebundle_=({"text/html": "<i>", "text/plain": "mine", "x/y+json": [1]}, {"k": 1}),
        _repr_html_="<b>",
        _repr_png_=(b"png", {"width": 5}),
    )
    data, metadata = mime_bundle(value)
    assert data == {
        "text/html": "<i>",
        "text/plain": "mine",
        "x/y+json": [1],
        "image/png": b"png",
    }
    assert metadata == {"k": 1, "image/png": {"width": 5}}


def test_metadata_that_is_no_json_is_dropped():
    assert mime_bundle(rich(_repr_mimebundle_=({"text/html": "x"}, {"k": object()})))[1] == {}


def test_json_is_copied_so_that_later_changes_do_not_show():
    content = {"a": [1]}
    data, _ = mime_bundle(rich(_repr_json_=content))
    content["a"].append(2)
    assert data["application/json"] == {"a": [1]}


def test_objects_that_answer_to_every_name_have_no_rich_reprs():
    class Proxy:
        def __getattr__(self, name):
            return lambda **_: "surprise"

        def __repr__(self):
            return "proxy"

    assert mime_bundle(Proxy()) == ({"text/plain": "proxy"}, {})


def test_a_class_is_shown_by_its_repr_not_by_methods_for_its_instances():
    cls = type(rich(_repr_html_="x"))
    assert list(mime_bundle(cls)[0]) == ["text/plain"]


def raising(error):
    def method(self, **_):
        raise error

    return method


def test_a_rich_repr_that_raises_leaves_the_plain_one():
    for name in ("_repr_html_", "_repr_mimebundle_"):
        value = type(
            "Broken", (), {name: raising(ValueError("x")), "__repr__": lambda self: "ok"}
        )()
        assert mime_bundle(value) == ({"text/plain": "ok"}, {})


class Weird(type):
    def __getattribute__(cls, name):
        if name.startswith("_repr_"):
            raise ValueError(name)
        return super().__getattribute__(name)


def test_a_metaclass_that_raises_leaves_the_plain_repr():
    value = Weird("Odd", (), {"__repr__": lambda self: "odd"})()
    assert mime_bundle(value) == ({"text/plain": "odd"}, {})


class UnsayableError(Exception):
    def __str__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("oh"), "<X object: its repr raised ValueError: oh>"),
        (UnsayableError(), "<X object: its repr raised UnsayableError: ?>"),
        (RecursionError("deep"), "<X object: its repr raised RecursionError: deep>"),
    ],
)
def test_a_repr_that_raises_is_shown_as_such(error, text):
    assert safe_repr(type("X", (), {"__repr__": raising(error)})()) == text


def test_a_repr_that_is_no_string_is_shown_as_such():
    text = safe_repr(type("X", (), {"__repr__": lambda self: 5})())
    assert text.startswith("<X object: its repr raised TypeError: ")


def test_a_repr_may_be_a_string_of_a_hostile_class():
    class Text(str):
        __slots__ = ()

        def __len__(self):
            raise ValueError

        __str__ = encode = isascii = __format__ = __getitem__ = __len__

    text = safe_repr(type("X", (), {"__repr__": lambda self: Text("fine")})())
    assert text == "fine"
    assert type(text) is str


def test_a_long_repr_keeps_both_ends_and_says_what_is_left_out():
    text = safe_repr("a" + "b" * 3_000_000 + "c")
    assert len(text) < LONGEST + 100
    assert text.startswith("'ab")
    assert text.endswith("bc'")
    assert "[… 1,951,428 characters left out …]" in text
    assert bounded("x" * LONGEST) == "x" * LONGEST


def test_printable_changes_nothing_but_lone_surrogates():
    assert printable("aé😀\x00\ud800\udfff") == "aé😀\x00\\ud800\\udfff"


# --- in cells -------------------------------------------------------------------------------------


async def test_display_shows_values_in_order_with_their_bundles(session, seen):
    outcome = await session.run(
        "class H:\n    def _repr_html_(self): return '<b>'\n    def __repr__(self): return 'H'\n"
        "display(1, H(), 'x'); display()"
    )
    assert outcome.ok
    assert [event.data for event in seen.shown(outcome.cell.id)] == [
        {"text/plain": "1"},
        {"text/html": "<b>", "text/plain": "H"},
        {"text/plain": "'x'"},
    ]


async def test_display_from_tasks_and_threads_belongs_to_the_cell(session, seen):
    first = await session.run(
        "import asyncio, threading\ngate, done = asyncio.Event(), asyncio.Event()\n"
        "async def late():\n    await gate.wait()\n    display('task')\n"
        "    await asyncio.to_thread(display, 'pool')\n"
        "    t = threading.Thread(target=display, args=('thread',)); t.start(); t.join(); done.set()\n"
        "task = asyncio.create_task(late())"
    )
    await session.run("gate.set(); await done.wait(); display('here')")
    assert [event.data["text/plain"] for event in seen.shown(first.cell.id)] == [
        "'task'",
        "'pool'",
        "'thread'",
    ]


async def test_display_outside_of_cells_prints(capsys):
    display(1, "x")
    assert capsys.readouterr().out == "1\n'x'\n"
    with pytest.raises(TypeError, match="values only"):
        display(1, raw=True)


async def test_the_value_of_a_cell_is_shown_with_its_rich_reprs(session):
    outcome = await session.run(
        "class H:\n    def _repr_png_(self): return b'p', {'width': 1}\nH()"
    )
    assert outcome.shown
    assert outcome.data["image/png"] == b"p"
    assert outcome.text == outcome.data["text/plain"]
    assert (await session.fetch("_")) is outcome.value


@pytest.mark.parametrize("source", ["5;", "None", "x = 5", "", "def f(): pass"])
async def test_nothing_is_shown_for_what_a_repl_does_not_show(session, source):
    outcome = await session.run(source)
    assert isinstance(outcome, Done)
    assert (outcome.shown, outcome.text, outcome.data) == (False, "", {})


def broken(body: str) -> str:
    return f"class X:\n    def __repr__(self):\n{textwrap.indent(body, '        ')}\nX()"


async def test_a_repr_that_prints_prints_into_the_cell(session, seen):
    outcome = await session.run(broken("print('from repr'); return 'X'"))
    assert outcome.text == "X"
    assert seen.text(outcome.cell.id) == "from repr\n"
    assert [type(e) for e in seen.events][-1] is not Output, "before the cell is finished"


async def test_a_repr_that_raises_does_not_fail_the_cell(session):
    outcome = await session.run(broken("1 / 0"))
    assert outcome.ok
    assert outcome.text == "<X object: its repr raised ZeroDivisionError: division by zero>"
    outcome = await session.run(broken("return repr(self)"))
    assert outcome.ok
    assert "RecursionError" in outcome.text


async def test_a_repr_that_exits_fails_the_cell(session):
    outcome = await session.run(broken("raise SystemExit(3)"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code == 3


@pytest.mark.parametrize("prefix", ["", "import asyncio; await asyncio.sleep(0)\n"])
async def test_a_repr_that_loops_can_be_interrupted(session, seen, prefix):
    import asyncio

    running = asyncio.create_task(
        session.run(prefix + broken("print('in repr')\nwhile True: pass"))
    )
    await seen.until_text("in repr")
    session.interrupt()
    assert isinstance(await running, Interrupted)
    assert (await session.run("1")).value == 1


@pytest.mark.slow
async def test_a_repr_that_loops_meets_the_time_limit():
    async with pyrepl3.open_session(limits=pyrepl3.Limits(wall=0.3)) as session:
        outcome = await session.run(broken("while True: pass"))
        assert isinstance(outcome.error, pyrepl3.LimitExceededError)


@pytest.mark.slow
async def test_a_value_with_a_huge_repr_is_shown_in_part(session):
    outcome = await session.run("'x' * 200_000_000")
    assert outcome.ok
    assert len(outcome.value) == 200_000_000
    assert len(outcome.text) < LONGEST + 100
