"""Every error that PyREPL3 raises, as one tree.

::

    PyREPL3Error
    ├── ExecutionError             running a cell went wrong (the specification's five below)
    │   ├── CompilationError       also a SyntaxError: the source does not compile
    │   ├── AsyncContextError      the code needs a loop or a thread that it does not have
    │   ├── NamespaceError         a name that may not be bound, or bound like this
    │   ├── CancellationError      our interrupt stopped the cell
    │   ├── LimitExceededError     the cell used more than its limits allow
    │   ├── WorkerDiedError        the process that ran the cell is gone
    │   ├── RemoteError            an exception of a class that only the worker process knows
    │   ├── ToolError              a function of the host, called by a cell, has raised or was too slow
    │   ├── ReplayedError          the cell had not ended well when it ran, and is not run again
    │   └── StepError              a step cannot be made, or what it came to cannot be had
    │       ├── StepMismatchError  the cell makes other steps than those that were kept
    │       └── StepValueError     the result of a step cannot be kept
    ├── SessionError
    │   ├── SessionInUseError      another process has the session open
    │   ├── SessionClosedError     it was closed, or never opened
    │   ├── SessionNotFoundError   no session of that name in the store
    │   ├── SessionExistsError     there is one already, where a new one was to be made
    │   ├── StaleBaseError         the cell was made for another epoch than the current one
    │   ├── CellIdError            a cell id that is used, or cannot be
    │   └── DebugError             the debugger cannot be had, or not like this
    ├── LostValueError             also a NameError: a name that a restore could not bring back
    ├── StoreError                 reading or writing the store failed
    │   ├── EpochNotFoundError     the session has no epoch of that number
    │   └── StoreCorruptError      what was read is not what was written
    ├── ConfinementError           code was to be confined, and cannot be here
    ├── DurabilityError            what steps came to cannot be kept or read
    ├── MissingExtraError          also an ImportError: an optional part is not installed
    ├── CheckerError               the type checker cannot be used, or gave no answer
    └── SourceError                a file that is no Python file or notebook we can run

    KeyboardInterrupt
    └── CellInterrupt              control flow inside a cell; never leaves the engine

The user's own exception is a value (``Failed.error``) in sessions and is raised unchanged by
``AsyncExecutor.execute``; it is never wrapped in one of these.
"""

from __future__ import annotations

from typing import Literal

type LimitName = Literal[
    "wall", "cpu", "memory", "output", "coroutines", "workdir_bytes", "workdir_files"
]

_FORMS: dict[str, str] = {
    "wall": "{:g} s",
    "cpu": "{:g} s",
    "memory": "{:,.0f} bytes",
    "output": "{:,.0f} bytes",
    "coroutines": "{:g}",
    "workdir_bytes": "{:,.0f} bytes",
    "workdir_files": "{:,.0f} files",
}
_CURES = {
    "workdir_bytes": "remove files from the workdir",
    "workdir_files": "remove files from the workdir",
}


class PyREPL3Error(Exception):
    """Base of every error that PyREPL3 raises on its own account."""


class ExecutionError(PyREPL3Error):
    """Base exception for execution errors."""


class CompilationError(ExecutionError, SyntaxError):
    """Code compilation failed; nothing of the cell has run.

    Carries the attributes of a SyntaxError (``lineno``, ``offset``, ``text``, …).
    ``proposal`` is a repaired source that compiles, where one was found, and ``changes``
    says in words what the repair changed.
    """

    proposal: str | None = None
    changes: tuple[str, ...] = ()


class AsyncContextError(ExecutionError):
    """Async context violation: the message says what to write instead."""


class NamespaceError(ExecutionError):
    """Namespace operation error."""


class CancellationError(ExecutionError):
    """Execution was cancelled by our interrupt (never by the caller's own cancellation)."""


class LimitExceededError(ExecutionError):
    """A cell used more of a resource than its limits allow.

    ``used`` and ``allowed`` share the unit of ``limit``: seconds for ``"wall"`` and ``"cpu"``, bytes
    for ``"memory"``, ``"output"`` and ``"workdir_bytes"``, counts for the others.
    """

    def __init__(self, limit: LimitName, used: float, allowed: float) -> None:
        self.limit, self.used, self.allowed = limit, used, allowed
        super().__init__(limit, used, allowed)

    def __str__(self) -> str:
        form = _FORMS[self.limit]
        return (
            f"{self.limit} limit exceeded: used {form.format(self.used)} of "
            f"{form.format(self.allowed)}; raise Limits.{self.limit} or "
            f"{_CURES.get(self.limit, 'split the cell')}"
        )


class WorkerDiedError(ExecutionError):
    """The process or thread that ran the cell is gone.

    ``signal`` is the number of the signal that ended the process, ``status`` its exit status, each None
    where that is not known or not how it ended; ``output`` the last of what the cell had written.
    """

    def __init__(
        self,
        what: str,
        signal: int | None = None,
        status: int | None = None,
        output: str = "",
    ) -> None:
        self.what, self.signal, self.status, self.output = what, signal, status, output
        super().__init__(what, signal, status, output)

    def __str__(self) -> str:
        return self.what


