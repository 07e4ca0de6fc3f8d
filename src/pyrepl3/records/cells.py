"""A cell, and what is known of it before it runs."""

from __future__ import annotations

import re
from binascii import crc32
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


_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_ODD = re.compile(r"[^a-z0-9]+")


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415  loads OpenSSL, which few ids need

    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


type Placement = Literal["loop", "thread"]
type Stream = Literal["stdout", "stderr"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: immutable, keyword-only, compared by value."""


class Cell(Record, frozen=True, kw_only=True, gc=False):
    """A piece of source that runs as one.

    ``id`` is unique in its session for ever (``"analysis-c7"``), ``n`` is the cell count (from 1).
    ``filename`` is what tracebacks show; ``first_line`` (from 1) is the line of ``filename`` on
    which ``source`` starts. ``base`` is the epoch that it starts from (0: none). ``only``: the names whose
    binding it may change (None: all); others are what they were before, when it is over. ``parallel``: awaits
    of its statements may begin early, where nobody can tell; see ``Session.run``.
    """

    id: str
    n: int
    source: str
    filename: str
    first_line: int = 1
    background: bool = False
    base: int = 0
    only: frozenset[str] | None = None
    parallel: bool = False

    @property
    def durable_name(self) -> str:
        """The id and a checksum of the text as ``[a-z0-9-]``: what promises of its steps are called by."""
        told = f"{crc32(self.source.encode('utf-8', 'surrogatepass')):08x}"
        if _PLAIN.fullmatch(self.id):
            return f"{self.id}-{told}"
        # Of another id what can be read is kept; a digest of the whole id tells it from others.
        readable = _ODD.sub("-", self.id.lower()).strip("-")[:40] or "cell"
        return f"{readable}-{_digest(self.id)}-{told}"


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


class ParallelStatement(Record, frozen=True, kw_only=True):
    """What of a top-level statement may begin early. ``line`` and ``end_line`` (from 1) are the cell's.

    ``early``: its awaits, or what it computes, may begin before the statements above it are done, but for
    those up to line ``after`` (0: with the cell). ``apart``: it, or items of it, are computed in processes
    of their own, where that may pay. ``why``: what that stands on, or why not.
    """

    line: int
    end_line: int
    early: bool = False
    after: int = 0
    apart: bool = False
    why: str = ""


class ParallelReport(Record, frozen=True, kw_only=True):
    """The statements of a cell, and which of them may run at once. ``why``: what holds for all of it."""

    statements: tuple[ParallelStatement, ...] = ()
    why: str = ""

    @property
    def early(self) -> tuple[int, ...]:
        """The lines of the statements that may begin early."""
        return tuple(one.line for one in self.statements if one.early)
