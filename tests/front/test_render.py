"""Events as text on a console."""

import io

import pytest

from pyrepl3.errors import CompilationError, LimitExceededError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.console import Console
from pyrepl3.front.render import (
    TextReport,
    as_python_says,
    brought_back,
    changed_lines,
    describe,
    value_text,
)
from pyrepl3.front.resume import Plan
from pyrepl3.records import (
    Cell,
    Committed,
    Display,
    Done,
    Epoch,
    ExecutionMode,
    Failed,
    Finished,
    Interrupted,
    Notice,
    Output,
    Receipt,
    Replayed,
    Restored,
    Started,
)

CELL = Cell(id="s-c1", n=1, source="x\n", filename="f.py")


@pytest.fixture
def shown():
    out, err = io.StringIO(), io.StringIO()
    report = TextReport(Console(out, err, environ={}))
    return report, out, err


def finished(kind, **fields):
    return Finished(outcome=kind(cell=CELL, **fields))


def test_output_goes_to_its_stream(shown):
    report, out, err = shown
    report.event(Output(cell_id="s-c1", stream="stdout", text="a"))
    report.event(Output(cell_id="s-c1", stream="stderr", text="b"))
    assert (out.getvalue(), err.getvalue()) == ("a", "b")


def test_a_value_is_shown_where_a_prompt_would(shown):
    report, out, _ = shown
    report.event(finished(Done, value=1, shown=True, text="1", data={"text/plain": "1"}))
    report.event(finished(Done, value=2, shown=False))
    assert out.getvalue() == "1\n"


def test_a_value_that_is_noise_is_not_shown(shown):
    report, out, _ = shown
    report.cell(0, SourceCell(source="'doc'", filename="f.py", show=False))
    report.event(Started(cell=CELL, mode=ExecutionMode.SIMPLE_SYNC, placement="loop"))
    report.event(finished(Done, value="doc", shown=True, text="'doc'"))
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"text/plain": "a\nb"}, "a\nb\n"),
        ({"text/plain": "a\n"}, "a\n"),
        ({"text/plain": "fig", "image/png": b"123"}, "fig\n"),
        ({"image/png": b"123"}, "<image/png, 3>\n"),
        ({"text/html": "<b>"}, "<text/html, 3>\n"),
        ({"application/json": 3}, "<application/json>\n"),
    ],
)
def test_a_rich_value_is_its_text_or_the_names_of_its_forms(shown, data, text):
    report, out, _ = shown
    report.event(Display(cell_id="s-c1", data=data))
    assert out.getvalue() == text
    assert value_text("", data) == text


def test_an_error_is_shown_as_python_shows_it(shown):
    report, _, err = shown
    report.event(finished(Failed, error=ValueError("no"), traceback="Traceback\nValueError: no\n"))
    assert err.getvalue() == "Traceback\nValueError: no\n"


def test_a_limit_names_the_option_that_raises_it(shown):
    report, _, err = shown
    error = LimitExceededError("wall", 5.0, 5.0)
    report.event(
        finished(Failed, error=error, traceback=f"pyrepl3.errors.LimitExceededError: {error}\n")
    )
    assert err.getvalue() == (
        "LimitExceededError: wall limit exceeded: used 5 s of 5 s; "
        "raise --timeout or split the cell\n"
    )


def test_a_mistake_is_shown_with_what_was_perhaps_meant(shown):
    report, _, err = shown
    error = CompilationError("expected ':'", ("f.py", 1, 5, "if x\n", 1, 5))
    error.proposal, error.changes = "if x:\n    y\n", ("line 1: added the missing ':'",)
    cell = Cell(id="s-c1", n=1, source="if x\n    y\n", filename="f.py")
    report.event(
        Finished(
            outcome=Failed(
                cell=cell, error=error, traceback="pyrepl3.errors.CompilationError: expected ':'\n"
            )
        )
    )
    assert err.getvalue() == (
        "SyntaxError: expected ':'\ndid you mean (line 1: added the missing ':'):\n    if x:\n"
    )


