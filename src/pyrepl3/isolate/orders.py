"""What a host says to its worker: the messages, and what both directions share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pyrepl3.config import ExecutorConfig, Limits, Policy
from pyrepl3.errors import LimitName
from pyrepl3.records import Cell


class Wire(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages."""


class WireError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exception without its object: see ``errors.py`` beside this.

    ``args`` is None where they are no plain values; ``extra`` has the attributes of a SyntaxError.
    """

    module: str
    name: str
    args: tuple[Any, ...] | None = None
    shown: str = ""
    text: str = ""
    extra: Mapping[str, Any] = {}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the network did not give what was asked for: an error number and its text.

    ``kind``: ``"refused"`` by the policy, ``"lookup"`` with a number of getaddrinfo, ``"system"``.
    """

    kind: Literal["refused", "lookup", "system"]
    number: int
    text: str


class Setup(Wire, frozen=True, kw_only=True):
    """The first message: what the session needs. Answer: Ready.

    ``asks``: somebody answers ``input()``. ``keeps``: what steps come to is kept.
    ``file``: what ``__main__.__file__`` is to be. ``path``: where to import from (None: as it is).
    These, the directory, the arguments and the environment as the system has them: they may be no UTF-8.
    ``policy``: confine the worker, with ``workdir`` as the
    directory that is its own.
    ``tools``: functions of the host, name and docstring. ``attached``: it shares our terminal.
    """

    name: str
    config: ExecutorConfig | None = None
    limits: Limits | None = None
    asks: bool = False
    keeps: bool = False
    directory: bytes = b""
    path: tuple[bytes, ...] | None = None
    arguments: tuple[bytes, ...] = ()
    environment: tuple[tuple[bytes, bytes], ...] = ()
    file: bytes = b""
    policy: Policy | None = None
    workdir: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    attached: bool = False


class Run(Wire, frozen=True, kw_only=True):
    """Run a cell. Where more than WINDOW was written and not read it waits for Room."""

    key: bytes
    cell: Cell


class Stop(Wire, frozen=True, kw_only=True):
    """Interrupt a cell, or, with ``limit``, stop it for what it has used. Answer: Heard, at once."""

    key: bytes
    limit: LimitName | None = None
    used: float = 0.0
    allowed: float = 0.0


class Room(Wire, frozen=True, kw_only=True):
    """So many characters of a cell's output have been read."""

    key: bytes
    size: int


type Asks = Literal[
    "fetch",
    "pickle",
    "variables",
    "tasks",
    "complete",
    "explain",
    "parallel",
    "notes",
    "reload",
    "stack",
    "debug",
    "breakpoint",
    "check",
    "types",
    "hot",
]


class Ask(Wire, frozen=True, kw_only=True):
    """Answer a question. Answer: Answered."""

    key: bytes
    what: Asks
    text: str = ""
    cursor: int = 0


class Checkpoint(Wire, frozen=True, kw_only=True):
    """Take a snapshot. Answer: Answered, with a WireDelta."""

    key: bytes


class Mark(Wire, frozen=True, kw_only=True):
    """The last snapshot is safe. Answer: Answered."""

    key: bytes


class Audit(Wire, frozen=True, kw_only=True):
    """Look for changes that no cell named. Answer: Answered, with a bool."""

    key: bytes
    hurry: bool = False


class Restore(Wire, frozen=True, kw_only=True):
    """Replace the namespace. Answer: Answered, with what was lost."""

    key: bytes
    snapshot: msgspec.Raw


class Given(Wire, frozen=True, kw_only=True):
    """The answer to a Want. ``error`` names a builtin exception that is to be raised instead."""

    n: int
    text: str = ""
    error: str = ""


class Held(Wire, frozen=True, kw_only=True):
    """The answer to a Keep: ``data`` is msgpack by what was asked for; or an error."""

    n: int
    data: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: WireError | None = None


class Returned(Wire, frozen=True, kw_only=True):
    """The answer to a Call: the parts are the result; or what was raised instead, see ``run.tools``."""

    n: int
    fault: tuple[str, str] | None = None


class Found(Wire, frozen=True, kw_only=True):
    """The answer to a Lookup: addresses, or why there are none."""

    n: int
    addresses: tuple[str, ...] = ()
    fault: Fault | None = None


class Plugged(Wire, frozen=True, kw_only=True):
    """The first answer to a Dial that is allowed; with it comes the worker's end of the connection."""

    n: int


class Dialed(Wire, frozen=True, kw_only=True):
    """The last answer to a Dial: there is a connection, or why there is none; again when one is reset."""

    n: int
    fault: Fault | None = None


class Close(Wire, frozen=True, kw_only=True):
    """Stop everything and end."""


type ToWorker = (
    Setup
    | Run
    | Stop
    | Room
    | Ask
    | Checkpoint
    | Mark
    | Audit
    | Restore
    | Given
    | Held
    | Returned
    | Found
    | Plugged
    | Dialed
    | Close
)
