"""What is asked of Resonate's promises, whichever connection it goes over; and their values as plain dicts.

A value is JSON in base64, as the SDK's own encoding has it, so that its other tools can read it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from concurrent.futures import Future

FOREVER = 100 * 365 * 24 * 3600.0
"""Seconds until a promise without an end times out."""


class Found(NamedTuple):
    """A promise as it is. ``state``: pending, resolved, rejected_canceled, …; ``created`` in ms."""

    id: str
    state: str
    param: dict[str, Any]
    value: dict[str, Any]
    tags: dict[str, str]
    created: int


class Promises(Protocol):
    """Promises of a Resonate server. Every method returns at once, on any thread."""

    def create(
        self, name: str, param: dict[str, Any], tags: dict[str, str], until: float | None = None
    ) -> Future[Found]:
        """The promise, made if there is none. ``until``: when it times out, in seconds since 1970."""
        ...

    def get(self, name: str) -> Future[Found | None]:
        """The promise; None: there is none."""
        ...

    def create_resolved(
        self, name: str, param: dict[str, Any], tags: dict[str, str], value: dict[str, Any]
    ) -> Future[Found]:
        """The promise, made if there is none, resolved if it was not settled before."""
        ...

    def resolve(self, name: str, value: dict[str, Any]) -> Future[Found]:
        """The promise, resolved if it was not settled before."""
        ...

    def cancel(self, name: str) -> Future[Found]:
        """The promise, cancelled if it was not settled before."""
        ...

    def settled(self, name: str) -> Future[Found]:
        """Done when the promise is settled, with what it came to."""
        ...

    def search(self, tags: dict[str, str]) -> Future[list[Found]]:
        """All pending promises with these tags."""
        ...

    def forget(self, prefix: str) -> Future[None]:
        """Promises whose names start so are needed no more: they go, where that can be asked for."""
        ...

    def collect(self, older: float) -> Future[int]:
        """Remove what was settled ``older`` seconds ago or more, where that can be asked for; how many went.

        Finished steps of a cell that is not over stay.
        """
        ...

    def close(self) -> Future[None]:
        """Let go."""
        ...


_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def encode(value: dict[str, Any]) -> str:
    """A value as the SDK's codec writes it."""
    return base64.b64encode(_encode_json(value)).decode("ascii")


def decode(data: str | None) -> dict[str, Any]:
    """A value as the SDK's codec reads it; nothing is an empty dict."""
    if not data:
        return {}
    found = _decode_json(base64.b64decode(data))
    return found if isinstance(found, dict) else {}
