"""Promises of a Resonate server somewhere else: the SDK's client on a loop and thread of its own.

Only its client: retries are ours, values are encoded by us, and no code of a user runs on its loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrepl3.durable.promises import FOREVER, Found, decode, encode
from pyrepl3.errors import DurabilityError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from resonate.send import Sender
    from resonate.transport import Message
    from resonate.types import PromiseRecord
    from resonate_base.connections import Network, Source

type Connect = Callable[[], tuple[Network, Sequence[Source]]]
"""Makes a connection to Resonate, not yet started. Called once, on the thread it will be used on."""

_PAGE = 100
_AGAIN = 60.0  # seconds until a listener is registered anew: the server may have lost it


def connect_to(url: str) -> Connect:
    """How to reach the Resonate server at ``url``."""

    def connect() -> tuple[Network, Sequence[Source]]:
        from resonate.connections import HttpConnection, SSEConnection  # noqa: PLC0415

        token = os.environ.get("RESONATE_TOKEN")  # as the SDK has it
        name = os.urandom(8).hex()
        listening = SSEConnection(url, group="pyrepl3", pid=name, auth=token)
        return HttpConnection(url, token), (listening,)

    return connect


def identity_of(folder: Path) -> str:
    """What tells the session in ``folder`` from others of its name on the same server; made once."""
    path = folder / "identity"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f"identity.{os.getpid()}"
        with part.open("x") as file:
            file.write(os.urandom(5).hex())
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(part)  # whole, or not at all
        finally:
            part.unlink()
    return path.read_text()


class RemotePromises:
    """Promises over the connection that ``connect`` makes, which this closes."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._closing: Future[None] | None = None
        self._failed: BaseException | None = None
        self._sender: Sender | None = None
        self._address = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="pyrepl3-resonate", daemon=True).start()

    def create(
        self, name: str, param: dict[str, Any], tags: dict[str, str], until: float | None = None
    ) -> Future[Found]:
        """The promise, made if there is none."""
        return self._call(lambda sender: _create(sender, name, param, tags, until))

    def get(self, name: str) -> Future[Found | None]:
        """The promise; None: there is none."""
        return self._call(lambda sender: _get(sender, name))

    def create_resolved(
        self, name: str, param: dict[str, Any], tags: dict[str, str], value: dict[str, Any]
    ) -> Future[Found]:
        """The promise, made if there is none, resolved if it was not settled before."""

        async def both(sender: Sender) -> Found:
            made = await _create(sender, name, param, tags, None)
            return made if made.state != "pending" else await _settle(sender, name, value)

        return self._call(both)

    def resolve(self, name: str, value: dict[str, Any]) -> Future[Found]:
        """The promise, resolved if it was not settled before."""
        return self._call(lambda sender: _settle(sender, name, value))

    def cancel(self, name: str) -> Future[Found]:
        """The promise, cancelled if it was not settled before."""
        return self._call(lambda sender: _settle(sender, name, {}, "rejected_canceled"))

    def settled(self, name: str) -> Future[Found]:
        """Done when the promise is settled."""
        return self._call(lambda sender: self._settled(sender, name))

    def search(self, tags: dict[str, str]) -> Future[list[Found]]:
        """All pending promises with these tags."""
        return self._call(lambda sender: _search(sender, tags))

    def forget(self, prefix: str) -> Future[None]:  # noqa: ARG002  the server cannot be asked to
        """Nothing: a server keeps what is settled as long as it sees fit."""
        end: Future[None] = Future()
        end.set_result(None)
        return end

    def collect(self, older: float) -> Future[int]:  # noqa: ARG002  the server cannot be asked to
        """Nothing: a server keeps what is settled as long as it sees fit."""
        end: Future[int] = Future()
        end.set_result(0)
        return end

    def close(self) -> Future[None]:
        """Let go of connection and thread. Idempotent."""
        with self._lock:
            if self._closing is None:
                self._closing = Future()
                self._loop.call_soon_threadsafe(self._loop.stop)
            return self._closing

    # --- the loop -----------------------------------------------------------------------------------

    def _call[T](self, work: Callable[[Sender], Coroutine[Any, Any, T]]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closing is None:
                self._loop.call_soon_threadsafe(self._begin, work, future)
                return future
        future.set_exception(DurabilityError("the session is closed: nothing is kept"))
        return future

    def _begin(self, work: Callable[[Sender], Coroutine[Any, Any, Any]], end: Future[Any]) -> None:
        task = asyncio.ensure_future(self._do(work, end))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(
        self, work: Callable[[Sender], Coroutine[Any, Any, Any]], end: Future[Any]
    ) -> None:
        try:
            if self._sender is None:
                raise DurabilityError(f"Resonate cannot be reached: {self._failed}")
            result = await work(self._sender)
        except asyncio.CancelledError:
            end.set_exception(DurabilityError("the session was closed meanwhile"))
        except Exception as error:  # noqa: BLE001  whoever waits is told
            end.set_exception(error)
        else:
            end.set_result(result)

    def _serve(self) -> None:
        loop = self._loop
        connections: list[Any] = []
        try:
            try:
                loop.run_until_complete(self._start(connections))
            except Exception as error:  # noqa: BLE001  told to whoever wants something
                self._failed = error
            loop.run_forever()
            loop.run_until_complete(self._stop(connections))
        finally:
            loop.close()
            assert self._closing is not None
            self._closing.set_result(None)

    async def _start(self, connections: list[Any]) -> None:
        # Not resonate itself, which loads more than its client needs.
        from resonate.send import Sender  # noqa: PLC0415
        from resonate.transport import Transport  # noqa: PLC0415

        network, sources = self._connect()
        connections += dict.fromkeys([*sources, network])
        transport = Transport(network, sources)
        transport.recv(self._hear)
        for connection in connections:
            await connection.start()
        self._address = sources[0].unicast()
        self._sender = Sender(transport, None)

    async def _stop(self, connections: list[Any]) -> None:
        await asyncio.sleep(0)  # what was asked before the end begins, to be told of it
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in connections:
            await connection.stop()

    def _hear(self, message: Message) -> None:
        promise = getattr(message, "promise", None)
        waiting = None if promise is None else self._waiting.pop(promise.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _settled(self, sender: Sender, name: str) -> Found:
        while True:
            waiting = self._waiting.get(name)
            if waiting is None:
                waiting = self._waiting[name] = asyncio.get_running_loop().create_future()
            found = await sender.promise_register_listener(name, self._address)
            if found.state != "pending":
                return _found(found)
            await asyncio.wait([waiting], timeout=_AGAIN)


async def _create(
    sender: Sender, name: str, param: dict[str, Any], tags: dict[str, str], until: float | None
) -> Found:
    from resonate.types import PromiseCreateReq, Value  # noqa: PLC0415

    end = time.time() + FOREVER if until is None else until
    value = Value(data=encode(param))
    request = PromiseCreateReq(id=name, timeout_at=int(end * 1000), param=value, tags=tags)
    return _found(await sender.promise_create(request))


async def _get(sender: Sender, name: str) -> Found | None:
    from resonate.error import ServerError  # noqa: PLC0415

    try:
        return _found(await sender.promise_get(name))
    except ServerError as error:
        if error.code == 404:
            return None
        raise


async def _settle(
    sender: Sender, name: str, value: dict[str, Any], state: Any = "resolved"
) -> Found:
    from resonate.types import PromiseSettleReq, Value  # noqa: PLC0415

    request = PromiseSettleReq(id=name, state=state, value=Value(data=encode(value)))
    return _found(await sender.promise_settle(request))


async def _search(sender: Sender, tags: dict[str, str]) -> list[Found]:
    found: list[Found] = []
    cursor = None
    while True:
        page = await sender.promise_search("pending", tags, _PAGE, cursor)
        found += map(_found, page.promises)
        cursor = page.cursor
        if cursor is None:
            return found


def _found(promise: PromiseRecord) -> Found:
    return Found(
        promise.id,
        promise.state,
        decode(promise.param.data),
        decode(promise.value.data),
        promise.tags,
        promise.created_at,
    )
