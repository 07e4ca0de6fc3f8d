"""Deadlines come out in order, each once, and leave nothing behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.durable.state.deadlines import Deadlines

KEYS = st.sampled_from("abc")


@given(st.lists(st.tuples(KEYS, st.none() | st.integers(0, 9)) | st.integers(0, 9)))
def test_they_are_a_dict_sorted_by_time(steps):
    deadlines, model = Deadlines(), {}
    for step in steps:
        if isinstance(step, int):
            due = sorted((at, key) for key, at in model.items() if at <= step)
            assert deadlines.take(step) == [key for _, key in due]
            model = {key: at for key, at in model.items() if at > step}
        elif step[1] is None:
            deadlines.drop(step[0])
            model.pop(step[0], None)
        else:
            deadlines.set(*step)
            model[step[0]] = step[1]
        assert deadlines.first() == min(model.values(), default=None)


def test_a_deadline_that_never_comes_up_takes_no_room_once_it_is_dropped():
    deadlines = Deadlines()
    for n in range(10_000):
        deadlines.set(str(n), 1 << 50)
        deadlines.drop(str(n))
    assert len(deadlines._heap) < 100
