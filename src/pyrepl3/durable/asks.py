"""What is asked of the thread that owns durable state, and the way that answers and messages go back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple, assert_never

import msgspec

from pyrepl3.durable.state.records import Change, Created, Execute, Message, Unblock


class Ask(NamedTuple):
    """Something that is asked of the thread, and where its answer goes. ``loop``: the future's, if any."""

    what: Any
    future: Any
    loop: asyncio.AbstractEventLoop | None


class Watch(NamedTuple):
    """Answer when the promise is settled."""

    id: str


class Forget(NamedTuple):
    """Remove the promises whose ids start so."""

    prefix: str


class Collect(NamedTuple):
    """Remove promises that were settled up to this time (ms)."""

    before: int


class Announce(NamedTuple):
    """Send word of all tasks that wait."""


class Close(NamedTuple):
    """Answer what has come in, and end."""


class Nudge(NamedTuple):
    """Look at the clock."""


def is_made_again(change: Change) -> bool:
    """Whether this is a promise that whoever made it makes again if it is gone."""
    return (
        isinstance(change, Created)
        and change.task is None
        and change.promise.tags.get("resonate:scope") == "local"
    )


def encode(message: Message) -> str:
    """The message as JSON of the Resonate protocol."""
    data: dict[str, Any]
    match message:
        case Execute(_, id_, version):
            kind, data = "execute", {"task": {"id": id_, "version": version}}
        case Unblock(_, promise):
            kind, data = "unblock", {"promise": promise}
        case _:
            assert_never(message)
    return msgspec.json.encode({"kind": kind, "head": {}, "data": data}).decode()


def tell(answers: list[tuple[Ask, Any]]) -> None:
    """Give answers, or the errors that are in their places, to whoever asked."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for ask, answer in answers:
        if ask.loop is not None:
            loops.setdefault(ask.loop, []).append((ask.future, answer))
        elif isinstance(answer, BaseException):
            ask.future.set_exception(answer)
        else:
            ask.future.set_result(answer)
    for loop, told in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_set_all, told)


def _set_all(told: list[tuple[Any, Any]]) -> None:
    for future, answer in told:
        if future.done():
            continue  # whoever asked was cancelled
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
