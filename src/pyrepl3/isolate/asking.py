"""A question about a namespace in; the message that asks it, and the type of its answer, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrepl3.records import (
    Complete,
    Explain,
    ExplainParallel,
    Fetch,
    ModeReport,
    Notes,
    ParallelReport,
    TaskInfo,
    Tasks,
    Variables,
)

if TYPE_CHECKING:
    from pyrepl3.isolate.messages import Asks
    from pyrepl3.records import Question


def to_wire(question: Question) -> tuple[Asks, Any, str, int]:
    """What is asked, the type of the answer, a text and a cursor."""
    match question:
        case Fetch(name=name):
            return "fetch", bytes, name, 0
        case Variables():
            return "variables", dict[str, str], "", 0
        case Tasks():
            return "tasks", tuple[TaskInfo, ...], "", 0
        case Complete(source=source, cursor=cursor):
            return "complete", tuple[str, ...], source, cursor
        case Explain(source=source):
            return "explain", ModeReport, source, 0
        case ExplainParallel(source=source):
            return "parallel", ParallelReport, source, 0
        case Notes():
            return "notes", tuple[str, ...], "", 0
