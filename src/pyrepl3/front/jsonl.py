"""Events in, one JSON object a line out: what a program sees of a run (``--json``).

The fields are described in docs/reference/json-events.md; a field that is there stays there.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, assert_never

import msgspec

from pyrepl3.errors import CompilationError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.resume import Plan
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
    Outcome,
    Output,
    Replayed,
    Restored,
    Started,
)

_encode = msgspec.json.Encoder().encode  # bytes come out as base64

_DEEPEST = 50


class JsonReport:
    """Writes a run as JSON lines. Any thread; a line is written whole and at once.

    When it cannot be written ``closed`` becomes true, and ``when_closed`` is called once, with the error.
    """

    def __init__(
        self, stream: BinaryIO, *, when_closed: Callable[[OSError], object] = lambda _: None
    ) -> None:
        self._stream = stream
        self._when_closed = when_closed
        self._lock = threading.RLock()
        self._index = 0
        self._label = ""
        self._cells: dict[str, int] = {}  # id: number in the file, from 1
        self.closed = False

    def begin(self, file: SourceFile, session: str | None) -> None:
        self._write("run", file=file.path, cells=len(file.cells), session=session)
        for notice in file.notices:
            self.note(notice)

    def resumed(self, plan: Plan, *, replay: bool) -> None:  # noqa: ARG002 - shown by skipped
        self._write(
            "resumed",
            why=plan.why,
            skipped=plan.first,
            restored=plan.restore,
            aside=[epoch.epoch for epoch in plan.aside],
        )

    def skipped(self, index: int, cell: SourceCell, epoch: Epoch, *, replay: bool) -> None:
        receipt = epoch.receipt
        self._write(
            "skipped", cell=index + 1, id=receipt.cell.id, label=cell.label, epoch=epoch.epoch
        )
        if not replay:
            return
        self._cells[receipt.cell.id] = index + 1
        for event in receipt.events:
            self.event(event)
        fields: dict[str, Any] = {"status": "replayed", "duration": receipt.duration}
        fields |= _value(receipt.text, receipt.data, shown=receipt.shown)
        fields["cut"] = receipt.cut
        if receipt.error:
            fields["error"] = {"traceback": receipt.error}
        self._about("finished", receipt.cell.id, epoch=epoch.epoch, **fields)

    def cell(self, index: int, cell: SourceCell) -> None:
        self._index, self._label = index + 1, cell.label

    def event(self, event: Event) -> None:
        match event:
            case Started(cell=cell, mode=mode, placement=placement, at=at):
                self._cells[cell.id] = self._index
                self._about(
                    "started",
                    cell.id,
                    label=self._label,
                    file=cell.filename,
                    line=cell.first_line,
                    mode=mode.value,
                    placement=placement,
                    at=at,
                )
            case Output(cell_id=cell_id, stream=stream, text=text):
                self._about("output", cell_id, stream=stream, text=text)
            case Display(cell_id=cell_id, data=data, metadata=metadata):
                self._about("display", cell_id, data=dict(data), metadata=dict(metadata))
            case Blocked(cell_id=cell_id, seconds=seconds):
                self._about("blocked", cell_id, seconds=seconds)
            case Notice(cell_id=cell_id, kind=kind, text=text):
                self._about("notice", cell_id, kind=kind, text=text)
            case Line(cell_id=cell_id, line=line):
                self._about("line", cell_id, line=line)
            case Finished(outcome=outcome):
                self._about("finished", outcome.cell.id, **_outcome(outcome))
            case Committed(cell_id=cell_id, epoch=epoch, size=size, lost=lost):
                self._about("committed", cell_id, epoch=epoch, size=size, lost=dict(lost))
            case Restored(epoch=epoch, names=names, lost=lost, recomputed=recomputed):
                self._write(
                    "restored",
                    epoch=epoch,
                    names=sorted(names),
                    lost=dict(lost),
                    recomputed=sorted(recomputed),
                )
            case _:
                assert_never(event)

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def end(self, status: int, problem: str = "") -> None:
        self._write("end", status=status, **({"problem": problem} if problem else {}))

    def _about(self, event: str, cell_id: str, /, **fields: Any) -> None:
        self._write(event, cell=self._cells.get(cell_id), id=cell_id, **fields)

    def _write(self, event: str, /, **fields: Any) -> None:
        line = _line({"event": event, **fields})
        with self._lock:
            if self.closed:
                return
            try:
                self._stream.write(line)
                self._stream.flush()
            except OSError as error:  # the reader went away, say
                self.closed = True
                self._when_closed(error)


def _line(fields: dict[str, Any]) -> bytes:
    try:
        return _encode(fields) + b"\n"
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Lone surrogates have no UTF-8 (a ValueError); a MIME bundle may hold anything.
        return _encode(_plain(fields)) + b"\n"


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` with only what JSON has. Calls nothing of the user's."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes() | float() | int() | None:
            return value
        case Mapping() if depth < _DEEPEST:
            return {
                _plain(key if isinstance(key, str) else repr(_plain(key, _DEEPEST))): _plain(
                    each, depth + 1
                )
                for key, each in value.items()
            }
        case list() | tuple() if depth < _DEEPEST:
            return [_plain(each, depth + 1) for each in value]
    return f"<{type(value).__name__}>"


def _value(text: str, data: Mapping[str, Any], *, shown: bool) -> dict[str, Any]:
    return {"shown": shown, "text": text, "data": dict(data)}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": type(outcome).__name__.lower()}
    fields |= {
        "duration": outcome.duration,
        "mode": outcome.mode.value,
        "placement": outcome.placement,
    }
    match outcome:
        case Done(text=text, data=data, shown=shown):
            fields |= _value(text, data, shown=shown)
        case Failed(error=error, traceback=traceback):
            fields["error"] = _error(error, traceback)
        case Interrupted():
            fields |= {
                "forced": outcome.forced,
                "abandoned": outcome.abandoned,
                "lost": dict(outcome.lost),
                "error": {"traceback": outcome.traceback},
            }
        case Replayed(text=text, data=data, shown=shown):
            fields |= _value(text, data, shown=shown)
        case _:
            assert_never(outcome)
    return fields


def _error(error: BaseException, traceback: str) -> dict[str, Any]:
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001  a __str__ of the user's
        message = f"<its text cannot be shown: {type(failure).__name__}>"
    kind = type(error)
    fields: dict[str, Any] = {
        "type": kind.__qualname__,
        "module": kind.__module__,
        "message": message,
        "traceback": traceback,
    }
    if isinstance(error, SyntaxError):
        fields |= {"line": error.lineno, "column": error.offset}
    if isinstance(error, CompilationError) and error.proposal is not None:
        fields |= {"proposal": error.proposal, "changes": list(error.changes)}
    if isinstance(error, SystemExit):
        fields["code"] = error.code if isinstance(error.code, int) else None
    return fields


def take_standard_output() -> BinaryIO:
    """Standard output for JSON lines alone; all that others write there goes to standard error.

    That holds for descriptor 1 too, so for subprocesses and C code of the cells.
    """
    before = sys.stdout
    before.flush()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The old one believes that it can still seek, where it was a file.
    sys.stdout = open(  # noqa: SIM115  a descriptor, for good
        1, "w", encoding=before.encoding, errors=before.errors, buffering=1, closefd=False
    )
    return stream
