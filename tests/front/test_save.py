"""Runs as notebooks: nbformat's own validation is the judge."""

import nbformat
import pytest

from pyrepl3.errors import SourceError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.resume import Plan
from pyrepl3.front.save import NotebookReport
from pyrepl3.records import (
    Cell,
    Display,
    Done,
    Epoch,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Output,
    Receipt,
    Started,
)

FILE = SourceFile(
    path="/d/f.py",
    cells=tuple(SourceCell(source=f"x{n}\n", filename="/d/f.py") for n in range(4)),
)


def run(report, index, *events, outcome=Done, **fields):
    cell = Cell(id=f"s-c{index}", n=index, source="x", filename="f")
    report.cell(index, FILE.cells[index])
    report.event(Started(cell=cell, mode=ExecutionMode.SIMPLE_SYNC, placement="loop"))
    for event in events:
        report.event(event)
    report.event(Finished(outcome=outcome(cell=cell, **fields)))


def saved(path):
    found = nbformat.read(path, 4)
    nbformat.validate(found)
    return found


def test_streams_are_joined_and_keep_their_order(tmp_path):
    path = tmp_path / "out.ipynb"
    report = NotebookReport(str(path))
    report.begin(FILE, None)
    run(
        report,
        0,
        *(Output(cell_id="s-c0", stream="stdout", text=text) for text in "ab"),
        Output(cell_id="s-c0", stream="stderr", text="c"),
        Output(cell_id="s-c0", stream="stdout", text="d"),
    )
    run(report, 1)
    report.event(Output(cell_id="s-c0", stream="stdout", text="late"))  # a task of the first cell
    report.event(Output(cell_id="s-c9", stream="stdout", text="of another run"))
    report.end(0)
    cells = saved(path).cells
    assert [(out.name, out.text) for out in cells[0].outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "dlate"),
    ]
    assert [cell.source for cell in cells] == ["x0", "x1", "x2", "x3"]
    assert [cell.execution_count for cell in cells] == [1, 2, None, None]


def test_values_and_errors_of_any_kind_are_valid(tmp_path):
    path = tmp_path / "out.ipynb"
    report = NotebookReport(str(path))
    report.begin(FILE, None)
    data = {
        "text/plain": "f\ud800",
        "image/png": b"\x00\xff",
        "application/json": {"a": 1},
        "x/y": 3,
    }
    run(
        report,
        0,
        Display(cell_id="s-c0", data=data, metadata={"width": 3}),
        shown=True,
        text="f",
        data=data,
    )
    run(report, 1, outcome=Failed, error=KeyError("k\udc00"), traceback="T\nKeyError: 'k\udc00'\n")
    run(report, 2, outcome=Interrupted, traceback="")
    report.end(1)
    cells = saved(path).cells
    assert [out.output_type for out in cells[0].outputs] == ["display_data", "execute_result"]
    assert cells[0].outputs[0].data["image/png"].strip() == "AP8="
    assert cells[0].outputs[0].data["text/plain"] == "f\\ud800"
    assert cells[1].outputs[0].ename == "KeyError"
    assert cells[2].outputs[0].ename == "KeyboardInterrupt"


def test_skipped_cells_show_their_record(tmp_path):
    path = tmp_path / "out.ipynb"
    report = NotebookReport(str(path))
    report.begin(FILE, "s")
    report.resumed(Plan(), replay=False)
    cell = Cell(id="s-c7", n=7, source="x", filename="f")
    events = (Output(cell_id="s-c7", stream="stdout", text="a"),)
    done = Receipt(cell=cell, status="done", shown=True, text="1", events=events)
    failed = Receipt(cell=cell, status="failed", error="T\nValueError: no\n")
    report.skipped(0, FILE.cells[0], Epoch(epoch=1, parent=0, receipt=done), replay=False)
    report.skipped(1, FILE.cells[1], Epoch(epoch=2, parent=1, receipt=failed), replay=False)
    report.end(0)
    cells = saved(path).cells
    assert [out.output_type for out in cells[0].outputs] == ["stream", "execute_result"]
    assert (cells[1].outputs[0].ename, cells[1].outputs[0].evalue) == ("ValueError", "no")


def test_a_run_that_could_not_start_leaves_the_old_notebook(tmp_path):
    path = tmp_path / "out.ipynb"
    path.write_text("old")
    report = NotebookReport(str(path))
    report.begin(FILE, "s")
    report.end(2, "session 's' is in use")
    assert path.read_text() == "old"


def test_a_notebook_of_format_3_is_saved_as_format_4(tmp_path):
    from pyrepl3.front.notebook import read_notebook

    old = b'{"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": "a = 1"}]}]}'
    path = tmp_path / "out.ipynb"
    report = NotebookReport(str(path))
    report.begin(read_notebook(old, path="/d/n.ipynb", shown="n.ipynb"), None)
    report.end(0)
    assert [cell.source for cell in saved(path).cells] == ["a = 1"]


@pytest.mark.parametrize("name", ["", "gone/out.ipynb"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, name):
    with pytest.raises(SourceError, match="--save-to"):
        NotebookReport(str(tmp_path / name))
