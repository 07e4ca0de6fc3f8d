"""Names that are written anew though their values are what they were: these are told."""

import sys

import pytest

from pyrepl3.snapshot.sameness import REMEMBERED

# The order in a table that was big, and in a small one with a collision: 0 5 8, and after a restart 0 8 5
UNSTEADY = """
def unsteady():
    found = set(range(1000))
    found.difference_update(set(range(1000)) - {0, 5, 8})
    return found
"""


def written(delta):
    return {name for blob in delta.blobs for name in blob.names}


def test_a_value_that_another_name_comes_to_share_is_the_same(live):
    live.cell("x = [[1], [2]]")
    delta = live.cell("y = x[0]")
    assert (written(delta), delta.same) == ({"x", "y"}, {"x"})
    delta = live.cell("x.append(y)")
    assert (written(delta), delta.same) == ({"x", "y"}, {"y"})


def test_so_it_is_when_the_other_name_is_bound_to_something_else(live):
    live.cell("x = [[1], [2]]")
    live.cell("y = x[0]")
    delta = live.cell("y = 1")
    assert (written(delta), delta.same) == ({"x", "y"}, {"x"})
    assert live.cell("len(x)").blobs == ()


def test_a_value_that_is_shared_and_changed_in_one_cell_is_another(live):
    live.cell("x = [[1], [2]]")
    delta = live.cell("y = x[0]; y.append(3)")
    assert (written(delta), delta.same) == ({"x", "y"}, set())
    delta = live.cell("z = [x]; x.pop()")
    assert (written(delta), delta.same) == ({"x", "y", "z"}, {"y"})


def test_a_name_that_is_bound_anew_is_never_the_same(live):
    live.cell("x = [1]")
    delta = live.cell("x = [1]")
    assert delta.same == set()


def test_what_an_unmarked_delta_told_is_not_taken_for_stored(live):
    live.cell("x = [[1]]")
    live.snapshotter.delta(live.run("x.append(2)"), extra={})
    delta = live.cell("y = x[0]")
    assert delta.same == set()


def test_a_set_that_comes_back_in_another_order_is_the_same(live):
    live.cell(f"{UNSTEADY}\ns = unsteady(); t = [s, ('a', unsteady())]")
    again = live.restart()
    delta = again.cell("len(s), t")
    assert written(delta) == {"s", "t"}, "else the order is the same, and this shows nothing"
    assert delta.same == {"s", "t"}


def test_such_a_set_with_one_more_is_another(live):
    live.cell(f"{UNSTEADY}\ns = unsteady()")
    again = live.restart()
    assert again.cell("s.add(7)").same == set()


def test_what_is_no_plain_value_is_not_loaded_a_second_time(live):
    live.cell(
        f"{UNSTEADY}\n"
        "class Told:\n"
        "    loads = 0\n"
        "    def __init__(self): self.s = unsteady()\n"
        "    def __setstate__(self, state):\n"
        "        type(self).loads += 1\n"
        "        self.__dict__.update(state)\n"
        "told = Told()"
    )
    again = live.restart()
    delta = again.cell("told.s")
    assert (written(delta) >= {"told"}, delta.same & {"told"}) == (True, set())
    assert again["Told"].loads == 1


@pytest.mark.parametrize("more", [0, REMEMBERED])
def test_only_what_is_short_is_remembered(live, more):
    live.cell(f"{UNSTEADY}\ns = [unsteady(), '#' * {more}]")
    again = live.restart()
    assert again.cell("len(s)").same == (set() if more else {"s"})


def test_arrays_share_numpys_own_types_after_a_restart(live):
    numpy = pytest.importorskip("numpy")
    live.cell(
        "import numpy as np\na = np.arange(3)\nb = np.zeros(3, 'M8[s]')\nc = np.zeros(2, 'i4,f8')"
    )
    again = live.restart()
    assert again["a"].dtype is numpy.dtype("int64")
    assert (str(again["b"].dtype), again["c"].dtype) == ("datetime64[s]", numpy.dtype("i4,f8"))
    if sys.byteorder == "little":
        live.cell("d = np.zeros(3, '>i4')")
        assert live.restart()["d"].dtype == numpy.dtype(">i4")


def test_fields_that_are_no_names_are_stored_as_they_are(live):
    live.cell("class Odd:\n    _fields = (1, [2], 'three')\n    three = 3")
    assert live.restart()["Odd"]._fields == (1, [2], "three")
