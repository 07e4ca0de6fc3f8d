"""Promises of the embedded Resonate server: no loop, no JSON envelope, one hop to its thread and back."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.durable.futures import On, drive
from pyrepl3.durable.promises import FOREVER, Found, decode, encode
from pyrepl3.durable.state.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSearch,
    PromiseSettle,
)
from pyrepl3.errors import DurabilityError

if TYPE_CHECKING:
    from pyrepl3.durable.embedded import Embedded
    from pyrepl3.durable.state.records import Promise
    from pyrepl3.durable.state.requests import Reply, SettledState

_PAGE = 1000


class _Wire(msgspec.Struct, frozen=True):
    data: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Wire).decode


class LocalPromises:
    """Promises in the file of ``embedded``, which this closes."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    def create(
        self, name: str, param: dict[str, Any], tags: dict[str, str], until: float | None = None
    ) -> Future[Found]:
        """The promise, made if there is none."""
        return drive(self._found(self._embedded.request(_creation(name, param, tags, until))))

    def get(self, name: str) -> Future[Found | None]:
        """The promise; None: there is none."""
        return drive(self._get(self._embedded.request(PromiseGet(id=name))))

    def create_resolved(
        self, name: str, param: dict[str, Any], tags: dict[str, str], value: dict[str, Any]
    ) -> Future[Found]:
        """The promise, made if there is none, resolved if it was not settled before."""
        # Both go into one commit, the first without an answer of its own: it is made again if it is lost.
        made = {**tags, "resonate:scope": "local"}
        self._embedded.request(_creation(name, param, made, None))
        return self._settle(name, "resolved", value)

    def resolve(self, name: str, value: dict[str, Any]) -> Future[Found]:
        """The promise, resolved if it was not settled before."""
        return self._settle(name, "resolved", value)

    def cancel(self, name: str) -> Future[Found]:
        """The promise, cancelled if it was not settled before."""
        return self._settle(name, "rejected_canceled", {})

    def settled(self, name: str) -> Future[Found]:
        """Done when the promise is settled."""
        return drive(self._settled(self._embedded.settled(name)))

    def search(self, tags: dict[str, str]) -> Future[list[Found]]:
        """All pending promises with these tags."""
        return drive(self._search(tags))

    def forget(self, prefix: str) -> Future[None]:
        """Remove the promises whose names start so."""
        return self._embedded.forget(prefix)

    def collect(self, older: float) -> Future[int]:
        """Remove what was settled that many seconds ago, whole cells only."""
        return self._embedded.collect(older)

    def close(self) -> Future[None]:
        """Close the file; blocks for some ms."""
        end: Future[None] = Future()
        self._embedded.close()
        end.set_result(None)
        return end

    def _settle(self, name: str, state: SettledState, value: dict[str, Any]) -> Future[Found]:
        request = PromiseSettle(id=name, state=state, value=_raw(value))
        return drive(self._found(self._embedded.request(request)))

    async def _found(self, asked: Future[Reply]) -> Found:
        return found_in(_checked(await On(asked))["promise"])

    async def _get(self, asked: Future[Reply]) -> Found | None:
        reply = await On(asked)
        return None if reply.status == 404 else found_in(_checked(reply)["promise"])

    async def _settled(self, asked: Future[Promise]) -> Found:
        return found_in(await On(asked))

    async def _search(self, tags: dict[str, str]) -> list[Found]:
        found: list[Found] = []
        cursor: str | None = None
        while True:
            request = PromiseSearch(state="pending", tags=tags, limit=_PAGE, cursor=cursor)
            page = _checked(await On(self._embedded.request(request)))
            found += map(found_in, page["promises"])
            cursor = page["cursor"]
            if cursor is None:
                return found


def _creation(
    name: str, param: dict[str, Any], tags: dict[str, str], until: float | None
) -> PromiseCreate:
    end = time.time() + FOREVER if until is None else until
    return PromiseCreate(id=name, timeout_at=int(end * 1000), param=_raw(param), tags=tags)


def _raw(value: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode(_Wire(encode(value))))


def _checked(reply: Reply) -> Any:
    if reply.status >= 400:
        raise DurabilityError(f"steps cannot be kept: {reply.data}")
    return reply.data


def found_in(promise: Promise) -> Found:
    """A promise of the state machine, its values read."""
    return Found(
        promise.id,
        promise.state,
        decode(_decode(promise.param).data),
        decode(_decode(promise.value).data),
        promise.tags,
        promise.created_at,
    )
