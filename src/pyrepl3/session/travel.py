"""Epochs of the store in, the session back at one of them out: what a session does with its past."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pyrepl3.errors import SessionClosedError, SessionError
from pyrepl3.records import Restored
from pyrepl3.session.waiting import to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from pyrepl3.ports import Observer, Runner, Store
    from pyrepl3.records import Cell, Epoch
    from pyrepl3.session.submissions import Submissions
    from pyrepl3.session.telling import Telling


class Travel:
    """The part of a Session that goes back and forth; the other part is in the package itself."""

    name: str
    lost: dict[str, str]
    epoch: int
    count: int
    _runner: Runner
    _store: Store | None
    _observe: Observer | None
    _loop: asyncio.AbstractEventLoop
    _turn: asyncio.Lock
    _blocking: ThreadPoolExecutor | None
    _telling: Telling
    _submissions: Submissions
    _running: dict[str, Cell]
    _closing: asyncio.Task[None] | None

    async def resume(self) -> None:
        """Go on from the last epoch in the store; called once, when the session is opened."""
        if self._store is not None:
            await self._load(None)

    async def restore(self, epoch: int) -> Mapping[str, str]:
        """Go back (or forth) to ``epoch``; 0 is the empty session. Returns ``lost``.

        Nothing is deleted: the next cell starts a new line from there. Background tasks go on. Raises
        SessionError while a cell runs, StoreError for an epoch that is not there.
        """
        self._check()
        if self._store is None:
            raise SessionError("this session is not kept; open it with a name to have epochs")
        if self._running:
            raise SessionError("a cell is running; interrupt it or wait before restoring")
        async with self._turn:
            self._check()
            await to_its_end(self._load(epoch))
        return self.lost

    async def _load(self, epoch: int | None) -> None:
        store = self._store
        assert store is not None
        snapshot = await self._call(lambda: store.load(epoch))
        self.count = max(self.count, snapshot.count)
        if epoch is None and snapshot.epoch == 0:
            return
        self.lost = await self._runner.restore(snapshot)
        self._submissions.forget()
        # From here on the next commit belongs after this epoch, also if the head cannot be moved now.
        self.epoch = snapshot.epoch
        names = frozenset(name for blob in snapshot.blobs for name in blob.names)
        lost = dict(self.lost)
        tell = self._telling.join("", self._observe)
        tell(Restored(epoch=snapshot.epoch, names=names - lost.keys(), lost=lost))
        if epoch is not None:
            await self._call(lambda: store.move(snapshot.epoch))

    async def history(self) -> Sequence[Epoch]:
        """The epochs that led here, oldest first, each with the record of its cell."""
        self._check()
        return await self._line(None)

    async def _line(self, epoch: int | None) -> Sequence[Epoch]:
        """The epochs that led to one (None: to where the session is)."""
        store, at = self._store, self.epoch if epoch is None else epoch
        return await self._call(lambda: store.history(at)) if store and at else ()

    async def _call[T](self, function: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._blocking, function)

    def _check(self) -> None:
        self._check_loop()
        if self._closing is not None:
            raise SessionClosedError(f"session {self.name!r} is closed; open it again")

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise SessionError(
                f"session {self.name!r} belongs to the event loop it was opened on; "
                "call it there, with asyncio.run_coroutine_threadsafe from elsewhere"
            )
