"""The property: whatever cells do to shared objects, a restart gives the same graph of objects."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = "abcdef"
SETUP = (
    "; ".join(f"{name} = []" for name in NAMES)
    + """
class K:
    mark = []
    def __init__(self, v): self.v = v
    def put(self, x): self.v = x; K.mark.append(len(K.mark))
class S:
    __slots__ = ("v", "w")
def grow(x): x.append(0); return x
def reach(): return a
"""
)

# Each is a cell; x and y are any two names. What does not fit the values at hand does nothing.
CELLS = [
    "{x} = [{y}, {n}]",
    "{x} = {{'k': {y}, {n}: []}}",
    "{x} = ({y}, [{n}])",
    "{x} = {{{n}, ({n}, K)}}",
    "{x} = K({y})",
    "{x} = S(); {x}.v = {y}; {x}.w = [{x}]",
    "{x} = {n}",
    "{x} = {y}",
    "{x} = K",
    "{x} = lambda: {y}",
    "{x} = (lambda q: lambda: q)({y})",
    "{x} = (lambda q: (lambda: q, lambda n: q.append(n)))({y})",
    "{x} = bytearray(b'{n}'); {y}.append({x})",
    "{x} = object()",
    "{x} = [{x}, {x}, {y}]",
    "{x}.append({y})",
    "{x}.append({n})",
    "{x}[0].append({n})",
    "{x}['k'].append({n})",
    "{x}[0] = {n}",
    "{x}.v.append({n})",
    "{x}.put({y})",
    "{x}.v = {y}",
    "{x}().append({n})",
    "{x}[1]({n})",
    "{x}.clear()",
    "{x}.pop()",
    "{x}.add(({n}, 'more'))",
    "grow({x})",
    "reach().append({n})",
    "{x}.note = {y}",
    "type({x}).mark.append({n})",
    "del {x}; {x} = [{n}]",
    "class K:\n    mark = [{n}]\n    def __init__(self, v): self.v = v\n    def put(self, x): self.v = x; K.mark.append({y})",
    "class K(K if isinstance(K, type) and K.__mro__[-2].__name__ == 'K' and len(K.__mro__) < 5 else object):\n    extra = {y}",
    "def grow(x): x.append({n}); return {y}",
    "def reach(): return {x}",
    "del K\nclass K: pass",
    "{x} = grow; {y} = [grow, reach]",
    "globals()['{x}'] = [{y}]",
    "locals()['{x}'].append({n})",
    "from collections import deque, defaultdict, OrderedDict\n{x} = deque([{y}]); {y} = defaultdict(list, {{1: {x}}})",
    "{x} = iter([{y}, {n}])",
    "{x} = {y}.append",
    "{x} = K({y}).put",
    "{x} = ValueError({y}, {n})",
]  # fmt: skip

steps = st.lists(
    st.tuples(
        st.sampled_from(CELLS),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.integers(0, 99),
        st.sampled_from(["commit", "commit", "commit", "wait", "restart"]),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
def test_a_restart_gives_the_same_graph(lives, steps):
    live = lives()
    live.cell(SETUP)
    touched = set()
    try:
        for cell, x, y, n, then in steps:
            source = f"try:\n{indent(cell.format(x=x, y=y, n=n))}\nexcept (TypeError, AttributeError, KeyError, IndexError, NameError, ValueError, RuntimeError): pass"
            more = live.run(source)
            touched = None if more is None or touched is None else touched | more
            if then == "wait":
                continue
            delta = live.checkpoint(touched)
            touched = set()
            assert not delta.lost
            again = live.restart()
            assert not again.lost
            assert shape(again.ns) == shape(live.ns)
            if then == "restart":
                live = again
            else:
                sys.modules[live.name] = live.module
    finally:
        live.store.close()
        del sys.modules[live.name]


def indent(source):
    return "\n".join("    " + line for line in source.splitlines())


def shape(ns):
    """The graph of objects behind the user's names: its nodes in the order of a walk, with identities."""
    numbers: dict[int, int] = {}
    keep: list[object] = []
    out: list[object] = []

    def walk(value):
        kind = type(value)
        if kind in (int, str, type(None), bool, float):
            out.append(value)
            return
        if kind is not tuple:  # of equal tuples it does not matter which one it is
            if id(value) in numbers:
                out.append(("again", numbers[id(value)]))
                return
            numbers[id(value)] = len(numbers)
            keep.append(value)
        if issubclass(kind, type):
            if value.__module__ == ns["__name__"]:
                out.append(("class", value.__name__))
                walk(value.__bases__)
                fields = {
                    k: v
                    for k, v in vars(value).items()
                    if not k.startswith("__") or k == "__init__"
                }
                for key in sorted(fields):
                    out.append(key)
                    if type(fields[key]).__name__ != "member_descriptor":
                        walk(fields[key])
            else:
                out.append(value)
            return
        out.append(kind.__name__)
        if kind.__name__ == "function":
            out.extend(
                (
                    value.__name__,
                    value.__qualname__,
                    value.__code__.co_names,
                    value.__code__.co_consts[:1],
                )
            )
            for cell in value.__closure__ or ():
                walk(cell)
        elif kind.__name__ == "cell":
            walk(value.cell_contents)
        elif kind.__name__ == "method":
            walk(value.__self__)
            walk(value.__func__)
        elif kind.__name__ == "builtin_function_or_method":
            out.append(value.__name__)
            walk(value.__self__)
        elif kind.__name__ == "list_iterator":
            walk(list(value.__reduce__()[1][0]) if len(value.__reduce__()[1]) else None)
        elif kind is bytearray:
            out.append(bytes(value))
        elif issubclass(kind, (set, frozenset)):
            for item in sorted(value, key=repr_of):
                walk(item)
        elif hasattr(kind, "items"):
            for key, item in value.items():
                walk(key)
                walk(item)
        elif hasattr(kind, "__iter__"):
            for item in value:
                walk(item)
        elif issubclass(kind, BaseException):
            walk(value.args)
        if hasattr(value, "__dict__") and kind.__name__ != "module":
            for key in sorted(vars(value)):
                out.append(key)
                walk(vars(value)[key])
        for slot in getattr(kind, "__slots__", ()):
            walk(getattr(value, slot, None))
        if kind is not tuple and not issubclass(kind, type) and kind.__module__ == ns["__name__"]:
            walk(kind)

    for name in sorted(ns):
        if not name.startswith("__") and type(ns[name]).__name__ != "module":
            out.append(name)
            walk(ns[name])
    return out


