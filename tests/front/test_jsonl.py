"""Events as JSON lines."""

import io
import json

import msgspec
import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.jsonl import JsonReport
from pyrepl3.front.resume import Plan
from pyrepl3.records import (
    Blocked,
    Cell,
    Committed,
    Display,
    Done,
    Epoch,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Line,
    Notice,
    Output,
    Receipt,
    Replayed,
    Restored,
    Started,
)

CELL = Cell(id="s-c4", n=4, source="x\n", filename="/d/f.py", first_line=9)
STARTED = Started(cell=CELL, mode=ExecutionMode.SIMPLE_SYNC, placement="loop", at=1.5)


@pytest.fixture
def told():
    stream = io.BytesIO()

    def lines():
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return JsonReport(stream), lines


def one(told, event):
    report, lines = told
    report.cell(1, SourceCell(source="x", filename="/d/f.py", label="load"))
    report.event(STARTED)
    report.event(event)
    return lines()[1]


def test_a_start_names_the_cell_and_where_it_stands(told):
    report, lines = told
    report.cell(1, SourceCell(source="x", filename="/d/f.py", label="load"))
    report.event(STARTED)
    assert lines() == [
        {
            "event": "started",
            "cell": 2,
            "id": "s-c4",
            "label": "load",
            "file": "/d/f.py",
            "line": 9,
            "mode": "simple_sync",
            "placement": "loop",
            "at": 1.5,
        }
    ]


EVENTS = {
    "output": (
        Output(cell_id="s-c4", stream="stderr", text="a\n"),
        {"event": "output", "cell": 2, "id": "s-c4", "stream": "stderr", "text": "a\n"},
    ),
    "display": (
        Display(cell_id="s-c4", data={"image/png": b"\x00\xff", "text/plain": "f"}),
        {
            "event": "display",
            "cell": 2,
            "id": "s-c4",
            "data": {"image/png": "AP8=", "text/plain": "f"},
            "metadata": {},
        },
    ),
    "notice": (
        Notice(cell_id="s-c4", kind="unawaited", text="t"),
        {"event": "notice", "cell": 2, "id": "s-c4", "kind": "unawaited", "text": "t"},
    ),
    "blocked": (
        Blocked(cell_id="s-c4", seconds=0.5),
        {"event": "blocked", "cell": 2, "id": "s-c4", "seconds": 0.5},
    ),
    "line": (
        Line(cell_id="s-c4", line=3),
        {"event": "line", "cell": 2, "id": "s-c4", "line": 3},
    ),
    "committed": (
        Committed(cell_id="s-c4", epoch=3, size=9, lost={"g": "why"}),
        {
            "event": "committed",
            "cell": 2,
            "id": "s-c4",
            "epoch": 3,
            "size": 9,
            "lost": {"g": "why"},
        },
    ),
    "restored": (
        Restored(epoch=3, names=frozenset({"b", "a"})),
        {"event": "restored", "epoch": 3, "names": ["a", "b"], "lost": {}, "recomputed": []},
    ),
    "of an earlier process": (
        Output(cell_id="s-c1", stream="stdout", text="a"),
        {"event": "output", "cell": None, "id": "s-c1", "stream": "stdout", "text": "a"},
    ),
}


@pytest.mark.parametrize(("event", "fields"), EVENTS.values(), ids=EVENTS)
def test_an_event_is_one_line_with_these_fields(told, event, fields):
    assert one(told, event) == fields


COMMON = {"event": "finished", "cell": 2, "id": "s-c4", "mode": "unknown", "placement": "loop"}
COMPILE_ERROR = CompilationError("bad", ("f", 9, 3, "x y", 9, 4))
COMPILE_ERROR.proposal, COMPILE_ERROR.changes = "x", ("dropped y",)

OUTCOMES = {
    "done": (
        Done(cell=CELL, value=object(), shown=True, text="1", data={"text/plain": "1"}),
        {"status": "done", "shown": True, "text": "1", "data": {"text/plain": "1"}},
    ),
    "failed": (
        Failed(cell=CELL, error=KeyError("k"), traceback="T"),
        {
            "status": "failed",
            "error": {
                "type": "KeyError",
                "module": "builtins",
                "message": "'k'",
                "traceback": "T",
            },
        },
    ),
    "not compiled": (
        Failed(cell=CELL, error=COMPILE_ERROR, traceback="T"),
        {
            "status": "failed",
            "error": {
                "type": "CompilationError",
                "module": "pyrepl3.errors",
                "message": "bad (f, line 9)",
                "traceback": "T",
                "line": 9,
                "column": 3,
                "proposal": "x",
                "changes": ["dropped y"],
            },
        },
    ),
    "exit": (
        Failed(cell=CELL, error=SystemExit(3), traceback="T"),
        {
            "status": "failed",
            "error": {
                "type": "SystemExit",
                "module": "builtins",
                "message": "3",
                "traceback": "T",
                "code": 3,
            },
        },
    ),
    "interrupted": (
        Interrupted(cell=CELL, traceback="T", forced=True, lost={"c": "why"}),
        {
            "status": "interrupted",
            "forced": True,
            "abandoned": False,
            "lost": {"c": "why"},
            "error": {"traceback": "T"},
        },
    ),
    "replayed": (
        Replayed(cell=CELL, shown=True, text="1"),
        {"status": "replayed", "shown": True, "text": "1", "data": {}},
    ),
}


