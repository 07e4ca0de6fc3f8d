"""A cell, and what is known of it before it runs."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec


class ExecutionMode(Enum):
    """What kind of code a cell is: a label. Where it runs is its placement."""

    TOP_LEVEL_AWAIT = "top_level_await"
    ASYNC_DEF = "async_def"
    BLOCKING_SYNC = "blocking_sync"
    SIMPLE_SYNC = "simple_sync"
    UNKNOWN = "unknown"


type Placement = Literal["loop", "thread"]
type Stream = Literal["stdout", "stderr"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: immutable, keyword-only, compared by value."""


class Cell(Record, frozen=True, kw_only=True):
    """A piece of source that runs as one.

    ``id`` is unique in its session for ever (``"analysis-c7"``), ``n`` is the cell count (from 1).
    ``filename`` is what tracebacks show; ``first_line`` (from 1) is the line of ``filename`` on
    which ``source`` starts. ``base`` is the epoch that it starts from (0: none).
    """

    id: str
    n: int
    source: str
    filename: str
    first_line: int = 1
    background: bool = False
    base: int = 0


class Names(Record, frozen=True, kw_only=True):
    """The global names that a cell reads, binds and deletes, also from inside its functions."""

    reads: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()


class Reason(Record, frozen=True, kw_only=True):
    """One reason for a mode or a placement.

    ``line`` (from 1) and ``column`` (from 0) point into the cell's source; 0 and 0 where the
    reason is a value in the namespace.
    """

    kind: Literal[
        "await", "async_def", "import", "call", "value", "needs_loop", "blocked_before", "syntax"
    ]
    name: str
    line: int = 0
    column: int = 0
    text: str = ""


class ModeReport(Record, frozen=True, kw_only=True):
    """Which mode and placement a cell has, and why. No reasons: plain code."""

    mode: ExecutionMode
    placement: Placement
    reasons: tuple[Reason, ...] = ()
