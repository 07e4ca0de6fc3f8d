"""What host and worker say to each other: messages to bytes, and bytes to checked messages.

``key`` is the nonce of the call or cell that a message belongs to: random, made by the host, so that code
which only writes to the pipe cannot speak for a cell. Many bytes go beside a message (see ``packed``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from pyrepl3.config import ExecutorConfig, Limits, Policy
from pyrepl3.errors import LimitName
from pyrepl3.isolate.frames import FrameError
from pyrepl3.records import (
    Asked,
    Blocked,
    Cell,
    Display,
    ExecutionMode,
    Kept,
    Line,
    Notice,
    Output,
    Placement,
    Wall,
)

MOST_ASKED = 64
"""Names and connections that a worker may ask for before it has an answer."""
KEY = 16
"""Bytes of a key."""
WINDOW = 1024 * 1024
"""Characters of output of a cell that may be under way; then it waits until the host has taken some."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
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


# --- to the worker --------------------------------------------------------------------------------


class Setup(_Message, frozen=True, kw_only=True):
    """The first message: what the session needs. Answer: Ready.

    ``asks``: somebody answers ``input()``. ``keeps``: what steps come to is kept.
    ``file``: what ``__main__.__file__`` is to be. ``path``: where to import from (None: as it is).
    ``policy``: confine the worker, with ``workdir`` as the
    directory that is its own.
    ``tools``: functions of the host, name and docstring. ``attached``: it shares our terminal.
    """

    name: str
    config: ExecutorConfig | None = None
    limits: Limits | None = None
    asks: bool = False
    keeps: bool = False
    directory: str = ""
    path: tuple[str, ...] | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    file: str = ""
    policy: Policy | None = None
    workdir: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    attached: bool = False


class Run(_Message, frozen=True, kw_only=True):
    """Run a cell. Where more than WINDOW was written and not read it waits for Room."""

    key: bytes
    cell: Cell


class Stop(_Message, frozen=True, kw_only=True):
    """Interrupt a cell, or, with ``limit``, stop it for what it has used. Answer: Heard, at once."""

    key: bytes
    limit: LimitName | None = None
    used: float = 0.0
    allowed: float = 0.0


class Room(_Message, frozen=True, kw_only=True):
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
    "stack",
    "debug",
    "breakpoint",
    "check",
    "types",
    "hot",
]


class Ask(_Message, frozen=True, kw_only=True):
    """Answer a question. Answer: Answered."""

    key: bytes
    what: Asks
    text: str = ""
    cursor: int = 0


class Checkpoint(_Message, frozen=True, kw_only=True):
    """Take a snapshot. Answer: Answered, with a WireDelta."""

    key: bytes


class Mark(_Message, frozen=True, kw_only=True):
    """The last snapshot is safe. Answer: Answered."""

    key: bytes


class Audit(_Message, frozen=True, kw_only=True):
    """Look for changes that no cell named. Answer: Answered, with a bool."""

    key: bytes
    hurry: bool = False


class Restore(_Message, frozen=True, kw_only=True):
    """Replace the namespace. Answer: Answered, with what was lost."""

    key: bytes
    snapshot: msgspec.Raw


class Given(_Message, frozen=True, kw_only=True):
    """The answer to a Want. ``error`` names a builtin exception that is to be raised instead."""

    n: int
    text: str = ""
    error: str = ""


class Held(_Message, frozen=True, kw_only=True):
    """The answer to a Keep: ``data`` is msgpack by what was asked for; or an error."""

    n: int
    data: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: WireError | None = None


class Returned(_Message, frozen=True, kw_only=True):
    """The answer to a Call: the parts are the result; or what was raised instead, see ``run.tools``."""

    n: int
    fault: tuple[str, str] | None = None


class Found(_Message, frozen=True, kw_only=True):
    """The answer to a Lookup: addresses, or why there are none."""

    n: int
    addresses: tuple[str, ...] = ()
    fault: Fault | None = None


class Plugged(_Message, frozen=True, kw_only=True):
    """The first answer to a Dial that is allowed; with it comes the worker's end of the connection."""

    n: int


class Dialed(_Message, frozen=True, kw_only=True):
    """The last answer to a Dial: there is a connection, or why there is none."""

    n: int
    fault: Fault | None = None


class Close(_Message, frozen=True, kw_only=True):
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


# --- to the host ----------------------------------------------------------------------------------


class Ready(_Message, frozen=True, kw_only=True):
    """The worker can run cells. ``unheld``: limits that do not hold here, and why.

    ``walls``: what confines it, where it was to be confined.
    """

    pid: int
    unheld: Mapping[str, str] = {}
    walls: tuple[Wall, ...] = ()


