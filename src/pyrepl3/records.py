"""The vocabulary: frozen values that cross every seam. No behaviour beyond reading them.

``kw_only`` stands on every class because msgspec does not inherit it, ``frozen`` because mypy
does not see that it is inherited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, NoReturn

import msgspec

from pyrepl3.errors import CancellationError


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


# --- a cell, and what is known of it before it runs -------------------------------------------


class Cell(Record, frozen=True, kw_only=True):
    """A piece of source that runs as one.

    ``id`` is unique in its session for ever (``"analysis-c7"``), ``n`` is the cell count (from 1).
    ``filename`` is what tracebacks show; ``first_line`` (from 1) is the line of ``filename`` on
    which ``source`` starts.
    """

    id: str
    n: int
    source: str
    filename: str
    first_line: int = 1
    background: bool = False


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


# --- outcomes ---------------------------------------------------------------------------------


class _Outcome(Record, frozen=True, kw_only=True):
    """What became of a cell. ``duration`` in seconds; ``epoch`` is None where nothing was stored."""

    cell: Cell
    mode: ExecutionMode = ExecutionMode.UNKNOWN
    placement: Placement = "loop"
    duration: float = 0.0
    epoch: int | None = None


class Done(_Outcome, frozen=True, kw_only=True):
    """The cell ran to its end.

    ``value`` is that of its last expression, or of a final assignment to one name. ``shown`` says
    whether a REPL shows it (an expression, not None, no trailing semicolon); then ``text`` is its
    repr and ``data`` its MIME bundle.
    """

    value: Any = None
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}

    @property
    def ok(self) -> bool:
        return True

    def unwrap(self) -> Any:
        """The value of the cell."""
        return self.value


class Failed(_Outcome, frozen=True, kw_only=True):
    """The cell raised, or a limit stopped it, or it did not compile.

    ``error`` is the exception itself; ``traceback`` the text of it with the user's frames only.
    """

    error: BaseException
    traceback: str = ""

    @property
    def ok(self) -> bool:
        return False

    @property
    def value(self) -> None:
        return None

    def unwrap(self) -> NoReturn:
        """Raise the user's error."""
        raise self.error


class Interrupted(_Outcome, frozen=True, kw_only=True):
    """Our interrupt stopped the cell.

    ``forced``: its own clean-up was cut after the grace period. ``abandoned``: it was inside a call
    that cannot be broken; its thread was left behind. ``lost`` names values bound to that thread.
    """

    forced: bool = False
    abandoned: bool = False
    lost: Mapping[str, str] = {}
    traceback: str = ""

    @property
    def ok(self) -> bool:
        return False

    @property
    def value(self) -> None:
        return None

    def unwrap(self) -> NoReturn:
        """Raise CancellationError."""
        raise CancellationError(f"cell {self.cell.n} was interrupted")


class Replayed(_Outcome, frozen=True, kw_only=True):
    """The cell had finished before: nothing ran, its recorded end is told again.

    ``events`` are the recorded outputs; ``text`` and ``data`` the value as it was shown.
    """

    events: tuple[Output | Display, ...] = ()
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}

    @property
    def ok(self) -> bool:
        return True

    @property
    def value(self) -> None:
        return None

    def unwrap(self) -> None:
        """None: the value lives in the namespace, not in the record."""


type Outcome = Done | Failed | Interrupted | Replayed


# --- events -----------------------------------------------------------------------------------


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


class Output(Record, tag=True, frozen=True, kw_only=True):
    """Text that a cell (or a task or thread that it started) wrote."""

    cell_id: str
    stream: Stream
    text: str


class Display(Record, tag=True, frozen=True, kw_only=True):
    """A rich value: ``data`` maps MIME types to str (text) or bytes (binary)."""

    cell_id: str
    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = {}


class Blocked(Record, tag=True, frozen=True, kw_only=True):
    """A plain cell held the loop for ``seconds``; the same source goes to the thread next time."""

    cell_id: str
    seconds: float


class Notice(Record, tag=True, frozen=True, kw_only=True):
    """Something the user should know that is no error of the code.

    ``kind`` is a stable word: ``"abandoned"``, ``"not-captured"``, ``"task-failed"``,
    ``"interrupting"``, ``"unprotected"``, ``"observer-failed"``.
    """

    cell_id: str
    kind: str
    text: str


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
    """The namespace came back from ``epoch``."""

    epoch: int
    names: frozenset[str]
    lost: Mapping[str, str] = {}


type Event = Started | Output | Display | Blocked | Notice | Line | Finished | Committed | Restored


# --- checkpoints ------------------------------------------------------------------------------


