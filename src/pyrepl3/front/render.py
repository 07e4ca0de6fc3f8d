"""Events in, text on a console out: what a person sees of a run or at the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from pyrepl3.errors import CompilationError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.console import Console, colour_traceback
from pyrepl3.front.resume import Plan
from pyrepl3.front.timeline import list_names, shown
from pyrepl3.records import (
    Blocked,
    Committed,
    Display,
    Done,
    Epoch,
    Event,
    Failed,
    Finished,
    Interrupted,
    Line,
    Notice,
    Output,
    Replayed,
    Restored,
    Started,
)

_REASONS = 10  # lines about names that are lost, at a time
_OPTIONS = {
    "Limits.wall": "--timeout",
    "Limits.memory": "--memory",
    "Limits.output": "--output-limit",
}


class TextReport:
    """Shows a run on a console: output as it comes, values, errors, notes, progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._over = False  # nothing is left to run: nobody asks what came back
        self._session: str | None = None
        self._cell: SourceCell | None = None
        self._hidden: set[str] = set()  # ids of cells whose value is noise
        self._waiting = self._unaudited = ""
        self._said: dict[str, str] = {}  # names that were said to be lost, and why

    def begin(self, file: SourceFile, session: str | None) -> None:
        self._total, self._session = len(file.cells), session
        for notice in file.notices:
            self.note(notice)

    def resumed(self, plan: Plan, *, replay: bool) -> None:
        self.note(describe(plan, self._session or "", self._total, replay=replay))
        self._over = plan.over

    def skipped(self, index: int, cell: SourceCell, epoch: Epoch, *, replay: bool) -> None:
        if not replay:
            return
        receipt = epoch.receipt
        for event in receipt.events:
            self.event(event)
        if receipt.cut:
            self.note(f"cell {index + 1}: only the first part of its output was kept")
        if receipt.shown and cell.show:
            self._console.out(value_text(receipt.text, receipt.data))
        if receipt.status == "failed":
            self._traceback(receipt.error)

    def cell(self, index: int, cell: SourceCell) -> None:
        self._cell = cell
        self._console.progress(f"[{index + 1}/{self._total}] {cell.label}")

    def event(self, event: Event) -> None:
        console = self._console
        match event:
            case Started(cell=cell):
                if self._cell is not None and not self._cell.show:
                    self._hidden.add(cell.id)
                self._cell = None
            case Output(stream="stdout", text=text):
                console.out(text)
            case Output(text=text):
                console.err(text)
            case Display(data=data):
                console.out(value_text("", data))
            case Notice():
                self._notice(event)
            case Finished(outcome=outcome):
                self._outcome(outcome)
            case Committed(lost=lost):
                self.lost(lost, "would be lost with this process")
            case Restored(lost=lost):
                if not self._over and (told := brought_back(event)):
                    self.note(told)
                self.lost(lost, "did not come back")
            case Blocked() | Line():
                pass  # for programs: see --json
            case _:
                assert_never(event)

    def _notice(self, event: Notice) -> None:
        match event:
            case Notice(cell_id=cell_id, kind="interrupting"):
                if cell_id == self._waiting:
                    return  # it comes again and again, for as long as it waits
                self._waiting = cell_id
            case Notice(kind="unaudited", text=text):
                if text == self._unaudited:
                    return  # a run may open a session at an epoch, and go back to it
                self._unaudited = text
            case Notice(kind="late-state"):
                return  # it is stored, and there is nothing of it that somebody could do
            case _:
                pass
        self.note(event.text)

    def _outcome(self, outcome: Done | Failed | Interrupted | Replayed) -> None:
        match outcome:
            case Done(shown=True, text=text, data=data):
                if outcome.cell.id not in self._hidden:
                    self._console.out(value_text(text, data))
            case Failed(error=SystemExit() as error):
                if error.code is not None and not isinstance(error.code, int):
                    self._console.line(str(error.code))
            case Failed(error=error, traceback=traceback):
                self._traceback(as_python_says(traceback))
                if isinstance(error, CompilationError):
                    self.proposal(outcome.cell.source, error)
            case Interrupted():
                if not self._console.closed:  # else it was us who stopped it, and nobody reads on
                    self._interrupted(outcome)
            case Replayed(events=events, shown=shown, text=text, data=data):
                for each in events:
                    self.event(each)
                if shown:
                    self._console.out(value_text(text, data))
            case _:
                pass

    def _traceback(self, text: str) -> None:
        text = text.rstrip("\n")
        self._console.line(colour_traceback(text) if self._console.err_colour else text)

    def _interrupted(self, outcome: Interrupted) -> None:
        if self._console.err_is_terminal:
            self._console.err("\n")  # the terminal has shown ^C
        self._traceback(as_python_says(outcome.traceback) or "KeyboardInterrupt")
        if outcome.forced:
            self.note("its own clean-up was cut short, since it did not end in time")
        if outcome.abandoned:
            self.note("it was inside a call that cannot be broken; its thread was left behind")
        self.lost(outcome.lost, "was bound to the thread left behind")

    def proposal(self, source: str, error: CompilationError) -> None:
        """Show what may have been meant; nothing is run."""
        if error.proposal is None:
            return
        what = f" ({'; '.join(error.changes)})" if error.changes else ""
        lines = "\n".join(f"    {line}" for line in changed_lines(source, error.proposal))
        self._console.line(self._console.style(f"did you mean{what}:", "note") + "\n" + lines)

    def lost(self, lost: Mapping[str, str], what: str) -> None:
        """Name what is not kept, once for each name and reason: a line for each reason, a few of many."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in sorted(lost.items()):
            if name != "_" and self._said.get(name) != reason:
                self._said[name] = reason
                by_reason.setdefault(reason, []).append(name)
        told = list(by_reason.items())
        for reason, names in told[:_REASONS]:
            self.note(f"{list_names(names, 8)} {what}: {reason}")
        if more := sum(len(names) for _, names in told[_REASONS:]):
            self.note(f"{more} more {what} (at the prompt %lost tells all)")

    def note(self, text: str) -> None:
        """A line of ours, told from the user's own output by its start."""
        lines = text.rstrip("\n").split("\n")
        lines[0] = f"pyrepl3: {lines[0]}"
        self._console.line("\n".join(self._console.style(line, "note") for line in lines))

    def end(self, status: int, problem: str = "") -> None:  # noqa: ARG002  the shell shows it
        self._console.progress("")
        if problem:
            self.note(problem)


