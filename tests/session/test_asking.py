"""Which questions still count, and which one an id means."""

from __future__ import annotations

import pytest

from pyrepl3.records import Asked, Cell
from pyrepl3.session.asking import check_choice, find_asked, still_open


def asked(asked_id, *choices):
    return Asked(id=asked_id, prompt="Well?", choices=choices)


CELL = Cell(id="demo-c3", n=3, source="ask('Well?')", filename="")


def test_questions_of_cells_that_cannot_come_back_do_not_count():
    running = asked(f"{CELL.durable_name}-1")
    gone = asked("demo-c3-00000000-1")  # the number of the running cell, another text
    cut = asked("demo-c4-00000000-fetch-t1-1")  # by a crash; it has not been run again
    named = asked("order-42-00000000-1")  # an id of the client's: it may come back
    elsewhere = asked(f"0a1b2c-{CELL.durable_name}-1")
    found = (running, gone, cut, named, elsewhere)
    assert still_open(found, 3, [CELL]) == (running, cut, named, elsewhere)
    assert still_open(found, 3) == (cut, named)
    assert still_open(found, 2) == found


@pytest.mark.parametrize(
    ("meant", "found"),
    [
        ("demo-c1-00000000-1", 0),
        ("demo-c1-00000000-11", 1),
        ("-11", 1),
        ("-2", 2),
        ("1", None),  # two end so
        ("", None),
        ("nothing", None),
    ],
)
def test_the_end_of_an_id_is_enough_where_only_one_ends_so(meant, found):
    questions = [asked(f"demo-c1-00000000-{n}") for n in (1, 11, 2)]
    assert find_asked(questions, meant) == (None if found is None else questions[found])


def test_only_the_choices_are_answers_where_there_are_any():
    check_choice(asked("a"), "anything")
    check_choice(asked("a", "yes", "no"), "no")
    with pytest.raises(ValueError, match="choose one of yes, no"):
        check_choice(asked("a", "yes", "no"), "No")