CHUNK = 65_536
"""Bytes in a chunk of a buffer; its last one may be shorter."""
FANOUT = 256
"""Digests in a chunk that lists chunks (32 bytes each); the last list of a buffer may be shorter."""


class Buffer(Record, frozen=True, kw_only=True):
    """Many bytes beside a blob (pickle 5, out of band), kept as content-addressed chunks.

    Two levels of lists: ``root`` is the BLAKE3 digest of the concatenated digests of its lists, a list
    the concatenated digests of up to ``FANOUT`` chunks, a chunk ``CHUNK`` bytes of the buffer.
    """

    size: int
    root: bytes


class Blob(Record, frozen=True, kw_only=True):
    """Some names pickled together, because they share objects. ``data`` is opaque to a store.

    ``buffers``: what the pickle takes from out of band, in its order.
    """

    names: tuple[str, ...]
    data: bytes
    buffers: tuple[Buffer, ...] = ()


class Delta(Record, frozen=True, kw_only=True):
    """What changed since the last marked epoch.

    A name is in one of: a blob (its new value), ``deleted``, or ``lost`` (bound, but it could not be
    stored: the reason). ``reprs`` has a short repr for each stored name, so that a difference can
    be shown without objects. ``engine`` is the runner's own state (opaque bytes), whole each time.
    ``chunks`` has the chunks and lists that the store may not have yet, by digest; it may read them
    only until its commit returns. What is in no delta since, the store has from an earlier epoch.
    """

    blobs: tuple[Blob, ...] = ()
    deleted: frozenset[str] = frozenset()
    lost: Mapping[str, str] = {}
    reprs: Mapping[str, str] = {}
    engine: bytes = b""
    chunks: Mapping[bytes, bytes | memoryview] = {}

    @property
    def size(self) -> int:
        """Bytes in all blobs and chunks."""
        return sum(len(blob.data) for blob in self.blobs) + sum(map(len, self.chunks.values()))


class Snapshot(Record, frozen=True, kw_only=True):
    """A whole namespace as of ``epoch``: each live name in exactly one blob, or in ``lost``.

    A blob may hold more names than those it is still current for; ``names`` of each says which count.
    Blobs are in the order of the epochs that wrote them. ``count`` is the highest cell count of any
    epoch in the store, so that no cell id is used twice. ``open`` gives the bytes of a buffer: writable,
    private to the caller, mapped lazily where the store can; it works until the store is closed, what
    it gave lasts as long as somebody holds it. Raises StoreError.
    """

    epoch: int = 0
    count: int = 0
    blobs: tuple[Blob, ...] = ()
    lost: Mapping[str, str] = {}
    engine: bytes = b""
    open: Callable[[Buffer], memoryview] | None = None


type ReceiptStatus = Literal["done", "failed", "interrupted"]


class Receipt(Record, frozen=True, kw_only=True):
    """What a finished cell records beside its epoch.

    ``events`` are its outputs (cut to a bound, ``cut`` says so), ``error`` the text of the traceback.
    ``at`` is seconds since the epoch, ``duration`` in seconds.
    """

    cell: Cell
    status: ReceiptStatus
    at: float = 0.0
    duration: float = 0.0
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}
    events: tuple[Output | Display, ...] = ()
    cut: bool = False
    error: str = ""


class Epoch(Record, frozen=True, kw_only=True):
    """One entry of a session's history: ``parent`` is 0 for the first."""

    epoch: int
    parent: int
    receipt: Receipt
    size: int = 0
    lost: Mapping[str, str] = {}


# --- questions to a runner --------------------------------------------------------------------


class Fetch(Record, frozen=True, kw_only=True):
    """Ask for the value of a name. Answer: the object. Raises NamespaceError if it is not bound."""

    name: str


class Variables(Record, frozen=True, kw_only=True):
    """Ask for the user's names. Answer: ``{name: type name}``, in the order of binding."""


class Tasks(Record, frozen=True, kw_only=True):
    """Ask for the background tasks. Answer: a tuple of TaskInfo."""


class TaskInfo(Record, frozen=True, kw_only=True):
    """A background task: the cell that started it, its name and where it waits."""

    name: str
    cell_id: str
    where: str = ""


class Complete(Record, frozen=True, kw_only=True):
    """Ask for completions of ``source`` at ``cursor`` (characters). Answer: a tuple of str."""

    source: str
    cursor: int


class Explain(Record, frozen=True, kw_only=True):
    """Ask which way ``source`` would go, and why. Answer: a ModeReport."""

    source: str


type Question = Fetch | Variables | Tasks | Complete | Explain
