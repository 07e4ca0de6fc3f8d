"""The vocabulary: frozen values that cross every seam. No behaviour beyond reading them.

``kw_only`` stands on every class because msgspec does not inherit it, ``frozen`` because mypy
does not see that it is inherited.
"""

from __future__ import annotations

from pyrepl3.records.cells import (
    Cell,
    ExecutionMode,
    ModeReport,
    Names,
    Placement,
    Reason,
    Record,
    Stream,
)
from pyrepl3.records.epochs import (
    CHUNK,
    FANOUT,
    Blob,
    Buffer,
    Collected,
    Delta,
    Epoch,
    KeptName,
    Receipt,
    ReceiptStatus,
    Snapshot,
)
from pyrepl3.records.events import (
    Blocked,
    Committed,
    Event,
    Finished,
    Line,
    Notice,
    Restored,
    Started,
)
from pyrepl3.records.flow import (
    CellFlow,
    FlowEdge,
    Graph,
    Hint,
    PastCell,
    Slice,
    StaleCell,
)
from pyrepl3.records.outcomes import (
    Display,
    Done,
    Failed,
    Interrupted,
    Outcome,
    Output,
    Replayed,
)
from pyrepl3.records.past import Difference, LogEntry
from pyrepl3.records.questions import (
    Complete,
    Explain,
    Fetch,
    Notes,
    Question,
    TaskInfo,
    Tasks,
    Variables,
)
from pyrepl3.records.steps import Asked, Kept, Opened

__all__ = [
    "StaleCell",
    "Slice",
    "PastCell",
    "Hint",
    "Graph",
    "FlowEdge",
    "CellFlow",
    "Asked",
    "Blob",
    "Blocked",
    "Buffer",
    "CHUNK",
    "Cell",
    "Collected",
    "Committed",
    "Complete",
    "Delta",
    "Difference",
    "Display",
    "Done",
    "LogEntry",
    "Epoch",
    "Event",
    "ExecutionMode",
    "Explain",
    "FANOUT",
    "Failed",
    "Fetch",
    "Finished",
    "Interrupted",
    "Kept",
    "KeptName",
    "Line",
    "ModeReport",
    "Names",
    "Notes",
    "Notice",
    "Opened",
    "Outcome",
    "Output",
    "Placement",
    "Question",
    "Reason",
    "Receipt",
    "ReceiptStatus",
    "Record",
    "Replayed",
    "Restored",
    "Snapshot",
    "Started",
    "Stream",
    "TaskInfo",
    "Tasks",
    "Variables",
]
