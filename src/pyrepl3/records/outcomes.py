"""What comes out of a cell: what it writes, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from pyrepl3.errors import CancellationError, ReplayedError
from pyrepl3.records.cells import Cell, ExecutionMode, Placement, Record, Stream


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

    ``events`` are the recorded outputs; ``text`` and ``data`` the value as it was shown. ``status`` is
    how it ended, ``traceback`` what it was told with if it did not end well.
    """

    events: tuple[Output | Display, ...] = ()
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}
    status: Literal["done", "failed", "interrupted"] = "done"
    traceback: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "done"

    @property
    def value(self) -> None:
        return None

    def unwrap(self) -> None:
        """None: the value lives in the namespace, not in the record. Raises ReplayedError if not ok."""
        if self.status != "done":
            raise ReplayedError(
                f"cell {self.cell.n} {_ENDS[self.status]} when it ran, and is not run again:\n"
                f"{self.traceback}"
            )


_ENDS = {"failed": "failed", "interrupted": "was interrupted"}

type Outcome = Done | Failed | Interrupted | Replayed


def exit_status(error: SystemExit) -> int:
    """The status that Python would end with: a number as it is, a text as 1."""
    code = error.code
    return code & 0xFF if isinstance(code, int) else int(code is not None)