@pytest.mark.parametrize(
    ("code", "text"), [(None, ""), (0, ""), (3, ""), ("bye", "bye\n"), ((1,), "(1,)\n")]
)
def test_an_exit_shows_its_text_only(shown, code, text):
    report, _, err = shown
    report.event(finished(Failed, error=SystemExit(code), traceback="Traceback\nSystemExit\n"))
    assert err.getvalue() == text


def test_an_interrupt_reads_as_pythons_own(shown):
    report, _, err = shown
    report.event(
        finished(
            Interrupted,
            traceback="Traceback\n  here\npyrepl3.errors.CancellationError: cell 1 was interrupted\n",
            forced=True,
        )
    )
    assert err.getvalue() == (
        "Traceback\n  here\nKeyboardInterrupt\n"
        "pyrepl3: its own clean-up was cut short, since it did not end in time\n"
    )


def test_a_notice_is_told_from_the_users_output(shown):
    report, _, err = shown
    report.event(Notice(cell_id="s-c1", kind="unawaited", text="one\ntwo"))
    assert err.getvalue() == "pyrepl3: one\ntwo\n"


def test_waiting_for_a_call_is_said_once_a_cell(shown):
    report, _, err = shown
    for _n in range(3):
        report.event(Notice(cell_id="s-c1", kind="interrupting", text="inside a call"))
    report.event(Notice(cell_id="s-c2", kind="interrupting", text="inside a call"))
    assert err.getvalue() == "pyrepl3: inside a call\n" * 2


def test_what_is_not_kept_is_named_once(shown):
    report, _, err = shown
    report.event(Committed(cell_id="s-c1", epoch=1, size=1, lost={"g": "a generator"}))
    report.event(Committed(cell_id="s-c2", epoch=2, size=1, lost={"g": "a generator"}))
    report.event(Restored(epoch=2, names=frozenset(), lost={"h": "a socket"}))
    assert err.getvalue().splitlines() == [
        "pyrepl3: g would be lost with this process: a generator",
        "pyrepl3: h did not come back: a socket",
    ]


def test_names_lost_for_one_reason_are_one_line_and_of_many_reasons_a_few_are_told(shown):
    report, _, err = shown
    lost = {f"f{n}": "bytecode (made by cell 1)" for n in range(10)}
    lost |= {f"g{n:02}": f"reason {n:02}" for n in range(20)}
    report.event(Restored(epoch=2, names=frozenset(), lost=lost))
    first, *others, last = err.getvalue().splitlines()
    assert first == (
        "pyrepl3: f0, f1, f2, f3, f4, f5, f6, f7 and 2 more did not come back: "
        "bytecode (made by cell 1)"
    )
    assert others == [f"pyrepl3: g{n:02} did not come back: reason {n:02}" for n in range(9)]
    assert last == "pyrepl3: 11 more did not come back (at the prompt %lost tells all)"


def epoch(**fields):
    return Epoch(epoch=7, parent=6, receipt=Receipt(cell=CELL, status="done", **fields))


def test_a_skipped_cell_is_replayed_on_request_only(shown):
    report, out, err = shown
    cell = SourceCell(source="x", filename="f.py")
    past = epoch(
        shown=True,
        text="1",
        cut=True,
        events=(Output(cell_id="s-c1", stream="stdout", text="a\n"),),
    )
    report.skipped(0, cell, past, replay=False)
    assert out.getvalue() == ""
    report.skipped(0, cell, past, replay=True)
    assert out.getvalue() == "a\n1\n"
    assert "only the first part" in err.getvalue()


def test_a_replayed_outcome_shows_its_record(shown):
    report, out, _ = shown
    report.event(
        finished(
            Replayed,
            events=(Output(cell_id="s-c1", stream="stdout", text="a\n"),),
            shown=True,
            text="1",
        )
    )
    assert out.getvalue() == "a\n1\n"


