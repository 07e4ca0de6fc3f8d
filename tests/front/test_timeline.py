"""The timeline: which line an epoch is drawn on, its branches, and what a terminal's width leaves of it."""

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.front.timeline import ASCII, UNICODE, draw, marks_for
from pyrepl3.records import Cell, Epoch, Receipt
from pyrepl3.session.past import list_entries

AT = time.mktime((2026, 11, 22, 21, 40, 0, 0, 0, -1))


def epochs(*parents, **fields):
    """Epochs 1, 2, … with these parents; each binds a name of its own."""
    return [
        Epoch(
            epoch=n,
            parent=parent,
            receipt=Receipt(
                cell=Cell(id=f"s-c{n}", n=n, source=f"x{n} = {n}", filename="<s>"),
                status="done",
                at=AT,
                **fields,
            ),
            stored=frozenset({f"x{n}"}),
        )
        for n, parent in enumerate(parents, 1)
    ]


def graph(parents, at, marks=UNICODE):
    """The left edge of the drawing with the numbers: what shows the shape."""
    lines = draw(list_entries(epochs(*parents), at), width=100, marks=marks, now=AT)
    return [" ".join(re.match(r"(\D*)(\d+)", line).groups()).split() for line in lines]


SHAPES = {
    "a line": ((0, 1, 2), 3, ["● 1", "● 2", "◉ 3"]),
    "undone, and nothing since": ((0, 1, 2), 1, ["◉ 1", "○ 2", "○ 3"]),
    "a branch is drawn before the line goes on": (
        (0, 1, 2, 1, 4),
        5,
        ["● 1", "├─○ 2", "│ ○ 3", "● 4", "◉ 5"],
    ),
    "two branches of one cell": ((0, 1, 1, 1), 4, ["● 1", "├─○ 2", "├─○ 3", "◉ 4"]),
    "a branch of a branch": (
        (0, 1, 2, 2, 1),
        5,
        ["● 1", "├─○ 2", "│ ├─○ 3", "│ ○ 4", "◉ 5"],
    ),
    "begun anew from nothing": ((0, 1, 0), 3, ["├─○ 1", "│ ○ 2", "◉ 3"]),
    "gone back to the older branch": ((0, 1, 1), 2, ["● 1", "├─○ 3", "◉ 2"]),
}


def test_shapes():
    for name, (parents, at, expected) in SHAPES.items():
        assert [" ".join(part) for part in graph(parents, at)] == expected, name


@given(st.lists(st.integers(0, 10**6), max_size=40), st.data())
def test_every_epoch_is_drawn_once_below_its_parent(numbers, data):
    parents = [number % (n + 1) for n, number in enumerate(numbers)]
    at = data.draw(st.integers(0, len(parents)))
    drawn = [int(part[-1]) for part in graph(parents, at)]
    assert sorted(drawn) == list(range(1, len(parents) + 1))
    for n, parent in enumerate(parents, 1):
        assert not parent or drawn.index(parent) < drawn.index(n)


@given(st.integers(60, 200), st.text(max_size=200), st.lists(st.text(max_size=30), max_size=30))
def test_no_line_is_wider_than_the_terminal(width, source, names):
    (epoch,) = epochs(0, duration=3.5)
    cell = Cell(id="s-c1", n=1, source=source, filename="<s>")
    receipt = Receipt(cell=cell, status="failed", at=AT)
    epoch = Epoch(epoch=123456, parent=0, receipt=receipt, stored=frozenset(names))
    (line,) = draw(list_entries([epoch], 123456), width=width)
    assert len(line) <= width
    assert line.isprintable()


def test_a_line_tells_what_the_cell_did():
    (epoch,) = epochs(0)
    cell = Cell(id="s-c1", n=1, source="x = f()\ny = 2\n", filename="<s>")
    receipt = Receipt(cell=cell, status="interrupted", at=AT, duration=3.25)
    one = Epoch(epoch=1, parent=0, receipt=receipt, stored=frozenset({"x", "y", "_"}))
    two = Epoch(
        epoch=2,
        parent=1,
        receipt=epoch.receipt,
        stored=frozenset({"x"}),
        deleted=frozenset({"y"}),
        lost={"g": "a generator"},
    )
    first, second = draw(list_entries([one, two], 2), width=100, now=AT)
    assert first.split() == [
        "●",
        "1",
        "21:40",
        "3.2s",
        "x",
        "=",
        "f()",
        "…",
        "interrupted",
        "+x,",
        "y",
    ]
    assert second.split() == ["◉", "2", "21:40", "x1", "=", "1", "here", "~x", "-y", "!g"]


def test_another_day_is_shown_with_its_date():
    (line,) = draw(list_entries(epochs(0), 1), width=100, now=AT + 100_000)
    assert "2026-11-22 21:40" in line


def test_a_terminal_without_these_characters_gets_others():
    assert marks_for("utf-8") is UNICODE
    assert marks_for("ascii") is marks_for(None) is marks_for("nonsense") is ASCII
    drawn = draw(list_entries(epochs(0, 1, 1), 3), width=80, marks=ASCII, now=AT)
    assert all(line.isascii() for line in drawn)
    assert [line[:3].strip() for line in drawn] == ["*", "|-o", "@"]


def test_thousands_of_cells_and_deep_nests_are_drawn():
    line = list(range(3000))
    assert len(graph(line, 3000)) == 3000
    nest = [0, *(n - n % 2 for n in range(1, 200))]
    assert len(graph(nest, 1)) == 200