@pytest.mark.parametrize(("outcome", "fields"), OUTCOMES.values(), ids=OUTCOMES)
def test_an_end_tells_the_outcome(told, outcome, fields):
    assert one(told, Finished(outcome=outcome)) == {**COMMON, "duration": 0.0, **fields}


def test_an_error_whose_text_raises_is_told_all_the_same(told):
    class OddError(Exception):
        def __str__(self):
            raise RuntimeError

    line = one(told, Finished(outcome=Failed(cell=CELL, error=OddError(), traceback="T")))
    assert line["error"]["message"] == "<its text cannot be shown: RuntimeError>"


class Strange:
    """No JSON, and no readable text either."""

    def __str__(self):
        raise RuntimeError


DEEP = []
DEEP.append(DEEP)

HARD = {
    "surrogate": ({"text/plain": "a\ud800"}, {"text/plain": "a\\ud800"}),
    "json": ({"application/json": {"a": [1, None]}}, {"application/json": {"a": [1, None]}}),
    "huge": ({"application/json": 2**70}, {"application/json": 2**70}),
    "other keys": ({"application/json": {1: object()}}, {"application/json": {"1": "<object>"}}),
    "not finite": ({"application/json": float("nan")}, {"application/json": None}),
}


@pytest.mark.parametrize(("data", "plain"), HARD.values(), ids=HARD)
def test_values_that_are_no_json_come_as_near_as_they_can(told, data, plain):
    assert one(told, Display(cell_id="s-c4", data=data))["data"] == plain


@pytest.mark.parametrize("value", [DEEP, Strange(), {1: Strange()}, {Strange(): 1}])
def test_whatever_a_bundle_holds_a_line_comes_out(told, value):
    assert one(told, Display(cell_id="s-c4", data={"application/json": value}))["cell"] == 2


def test_a_run_tells_its_file_and_its_end(told):
    report, lines = told
    report.begin(SourceFile(path="/d/f.py", cells=(), notices=("n",)), "demo")
    report.note("m")
    report.end(2, "why")
    report.end(0)
    assert lines() == [
        {"event": "run", "file": "/d/f.py", "cells": 0, "session": "demo"},
        {"event": "note", "text": "n"},
        {"event": "note", "text": "m"},
        {"event": "end", "status": 2, "problem": "why"},
        {"event": "end", "status": 0},
    ]


def test_a_resumed_run_tells_what_it_skips_and_replays(told):
    report, lines = told
    receipt = Receipt(
        cell=CELL,
        status="done",
        shown=True,
        text="1",
        events=(Output(cell_id="s-c4", stream="stdout", text="a"),),
    )
    epoch = Epoch(epoch=7, parent=6, receipt=receipt)
    report.resumed(Plan(kept=(epoch,), restore=7, aside=(epoch,), why="changed"), replay=True)
    report.skipped(0, SourceCell(source="x", filename="f", label="l"), epoch, replay=True)
    assert lines() == [
        {"event": "resumed", "why": "changed", "skipped": 1, "restored": 7, "aside": [7]},
        {"event": "skipped", "cell": 1, "id": "s-c4", "label": "l", "epoch": 7},
        {"event": "output", "cell": 1, "id": "s-c4", "stream": "stdout", "text": "a"},
        {
            "event": "finished",
            "cell": 1,
            "id": "s-c4",
            "status": "replayed",
            "duration": 0.0,
            "shown": True,
            "text": "1",
            "data": {},
            "cut": False,
            "epoch": 7,
        },
    ]


def test_a_reader_that_goes_away_is_no_error():
    class Gone(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError

    calls = []
    report = JsonReport(Gone(), when_closed=calls.append)
    report.note("a")
    report.note("b")
    assert report.closed
    assert [type(call) for call in calls] == [BrokenPipeError]


def test_every_event_has_a_line():
    """A new kind of event must not go unnoticed: the union is matched whole."""
    from pyrepl3 import records

    kinds = set(records.Event.__value__.__args__)
    told = {type(event) for event, _ in EVENTS.values()} | {Started, Finished}
    assert told == kinds
    assert all(issubclass(kind, msgspec.Struct) for kind in kinds)