class RemoteError(ExecutionError):
    """An exception that a cell in a worker process raised, of a class that this process does not have.

    ``kind`` is the name of the class, ``text`` what ``str`` gave of it, ``shown`` what ``repr`` gave.
    """

    def __init__(self, kind: str, text: str, shown: str) -> None:
        self.kind, self.text, self.shown = kind, text, shown
        super().__init__(kind, text, shown)

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class ToolError(ExecutionError):
    """A function of the host that a cell has called did not give a result.

    ``tool`` is its name, ``kind`` the name of the class of what it raised (``"TimeoutError"`` where it
    took too long), ``text`` the message of that. The host's traceback stays with the host.
    """

    def __init__(self, tool: str, kind: str, text: str) -> None:
        self.tool, self.kind, self.text = tool, kind, text
        super().__init__(tool, kind, text)

    def __str__(self) -> str:
        return (
            f"{self.tool}: {self.kind}: {self.text}" if self.text else f"{self.tool}: {self.kind}"
        )


class ReplayedError(ExecutionError):
    """The cell had failed or was interrupted when it ran; the message has its traceback."""


class StepError(ExecutionError):
    """A step cannot be made like this, or what it came to cannot be had back."""


class StepMismatchError(StepError):
    """A cell that runs again makes another step than the one that was kept at this place.

    ``kept`` and ``made`` say what was called then and now.
    """

    def __init__(self, step: str, kept: str, made: str) -> None:
        self.step, self.kept, self.made = step, kept, made
        super().__init__(step, kept, made)

    def __str__(self) -> str:
        return (
            f"step {self.step} was {self.kept} when the cell ran first, and is {self.made} now: what "
            "a cell does between its steps must not depend on time, chance or the outside (make that "
            "a step, too); to begin anew instead, change the text of the cell"
        )


class StepValueError(StepError):
    """The result of a step, or the error it raised, cannot be kept as bytes or read from them."""


class SessionError(PyREPL3Error):
    """A session cannot be used as asked."""


class SessionInUseError(SessionError):
    """Another process (or another session object in this one) has the session open."""

    def __init__(self, name: str, pid: int | None) -> None:
        self.name, self.pid = name, pid
        super().__init__(name, pid)

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid else "another process"
        return f"session {self.name!r} is in use by {who}; close it there or choose another name"


class SessionClosedError(SessionError):
    """The session is closed."""


class SessionNotFoundError(SessionError):
    """The store has no session of that name."""

    def __init__(self, name: str, store: str) -> None:
        self.name, self.store = name, store
        super().__init__(name, store)

    def __str__(self) -> str:
        return f"no session {self.name!r} in {self.store}; `pyrepl3 sessions` lists what is there"


class SessionExistsError(SessionError):
    """A session of that name is there already."""

    def __init__(self, name: str, store: str) -> None:
        self.name, self.store = name, store
        super().__init__(name, store)

    def __str__(self) -> str:
        return f"session {self.name!r} is in {self.store} already; choose another name"


class StaleBaseError(SessionError):
    """A cell names an epoch as its base, and the session is at another one; nothing has run."""

    def __init__(self, base: int, epoch: int) -> None:
        self.base, self.epoch = base, epoch
        super().__init__(base, epoch)

    def __str__(self) -> str:
        return (
            f"the cell was made for epoch {self.base}, and the session is at epoch {self.epoch}: look "
            "at what changed, then submit it with the new base, or without one"
        )


class CellIdError(SessionError):
    """A cell id that another text has used, or that cannot be one."""


class DebugError(SessionError):
    """The debugger cannot be had, or not as asked; the session goes on."""


class LostValueError(PyREPL3Error, NameError):
    """A name that was bound before the restart and could not be stored or restored."""


class StoreError(PyREPL3Error):
    """Reading or writing the store failed; the running session goes on."""


class EpochNotFoundError(StoreError):
    """The session has no such epoch, or it was collected. ``near``: the nearest that are there."""

    def __init__(self, name: str, epoch: int, near: tuple[int, ...]) -> None:
        self.name, self.epoch, self.near = name, epoch, near
        super().__init__(name, epoch, near)

    def __str__(self) -> str:
        there = "it has none yet"
        if self.near:
            there = "the nearest " + ("are " if len(self.near) > 1 else "is ")
            there += ", ".join(map(str, self.near))
        return f"session {self.name!r} has no epoch {self.epoch}; {there}"


class StoreCorruptError(StoreError):
    """What was read from the store is not what was written."""


class ConfinementError(PyREPL3Error):
    """Code was to be confined, and cannot be as asked: the message names what is missing. Nothing has run."""


class DurabilityError(PyREPL3Error):
    """Keeping or reading what steps came to failed; the cell may catch it and go on."""


class MissingExtraError(PyREPL3Error, ImportError):
    """An optional part is not installed. ``extra`` is its name: ``pip install 'pyrepl3[extra]'``."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(what, extra)

    def __str__(self) -> str:
        return f"{self.what}: pip install 'pyrepl3[{self.extra}]'"


class CheckerError(PyREPL3Error):
    """The type checker cannot be used, or gave no answer in time."""


class SourceError(PyREPL3Error):
    """A source file cannot be turned into cells; the message names file, cell and line."""


class CellInterrupt(KeyboardInterrupt):
    """Raised inside a cell's code to stop it; user code may catch it as KeyboardInterrupt.

    A BaseException, so that ``except Exception`` in user code does not swallow it.
    """