def repr_of(value):
    return repr(value).split(" at 0x")[0]


MANY = "people = [{'id': n, 'tags': [n], 'pair': ([n], 1)} for n in range(3000)]"


def test_of_many_objects_those_shared_later_are_shared_after_a_restart(live):
    live.cell(MANY)
    live.cell("one = people[5]; tags = people[7]['tags']; inner = people[8]['pair'][0]")
    live.cell("one['id'] = 'five'")
    again = live.restart()
    again.run(
        "assert one is people[5] and tags is people[7]['tags'] and inner is people[8]['pair'][0]\n"
        "assert one['id'] == 'five'"
    )


def test_of_many_objects_those_shared_before_are_shared_after_a_restart(live):
    live.cell("own = {}; twice = [0]")
    live.cell(
        MANY + "\npeople += [own, twice, twice]; people.append(people); people[0]['me'] = people[0]"
    )
    again = live.restart()
    again.run(
        "assert people[3000] is own and people[3001] is twice is people[3002]\n"
        "assert people[-1] is people and people[0]['me'] is people[0]"
    )


def test_many_objects_that_belong_to_others_join_their_groups(live):
    live.cell("inner = [[n] for n in range(3000)]; few = inner[:3]")
    live.cell("outer = [{'in': item} for item in inner]")
    live.cell("few[0].append(1)")
    again = live.restart()
    again.run(
        "assert few[0] is inner[0] is outer[0]['in'] and outer[2999]['in'] is inner[2999] and inner[0][1] == 1"
    )


def test_many_objects_and_the_session_s_own_namespace(live):
    live.cell(MANY + "\npeople.append(globals())")
    again = live.restart()
    again.run("assert people[-1] is globals() and len(people) == 3001")
