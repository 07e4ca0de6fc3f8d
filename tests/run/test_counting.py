"""Counts of lines and calls are exact, whoever runs them and whatever was counted before."""

from __future__ import annotations

import threading

import pytest

from pyrepl3.run.counting import LineCounter

SOURCE = """\
def even(n):
    return n % 2 == 0

def walk(n):
    found = 0
    for i in range(n):
        if even(i):
            found += 1
    return found
"""


@pytest.fixture
def counter():
    counter = LineCounter(lambda name: name == "<mine>")
    yield counter
    counter.stop()


def made(source=SOURCE, filename="<mine>"):
    names: dict[str, object] = {}
    exec(compile(source, filename, "exec"), names)
    return names


def test_lines_of_functions_that_call_each_other_are_counted_in_the_order_they_come(counter):
    names = made()
    assert counter.start()
    assert names["walk"](10) == 5
    counter.stop()
    assert counter.lines() == {
        ("<mine>", line): count for line, count in {2: 10, 5: 1, 6: 11, 7: 10, 8: 5, 9: 1}.items()
    }
    assert {code.co_name: count for code, count in counter.calls().items()} == {
        "walk": 1,
        "even": 10,
    }


def test_no_count_is_lost_between_threads(counter):
    names = made()
    assert counter.start()
    threads = [threading.Thread(target=names["walk"], args=(3_000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = counter.lines()
    assert lines["<mine>", 2] == lines["<mine>", 7] == 12_000
    assert lines["<mine>", 8] == 6_000
    assert lines["<mine>", 6] == 12_004


def test_cleared_while_it_counts_it_begins_at_zero(counter):
    names = made()
    assert counter.start()
    names["walk"](10)
    counter.clear()
    assert counter.lines() == {}
    assert counter.calls() == {}
    names["even"](1)
    assert counter.lines() == {("<mine>", 2): 1}


def test_code_of_others_is_not_counted(counter):
    theirs = made(filename="<theirs>")
    assert counter.start()
    theirs["walk"](10)
    assert counter.lines() == {}


def test_cells_far_down_the_same_file_are_counted_at_their_lines(counter):
    first, later = made(), made("\n" * 99 + SOURCE)
    assert counter.start()
    first["even"](1)
    later["even"](1)
    first["even"](1)
    assert counter.lines() == {("<mine>", 2): 2, ("<mine>", 101): 1}


def test_a_file_that_is_compiled_again_and_again_counts_in_one_place(counter):
    assert counter.start()
    for _ in range(50):  # code objects that come and go, some at the same address
        made()["even"](1)
    assert counter.lines()["<mine>", 2] == 50
