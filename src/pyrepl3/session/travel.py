"""Epochs of the store in, the session back at one of them out: what a session does with its past."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import SessionClosedError, SessionError, StoreCorruptError, StoreError
from pyrepl3.records import Notes, Notice, Restored
from pyrepl3.session.past import check_known, find_before, find_difference, find_log, make_fork
from pyrepl3.session.recompute import find_makers, plan_again, recompute_names
from pyrepl3.session.waiting import to_its_end

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from pyrepl3.errors import WorkerDiedError
    from pyrepl3.ports import Observer, Runner, Store
    from pyrepl3.records import Cell, Collected, Difference, Epoch, LogEntry, Snapshot
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
    _forget_commit: Callable[[], None]
    unaudited: bool
    _closing: asyncio.Task[None] | None
    _checking: asyncio.Task[None] | None

    if TYPE_CHECKING:

        async def _audit(self, *, hurry: bool) -> None: ...

    async def resume(self, *, recompute: bool = False) -> None:
        """Go on from the last epoch in the store; called once, when the session is opened."""
        if self._store is not None:
            await self._load(None, recompute=recompute)

    async def revive(self, restore: Callable[[Snapshot], Awaitable[dict[str, str]]]) -> int:
        """Bring the last epoch back by ``restore``: for a runner that begins anew. Returns its number."""
        store = self._store
        if store is None or not self.epoch:
            return 0
        snapshot = await self._call(lambda: store.load(self.epoch))
        self.lost = await restore(snapshot)
        names = frozenset(name for blob in snapshot.blobs for name in blob.names)
        lost = dict(self.lost)
        tell = self._telling.join("", self._observe)
        tell(Restored(epoch=snapshot.epoch, names=names - lost.keys(), lost=lost))
        return self.epoch

    def note_death(self, error: WorkerDiedError) -> None:
        """Tell that the runner has lost its process while no cell ran."""
        text = f"{error}; it is replaced before the next one"
        told = Notice(cell_id="", kind="worker-died", text=text, error=error)
        self._telling.join("", self._observe)(told)

    async def restore(self, epoch: int, *, recompute: bool = False) -> Mapping[str, str]:
        """Go back (or forth) to ``epoch``; 0 is the empty session. Returns ``lost``.

        Nothing is deleted: the next cell starts a new line from there. Background tasks go on. What changed
        late, behind the names that cells used, is put on disk first, as ``flush`` does.
        ``recompute``: names that could not be kept are made again by running the cells that made them,
        and before those the cells that made what they had read, where that has been changed since. Of
        these only such names are taken; what else they do (files, messages, objects that they change)
        they do again. Raises SessionError while a cell runs, EpochNotFoundError, StoreError.
        """
        return await self._travel("restore", lambda _: epoch, recompute=recompute)

    async def undo(self, n: int = 1) -> Mapping[str, str]:
        """Go back to before the last ``n`` cells of this line. Returns ``lost``.

        Nothing is deleted: ``restore`` goes forth again, also to what changed late, which is put on disk
        first. What cells did outside of the session stays
        done. Raises SessionError where there are fewer cells or one runs, StoreError.
        """
        return await self._travel(
            "undo", lambda store: find_before(store, self.epoch, n, name=self.name)
        )

    async def _travel(
        self, what: str, find: Callable[[Store], int], *, recompute: bool = False
    ) -> Mapping[str, str]:
        store = self._kept()
        self._check_idle(what)
        async with self._turn:
            self._check()
            with suppress(StoreError):  # told as a Notice; going back must not depend on it
                await to_its_end(self._audit(hurry=True))
            self._check_idle(what)  # one that ended just now may have been followed by another
            await to_its_end(self._go(store, find, recompute=recompute))
        return self.lost

    async def _go(
        self, store: Store, find: Callable[[Store], int], *, recompute: bool = False
    ) -> None:
        epoch = await self._call(lambda: find(store))
        try:
            await self._load(epoch, recompute=recompute)
        except StoreError:
            await self._call(lambda: check_known(store, epoch, name=self.name))
            raise

    async def _load(self, epoch: int | None, *, recompute: bool = False) -> None:
        store = self._store
        assert store is not None
        snapshot = await self._call(lambda: store.load(epoch))
        self.count = max(self.count, snapshot.count)
        if epoch is None and snapshot.epoch == 0:
            return
        line: Sequence[Epoch] = ()
        makers: dict[str, Cell] = {}
        if snapshot.lost:
            line = await self._line_to(store, snapshot.epoch)
            makers = find_makers(line, snapshot.lost)
            numbers = {name: cell.n for name, cell in makers.items()}
            snapshot = msgspec.structs.replace(snapshot, makers=numbers)
        self.lost = lost = await self._runner.restore(snapshot)
        if late := lost.keys() - snapshot.lost.keys():  # here, and not when they were stored
            line = line or await self._line_to(store, snapshot.epoch)
            made = find_makers(line, late)
            makers |= made
            told = {name: f"{lost[name]} (made by cell {cell.n})" for name, cell in made.items()}
            self.lost = {**lost, **told}
        self._submissions.forget()
        self._forget_commit()
        self.unaudited = not snapshot.audited
        # From here on the next commit belongs after this epoch, also if the head cannot be moved now.
        self.epoch = snapshot.epoch
        tell = self._telling.join("", self._observe)
        recomputed: frozenset[str] = frozenset()
        if recompute:
            wanted = self.lost.keys() & makers.keys()
            again = await self._call(lambda: plan_again(line, wanted, makers)) if wanted else ()
            recomputed, loaded = await recompute_names(self._runner, again, tell)
            back = recomputed | loaded
            self.lost = {name: why for name, why in self.lost.items() if name not in back}
        names = frozenset(name for blob in snapshot.blobs for name in blob.names)
        lost = dict(self.lost)
        tell(
            Restored(
                epoch=snapshot.epoch, names=names - lost.keys(), lost=lost, recomputed=recomputed
            )
        )
        notes = list(await self._runner.ask(Notes()))
        if self.unaudited:
            text = f"epoch {snapshot.epoch} was not audited: changes behind its cell's names may be missing"
            tell(Notice(cell_id="", kind="unaudited", text=text))
        for text in notes:
            tell(Notice(cell_id="", kind="restored", text=text))
        await self._stop_checking()
        if snapshot.verify is not None:
            self._checking = asyncio.create_task(self._check_rest(snapshot.verify, tell))
        if epoch is not None:
            await self._call(lambda: store.move(snapshot.epoch))

    async def _line_to(self, store: Store, epoch: int) -> Sequence[Epoch]:
        """The epochs that lead to one; none where they cannot be read: who made what is then not known."""
        with suppress(StoreError):
            return await self._call(lambda: store.history(epoch))
        return ()

    async def _check_rest(self, verify: Callable[[], bool], tell: Observer) -> None:
        """Compare what was mapped with its checksums, bit by bit: commits come in between."""
        more = True
        while more:
            try:
                more = await self._call(verify)
            except StoreCorruptError as error:
                tell(Notice(cell_id="", kind="corrupt", text=str(error)))
            except StoreError:
                return  # closed, or it cannot be read now; what is read is compared the next time

    async def _stop_checking(self) -> None:
        task, self._checking = self._checking, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def history(self) -> Sequence[Epoch]:
        """The epochs that led here, oldest first, each with the record of its cell."""
        self._check()
        return await self._line(None)

    async def _line(self, epoch: int | None) -> Sequence[Epoch]:
        """The epochs that led to one (None: to where the session is)."""
        store, at = self._store, self.epoch if epoch is None else epoch
        return await self._call(lambda: store.history(at)) if store and at else ()

    async def epochs(self) -> Sequence[Epoch]:
        """All epochs by number, each with the record of its cell: also those that do not lead here."""
        return await self._call(self._kept().epochs)

    async def log(self) -> tuple[LogEntry, ...]:
        """All epochs by number, those that were left too: what ran, and what it did to the names."""
        store, epoch = self._kept(), self.epoch
        return await self._call(lambda: find_log(store, epoch))

    async def diff(self, a: int | None = None, b: int | None = None) -> Difference:
        """How the names of epoch ``b`` (None: where the session is) differ from those of ``a``.

        ``a`` None: the epoch before ``b``, so what its cell did. No object is read. Raises
        EpochNotFoundError, StoreError.
        """
        store, after = self._kept(), self.epoch if b is None else b
        return await self._call(lambda: find_difference(store, a, after, name=self.name))

    async def fork(self, name: str, epoch: int | None = None) -> None:
        """Make a new session beside this one, of ``epoch`` (None: where this one is) and what led to it.

        This session goes on as if nothing was; the new one is opened by its name. Raises
        SessionExistsError, ValueError for a name that is none, EpochNotFoundError, StoreError.
        """
        store, at = self._kept(), self.epoch if epoch is None else epoch
        await to_its_end(self._call(lambda: make_fork(store, name, at, of=self.name)))

    async def gc(self, keep: int | None = None) -> Collected:
        """Drop the epochs that do not lead here, and of those that do all but the last ``keep``.

        None keeps the whole line. They cannot be gone back to any more. Raises ValueError for
        ``keep`` below 1, StoreError.
        """
        store = self._kept()
        async with self._turn:
            self._check()
            return await to_its_end(self._call(lambda: _collect(store, self.epoch, keep)))

    async def export(self, path: str | os.PathLike[str]) -> None:
        """Write the session with all its epochs to ``path``, one file that must not exist yet.

        ``import_session`` makes a session of it again. Raises StoreError.
        """
        store, file = self._kept(), Path(path)
        await to_its_end(self._call(lambda: store.export(file)))

    def _kept(self) -> Store:
        self._check()
        if self._store is None:
            raise SessionError(
                "this session is not kept; open it with a name to have epochs: "
                'open_session("name"), or pyrepl3 --session NAME'
            )
        return self._store

    def _check_idle(self, what: str) -> None:
        if self._running:
            ids = ", ".join(self._running)
            raise SessionError(f"a cell is running ({ids}); interrupt it or wait to {what}")

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


def _collect(store: Store, epoch: int, keep: int | None) -> Collected:
    store.move(epoch)  # where the head could not be moved before, what leads here would be dropped
    return store.collect(keep=keep)
