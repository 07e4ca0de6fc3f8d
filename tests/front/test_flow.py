"""``sessions graph`` and ``sessions slice``: what they print, for whom, and what they refuse."""

from __future__ import annotations

import asyncio
import json

import pytest

import pyrepl3
from pyrepl3.front.cli import main
from pyrepl3.front.flow import graph_text, slice_text
from pyrepl3.records import Graph, Slice


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    async def make():
        async with pyrepl3.open_session("demo", store="store") as session:
            for cell in ("a = 2", "noise = 'x'", "b = a * 21", "print(b)"):
                await session.run(cell)

    asyncio.run(make())

    def ask(*words, status=0):
        assert main(["sessions", *words, "--store", "store"]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return ask


def test_the_graph_is_text_mermaid_dot_or_json(asked):
    assert "c3: b = a * 21\n    makes b\n    from c1 (a)\n" in asked("graph", "demo")
    assert asked("graph", "demo", "--format", "mermaid").startswith("flowchart TD\n")
    assert asked("graph", "demo", "--format", "dot").startswith("digraph cells {\n")
    found = json.loads(asked("graph", "demo", "--json"))
    assert found["makers"]["b"] == [3]
    assert found["hints"] == [{"kind": "unused", "n": 2, "names": ["noise"]}]


def test_a_slice_is_a_script_that_runs(asked):
    script = asked("slice", "demo", "b")
    assert script == "# %% cell 1\na = 2\n\n# %% cell 3\nb = a * 21\n"
    names = {}
    exec(script, names)
    assert names["b"] == 42


def test_what_is_not_there_is_refused(asked):
    assert "no cell of session demo has bound 'c'" in asked("slice", "demo", "c", status=2)
    assert "'other'" in asked("graph", "other", status=2)


def test_notes_of_a_slice_are_comments():
    found = Slice(name="a", cells=(1,), source="a = 1\n", notes=("cell 1 failed",))
    assert slice_text(found) == "# note: cell 1 failed\na = 1\n"


def test_an_unknown_format_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'svg' is no format: write text, mermaid, dot"):
        graph_text(Graph(), "svg")
