"""The Durability port on Resonate promises: what steps came to in, promises out; and back after a crash.

A cell, a step, a sleep and a question are a promise each: ``<cell>``, ``<cell>-<task path>-<n>``. They are
promises of our own, not children that the SDK numbers by the order of calls: that order is another one
each time in parallel code. While the process lives nothing is replayed: who waits, waits.
"""

from __future__ import annotations

import base64
import os
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrepl3.durable.blobs import INLINE, Blobs
from pyrepl3.durable.futures import On, drive
from pyrepl3.errors import DurabilityError
from pyrepl3.records import Asked, Kept, Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pyrepl3.durable.promises import Found, Promises

KEPT = 7 * 24 * 3600.0
"""Seconds for which the promise of a cell that ended otherwise than by its epoch (cancelled, or cut between
its end and its removal) is kept, with its steps. What its epoch has ended goes at once."""

_LAST = 2.0  # seconds that closing waits for what is being removed
_NUMBERED = re.compile(r".*-c([0-9]+)-[0-9a-f]{8}(?:-[br][0-9a-f]+)?")


class ResonateDurability:
    """Keeps steps on the promises that ``connect`` opens, at the first step. Any thread.

    ``name`` is the session's, by which its questions are found; ``folder`` is for results above 32 KiB.
    ``identity`` gives what sets its promises apart from those of a session of the same name elsewhere.
    ``when_cancelled`` is told, on a thread of ours, that somebody cancelled the promise of a cell.
    """

    def __init__(
        self,
        connect: Callable[[], Promises],
        *,
        name: str,
        folder: Path,
        identity: Callable[[], str] = lambda: "",
    ) -> None:
        self.when_cancelled: Callable[[str], object] = lambda _: None
        self._connect = connect
        self._name = name
        self._identity = identity
        self._prefix = ""
        self._blobs = Blobs(folder)
        self._lock = threading.Lock()
        self._promises: Promises | None = None
        self._pool: ThreadPoolExecutor | None = (
            None  # for files, which must not hold the connection up
        )
        self._closing: Future[None] | None = None
        self._settling: set[Future[None]] = set()
        self._swept = False
        self._cells: dict[str, str] = {}  # by name: the key. Replaced in one go, read on any thread
        self._left: dict[str, set[str]] = {}  # by key: questions that wait
        self._putting: set[Future[Found]] = set()  # questions on their way to the server

    # --- the port -----------------------------------------------------------------------------------

    def open(self, cell: str, base: int) -> Future[Opened]:
        """A cell is about to make its first step."""
        return self._do(lambda promises: self._open(promises, cell, base))

    def find(self, step: str) -> Future[Kept | None]:
        """What a step came to; None: it is not finished."""
        return self._do(lambda promises: self._find(promises, step))

    def step(self, step: str, kept: Kept) -> Future[Kept]:
        """Keep a finished step; the first one counts."""
        return self._do(lambda promises: self._step(promises, step, kept))

    def sleep(self, step: str, mark: str, seconds: float) -> Future[tuple[str, float]]:
        """The mark of a sleep and when it ends, as first asked."""
        return self._do(lambda promises: self._sleep(promises, step, mark, seconds))

    def ask(self, step: str, asked: Asked) -> Future[Kept]:
        """Put a question; done once it is answered."""
        return self._do(lambda promises: self._ask(promises, step, asked))

    def asked(self) -> Future[tuple[Asked, ...]]:
        """The questions that wait for an answer, oldest first."""
        return self._do(self._asked)

    def answer(self, step: str, data: bytes) -> Future[bool]:
        """Answer a question. False: there is none, or it was answered."""
        return self._do(lambda promises: self._answer(promises, step, data))

    def cancel(self, cell: str) -> Future[bool]:
        """Cancel the promise of a cell."""
        return self._do(lambda promises: self._cancel(promises, cell))

    def settle(self, cell: str, epoch: int) -> Future[None]:
        """The epoch of a cell is on disk: its promise is resolved, what its steps have left may go."""
        with self._lock:
            if cell not in self._cells:
                return _done()
        settling = self._do(lambda promises: self._settle(promises, cell, epoch))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        return settling

    def aclose(self) -> Future[None]:
        """Let go of the connection. What was not answered stays. Idempotent."""
        with self._lock:
            if self._closing is None:
                self._closing = Future()
                if self._promises is None:
                    self._closing.set_result(None)
                else:
                    threading.Thread(target=self._close, name=f"pyrepl3-{self._name}-end").start()
            return self._closing

    def _close(self) -> None:
        """What cells have left is removed first, if that does not take too long."""
        assert self._promises is not None
        assert self._closing is not None
        wait(list(self._settling), timeout=_LAST)
        self._promises.close().result()
        if self._pool is not None:
            self._pool.shutdown()
        self._closing.set_result(None)

    def _do[T](self, work: Callable[[Promises], Coroutine[Future[Any], None, T]]) -> Future[T]:
        try:
            promises = self._open_promises()
        except Exception as error:  # noqa: BLE001  of the disk or the SDK: told to whoever waits
            failed: Future[T] = Future()
            if not isinstance(error, DurabilityError):
                error = DurabilityError(f"steps cannot be kept: {error}")
            failed.set_exception(error)
            return failed
        return drive(work(promises))

    def _open_promises(self) -> Promises:
        with self._lock:
            if self._closing is not None:
                raise DurabilityError("the session is closed: nothing is kept")
            if self._promises is None:
                identity = self._identity()
                self._prefix = f"{identity}-" if identity else ""
                self._promises = self._connect()
            return self._promises

    def _in_pool[T](self, function: Callable[[], T]) -> On[T]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, f"pyrepl3-{self._name}-files")
            return On(self._pool.submit(function))

    # --- on whichever thread it goes on -----------------------------------------------------------------

    async def _open(self, promises: Promises, cell: str, base: int) -> Opened:
        salt = os.urandom(6).hex()
        # A later base than ours: somebody went back before it since, and these steps belong to another past.
        first = f"{self._prefix}{cell}"
        for key in (first, f"{first}-b{base}", f"{first}-r{salt}"):
            param = {"base": base, "salt": salt}
            found = await On(promises.create(key, param, self._tags("cell")))
            if found.state != "resolved" and found.param["base"] <= base:
                break
        with self._lock:
            self._cells = {**self._cells, cell: key}
        if found.state == "pending":
            promises.settled(key).add_done_callback(lambda end: self._hear(cell, end))
        else:
            self.when_cancelled(cell)
        return Opened(key=key, known=found.param["salt"] != salt, salt=found.param["salt"])

    def _hear(self, cell: str, end: Future[Found]) -> None:
        """The promise of a cell has an end."""
        if end.exception() is None and end.result().state == "rejected_canceled":
            if cell in self._cells:
                self.when_cancelled(cell)

    async def _find(self, promises: Promises, step: str) -> Kept | None:
        found = await On(promises.get(step))
        if found is None or found.state != "resolved":
            return None
        return await self._read(found)

    async def _read(self, found: Found) -> Kept:
        mark, digest = found.param["mark"], found.value.get("blob")
        if digest is None:
            return Kept(mark=mark, data=base64.b64decode(found.value["data"]))
        data = await self._in_pool(lambda: self._blobs.get(found.id, digest))
        return Kept(mark=mark, data=data)

    async def _step(self, promises: Promises, step: str, kept: Kept) -> Kept:
        if self._key_of(step) is None:
            return kept  # its cell is on disk: nobody would ever ask for it
        if len(kept.data) > INLINE:
            value = {"blob": await self._in_pool(lambda: self._blobs.put(step, kept.data))}
        else:
            value = {"data": base64.b64encode(kept.data).decode("ascii")}
        param = {"mark": kept.mark}
        found = await On(promises.create_resolved(step, param, self._tags("step"), value))
        if found.value == value and found.param == param:
            return kept
        return await self._read(found)

    async def _sleep(
        self, promises: Promises, step: str, mark: str, seconds: float
    ) -> tuple[str, float]:
        until = time.time() + seconds
        if self._key_of(step) is None:
            return mark, until
        tags = {**self._tags("sleep"), "resonate:timer": "true"}
        param = {"mark": mark, "until": until}
        found = await On(promises.create(step, param, tags, until))
        return found.param["mark"], found.param["until"]

    async def _ask(self, promises: Promises, step: str, asked: Asked) -> Kept:
        key = self._key_of(step)
        if key is None:
            raise DurabilityError("a task cannot ask once the cell that started it is over")
        self._left.setdefault(key, set()).add(step)
        param = {"mark": asked.mark, "prompt": asked.prompt, "choices": list(asked.choices)}
        putting = promises.create(step, param, self._tags("ask"))
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)
        found = await On(putting)
        if found.state == "pending":
            found = await On(promises.settled(step))
        self._left.get(key, set()).discard(step)
        if found.state != "resolved":
            raise DurabilityError(f"question {step} was withdrawn")
        return await self._read(found)

    async def _put(self) -> None:
        """Until the questions are there that were asked before this: people are told of them at once."""
        for putting in list(self._putting):
            with suppress(Exception):  # told to whoever asks
                await On(putting)

    async def _asked(self, promises: Promises) -> tuple[Asked, ...]:
        await self._put()
        found = await On(promises.search(self._tags("ask")))
        found.sort(key=lambda promise: (promise.created, promise.id))
        return tuple(
            Asked(
                id=promise.id,
                prompt=promise.param["prompt"],
                choices=tuple(promise.param["choices"]),
                mark=promise.param["mark"],
            )
            for promise in found
        )

    async def _answer(self, promises: Promises, step: str, data: bytes) -> bool:
        await self._put()
        found = await On(promises.get(step))
        if found is None or found.state != "pending" or found.tags.get("pyrepl3") != "ask":
            return False
        value = {"data": base64.b64encode(data).decode("ascii"), "nonce": os.urandom(8).hex()}
        return (await On(promises.resolve(step, value))).value == value

    async def _cancel(self, promises: Promises, cell: str) -> bool:
        key = self._cells.get(cell)
        if key is None:
            return False
        return (await On(promises.cancel(key))).state == "rejected_canceled"

    async def _settle(self, promises: Promises, cell: str, epoch: int) -> None:
        with self._lock:
            key = self._cells.get(cell)
            self._cells = {name: each for name, each in self._cells.items() if name != cell}
        if key is None:
            return
        await On(promises.resolve(key, {"epoch": epoch}))
        # A task may wait for them yet. At once with the removal: one sync of the disk is enough.
        await self._remove(promises, key, *map(promises.cancel, self._left.pop(key, ())))
        if not self._swept:
            self._swept = True
            await self._sweep(promises, key)
            await self._collect(promises)

    async def _sweep(self, promises: Promises, settled: str) -> None:
        """What cells that a crash has cut have left goes too, once their number is another cell's."""
        match = _NUMBERED.fullmatch(settled)
        if match is None:
            return
        for found in await On(promises.search(self._tags("cell"))):
            other = _NUMBERED.fullmatch(found.id)
            if other is None or int(other[1]) > int(match[1]):
                continue
            if found.id not in self._cells.values():
                await self._remove(promises, found.id, promises.cancel(found.id))

    async def _collect(self, promises: Promises) -> None:
        """What ended long ago goes, whatever left it."""
        if not await On(promises.collect(KEPT)) or not self._blobs.folder.exists():
            return
        for step in await self._in_pool(self._blobs.steps):
            if await On(promises.get(step)) is None and self._key_of(step) is None:
                await self._in_pool(partial(self._blobs.remove, step))

    async def _remove(self, promises: Promises, key: str, *ends: Future[Any]) -> None:
        """Let go of what a cell has left, once its promises have their ends."""
        for end in (*ends, promises.forget(key)):
            await On(end)
        if self._blobs.folder.exists():
            await self._in_pool(lambda: self._blobs.drop(key))

    def _key_of(self, step: str) -> str | None:
        """The key of the cell that a step is of; None: it is over."""
        for key in self._cells.values():
            if step.startswith(f"{key}-"):
                return key
        return None

    def _tags(self, kind: str) -> dict[str, str]:
        return {"pyrepl3": kind, "pyrepl3:session": f"{self._prefix}{self._name}"}


def _done() -> Future[None]:
    end: Future[None] = Future()
    end.set_result(None)
    return end
