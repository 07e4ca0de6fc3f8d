"""Which names a delta writes: the changed ones, what shares with them, and no other."""

from __future__ import annotations

import gc
import sys

import pytest


def written(delta):
    return {name for blob in delta.blobs for name in blob.names}


def groups(delta):
    return {frozenset(blob.names) for blob in delta.blobs}


def test_only_the_bound_name_is_written(live):
    live.cell("\n".join(f"n{i} = [{i}]" for i in range(100)))
    assert written(live.cell("x = 1")) == {"x"}
    assert written(live.cell("n5 = [7]")) == {"n5"}


def test_the_values_of_other_names_are_not_looked_at(live):
    live.cell(
        "class Loud:\n    seen = 0\n    def __reduce__(self):\n        Loud.seen += 1\n        return Loud, ()"
    )
    live.cell("quiet = Loud()")
    before = live["Loud"].seen
    live.cell("x = 1")
    assert live["Loud"].seen == before


def test_a_touched_name_that_did_not_change_is_not_written(live):
    live.cell("a = [1, 2]")
    assert live.cell("len(a)").blobs == ()


def test_mutation_through_a_touched_name_is_written(live):
    live.cell("a = []")
    live.cell("b = [a]")
    delta = live.cell("b[0].append(1)")
    assert groups(delta) == {frozenset("ab")}
    again = live.restart()
    assert again["a"] == [1]
    assert again["b"][0] is again["a"]


@pytest.mark.parametrize(
    ("value", "make"),
    [
        ("[1]", lambda: [2]),
        ("{'a': [1]}", lambda: {"a": [2]}),
        ("(['a'], 1.5)", lambda: (["b"], 1.5)),
        ("bytearray(b'a')", lambda: bytearray(b"b")),
    ],
    ids=["list", "dict", "tuple", "bytearray"],
)
def test_a_new_object_in_the_place_of_a_small_one_is_told_though_nobody_named_it(live, value, make):
    live.cell(f"x = {value}")
    old, made = id(live["x"]), []
    live.ns["x"] = None
    for _ in range(1_000):
        made.append(make())
        if id(made[-1]) == old:
            break
    live.ns["x"] = made[-1]
    assert written(live.checkpoint(set())) == {"x"}


@pytest.mark.parametrize("value", ["{1}", "[{1}]", "[frozenset([1])]"])
def test_nobody_can_tell_by_a_weak_reference_that_a_delta_was_made(live, value):
    live.cell(f"import weakref\nx = {value}\nw = weakref.ref(x if type(x) is set else x[0])")
    live.ns["x"] = None
    gc.collect()
    assert live["w"]() is None


def test_names_join_a_group_when_they_come_to_share(live):
    assert groups(live.cell("a = []\nb = []")) == {frozenset("a"), frozenset("b")}
    assert groups(live.cell("b.append(a)")) == {frozenset("ab")}
    live.cell("a.append(5)")
    again = live.restart()
    assert again["b"] == [[5]]
    assert again["b"][0] is again["a"]


def test_names_leave_a_group_when_they_share_no_more(live):
    live.cell("a = []\nb = [a]")
    assert groups(live.cell("b.clear()")) == {frozenset("a"), frozenset("b")}
    assert written(live.cell("a.append(1)")) == {"a"}
    again = live.restart()
    assert again["a"] == [1]
    assert again["b"] == []


def test_what_stays_in_a_group_whose_member_was_rebound_is_kept(live):
    live.cell("a = []\nb = [a]")
    live.ns["b"] = 5
    assert written(live.checkpoint(set())) == {"b"}  # the blob of both stays, for a alone
    assert live.restart()["a"] == []
    live.cell("a.append(1)")
    again = live.restart()
    assert (again["a"], again["b"]) == ([1], 5)


def test_a_value_changed_and_then_unbound_in_one_cell_changed(live):
    live.cell("a = []\nb = [a]")
    live.cell("b[0].append(1); b = 5")
    assert live.restart()["a"] == [1]


