"""A connection to Resonate in, a client of its promises out, whose values are dicts of ours.

Only the parts of the SDK that this needs are loaded, when a connection is made.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resonate.codec import Codec
    from resonate.send import Sender
    from resonate.transport import Message
    from resonate.types import PromiseRecord
    from resonate_base.connections import Network, Source

_FOREVER = 100 * 365 * 24 * 3600 * 1000  # milliseconds until a promise without an end times out
_PAGE = 100


class Promises:
    """The SDK's client of promises, with our values in its encoding. On the loop that it was made on.

    ``ordered``: the connection takes what is sent in the order in which it was sent.
    """

    def __init__(
        self,
        network: Network,
        sources: Sequence[Source],
        hear: Callable[[Message], None],
        *,
        ordered: bool = False,
    ) -> None:
        # Not resonate itself, which loads aiohttp and more: these take a tenth of a second less.
        from resonate.codec import Codec, NoopEncryptor  # noqa: PLC0415
        from resonate.send import Sender  # noqa: PLC0415
        from resonate.transport import Transport  # noqa: PLC0415

        self._connections: list[Any] = list(dict.fromkeys([*sources, network]))
        self._ordered = ordered
        self._address = sources[0].unicast()
        transport = Transport(network, sources)
        transport.recv(hear)
        self._sender: Sender = Sender(transport, None)
        self._codec: Codec = Codec(NoopEncryptor())

    async def start(self) -> None:
        """Open the connections."""
        for connection in self._connections:
            await connection.start()

    async def stop(self) -> None:
        """Close them."""
        for connection in self._connections:
            await connection.stop()

    async def create(
        self, name: str, param: dict[str, Any], tags: dict[str, str], *, until: float | None = None
    ) -> PromiseRecord:
        """The promise, made if there is none. ``until``: when it times out, in seconds."""
        from resonate.types import PromiseCreateReq  # noqa: PLC0415

        now = int(time.time() * 1000)
        request = PromiseCreateReq(
            id=name,
            timeout_at=now + _FOREVER if until is None else int(until * 1000),
            param=self._codec.encode(param),
            tags=tags,
        )
        return self._codec.decode_promise(await self._sender.promise_create(request))

    async def get(self, name: str) -> PromiseRecord | None:
        """The promise; None: there is none."""
        from resonate.error import ServerError  # noqa: PLC0415

        try:
            return self._codec.decode_promise(await self._sender.promise_get(name))
        except ServerError as error:
            if error.code == 404:
                return None
            raise

    async def resolve(self, name: str, value: dict[str, Any]) -> PromiseRecord:
        """The promise, resolved with ``value`` unless it was settled before."""
        return await self._end(name, "resolved", value)

    async def create_resolved(
        self, name: str, param: dict[str, Any], tags: dict[str, str], value: dict[str, Any]
    ) -> PromiseRecord:
        """The same, made first if there is none."""
        if not self._ordered:
            await self.create(name, param, tags)
            return await self.resolve(name, value)
        # Sent together they are written together: one sync of the disk for both.
        _, settled = await asyncio.gather(self.create(name, param, tags), self.resolve(name, value))
        return settled

    async def cancel(self, name: str) -> PromiseRecord:
        """The promise, cancelled unless it was settled before."""
        return await self._end(name, "rejected_canceled", {})

    async def _end(self, name: str, state: Any, value: dict[str, Any]) -> PromiseRecord:
        from resonate.types import PromiseSettleReq  # noqa: PLC0415

        request = PromiseSettleReq(id=name, state=state, value=self._codec.encode(value))
        return self._codec.decode_promise(await self._sender.promise_settle(request))

    async def listen(self, name: str) -> PromiseRecord:
        """The promise as it is now; we are told when it is settled."""
        found = await self._sender.promise_register_listener(name, self._address)
        return self._codec.decode_promise(found)

    async def search(self, tags: dict[str, str]) -> list[PromiseRecord]:
        """All pending promises with these tags."""
        found: list[PromiseRecord] = []
        cursor = None
        while True:
            page = await self._sender.promise_search("pending", tags, _PAGE, cursor)
            found += map(self._codec.decode_promise, page.promises)
            cursor = page.cursor
            if cursor is None:
                return found


def param_of(promise: PromiseRecord) -> dict[str, Any]:
    """What a promise was created with."""
    found: dict[str, Any] = promise.param.data or {}
    return found
