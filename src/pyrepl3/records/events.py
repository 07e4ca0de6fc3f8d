"""What observers are told while cells run."""

from __future__ import annotations

from collections.abc import Mapping

from pyrepl3.records.cells import Cell, ExecutionMode, Placement, Record
from pyrepl3.records.outcomes import Display, Done, Failed, Interrupted, Output, Replayed


class Started(Record, tag=True, frozen=True, kw_only=True):
    """A cell begins to run. ``at`` is seconds since the epoch.

    ``known``: the same text had been compiled before. ``wrapped``: only the fallback compiles it (a
    top-level ``return``).
    """

    cell: Cell
    mode: ExecutionMode
    placement: Placement
    at: float = 0.0
    known: bool = False
    wrapped: bool = False


class Blocked(Record, tag=True, frozen=True, kw_only=True):
    """A plain cell held the loop for ``seconds``; the same source goes to the thread next time."""

    cell_id: str
    seconds: float


class Notice(Record, tag=True, frozen=True, kw_only=True):
    """Something the user should know that is no error of the code.

    ``kind`` is a stable word: ``"abandoned"``, ``"not-captured"``, ``"task-failed"``,
    ``"interrupting"``, ``"unprotected"``, ``"unaudited"``, ``"late-change"``, ``"late-state"``,
    ``"dropped"``, ``"restored"``, ``"corrupt"``, ``"observer-failed"``, ``"asking"``,
    ``"worker-died"``, ``"worker-replaced"``, ``"limit-unheld"``, ``"compiled"``, ``"not-compiled"``.
    ``error``: with ``"worker-died"`` the WorkerDiedError, which has the signal or the status.
    """

    cell_id: str
    kind: str
    text: str
    error: BaseException | None = None


class Line(Record, tag=True, frozen=True, kw_only=True):
    """A line of the cell is about to run (only with ``ExecutorConfig.trace_execution``)."""

    cell_id: str
    line: int


class Finished(Record, tag=True, frozen=True, kw_only=True):
    """A cell is over."""

    outcome: Done | Failed | Interrupted | Replayed


class Committed(Record, tag=True, frozen=True, kw_only=True):
    """The namespace after a cell is on disk. ``lost`` names what could not be stored, and why."""

    cell_id: str
    epoch: int
    size: int
    lost: Mapping[str, str] = {}


class Restored(Record, tag=True, frozen=True, kw_only=True):
    """The namespace came back from ``epoch``; ``recomputed`` names by running their cells again."""

    epoch: int
    names: frozenset[str]
    lost: Mapping[str, str] = {}
    recomputed: frozenset[str] = frozenset()


type Event = Started | Output | Display | Blocked | Notice | Line | Finished | Committed | Restored