@pytest.mark.parametrize(
    "value",
    [
        "(1, 'x')",
        "'s' * 3",
        "int",
        "len",
        "1.5",
        "None",
        "b'q'",
        "frozenset({1})",
        "__import__('sys')",
    ],
)
def test_nothing_is_shared_through_immutable_values_types_and_modules(live, value):
    delta = live.cell(f"v = {value}\na = [v]\nb = {{'k': v}}")
    assert frozenset("ab") not in groups(delta)
    assert not any(
        {"a", "b"} <= group for group in groups(delta) if "v" in group and len(group) > 3
    )
    assert {frozenset("a"), frozenset("b")} <= groups(delta)


def test_instances_do_not_join_their_class_and_its_methods(live):
    live.cell("class P:\n    def f(self): return G\nG = {}")
    delta = live.cell("p = P(); q = P()")
    assert groups(delta) == {frozenset("p"), frozenset("q")}


def test_a_deleted_name_is_told_once(live):
    live.cell("x = 1\ny = [2]")
    delta = live.cell("del x, y")
    assert delta.deleted == {"x", "y"}
    assert live.cell("z = 1").deleted == frozenset()
    assert "x" not in live.restart().ns


def test_a_name_bound_and_deleted_between_two_marks_is_not_told(live):
    delta = live.cell("x = 1\ndel x")
    assert (delta.blobs, delta.deleted) == ((), frozenset())


def test_engine_names_are_never_touched(live):
    live.ns["__loader__"] = object()
    delta = live.checkpoint(None)
    assert delta.blobs == ()
    live.snapshotter.restore(live.store.load())
    assert "__name__" in live.ns


def test_new_names_are_found_whatever_was_touched(live):
    live.ns["hidden"] = [1]
    assert written(live.checkpoint(set())) == {"hidden"}
    live.ns["hidden"] = [2]
    assert written(live.checkpoint(set())) == {"hidden"}
    del live.ns["hidden"]
    assert live.checkpoint(set()).deleted == {"hidden"}


def test_a_new_object_at_the_address_of_the_old_one_is_found(live):
    """The id of an object is another's as soon as it is freed."""
    live.run("class Thing:\n    def __init__(self, n): self.n = n")
    for n in range(20):
        live.ns.pop("t", None)
        live.ns["t"] = live["Thing"](n)
        live.ns["l"] = [n]
        live.checkpoint(set())
        again = live.restart()
        assert (again["t"].n, again["l"]) == (n, [n])
        sys.modules[live.name] = live.module


def test_an_unmarked_delta_is_told_again(live):
    live.cell("a = [1]; gone = 1")
    live.run("a.append(2); b = 3; del gone")
    first = live.snapshotter.delta({"a", "b"}, extra={})
    live.run("c = 4")
    second = live.snapshotter.delta({"c"}, extra={})
    assert written(first) == {"a", "b"}
    assert written(second) == {"a", "b", "c"}
    assert first.deleted == second.deleted == {"gone"}


def test_an_unmarked_delta_after_which_the_change_was_undone(live):
    live.cell("a = 1\nb = [1]")
    live.run("a = 2\nb.append(2)\nn = 1")
    live.snapshotter.delta({"a", "b", "n"}, extra={})
    live.run("a = 1\nb.pop()\ndel n")
    delta = live.checkpoint({"a", "b", "n"})
    assert delta.deleted == frozenset()
    again = live.restart()
    assert (again["a"], again["b"]) == (1, [1])


def test_mark_without_a_delta_is_nothing(live):
    live.snapshotter.mark()
    live.cell("x = 1")
    live.snapshotter.mark()
    assert live.restart()["x"] == 1


