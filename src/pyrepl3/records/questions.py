"""What a runner can be asked about the namespace and the tasks."""

from __future__ import annotations

from pyrepl3.records.cells import Record


class Fetch(Record, frozen=True, kw_only=True):
    """Ask for the value of a name. Answer: the object. Raises NamespaceError if it is not bound.

    ``trusted``: from another process it may come as a pickle.
    """

    name: str
    trusted: bool = False


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


class ExplainParallel(Record, frozen=True, kw_only=True):
    """Ask what of ``source`` would begin early with ``parallel``. Answer: a ParallelReport."""

    source: str


class Notes(Record, frozen=True, kw_only=True):
    """Ask what the last restore did not do quite as it was. Answer: a tuple of str."""


class Reload(Record, frozen=True, kw_only=True):
    """Have loaded what the last restore could not load for a lost name that it refers to.

    It can be once such a name is bound again, and before the next mark. Answer: a tuple of str, the names
    that came back.
    """


class Check(Record, frozen=True, kw_only=True):
    """Ask what ``source`` looks like before it runs. Answer: a Looked. Nothing runs."""

    source: str


class Types(Record, frozen=True, kw_only=True):
    """Ask for the types of the user's names. Answer: ``{name: type}``, in the order of binding."""


class Debug(Record, frozen=True, kw_only=True):
    """Ask for a debug server on ``port`` (0: any). Answer: a DebugServer. Raises DebugError."""

    port: int = 0


class DebugServer(Record, frozen=True, kw_only=True):
    """Where a client of the Debug Adapter Protocol attaches; ``folder`` has the sources of cells."""

    host: str
    port: int
    folder: str


class Breakpoint(Record, frozen=True, kw_only=True):
    """Ask to stop at ``line`` of the code of ``filename``. Answer: None. Raises DebugError.

    ``condition``: an expression. ``hits``: ``"3"`` the third time, ``">= 3"``, ``"% 3"`` each third.
    ``log``: does not stop, tells the client this text, with ``{expressions}``. ``clear``: take it away.
    """

    filename: str
    line: int
    condition: str | None = None
    hits: str | None = None
    log: str | None = None
    clear: bool = False


class Walls(Record, frozen=True, kw_only=True):
    """Ask what confines the code. Answer: a tuple of Wall, empty where nothing was to confine it."""


class Wall(Record, frozen=True, kw_only=True):
    """One thing that confined code cannot do, tried from within before any code of a cell.

    ``name``: ``"files"``, ``"network"``, ``"programs"``, ``"processes"``, ``"namespaces"``, ``"kernel"``,
    ``"powers"``, ``"end"``. ``stands``: whether the try failed, as it should. ``detail``: else what went
    through, and why; or what was opened through it, by whom.
    """

    name: str
    stands: bool
    detail: str = ""


class Hot(Record, frozen=True, kw_only=True):
    """Ask where the time goes. Answer: a HotReport.

    ``watch``: begin to measure from zero, or end; None: what was measured so far. ``counts``: count lines
    and calls exactly, too.
    """

    watch: bool | None = None
    counts: bool = False


type Question = (
    Fetch
    | Variables
    | Tasks
    | Complete
    | Explain
    | ExplainParallel
    | Notes
    | Reload
    | Check
    | Types
    | Hot
    | Debug
    | Breakpoint
    | Walls
)
