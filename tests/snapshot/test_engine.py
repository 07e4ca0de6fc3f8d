"""The engine's own state goes with each delta; a bad part costs itself only."""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar


def test_plain_state_comes_back(live):
    extra = {
        "flags": 0x10000,
        "sources": {"<1>": "x = 1"},
        "contextvars": [],
        "t": (1, [2]),
        "s": "x",
    }
    live.cell("x = 1", extra)
    assert live.restart().extra == extra


def test_no_state_is_no_bytes(live):
    assert live.cell("x = 1").engine == b""
    assert live.restart().extra == {}


def test_context_variables_are_those_of_the_namespace(live):
    live.cell(
        "from contextvars import ContextVar\nvar = ContextVar('v')\nother = ContextVar('o'); holder = [other]\ndata = [1]"
    )
    pairs = [(live["var"], live["data"]), (live["other"], {"n": 1})]
    live.checkpoint(set(), {"contextvars": pairs})
    again = live.restart()
    (var, value), (other, number) = again.extra["contextvars"]
    assert var is again["var"]
    assert other is again["other"] is again["holder"][0]
    assert value is again["data"]
    assert number == {"n": 1}


def test_a_value_of_a_class_from_a_cell(live):
    live.cell("class P: pass\np = P()")
    q = live["P"]()
    q.x = 5
    live.checkpoint(set(), {"contextvars": [("k", q), ("p", live["p"])]})
    again = live.restart()
    (_, q), (_, p) = again.extra["contextvars"]
    assert type(q) is again["P"]
    assert q.x == 5
    assert p is again["p"]


def test_bad_parts_are_left_out_and_told(live):
    live.run("from contextvars import ContextVar\nvar = ContextVar('v')")
    nameless = ContextVar("nameless")
    extra = {
        "flags": 1,
        "contextvars": [(live["var"], 1), (live["var"], threading.Lock()), (nameless, 2)],
        "lock": threading.Lock(),
    }
    live.checkpoint(set(), extra)
    assert live.snapshotter.dropped == {
        "contextvars[1]": "contextvars[1][1] is a lock, which cannot be stored; recreate it after a restart",
        "contextvars[2]": "contextvars[2][0] is a context variable without a name, which cannot be stored; recreate it after a restart",
        "lock": "a lock cannot be stored; recreate it after a restart",
    }
    again = live.restart()
    assert again.extra["flags"] == 1
    assert again.extra["contextvars"] == [(again["var"], 1)]
    assert "lock" not in again.extra


def test_a_context_variable_of_a_library_is_found_in_its_module(live, monkeypatch, tmp_path):
    (tmp_path / "lib_with_var.py").write_text(
        "from contextvars import ContextVar\nlevel = ContextVar('l')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import lib_with_var

    live.checkpoint(set(), {"contextvars": [(lib_with_var.level, 3)]})
    assert live.restart().extra["contextvars"] == [(lib_with_var.level, 3)]
    del sys.modules["lib_with_var"]


def test_a_part_that_cannot_be_restored_costs_itself_only(live):
    live.cell("class P: pass")
    live.checkpoint(set(), {"flags": 7, "contextvars": [("a", live["P"]()), ("b", 2)]})
    snapshot = live.store.load()
    from pyrepl3.records import Snapshot

    _, extra = live.snapshotter.restore(
        Snapshot(epoch=1, blobs=(), lost={"P": "gone"}, engine=snapshot.engine)
    )
    assert extra == {"flags": 7, "contextvars": [("b", 2)]}
    assert "refers to 'P'" in live.snapshotter.dropped["contextvars[0]"]
