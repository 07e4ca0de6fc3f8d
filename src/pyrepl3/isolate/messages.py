"""What host and worker say to each other: messages to bytes, and bytes to checked messages.

``key`` is the nonce of the call or cell that a message belongs to: random, made by the host, so that code
which only writes to the pipe cannot speak for a cell. Many bytes go beside a message (see ``packed``).
"""

# Both directions have one name here: m.
# ruff: noqa: PLC0414

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from pyrepl3.isolate.frames import FrameError
from pyrepl3.isolate.orders import Ask as Ask
from pyrepl3.isolate.orders import Asks as Asks
from pyrepl3.isolate.orders import Audit as Audit
from pyrepl3.isolate.orders import Checkpoint as Checkpoint
from pyrepl3.isolate.orders import Close as Close
from pyrepl3.isolate.orders import Dialed as Dialed
from pyrepl3.isolate.orders import Fault as Fault
from pyrepl3.isolate.orders import Found as Found
from pyrepl3.isolate.orders import Given as Given
from pyrepl3.isolate.orders import Held as Held
from pyrepl3.isolate.orders import Mark as Mark
from pyrepl3.isolate.orders import Plugged as Plugged
from pyrepl3.isolate.orders import Restore as Restore
from pyrepl3.isolate.orders import Returned as Returned
from pyrepl3.isolate.orders import Room as Room
from pyrepl3.isolate.orders import Run as Run
from pyrepl3.isolate.orders import Setup as Setup
from pyrepl3.isolate.orders import Stop as Stop
from pyrepl3.isolate.orders import ToWorker as ToWorker
from pyrepl3.isolate.orders import Wire as _Message
from pyrepl3.isolate.orders import WireError as WireError
from pyrepl3.records import (
    Asked,
    Blocked,
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
