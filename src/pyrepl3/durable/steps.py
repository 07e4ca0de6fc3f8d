"""The Durability port on Resonate promises: what steps came to in, promises out; and back after a crash.

A cell, a step, a sleep and a question are a promise each, ``<cell>``, ``<cell>-<task path>-<n>``. They are
promises of our own, not children that the SDK numbers by the order of calls: that order is another one
each time in parallel code. While the process lives nothing is replayed: who waits, waits.

The SDK runs on a loop and thread of its own, which start, and load it, with the first step. Only its
client is used: values are bytes that we encode, retries are ours, and no code of a user runs on its loop.
"""

from __future__ import annotations

import asyncio
import base64
import threading
import time
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pyrepl3.durable.blobs import INLINE, Blobs
from pyrepl3.durable.promises import Promises, param_of
from pyrepl3.errors import DurabilityError
from pyrepl3.records import Asked, Kept, Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from resonate.transport import Message
    from resonate.types import PromiseRecord
    from resonate_base.connections import Network, Source

type Connect = Callable[[], tuple[Network, Sequence[Source]]]
"""Makes a connection to Resonate, not yet started. Called once, on the thread it will be used on."""


class ResonateDurability:
    """Keeps steps on Resonate promises, over the connection that ``connect`` makes. Any thread.

    ``name`` is the session's, by which its questions are found; ``folder`` is for results above 32 KiB.
    ``ordered``: the connection takes requests in the order in which they are sent to it.
    ``when_cancelled`` is told, on a thread of ours, that somebody cancelled the promise of a cell.
    """

    def __init__(self, connect: Connect, *, name: str, folder: Path, ordered: bool = False) -> None:
        self.when_cancelled: Callable[[str], object] = lambda _: None
        self._connect = connect
        self._name = name
        self._ordered = ordered
        self._blobs = Blobs(folder)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: Future[None] | None = None
        # On the loop's thread only:
        self._promises: Promises | None = None
        self._failed: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cells: dict[str, str] = {}  # by name: the key
        self._waiting: dict[str, asyncio.Future[PromiseRecord]] = {}
        self._left: dict[
            str, set[str]
        ] = {}  # by key: sleeps and questions, which may not have ended

    # --- the port -----------------------------------------------------------------------------------

    def open(self, cell: str, base: int) -> Future[Opened]:
        """A cell is about to make its first step."""
        return self._call(lambda promises: self._open(promises, cell, base))

    def find(self, step: str) -> Future[Kept | None]:
        """What a step came to; None: it is not finished."""
        return self._call(lambda promises: self._find(promises, step))

    def step(self, step: str, kept: Kept) -> Future[Kept]:
        """Keep a finished step; the first one counts."""
        return self._call(lambda promises: self._step(promises, step, kept))

    def sleep(self, step: str, mark: str, seconds: float) -> Future[tuple[str, float]]:
        """The mark of a sleep and when it ends, as first asked."""
        return self._call(lambda promises: self._sleep(promises, step, mark, seconds))

    def ask(self, step: str, asked: Asked) -> Future[Kept]:
        """Put a question; done once it is answered."""
        return self._call(lambda promises: self._ask(promises, step, asked))

    def asked(self) -> Future[tuple[Asked, ...]]:
        """The questions that wait for an answer, oldest first."""
        return self._call(self._asked)

    def answer(self, step: str, data: bytes) -> Future[bool]:
        """Answer a question. False: there is none, or it was answered."""
        return self._call(lambda promises: self._answer(promises, step, data))

    def cancel(self, cell: str) -> Future[bool]:
        """Cancel the promise of a cell."""
        return self._call(lambda promises: self._cancel(promises, cell))

    def settle(self, cell: str, epoch: int) -> Future[None]:
        """The epoch of a cell is on disk: its promise is resolved, what its steps have left may go."""
        return self._call(lambda promises: self._settle(promises, cell, epoch))

    def aclose(self) -> Future[None]:
        """Let go of connection and thread. What was not answered stays. Idempotent."""
        with self._lock:
            if self._closing is None:
                self._closing = Future()
                if self._loop is None:
                    self._closing.set_result(None)
                else:
                    self._loop.call_soon_threadsafe(self._loop.stop)
            return self._closing

    # --- the loop -----------------------------------------------------------------------------------

    def _call[T](self, work: Callable[[Promises], Coroutine[Any, Any, T]]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closing is not None:
                future.set_exception(DurabilityError("the session is closed: nothing is kept"))
                return future
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                name = f"pyrepl3-{self._name}-steps"
                threading.Thread(
                    target=self._serve, args=(self._loop,), name=name, daemon=True
                ).start()
            self._loop.call_soon_threadsafe(self._begin, work, future)
        return future

    def _begin(
        self, work: Callable[[Promises], Coroutine[Any, Any, Any]], future: Future[Any]
    ) -> None:
        task = asyncio.ensure_future(self._do(work, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(
        self, work: Callable[[Promises], Coroutine[Any, Any, Any]], future: Future[Any]
    ) -> None:
        try:
            if self._promises is None:
                raise DurabilityError(f"steps cannot be kept: {self._failed}")
            result = await work(self._promises)
        except DurabilityError as error:
            future.set_exception(error)
        except asyncio.CancelledError:
            future.set_exception(DurabilityError("the session was closed meanwhile"))
        except Exception as error:  # noqa: BLE001  of the SDK or the disk: translated here, once
            what = str(error) or type(error).__name__
            future.set_exception(DurabilityError(f"steps cannot be kept: {what}"))
        else:
            future.set_result(result)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            try:
                loop.run_until_complete(self._start())
            except Exception as error:  # noqa: BLE001  told to whoever wants a step
                self._failed = error
            loop.run_forever()
            loop.run_until_complete(self._stop())
        finally:
            loop.close()
            assert self._closing is not None
            self._closing.set_result(None)

    async def _start(self) -> None:
        network, sources = self._connect()
        promises = Promises(network, sources, self._hear, ordered=self._ordered)
        await promises.start()
        self._promises = promises

    async def _stop(self) -> None:
        await asyncio.sleep(0)  # what was sent before the end begins, to be told of it
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._promises is not None:
            await self._promises.stop()

    # --- on the loop ----------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        """A promise that we listen for was settled: a question, or a cell, by whoever cancels it."""
        promise = getattr(message, "promise", None)
        if promise is None:
            return
        waiting = self._waiting.pop(promise.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(promise)
        if promise.state == "rejected_canceled":
            for cell, key in list(self._cells.items()):
                if key == promise.id:
                    self.when_cancelled(cell)

    async def _open(self, promises: Promises, cell: str, base: int) -> Opened:
        # A later base than ours: somebody went back before it since, and these steps belong to another past.
        for key in (cell, f"{cell}-b{base}"):
            salt = uuid.uuid4().hex[:12]
            promise = await promises.create(key, {"base": base, "salt": salt}, self._tags("cell"))
            param = param_of(promise)
            if param["base"] <= base:
                break
        self._cells[cell] = key
        if promise.state == "rejected_canceled":
            self.when_cancelled(cell)
        elif promise.state == "pending":
            await promises.listen(key)
        return Opened(
            key=key,
            known=param["salt"] != salt,
            closed=promise.state == "resolved",
            salt=param["salt"],
        )

    async def _find(self, promises: Promises, step: str) -> Kept | None:
        promise = await promises.get(step)
        if promise is None or promise.state != "resolved":
            return None
        return await self._read(promise)

    async def _read(self, promise: PromiseRecord) -> Kept:
        value, mark = promise.value.data or {}, param_of(promise)["mark"]
        digest = value.get("blob")
        if digest is None:
            return Kept(mark=mark, data=base64.b64decode(value["data"]))
        data = await asyncio.to_thread(self._blobs.get, promise.id, digest)
        return Kept(mark=mark, data=data)

    async def _step(self, promises: Promises, step: str, kept: Kept) -> Kept:
        if len(kept.data) > INLINE:
            value = {"blob": await asyncio.to_thread(self._blobs.put, step, kept.data)}
        else:
            value = {"data": base64.b64encode(kept.data).decode("ascii")}
        promise = await promises.create_resolved(
            step, {"mark": kept.mark}, self._tags("step"), value
        )
        if promise.value.data == value and param_of(promise)["mark"] == kept.mark:
            return kept
        return await self._read(promise)

    async def _sleep(
        self, promises: Promises, step: str, mark: str, seconds: float
    ) -> tuple[str, float]:
        until = time.time() + seconds
        tags = {**self._tags("sleep"), "resonate:timer": "true"}
        param = {"mark": mark, "until": until}
        promise = await promises.create(step, param, tags, until=until)
        self._leave(step)
        kept = param_of(promise)
        return kept["mark"], kept["until"]

    async def _ask(self, promises: Promises, step: str, asked: Asked) -> Kept:
        param = {"mark": asked.mark, "prompt": asked.prompt, "choices": list(asked.choices)}
        promise = await promises.create(step, param, self._tags("ask"))
        self._leave(step)
        if promise.state == "pending":
            waiting = self._waiting.get(step)
            if waiting is None:
                waiting = self._waiting[step] = asyncio.get_running_loop().create_future()
            now = await promises.listen(step)
            if now.state != "pending" and not waiting.done():
                waiting.set_result(now)  # settled in between: nobody tells us
            await asyncio.shield(waiting)
            promise = await promises.get(step) or promise
        if promise.state != "resolved":
            raise DurabilityError(f"question {step} was withdrawn")
        return await self._read(promise)

    async def _asked(self, promises: Promises) -> tuple[Asked, ...]:
        found = await promises.search(self._tags("ask"))
        found.sort(key=lambda promise: (promise.created_at, promise.id))
        return tuple(
            Asked(
                id=promise.id,
                prompt=param_of(promise)["prompt"],
                choices=tuple(param_of(promise)["choices"]),
                mark=param_of(promise)["mark"],
            )
            for promise in found
        )

    async def _answer(self, promises: Promises, step: str, data: bytes) -> bool:
        promise = await promises.get(step)
        if promise is None or promise.state != "pending":
            return False
        if promise.tags.get("pyrepl3") != "ask":
            return False
        value = {"data": base64.b64encode(data).decode("ascii")}
        settled = await promises.resolve(step, value)
        return bool(settled.value.data == value)

    async def _cancel(self, promises: Promises, cell: str) -> bool:
        key = self._cells.get(cell)
        if key is None:
            return False
        return (await promises.cancel(key)).state == "rejected_canceled"

    async def _settle(self, promises: Promises, cell: str, epoch: int) -> None:
        key = self._cells.pop(cell, None)
        if key is None:
            return
        await promises.resolve(key, {"epoch": epoch})
        for step in self._left.pop(key, ()):
            await promises.cancel(step)  # one that has ended stays as it is
        await asyncio.to_thread(self._blobs.drop, key)

    def _leave(self, step: str) -> None:
        for key in self._cells.values():
            if step.startswith(f"{key}-"):
                self._left.setdefault(key, set()).add(step)

    def _tags(self, kind: str) -> dict[str, str]:
        return {"pyrepl3": kind, "pyrepl3:session": self._name}
