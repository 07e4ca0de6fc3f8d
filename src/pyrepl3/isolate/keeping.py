"""The Durability port across the pipe: in the worker calls to messages, in the host messages to calls.

No worker loads resonate: what steps came to goes to the host as opaque bytes, which keeps it.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import DurabilityError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.failures import from_wire, to_wire
from pyrepl3.isolate.frames import FrameError
from pyrepl3.records import Asked, Kept, Opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.ports import Durability

_KINDS: dict[str, Any] = {
    "open": Opened,
    "find": Kept | None,
    "step": Kept,
    "sleep": tuple[str, float],
    "ask": Kept,
}
"""What comes back of each call."""


class Forwarded:
    """The Durability of a worker: what cells need of it. Any thread."""

    def __init__(self, send: Callable[[m.ToHost], None]) -> None:
        self.when_cancelled: Callable[[str], object] = lambda _: None
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Any, Future[Any]]] = {}

    def open(self, cell: str, base: int) -> Future[Opened]:
        """A cell is about to make its first step."""
        return self._call("open", cell, base=base)

    def find(self, step: str) -> Future[Kept | None]:
        """What a step came to."""
        return self._call("find", step)

    def step(self, step: str, kept: Kept) -> Future[Kept]:
        """Keep a finished step."""
        return self._call("step", step, kept=kept)

    def sleep(self, step: str, mark: str, seconds: float) -> Future[tuple[str, float]]:
        """The mark of a sleep and when it ends."""
        return self._call("sleep", step, mark=mark, seconds=seconds)

    def ask(self, step: str, asked: Asked) -> Future[Kept]:
        """Put a question."""
        return self._call("ask", step, asked=asked)

    def asked(self) -> Future[tuple[Asked, ...]]:
        """Only the host is asked that."""
        return _failed("open questions are listed by the host of a worker")

    def answer(self, step: str, data: bytes) -> Future[bool]:  # noqa: ARG002  the port's
        """Only the host answers."""
        return _failed("questions are answered by the host of a worker")

    def cancel(self, cell: str) -> Future[bool]:  # noqa: ARG002  the port's
        """Only the host cancels."""
        return _failed("cells are cancelled by the host of a worker")

    def settle(self, cell: str, epoch: int) -> Future[None]:  # noqa: ARG002  the port's
        """The host knows when an epoch is on disk."""
        return _failed("epochs are kept by the host of a worker")

    def aclose(self) -> Future[None]:
        """Nothing is held here."""
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def take(self, answer: m.Held) -> None:
        """The host has answered."""
        if answer.n not in self._waiting:
            return
        kind, future = self._waiting.pop(answer.n)
        if answer.error is not None:
            future.set_exception(from_wire(answer.error))
        else:
            future.set_result(m.unpack(answer.data, kind))

    def _call(self, what: m.Keeps, name: str, **arguments: Any) -> Future[Any]:
        n, future = next(self._numbers), Future[Any]()
        self._waiting[n] = _KINDS[what], future
        try:
            self._send(m.Keep(n=n, what=what, name=name, **arguments))
        except FrameError as error:
            del self._waiting[n]
            future.set_exception(DurabilityError(f"it cannot be handed to the host: {error}"))
        return future


def _failed(text: str) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(DurabilityError(text))
    return future


def hand_on(durability: Durability, keep: m.Keep, reply: Callable[[m.Held], None]) -> None:
    """Do in the host what a worker asks for, and reply when it is done. Returns at once.

    Raises FrameError for a call without its arguments.
    """
    future: Future[Any]
    match keep:
        case m.Keep(what="open"):
            future = durability.open(keep.name, keep.base)
        case m.Keep(what="find"):
            future = durability.find(keep.name)
        case m.Keep(what="step", kept=Kept() as kept):
            future = durability.step(keep.name, kept)
        case m.Keep(what="sleep"):
            future = durability.sleep(keep.name, keep.mark, keep.seconds)
        case m.Keep(what="ask", asked=Asked() as asked):
            future = durability.ask(keep.name, asked)
        case _:
            raise FrameError("something is to be kept, and it does not say what")

    def done(future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled():
            error = DurabilityError("the session was closed")
        if error is not None:
            reply(m.Held(n=keep.n, error=to_wire(error)))
        else:
            reply(m.Held(n=keep.n, data=m.pack(future.result())))

    future.add_done_callback(done)