def brought_back(event: Restored) -> str:
    """The names that a restore brought back or made again, in one line; "" where none is to be told of."""
    again = sorted(name for name in event.recomputed if shown(name))
    names = sorted(name for name in event.names - event.recomputed if shown(name))
    parts = [f"{list_names(names, 8)} came back (epoch {event.epoch})"] if names else []
    if again:
        parts.append(f"{list_names(again, 8)} made again by running what made them")
    return "; ".join(parts)


def value_text(text: str, data: Mapping[str, Any]) -> str:
    """What a terminal shows of a value: its plain text, else the names of its other forms."""
    plain = data.get("text/plain", text)
    if not isinstance(plain, str) or (not plain and data):
        forms = (f"{mime}, {len(part)}" for mime, part in data.items() if hasattr(part, "__len__"))
        plain = f"<{'; '.join(forms) or ', '.join(data)}>"
    return plain if plain.endswith("\n") else plain + "\n"


def as_python_says(traceback: str) -> str:
    """A traceback whose last line names errors of ours as Python's own."""
    head, newline, last = traceback.rstrip("\n").rpartition("\n")
    if last.startswith("pyrepl3.errors."):
        last = last.removeprefix("pyrepl3.errors.")
        if last.startswith("CancellationError"):
            last = "KeyboardInterrupt"
        elif last.startswith("CompilationError"):
            last = "SyntaxError" + last.removeprefix("CompilationError")
        for name, option in _OPTIONS.items():
            last = last.replace(f"raise {name} ", f"raise {option} ")
    return head + newline + last


def changed_lines(source: str, proposal: str) -> list[str]:
    """The lines of ``proposal`` that differ from ``source``, with those in between."""
    import difflib  # noqa: PLC0415  only after a mistake

    old, new = source.splitlines(), proposal.splitlines()
    spans = [
        (first, last)
        for kind, _, _, first, last in difflib.SequenceMatcher(None, old, new).get_opcodes()
        if kind != "equal"
    ]
    if not spans:
        return new
    return new[spans[0][0] : spans[-1][1]] or new


def describe(plan: Plan, session: str, total: int, *, replay: bool) -> str:
    """One sentence: what of the session's past counts for this run."""
    n = plan.first
    kept = f"{n} finished cell{'s' * (n != 1)}"
    if plan.why == "new":
        others = f"{plan.ground} cell{'s' * (plan.ground != 1)}"
        text = f"session {session}: on top of the {others} that it holds"
    elif plan.over:
        text = f"session {session}: all {n} cells finished, nothing to run"
        if plan.why == "exited":
            text = f"session {session}: {kept}, the last ended the run; nothing to run"
        if not replay:
            text += " (--replay shows the output, --restart runs it again)"
    elif n:
        what = {
            "changed": f"; cell {n + 1} changed",
            "failed": f"; cell {n + 1} failed before",
            "interrupted": f"; cell {n + 1} was interrupted before",
        }.get(plan.why, "")
        text = f"session {session}: restored after cell {n} of {total}; {kept} skipped"
        text += what if replay else f" (--replay shows their output){what}"
    else:
        what = {
            "failed": "cell 1 failed before",
            "interrupted": "cell 1 was interrupted before",
            "restarted": "restarted",
        }.get(plan.why, "cell 1 changed")
        text = f"session {session}: {what}; runs from the state before it"
    if plan.aside:
        n = len(plan.aside)
        text += f"; {n} epoch{'s' * (n != 1)} set aside"
    return text
