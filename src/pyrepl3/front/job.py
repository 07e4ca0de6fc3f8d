"""A file's cells in, an exit status out: ``pyrepl3 run``, without the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from pyrepl3.config import Isolation, Limits
from pyrepl3.errors import PyREPL3Error, WorkerDiedError
from pyrepl3.front.asking import LineReader
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.interrupts import INTERRUPTED, Interrupts
from pyrepl3.front.report import Report
from pyrepl3.front.resume import Plan, plan
from pyrepl3.front.sources import STDIN_NAME
from pyrepl3.records import (
    Done,
    Event,
    Failed,
    Finished,
    Interrupted,
    Notice,
    Outcome,
    Output,
    Replayed,
    Restored,
)
from pyrepl3.records.outcomes import exit_status

DONE, ERROR, USAGE = 0, 1, 2
PIPE_CLOSED = 141  # 128 + SIGPIPE


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and how. ``resume`` False runs every cell, on top of what the session holds."""

    file: SourceFile
    session: str | None = None
    store: str | None = None
    limits: Limits | None = None
    resume: bool = True
    replay: bool = False
    restart: bool = False
    keep_going: bool = False
    recompute: bool = False
    isolation: Isolation = "process"


async def run_job(
    open_session: Callable[..., Any],
    job: Job,
    report: Report,
    *,
    reader: LineReader,
    interrupts: Interrupts,
    closed: Callable[[], bool] = lambda: False,
    started: Callable[[Any], None] = lambda _: None,
) -> int:
    """Run the cells of a file in a session, one after the other. Returns the exit status.

    ``closed`` tells whether the reader of our output went away; ``started`` is given the session.
    """
    held: list[Restored] = []
    died: list[WorkerDiedError] = []

    def observe(event: Event) -> None:
        if isinstance(event, Notice) and isinstance(event.error, WorkerDiedError):
            died.append(event.error)  # between two cells
        if isinstance(event, Restored):
            held.append(event)  # another may follow at once, and only the last one counts
            return
        if isinstance(event, Finished):
            reader.drop()
        report.event(event)

    opening = open_session(
        job.session,
        store=job.store,
        limits=job.limits,
        observe=observe,
        ask=reader.ask,
        isolation=job.isolation,
    )
    if job.isolation != "none":
        opening.main_file = "" if job.file.path == STDIN_NAME else job.file.path
        # Else a worker that dies ends the run, and nobody needs the names.
        opening.outlives = job.keep_going or any(cell.may_fail for cell in job.file.cells)
    try:
        session = await opening.__aenter__()
    except (PyREPL3Error, ValueError) as error:
        report.end(USAGE, str(error))
        return USAGE
    try:
        started(session)
        try:
            todo = await _resume(session, job, report, held)
        except PyREPL3Error as error:  # what is stored cannot be read
            report.end(USAGE, str(error))
            return USAGE
        if job.isolation == "none":
            _dress_main(job.file)
        kept = job.session is not None or opening.outlives
        status = await _run_cells(
            session,
            job,
            todo,
            report,
            interrupts,
            closed,
            gone=lambda: None if kept or not died else status_of(died[0]),
        )
        await _name_tasks(session, report)
    finally:
        await opening.__aexit__(None, None, None)
    report.end(status)
    return status


async def _resume(session: Any, job: Job, report: Report, held: list[Restored]) -> Plan:
    """Decide what to skip, go back to where the rest starts, and tell both."""
    if job.session is None:
        return Plan()
    history = await session.history()
    if not job.resume:
        todo = Plan(ground=len(history))
    else:
        todo = plan(
            history,
            job.file.cells,
            owns=lambda name: _is_same_file(job.file, name),
            anonymous=job.file.path == STDIN_NAME,
            keep_going=job.keep_going,
            restart=job.restart,
        )
    if todo.restore is not None:
        await session.restore(todo.restore, recompute=job.recompute)
    elif job.recompute and session.lost and not todo.over:
        await session.restore(session.epoch, recompute=True)  # as it was, and with those names
    if history and job.resume:
        report.resumed(todo, replay=job.replay)
    if held:
        report.event(held[-1])
    for i, epoch in enumerate(todo.kept):
        report.skipped(i, job.file.cells[i], epoch, replay=job.replay)
    return todo


def _is_same_file(file: SourceFile, name: str) -> bool:
    """Whether a recorded file name means this file: the same path, or one that it was moved from."""
    if file.owns(name):
        return True
    old = name.partition(", cell ")[0]
    return (
        os.path.basename(old) == os.path.basename(file.path)  # noqa: PTH119  start-up time
        and os.path.isabs(old)  # noqa: PTH117
        and not os.path.exists(old)  # noqa: PTH110
    )


def _dress_main(file: SourceFile) -> None:
    """Let the cells find what a script finds in its ``__main__``."""
    main = vars(sys.modules["__main__"])
    if file.path == STDIN_NAME:
        main.pop("__file__", None)
    else:
        main["__file__"] = file.path


async def _run_cells(
    session: Any,
    job: Job,
    todo: Plan,
    report: Report,
    interrupts: Interrupts,
    closed: Callable[[], bool],
    *,
    gone: Callable[[], int | None],
) -> int:
    """``gone``: how the process of the cells so far ended, where their names went with it."""
    status = DONE
    if todo.over:
        return status
    for i in range(todo.first, len(job.file.cells)):
        if closed():
            return PIPE_CLOSED
        if interrupts.presses:
            report.note("interrupted between two cells")
            return INTERRUPTED
        if (ended := gone()) is not None:
            report.note("the names of the cells before went with it; nothing more is run")
            return ended
        cell = job.file.cells[i]
        report.cell(i, cell)
        with interrupts.ordered(session):
            outcome = await session.run(
                cell.source, filename=cell.filename, first_line=cell.first_line
            )
        if cell.timed:
            text = f"Wall time: {readable_time(outcome.duration)}\n"
            report.event(Output(cell_id=outcome.cell.id, stream="stdout", text=text))
        if closed():
            return PIPE_CLOSED
        over = _judge(outcome, cell, job)
        if over is not None:
            return over
        if not outcome.ok and not cell.may_fail:
            status = ERROR
    return status


def _judge(outcome: Outcome, cell: SourceCell, job: Job) -> int | None:
    """The exit status if the run ends here, else None."""
    match outcome:
        case Done() | Replayed():
            return None
        case Interrupted():
            return INTERRUPTED
        case Failed(error=SystemExit() as error):
            return exit_status(error)
        case Failed(error=KeyboardInterrupt()):  # raised by the cell's own code
            return INTERRUPTED
        case Failed(error=WorkerDiedError() as error) if not (cell.may_fail or job.keep_going):
            return status_of(error)
        case Failed():
            return None if cell.may_fail or job.keep_going else ERROR


def status_of(error: WorkerDiedError) -> int:
    """The status that a shell would tell of such a process: its own, or 128 and the signal."""
    if error.signal is not None:
        return 128 + error.signal
    return ERROR if error.status is None else error.status


async def _name_tasks(session: Any, report: Report) -> None:
    tasks = await session.tasks()
    if not tasks:
        return
    names = ", ".join(f"{task.name} ({task.where})" if task.where else task.name for task in tasks)
    what = "a background task was" if len(tasks) == 1 else f"{len(tasks)} background tasks were"
    report.note(f"{what} still running at the end and cancelled: {names}; await what must finish")


def readable_time(seconds: float) -> str:
    """A duration, for people."""
    if seconds >= 60:
        return f"{int(seconds // 60)} min {seconds % 60:.0f} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
