"""What changes behind the names that cells used is found by an audit; nothing else is suspected."""

from __future__ import annotations

import threading

import pytest

# name: (cells, what is done behind all names)
HIDDEN = {
    "through a module's attribute": (
        "import sys, types\nholder = types.ModuleType('holder')\nx = [1]; holder.x = x",
        lambda ns: ns["holder"].x.append(2),
    ),
    "an instance": (
        "class C: pass\nx = C(); x.v = 1",
        lambda ns: setattr(ns["x"], "v", 2),
    ),
    "a class": (
        "class x:\n    v = 1",
        lambda ns: setattr(ns["x"], "v", [2]),
    ),
    "a cell of a closure": (
        "def make():\n    n = [0]\n    def x(): return n\n    return x\nx = make()",
        lambda ns: ns["x"]().append(1),
    ),
    "a default": ("def x(a=[]): return a", lambda ns: ns["x"]().append(1)),
    "a big list": ("x = list(range(300_000))", lambda ns: ns["x"].__setitem__(150_000, -1)),
    "a big bytearray": (
        "x = bytearray(1_000_000)",
        lambda ns: ns["x"].__setitem__(500_000, 7),
    ),
    "an array": (
        "import numpy as np\nx = np.zeros(200_000)",
        lambda ns: ns["x"].__setitem__(150_000, 7),
    ),
    "an array of which there are views": (
        "import numpy as np\nx = np.zeros(200_000); v = x[5:]",
        lambda ns: ns["v"].__setitem__(150_000, 7),
    ),
    "an iterator": ("x = iter([1, 2, 3])", lambda ns: next(ns["x"])),
    "what can be stored no more": ("x = []", lambda ns: ns["x"].append(i for i in ())),
    "what can be stored now": (
        "x = [(i for i in ())]",
        lambda ns: ns["x"].clear(),
    ),
}  # fmt: skip


def audit(live):
    found = live.snapshotter.audit()
    found.run(hurry=True)
    assert found.finished
    return found


@pytest.mark.parametrize("case", HIDDEN)
def test_what_changed_behind_all_names_is_suspected_and_then_written(live, case):
    source, change = HIDDEN[case]
    live.cell(source + "\nother = [5]")
    change(live.ns)
    assert not live.checkpoint(set()).blobs
    suspects = audit(live).suspects
    assert "x" in suspects
    assert "other" not in suspects
    live.snapshotter.suspect(suspects)
    delta = live.checkpoint(set())
    assert "x" in {name for blob in delta.blobs for name in blob.names} | delta.lost.keys()
    assert not audit(live).suspects


@pytest.mark.parametrize("case", HIDDEN)
def test_what_did_not_change_is_not_suspected(live, case):
    live.cell(HIDDEN[case][0])
    assert not audit(live).suspects


@pytest.mark.parametrize("case", HIDDEN)
def test_a_change_after_a_restart_is_suspected(live, case):
    source, change = HIDDEN[case]
    live.cell(source)
    again = live.restart()
    first = audit(again)
    assert first.suspects == first.unsure  # other bytes may mean the same
    again.snapshotter.suspect(first.suspects)
    again.checkpoint(set())
    assert not audit(again).suspects
    if "x" in again.ns:
        change(again.ns)
        assert "x" in audit(again).suspects


def test_plain_values_are_known_after_a_restart(live):
    live.cell(
        "import threading\nx = [1, {'a': (2.5, 'b')}]; y = [x]; s = 'long ' * 1000\ndef f(): return x"
    )
    assert not audit(live.restart()).suspects


def test_what_is_left_of_a_group_is_not_sure(live):
    live.cell("a = [1]; b = [a]")
    live.run("b = 1")
    live.checkpoint(set())
    found = audit(live)
    assert found.suspects == found.unsure == {"a"}


def test_a_stop_ends_it_within_a_big_value_and_waits_for_no_user_code(live):
    live.cell(
        "class C:\n    def __reduce__(self):\n        entered.set(); go.wait(60)\n        return C, ()"
    )
    live.ns["entered"], live.ns["go"] = entered, go = threading.Event(), threading.Event()
    go.set()
    live.cell("x = [C(), *map(str, range(50_000))]")
    entered.clear()
    go.clear()
    found = live.snapshotter.audit()
    thread = threading.Thread(target=found.run)
    thread.start()
    assert entered.wait(60)
    found.stop()
    go.set()
    thread.join()
    assert not found.finished


def test_user_code_that_raises_is_no_end_of_an_audit(live):
    live.cell(
        "class C:\n    def __reduce__(self): raise BaseException\nclass D: pass\nx = C(); y = D(); y.v = [1]"
    )
    live["y"].v.append(2)
    assert audit(live).suspects == {"y"}
