"""A question about a namespace in; the message that asks it, the type of its answer, and back, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.records import (
    Breakpoint,
    Check,
    Complete,
    Debug,
    DebugServer,
    Explain,
    ExplainParallel,
    Fetch,
    Hot,
    HotReport,
    Looked,
    ModeReport,
    Notes,
    ParallelReport,
    Reload,
    TaskInfo,
    Tasks,
    Types,
    Variables,
    Walls,
)

if TYPE_CHECKING:
    from pyrepl3.isolate.messages import Ask, Asks
    from pyrepl3.records import Question


def to_wire(question: Question) -> tuple[Asks, Any, str, int]:
    """What is asked, the type of the answer, a text and a cursor."""
    match question:
        case Fetch(name=name, trusted=trusted):
            return "pickle" if trusted else "fetch", bytes, name, 0
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
        case Reload():
            return "reload", tuple[str, ...], "", 0
        case Check(source=source):
            return "check", Looked, source, 0
        case Types():
            return "types", dict[str, str], "", 0
        case Walls():
            raise AssertionError("its host knows them")
        case Debug(port=port):
            return "debug", DebugServer, "", port
        case Breakpoint():
            return "breakpoint", type(None), msgspec.json.encode(question).decode(), 0
        case Hot(watch=watch, counts=counts):
            return "hot", HotReport, {None: "", True: "on", False: "off"}[watch], int(counts)


def from_wire(message: Ask) -> Question | None:
    """The question again; None for what is none of the Runner port."""
    match message.what:
        case "fetch" | "pickle" as what:
            return Fetch(name=message.text, trusted=what == "pickle")
        case "variables":
            return Variables()
        case "tasks":
            return Tasks()
        case "complete":
            return Complete(source=message.text, cursor=message.cursor)
        case "explain":
            return Explain(source=message.text)
        case "parallel":
            return ExplainParallel(source=message.text)
        case "notes":
            return Notes()
        case "reload":
            return Reload()
        case "check":
            return Check(source=message.text)
        case "types":
            return Types()
        case "debug":
            return Debug(port=message.cursor)
        case "breakpoint":
            return msgspec.json.decode(message.text, type=Breakpoint)
        case "hot":
            watch = {"on": True, "off": False}.get(message.text)
            return Hot(watch=watch, counts=bool(message.cursor))
        case "stack":
            return None
