"""What a run skips, restores and runs: the plan as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.front.cells import SourceCell
from pyrepl3.front.resume import plan
from pyrepl3.records import Cell, Epoch, Receipt


def cells(*sources, may_fail=()):
    return [
        SourceCell(source=source, filename="f.py", may_fail=n in may_fail)
        for n, source in enumerate(sources)
    ]


def line(*entries):
    """Each entry: a source of f.py, or (source, status) or (source, status, filename)."""
    found = []
    for n, entry in enumerate(entries, 1):
        source, status, filename = (
            (*entry, *("", "done", "f.py")[len(entry) :])
            if isinstance(entry, tuple)
            else (entry, "done", "f.py")
        )
        error = ""
        if status == "exit":
            status, error = "failed", "Traceback (most recent call last):\nSystemExit: 0\n"
        cell = Cell(id=f"s-c{n}", n=n, source=source, filename=filename)
        receipt = Receipt(cell=cell, status=status, error=error)
        found.append(Epoch(epoch=n * 10, parent=(n - 1) * 10, receipt=receipt))
    return found


def decide(history, file, **options):
    found = plan(history, file, owns=lambda name: name == "f.py", **options)
    return len(found.kept), found.restore, [epoch.epoch for epoch in found.aside], found.why


OTHER = ("p", "done", "<prompt>")

CASES = {
    "a new session": ([], "ab", (0, None, [], "new")),
    "killed in the third cell": (["a", "b"], "abc", (2, None, [], "unfinished")),
    "killed in the first cell": ([], "abc", (0, None, [], "new")),
    "all finished": (["a", "b"], "ab", (2, None, [], "finished")),
    "a cell changed": (["a", "b", "c"], "aBc", (1, 10, [20, 30], "changed")),
    "the first cell changed": (["a", "b"], "Ab", (0, 0, [10, 20], "changed")),
    "a cell inserted": (["a", "b", "c"], "axbc", (1, 10, [20, 30], "changed")),
    "a cell deleted": (["a", "b", "c"], "ac", (1, 10, [20, 30], "changed")),
    "the last cell deleted": (["a", "b", "c"], "ab", (2, 20, [30], "finished")),
    "all cells deleted": (["a", "b"], "", (0, 0, [10, 20], "finished")),
    "a cell appended": (["a", "b"], "abc", (2, None, [], "unfinished")),
    "a cell failed": (["a", ("b", "failed")], "abc", (1, 10, [20], "failed")),
    "the failed cell was mended": (["a", ("b", "failed")], "aBc", (1, 10, [20], "changed")),
    "a cell was interrupted": (["a", ("b", "interrupted")], "abc", (1, 10, [20], "interrupted")),
    "it exited with success": (["a", ("b", "exit")], "abc", (2, None, [], "exited")),
    "on top of others": ([OTHER, "a"], "ab", (1, None, [], "unfinished")),
    "on top of others, changed": ([OTHER, "a", "b"], "AB", (0, 10, [20, 30], "changed")),
    "only others": ([OTHER], "ab", (0, None, [], "new")),
    "finished, then others": (["a", "b", OTHER], "ab", (2, None, [], "finished")),
    "finished, then others, then more": (["a", OTHER], "ab", (1, 10, [20], "unfinished")),
    "failed, then others": ([("a", "failed"), OTHER], "ab", (0, 0, [10, 20], "failed")),
    "two stretches: the last counts": (["x", OTHER, "a"], "ab", (1, None, [], "unfinished")),
}


@pytest.mark.parametrize(("history", "file", "expected"), CASES.values(), ids=CASES)
def test_a_plan_keeps_what_finished_and_did_not_change(history, file, expected):
    assert decide(line(*history), cells(*file)) == expected


def test_a_cell_that_may_fail_counts_as_finished():
    history = line("a", ("b", "failed"), "c")
    assert decide(history, cells(*"abc")) == (1, 10, [20, 30], "failed")
    assert decide(history, cells(*"abc", may_fail={1})) == (3, None, [], "finished")
    assert decide(history, cells(*"abc"), keep_going=True) == (3, None, [], "finished")


def test_restart_keeps_nothing_but_what_others_ran_before():
    assert decide(line(OTHER, "a", "b"), cells(*"ab"), restart=True) == (
        0,
        10,
        [20, 30],
        "restarted",
    )
    assert decide(line(OTHER), cells(*"ab"), restart=True) == (0, None, [], "new")


def test_standard_input_with_other_cells_is_another_file():
    assert decide(line("a", "b"), cells(*"xb"), anonymous=True) == (0, None, [], "new")
    assert decide(line("a", "b"), cells(*"ax"), anonymous=True) == (1, 10, [20], "changed")
    assert decide(line(("a", "failed")), cells("a"), anonymous=True) == (0, 0, [10], "failed")


SOURCES = st.sampled_from("abc")
STATUSES = st.sampled_from(["done", "done", "done", "failed", "interrupted"])
ENTRIES = st.lists(
    st.tuples(SOURCES, STATUSES, st.sampled_from(["f.py", "f.py", "g.py"])), max_size=8
)
FILES = st.lists(SOURCES, max_size=8)


@given(ENTRIES, FILES)
def test_a_skipped_cell_finished_unchanged_after_an_unchanged_prefix(entries, file):
    history = line(*entries)
    found = plan(history, cells(*file), owns=lambda name: name == "f.py")
    start = history.index(found.kept[0]) if found.kept else 0
    assert tuple(history[start : start + found.first]) == found.kept
    assert [epoch.receipt.cell.source for epoch in found.kept] == file[: found.first]
    assert all(epoch.receipt.status == "done" for epoch in found.kept)
    assert start == 0 or history[start - 1].receipt.cell.filename == "g.py" or not found.kept


@given(ENTRIES, FILES)
def test_what_is_kept_and_set_aside_and_the_ground_are_the_whole_line(entries, file):
    history = line(*entries)
    found = plan(history, cells(*file), owns=lambda name: name == "f.py")
    if found.restore is None:
        assert not found.aside
    else:
        stop = len(history) - len(found.aside)
        assert tuple(history[stop:]) == found.aside
        assert found.restore == (history[stop - 1].epoch if stop else 0)
        if found.kept:
            assert found.restore == found.kept[-1].epoch


class Machine:
    """A session without Python: its state is the tuple of sources that made it."""

    def __init__(self):
        self.epochs = {0: (0, None, ())}  # number: (parent, receipt, state)
        self.head = 0

    def history(self):
        found, at = [], self.head
        while at:
            parent, receipt, _ = self.epochs[at]
            found.append(Epoch(epoch=at, parent=parent, receipt=receipt))
            at = parent
        return found[::-1]

    def commit(self, source, status, filename):
        state = (*self.epochs[self.head][2], source)
        n = len(self.epochs)
        receipt = Receipt(
            cell=Cell(id=f"s-c{n}", n=n, source=source, filename=filename), status=status
        )
        self.epochs[n] = (self.head, receipt, state)
        self.head = n

    def run(self, file, stops_after, status):
        """Run a file as the command line does; stop after so many cells, in this way."""
        found = plan(self.history(), cells(*file), owns=lambda name: name == "f.py")
        if found.restore is not None:
            self.head = found.restore
        ran = []
        for n, source in enumerate(file[found.first :]):
            ran.append(source)
            if n == stops_after:
                if status != "killed":
                    self.commit(source, status, "f.py")
                return found, ran, False
            self.commit(source, "done", "f.py")
        return found, ran, True


RUNS = st.lists(
    st.tuples(FILES, st.integers(0, 8), st.sampled_from(["killed", "failed", "interrupted"])),
    max_size=6,
)


@given(st.lists(SOURCES, max_size=2), RUNS, FILES)
def test_after_any_edits_and_crashes_the_state_is_that_of_an_undisturbed_run(ground, runs, last):
    machine = Machine()
    for source in ground:
        machine.commit(source, "done", "<prompt>")
    for file, stops_after, status in runs:
        machine.run(file, stops_after, status)
    machine.run(last, 99, "killed")
    assert machine.epochs[machine.head][2] == (*ground, *last)


@given(FILES, st.lists(st.tuples(st.integers(0, 3), st.just("killed")), max_size=8))
def test_only_a_killed_cell_runs_twice(file, kills):
    machine, ran = Machine(), []
    interrupted_cells = 0
    for stops_after, status in kills:
        _, now, finished = machine.run(file, stops_after, status)
        ran += now
        interrupted_cells += not finished
    ran += machine.run(file, 99, "killed")[1]
    assert len(ran) == len(file) + interrupted_cells