# --- touching spreads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "cell"),
    [
        ("def f(): data.append(1)", "f()"),
        ("def f(): g()\ndef g(): h()\ndef h(): data.append(1)", "f()"),
        ("f = lambda: data.append(1)", "f()"),
        ("class C:\n    def m(self): data.append(1)\nc = C()", "c.m()"),
        ("class A:\n    def m(self): data.append(1)\nclass B(A): pass\nb = B()", "b.m()"),
        ("class C:\n    @property\n    def p(self): data.append(1)\nc = C()", "c.p"),
        (
            "def make():\n    def inner(): data.append(1)\n    return inner\ninner = make()",
            "inner()",
        ),
        ("def f(): data.append(1)\nhandlers = {'k': f}", "handlers['k']()"),
        ("handlers = {'k': [lambda: data.append(1)]}", "handlers['k'][0]()"),
        ("import functools\ndef f(x): data.append(x)\np = functools.partial(f, 1)", "p()"),
        ("import functools\n@functools.lru_cache\ndef f(): data.append(1)", "f()"),
        ("class C:\n    def __init__(self): self.d = data\nc = C()", "c.d.append(1)"),
        (
            "def deco(f):\n    def w(): return f()\n    return w\n@deco\ndef f(): data.append(1)",
            "f()",
        ),
        (
            "def f():\n    class L:\n        def m(self): data.append(1)\n    return L\nL = f()",
            "L().m()",
        ),
        ("class M(type):\n    def __call__(c): data.append(1)\nclass C(metaclass=M): pass", "C()"),
        ("def f():\n    data.append(1)\n    yield\ndef g(): return list(f())", "g()"),
        ("class C:\n    def m(self): data.append(1)\nm = C().m", "m()"),
        ("class C:\n    def m(self): data.append(1)\ndef mk(): return C()", "mk().m()"),
        ("def f():\n    global data\n    data = data + [1]", "f()"),
        ("def f(x=data): x.append(1)", "f()"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_what_code_changes_behind_a_name_is_found(live, setup, cell, restarted):
    live.cell("data = []\nother = [0]")
    live.cell(setup)
    if restarted:
        live = live.restart()
    delta = live.cell(cell)
    assert "data" in written(delta)
    assert "other" not in written(delta)
    assert live.restart()["data"] == [1]


def test_code_defined_and_run_in_one_cell_is_followed(live):
    live.cell("data = []\ndef make(): return lambda: data.append(1)")
    assert "data" in written(live.cell("go = make(); go()"))


def test_code_that_was_run_and_then_rebound_is_followed(live):
    live.cell("data = []\ndef f(): data.append(1)")
    assert "data" in written(live.cell("f(); f = None"))


def test_an_escape_hatch_anywhere_means_everything(live):
    live.cell("hidden = []\ndef sneak(): globals()['hid' + 'den'].append(1)")
    assert "hidden" in written(live.cell("sneak()"))


# --- touched definitions that did not change -------------------------------------------------


@pytest.fixture
def pickled(monkeypatch):
    """The names that were pickled, whether or not they were written."""
    from pyrepl3.snapshot import work

    seen = []
    pickle_names = work.pickle_names

    def spy(session, values):
        seen.extend(values)
        return pickle_names(session, values)

    monkeypatch.setattr(work, "pickle_names", spy)
    return seen


def test_calling_functions_and_classes_does_not_pickle_them_again(live, pickled):
    live.cell(
        "import json\nfrom dataclasses import dataclass\ndef f(x: int, y=(1, 'a')) -> str:\n    return json.dumps(g(x))\n"
        "def g(x): return C(x).m()\nclass B:\n    k = 1\nclass C(B):\n    __slots__ = ('v',)\n"
        "    def __init__(self, v): self.v = v\n    def m(self): return super().__init__, D(self.v).x and 1\n"
        "    @property\n    def p(self): return self.v\n    @staticmethod\n    def s(): return 1\n"
        "@dataclass\nclass D:\n    x: int = 0\n"
        "def mk(n):\n    def inner(): return n\n    return inner\ninner = mk(5)"
    )
    live.cell("D; C")  # copyreg and dataclasses may have made notes in the classes
    pickled.clear()
    delta = live.cell("r = g(3), inner(), C.s(), json")
    assert set(pickled) == {"r"}
    assert written(delta) == {"r"}


@pytest.mark.parametrize(
    ("setup", "change", "check"),
    [
        ("def f(): return 1", "f.__code__ = (lambda: 2).__code__", "f() == 2"),
        ("def f(a=1): return a", "f.__defaults__ = (3,)", "f() == 3"),
        ("def f(*, a=1): return a", "f.__kwdefaults__['a'] = 4", "f() == 4"),
        ("def f(): pass", "f.x = 5", "f.x == 5"),
        ("def f(): pass\nf.x = 1", "del f.x", "not hasattr(f, 'x')"),
        ("def f(a: int): pass", "f.__annotations__['a'] = str", "f.__annotations__ == {'a': str}"),
        ("def f(a: int): pass", "f.__annotations__.clear()", "f.__annotations__ == {}"),
        ("def f(): pass", "f.__doc__ = 'new'", "f.__doc__ == 'new'"),
        ("def mk():\n    n = 0\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n    return inc\nf = mk()", "f()", "f() == 2"),
        ("def mk():\n    n = []\n    return lambda: n\nf = mk()", "f().append(1)", "f() == [1]"),
        ("def f(a=[]): return a", "f().append(1)", "f() == [1]"),
        ("class C: n = 1", "C.n = 2", "C.n == 2"),
        ("class C: n = []", "C.n.append(1)", "C.n == [1]"),
        ("class C:\n    def m(self): return 1", "C.m = lambda self: 2", "C().m() == 2"),
        ("class C:\n    def m(self): return 1", "C.m.x = 2", "C.m.x == 2"),
        ("class C:\n    def m(self): return 1", "C.m.__defaults__ = (2,)", "C.m.__defaults__ == (2,)"),
        ("class C: a: int = 1", "C.__annotations__['b'] = str", "'b' in C.__annotations__"),
        ("class A: pass\nclass B: pass\nclass C(A): pass", "C.__bases__ = (B,)", "C.__mro__[1] is B"),
        ("class C: x = (1, [2])", "C.x[1].append(3)", "C.x == (1, [2, 3])"),
        ("class C:\n    class D: n = 1", "C.D.n = 2", "C.D.n == 2"),
        ("class C: pass", "C.__name__ = 'X'", "C.__name__ == 'X'"),
        ("import abc\nclass A(abc.ABC): pass\nclass V: pass", "A.register(V)", "issubclass(V, A)"),
        ("import xml", "import xml.sax.handler", "xml.sax.handler"),
    ],
)  # fmt: skip
def test_a_definition_that_did_change_is_found(live, setup, change, check):
    live.cell(setup)
    live.cell("pass")
    live.cell(change)
    again = live.restart()
    assert eval(check, again.ns)


def test_functions_that_come_to_share_a_cell_join(live):
    live.cell(
        "def mk():\n    n = 0\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n"
        "    inc.get = lambda: n\n    return inc, lambda: n\nboth = mk(); inc = both[0]\ndel both"
    )
    live.cell(
        "def mk2(f):\n    import types\n    return types.FunctionType((lambda: n).__code__, f.__globals__)\nn = 7"
    )
    live.cell(
        "import types\ncell = inc.__closure__[0]\nget = types.FunctionType(inc.get.__code__, globals(), 'get', None, (cell,))\ndel cell"
    )
    again = live.restart()
    again.run("inc(); assert get() == 1; inc(); assert get() == 2")


# --- definitions ------------------------------------------------------------------------------


def test_a_redefined_class_is_written_into_what_still_uses_it(live):
    live.cell("class P:\n    v = 1\np = P(); q = P(); l = [P]")
    delta = live.cell("class P:\n    v = 2\nr = P()")
    assert written(delta) == {"P", "p", "q", "l", "r"}
    assert frozenset("pql") in groups(delta)
    again = live.restart()
    assert (again["p"].v, again["q"].v, again["r"].v) == (1, 1, 2)
    assert type(again["p"]) is type(again["q"]) is again["l"][0] is not again["P"]
    assert type(again["r"]) is again["P"]


def test_a_deleted_class_is_written_into_what_still_uses_it(live):
    live.cell("class P:\n    v = 1\np = P()")
    assert written(live.cell("del P")) == {"p"}
    again = live.restart()
    assert again["p"].v == 1
    assert "P" not in again.ns


def test_a_definition_with_a_second_name_is_referred_to_by_that(live):
    live.cell("class P:\n    v = 1\nOld = P\np = P()")
    live.cell("class P:\n    v = 2")
    again = live.restart()
    assert type(again["p"]) is again["Old"] is not again["P"]
    live.cell("del Old")
    assert live.restart()["p"].v == 1


def test_a_class_that_gets_a_name_later_stays_one(live):
    live.cell("def make():\n    class L: pass\n    return L()\np = make()")
    live.cell("L = type(p)\nq = L()")
    live.cell("L.tag = 1")
    again = live.restart()
    assert type(again["p"]) is again["L"] is type(again["q"])
    assert again["p"].tag == 1


def test_a_redefined_function_is_written_into_what_still_uses_it(live):
    live.cell("def f(): return 1\nhooks = [f]")
    live.cell("def f(): return 2")
    again = live.restart()
    assert (again["hooks"][0](), again["f"]()) == (1, 2)


def test_an_attribute_set_on_a_class_through_an_instance_is_found(live):
    live.cell("class P: n = []\np = P()")
    live.cell("type(p).n.append(1)")
    assert live.restart()["P"].n == [1]


def test_an_old_class_survives_restarts_and_further_changes(live):
    live.cell("class P:\n    v = [1]\np = P()")
    live.cell("class P:\n    v = [2]")
    live = live.restart()
    live.cell("p.w = 3; type(p).v.append(9)")
    live = live.restart()
    live.cell("q = type(p)()")
    again = live.restart()
    assert again["p"].w == 3
    assert again["p"].v is again["q"].v
    assert again["p"].v == [1, 9]
    assert again["P"].v == [2]


def test_the_name_that_blobs_refer_to_is_still_known_after_a_restart(live):
    live.cell("class K:\n    v = 1\nb = K\nk = K()")
    live.cell("K.w = 2")  # K's blob is now younger than b's
    live = live.restart()
    live.cell("del K\nclass K: pass")
    again = live.restart()
    assert not again.lost
    assert type(again["k"]) is again["b"] is not again["K"]
    assert (again["b"].v, again["b"].w) == (1, 2)


# --- after a restart --------------------------------------------------------------------------


def test_nothing_is_written_right_after_a_restart(live):
    live.cell("a = []; b = [a]; x = 1\nclass C: pass\nc = C()")
    again = live.restart()
    assert again.checkpoint(set()).blobs == ()


def test_groups_are_known_after_a_restart(live):
    live.cell("a = []; b = [a]; c = []")
    again = live.restart()
    assert groups(again.cell("a.append(1)")) == {frozenset("ab")}
    assert groups(again.cell("c.append(a)")) == {frozenset("abc")}
    third = again.restart()
    assert third["c"][0] is third["a"] is third["b"][0]


def test_restoring_replaces_what_is_there(live):
    live.cell("a = 1")
    snapshot = live.store.load()
    live.cell("a = 2; b = 3\ndef f(): return a")
    lost, _ = live.snapshotter.restore(snapshot)
    assert (lost, live["a"], "b" in live.ns, "f" in live.ns) == ({}, 1, False, False)
    assert live["__name__"] == live.name


def test_a_restored_epoch_can_be_built_upon(live):
    live.cell("a = []; keep = [1]")
    first = live.store.head
    live.cell("a.append(1); b = a")
    live.store.move(first)
    live.snapshotter.restore(live.store.load())
    live.cell("a.append(2)")
    again = live.restart()
    assert again["a"] == [2]
    assert again["keep"] == [1]
    assert "b" not in again.ns


# --- what a delta says ------------------------------------------------------------------------


def test_each_written_name_has_a_short_repr(live):
    delta = live.cell("x = list(range(10**4)); s = 'y' * 500\nclass P: pass\np = P()")
    assert delta.reprs.keys() == {"x", "s", "P", "p"}
    assert delta.reprs["p"] == "<P>"
    assert all(0 < len(text) <= 80 for text in delta.reprs.values())


def test_pickling_that_changes_the_namespace_breaks_nothing(live):
    live.cell(
        "class Side:\n    def __reduce__(self):\n        global made\n        made = [2]\n"
        "        g.pop('x', None)\n        return Side, ()\ng = globals()\nx = 1"
    )
    live.cell("s = Side()")
    live.checkpoint(set())
    again = live.restart()
    assert again["made"] == [2]
    assert "x" not in again.ns


# --- other circumstances ----------------------------------------------------------------------


def test_a_session_can_be_restored_under_another_name(live, lives):
    """A fork: classes and functions then belong to the module of the new session."""
    live.cell(
        "class P:\n    def me(self): return P, n\ndef f(): return P()\np = P(); l = [f]; n = 1"
    )
    other = lives()
    lost, _ = other.snapshotter.restore(live.store.load())
    assert not lost
    other.run("n = 2; assert p.me() == (P, 2) and type(l[0]()) is P is not None and f is l[0]")
    assert other["P"].__module__ == other["f"].__module__ == other.name
    assert other["f"].__globals__ is other.ns
    assert other["P"] is not live["P"]
    other.store.close()


def test_a_container_that_changes_while_it_is_stored_is_tried_again(live):
    """What another thread does to a dict that is being pickled: here a __reduce__ does it."""
    live.cell(
        "d = {}\nclass Grow:\n    left = 1\n    def __reduce__(self):\n        if Grow.left:\n"
        "            Grow.left -= 1\n            d['more'] = 1\n        return Grow, ()"
    )
    assert not live.cell("d.update({'a': Grow(), 'b': 2})").lost
    assert live.restart()["d"].keys() == {"a", "b", "more"}


def test_names_come_back_in_the_order_in_which_they_were_written(live):
    live.cell("zebra = [1]\ndef ape(): pass\nimport json\nlion = ape")
    again = live.restart()
    assert [name for name in again.ns if not name.startswith("__")] == [
        "zebra",
        "ape",
        "json",
        "lion",
    ]


def test_the_collector_is_left_as_it_was(live):
    gc.disable()
    try:
        live.cell("x = [1]")
        assert not gc.isenabled()
    finally:
        gc.enable()
    live.cell("x = [2]")
    assert gc.isenabled()


def test_what_a_restore_brought_counts_as_old_and_not_as_eternal(live):
    live.cell("rows = [[n] for n in range(50)]")
    again = live.restart()
    old = {id(each) for each in gc.get_objects(generation=2)}
    assert all(id(row) in old for row in again["rows"])
    assert gc.get_freeze_count() < 2000


def test_what_somebody_keeps_apart_from_collections_stays_apart(live):
    live.cell("rows = [[n] for n in range(50)]")
    gc.freeze()
    try:
        live.restart()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_objects_are_not_kept_alive_by_a_mark(live):
    live.cell(
        "import weakref\nclass O: pass\no = O(); w = weakref.ref(o); l = [O()]; lw = weakref.ref(l[0])"
    )
    live.run("del o; l = None")
    gc.collect()
    assert live["w"]() is None
    assert live["lw"]() is None