class Began(_Message, frozen=True, kw_only=True):
    """A cell begins to run: Started without its cell, which the host knows better."""

    key: bytes
    mode: ExecutionMode
    placement: Placement
    at: float = 0.0
    known: bool = False
    wrapped: bool = False


class Told(_Message, frozen=True, kw_only=True):
    """An event of a cell."""

    key: bytes
    event: Output | Display | Blocked | Notice | Line


class Ended(_Message, frozen=True, kw_only=True):
    """A cell is over: its outcome without cell and value."""

    key: bytes
    status: Literal["done", "failed", "interrupted"]
    mode: ExecutionMode
    placement: Placement
    duration: float = 0.0
    shown: bool = False
    text: str = ""
    data: Mapping[str, Any] = {}
    error: WireError | None = None
    traceback: str = ""
    forced: bool = False
    abandoned: bool = False
    lost: Mapping[str, str] = {}


class Heard(_Message, frozen=True, kw_only=True):
    """A Stop has arrived, and the worker is at it."""

    key: bytes


class Answered(_Message, frozen=True, kw_only=True):
    """The answer to a call: ``data`` is msgpack by what was asked; or an error."""

    key: bytes
    data: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: WireError | None = None


class Want(_Message, frozen=True, kw_only=True):
    """A cell asks for a line of text. Answer: Given, with the same ``n``."""

    n: int
    prompt: str
    password: bool = False


type Keeps = Literal["open", "find", "step", "sleep", "ask"]


class Keep(_Message, frozen=True, kw_only=True):
    """A call of the Durability port, with the arguments that it takes. Answer: Held."""

    n: int
    what: Keeps
    name: str
    base: int = 0
    kept: Kept | None = None
    mark: str = ""
    seconds: float = 0.0
    asked: Asked | None = None


class Call(_Message, frozen=True, kw_only=True):
    """A cell calls a function of the host; the parts are the arguments. Answer: Returned, always."""

    n: int
    name: str


class Drop(_Message, frozen=True, kw_only=True):
    """Nobody waits for a call any more. It may have been answered already."""

    n: int


class Lookup(_Message, frozen=True, kw_only=True):
    """A confined cell asks for the addresses of a name. Answer: Found."""

    n: int
    host: Annotated[str, msgspec.Meta(max_length=255)]


class Dial(_Message, frozen=True, kw_only=True):
    """A confined cell asks for a connection. Answers: Plugged unless it is refused, and Dialed."""

    n: int
    address: Annotated[str, msgspec.Meta(max_length=64)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Show(_Message, frozen=True, kw_only=True):
    """What was told so far is to be shown before the cell goes on. Answer: Given, with the same ``n``."""

    n: int


type ToHost = (
    Ready
    | Began
    | Told
    | Ended
    | Heard
    | Answered
    | Want
    | Show
    | Keep
    | Call
    | Drop
    | Lookup
    | Dial
)

type Message = ToWorker | ToHost

_encoder = msgspec.msgpack.Encoder(enc_hook=repr)  # a MIME bundle may hold any object


# Made when first needed: each takes milliseconds, and a process is one of the two.


@cache
def worker_decoder() -> msgspec.msgpack.Decoder[ToWorker]:
    """Reads what comes to a worker."""
    return msgspec.msgpack.Decoder(ToWorker)


@cache
def host_decoder() -> msgspec.msgpack.Decoder[ToHost]:
    """Reads what comes from a worker."""
    return msgspec.msgpack.Decoder(ToHost)


def encode(message: Message) -> bytes:
    """A message as bytes. What a MIME bundle holds that is no plain value goes as its repr."""
    return _encoder.encode(message)


def pack(value: object) -> msgspec.Raw:
    """A plain value as bytes that fit into a message."""
    return msgspec.Raw(_encoder.encode(value))


def unpack[T](data: msgspec.Raw, kind: type[T]) -> T:
    """The value again. Raises FrameError where it is of another type."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except Exception as error:  # as in _decode
        raise FrameError(f"an answer that is none: {error}") from error


def decode_in_worker(head: bytes) -> ToWorker:
    """A message of the host. Raises FrameError for what is none."""
    return _decode(worker_decoder(), head)


def decode_in_host(head: bytes) -> ToHost:
    """A message of a worker. Raises FrameError for what is none."""
    return _decode(host_decoder(), head)


def _decode[T](decoder: msgspec.msgpack.Decoder[T], head: bytes) -> T:
    try:
        return decoder.decode(head)
    except Exception as error:  # msgspec's own, UnicodeDecodeError, RecursionError of a deep nest
        raise FrameError(f"not a message: {error}") from error