def test_what_of_a_file_was_left_out_is_said_at_the_start(shown):
    report, _, err = shown
    report.begin(SourceFile(path="f.py", cells=(), notices=("cell 1: ignored",)), None)
    assert err.getvalue() == "pyrepl3: cell 1: ignored\n"


def test_why_it_could_not_run_is_said_at_the_end(shown):
    report, _, err = shown
    report.end(2, "session 'a' is in use by pid 3")
    assert err.getvalue() == "pyrepl3: session 'a' is in use by pid 3\n"


E = epoch()
HINT = " (--replay shows the output, --restart runs it again)"
RESTORED = (
    "restored after cell 1 of 7; 1 finished cell skipped (--replay shows their output); "
    "cell 2 changed; 2 epochs set aside"
)
PLANS = {
    "new": (Plan(ground=2), "on top of the 2 cells that it holds"),
    "killed": (
        Plan(kept=(E, E, E), why="unfinished"),
        "restored after cell 3 of 7; 3 finished cells skipped (--replay shows their output)",
    ),
    "changed": (
        Plan(kept=(E,), restore=1, aside=(E, E), why="changed"),
        RESTORED,
    ),
    "first failed": (
        Plan(restore=0, aside=(E,), why="failed"),
        "cell 1 failed before; runs from the state before it; 1 epoch set aside",
    ),
    "finished": (
        Plan(kept=(E,) * 7, why="finished"),
        "all 7 cells finished, nothing to run" + HINT,
    ),
    "exited": (
        Plan(kept=(E, E), why="exited"),
        "2 finished cells, the last ended the run; nothing to run" + HINT,
    ),
    "restarted": (
        Plan(restore=0, aside=(E, E), why="restarted"),
        "restarted; runs from the state before it; 2 epochs set aside",
    ),
}


@pytest.mark.parametrize(("plan", "text"), PLANS.values(), ids=PLANS)
def test_a_plan_is_described_in_one_sentence(plan, text):
    assert describe(plan, "demo", 7, replay=False) == f"session demo: {text}"


def test_a_replay_needs_no_hint_at_itself():
    assert "--replay" not in describe(PLANS["killed"][0], "demo", 7, replay=True)


def test_only_the_changed_lines_of_a_proposal_are_shown():
    assert changed_lines("a\nif x\nb\n", "a\nif x:\nb\n") == ["if x:"]
    assert changed_lines("a", "a") == ["a"]
    assert changed_lines("a\nb\n", "a\n") == ["a"]


def test_other_last_lines_stay():
    assert as_python_says("Traceback\nValueError: pyrepl3.errors.X\n").endswith("pyrepl3.errors.X")
    assert as_python_says("") == ""


@pytest.mark.parametrize(
    ("names", "again", "told"),
    [
        ("ab", "", "a, b came back (epoch 3)"),
        ("ab", "b", "a came back (epoch 3); b made again by running what made them"),
        ("b", "b", "b made again by running what made them"),
        ("abcdefghij", "", "a, b, c, d, e, f, g, h and 2 more came back (epoch 3)"),
        (["_", "_x"], "", ""),
    ],
)
def test_what_a_restore_brought_back_is_told(names, again, told):
    event = Restored(epoch=3, names=frozenset(names), recomputed=frozenset(again))
    assert brought_back(event) == told


def test_a_notice_is_told_once_and_only_where_somebody_could_act_on_it(shown):
    report, _, err = shown
    for n in (3, 3, 4):
        report.event(Notice(cell_id="", kind="unaudited", text=f"epoch {n} was not audited"))
    report.event(Notice(cell_id="s-c1", kind="late-state", text="state of the session"))
    report.event(Notice(cell_id="s-c1", kind="late-change", text="changed behind: x"))
    assert err.getvalue().splitlines() == [
        "pyrepl3: epoch 3 was not audited",
        "pyrepl3: epoch 4 was not audited",
        "pyrepl3: changed behind: x",
    ]
