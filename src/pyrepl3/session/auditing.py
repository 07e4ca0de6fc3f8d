"""Idle time in, epochs out that hold what changed behind the names of their cells.

A commit holds what the cell's own names can reach. Some time after it the runner looks at everything
else (an audit). What it finds *amends* the epoch: a new one takes its place, with the same parent and
the same cell, so that a line of epochs still has one for each cell; the old one is left beside the line.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import StoreError
from pyrepl3.records import Committed, Delta, Notice, Tasks
from pyrepl3.session.travel import Travel
from pyrepl3.session.waiting import to_its_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrepl3.ports import Observer, Store
    from pyrepl3.records import Receipt


IDLE = 0.05
"""Seconds without a cell after which an audit begins."""
_AGAIN = 1.0  # seconds until the next one while background tasks run, and
_SHARE = 20  # so many times as long as the last one took
_TRIES = 3  # an audit that was about to begin by itself may end the one that somebody waits for
_NAMED = 8  # names that a notice tells
_EARLIER = 20  # epochs


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The last commit: what was stored, and whether it is certain that this was all."""

    delta: Delta
    receipt: Receipt
    parent: int
    epoch: int


class Auditing(Travel):
    """The part of a Session that looks for late changes."""

    def __init__(self) -> None:
        self.unaudited = False
        """Whether the epoch that the session came back to was never audited: its process ended before
        it was certain that no change went past the names that its cells used."""
        self._head: Head | None = None
        self._dropped: dict[str, str] = {}
        self._amended: set[int] = set()  # epochs in whose place the last one is
        self._earlier: list[tuple[int, set[str]]] = []
        """Epochs before the last one that were not audited, and what was stored after each: where nothing
        is found that changed behind the last one, their other names are what they were."""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._auditing: asyncio.Task[None] | None = None

    async def flush(self) -> None:
        """Wait until all that changed is on disk, whatever changed it; of the cells that are over.

        Waits for the cell that runs, if one does. Raises SessionClosedError, StoreError.
        """
        self._check()
        async with self._turn:
            self._check()
            await to_its_end(self._audit(hurry=True))

    # --- inside -------------------------------------------------------------------------------

    def _note_commit(self, head: Head) -> None:
        """An epoch is on disk: audit it when nothing else is to be done."""
        before, self._head, self._amended = self._head, head, set()
        if before is None or before.delta.audited:
            self._earlier.clear()
        else:
            self._earlier = [*self._earlier[-_EARLIER:], (before.epoch, set())]
            stored = {name for blob in head.delta.blobs for name in blob.names}
            for _, since in self._earlier:
                since.update(stored, head.delta.deleted, head.delta.lost)
        self._due = self._loop.time() + IDLE
        if self._timer is None and self._auditing is None:
            self._timer = self._loop.call_later(IDLE, self._look)

    def _forget_commit(self) -> None:
        """The session is somewhere else now."""
        self._head, self._amended, self._earlier = None, set(), []

    def _is_at(self, epoch: int) -> bool:
        """Whether the session is at ``epoch``, or at what took its place."""
        return epoch == self.epoch or epoch in self._amended

    def _look(self) -> None:
        self._timer = None
        if self._closing is not None or self._head is None or self._auditing is not None:
            return
        if self._running or self._turn.locked():
            return  # their commit comes
        left = self._due - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._auditing = self._loop.create_task(self._audit_idle())
        self._auditing.add_done_callback(self._after_audit)

    async def _audit_idle(self) -> None:
        begun = self._loop.time()
        head = self._head
        if head is not None and not head.delta.audited:
            done = await self._runner.audit()
            if not done:
                return
            async with self._turn:
                if self._closing is None and self._head is head and not self._running:
                    await to_its_end(self._amend(head))
        if self._closing is None and await self._runner.ask(Tasks()):
            # They may change anything at any time.
            head = self._head
            if head is not None:
                delta = msgspec.structs.replace(head.delta, audited=False)
                self._head = msgspec.structs.replace(head, delta=delta)
            pause = max(_AGAIN, _SHARE * (self._loop.time() - begun))
            self._due = self._loop.time() + pause

    def _after_audit(self, task: asyncio.Task[None]) -> None:
        self._auditing = None
        if not task.cancelled() and task.exception() is not None:
            return  # a runner or a store that fails says so at the next cell
        if self._closing is None and self._timer is None and self._due > self._loop.time():
            self._timer = self._loop.call_later(self._due - self._loop.time(), self._look)

    async def _audit(self, *, hurry: bool) -> None:
        """Audit and amend what was committed last. The caller has the turn."""
        head = self._head
        if head is None or self._store is None:
            return
        for _ in range(_TRIES):
            if await self._runner.audit(hurry=hurry):
                break
            if self._running:
                return  # background cells have begun: what they change is in their own epochs
        if self._head is head:
            await self._amend(head)

    def _tell_dropped(self, delta: Delta, cell_id: str, tell: Observer) -> None:
        """Tell of what is no name and could not be stored, once for each reason."""
        new = {k: v for k, v in delta.dropped.items() if self._dropped.get(k) != v}
        self._dropped = dict(delta.dropped)
        for path, reason in new.items():
            tell(Notice(cell_id=cell_id, kind="dropped", text=f"{path} is not kept: {reason}"))

    async def _amend(self, head: Head) -> None:
        """Put what an audit found on disk. The caller has the turn. Raises StoreError."""
        store = self._store
        assert store is not None
        delta = await self._runner.snapshot()
        if not delta.audited:
            return  # a background cell has begun
        if is_empty(delta, head.delta):
            await self._runner.mark()
            if not head.delta.audited:
                await self._call(partial(_vouch, store, head.epoch, self._earlier))
            self._earlier = []
            self._head = msgspec.structs.replace(
                head, delta=msgspec.structs.replace(head.delta, audited=True)
            )
            return
        whole = amend(head.delta, delta)
        cell = head.receipt.cell
        tell = self._telling.join(cell.id, self._observe)
        try:
            epoch = await self._call(lambda: store.commit(whole, head.receipt, parent=head.parent))
        except StoreError as error:
            text = f"not protected: a late change is not on disk: {error}"
            tell(Notice(cell_id=cell.id, kind="unprotected", text=text))
            raise
        await self._runner.mark()
        self._earlier = []
        self._amended |= {head.epoch}
        self._head = Head(
            delta=msgspec.structs.replace(whole, chunks={}),
            receipt=head.receipt,
            parent=head.parent,
            epoch=epoch,
        )
        self.epoch = epoch
        self._submissions.note(cell.id, epoch)
        self.lost = merge_lost(self.lost, delta)
        if delta.late or delta.engine != head.delta.engine:
            kind = "late-change" if delta.late else "late-state"
            tell(Notice(cell_id=cell.id, kind=kind, text=describe(delta)))
        tell(Committed(cell_id=cell.id, epoch=epoch, size=delta.size, lost=delta.lost))


# --- pure -------------------------------------------------------------------------------------------


def is_empty(late: Delta, head: Delta) -> bool:
    """Whether nothing is in ``late`` that is not in the epoch made of ``head``."""
    return not (late.blobs or late.deleted or late.lost or late.engine != head.engine)


def amend(head: Delta, late: Delta) -> Delta:
    """One delta that does what ``head`` and then ``late`` do. Chunks of ``head`` are in the store."""
    stored = {name for blob in late.blobs for name in blob.names}
    newer = stored | late.lost.keys() | late.deleted
    blobs = []
    for blob in head.blobs:
        names = tuple(name for name in blob.names if name not in newer)
        if names:
            blobs.append(msgspec.structs.replace(blob, names=names))
    reprs = {name: text for name, text in head.reprs.items() if name not in newer}
    before = {name for blob in head.blobs for name in blob.names}
    changed = (before - head.same) | (stored - late.same)
    return Delta(
        blobs=(*blobs, *late.blobs),
        deleted=(head.deleted - newer) | late.deleted,
        lost={**{k: v for k, v in head.lost.items() if k not in newer}, **late.lost},
        reprs={**reprs, **late.reprs},
        engine=late.engine,
        chunks=late.chunks,
        audited=late.audited,
        late=late.late,
        dropped=late.dropped,
        same=frozenset(before | stored) - changed,
    )


def _vouch(store: Store, last: int, earlier: list[tuple[int, set[str]]]) -> None:
    """Say of the last epoch that it was audited, and of those before that have none of what came later."""
    store.audited(last)
    for epoch, since in earlier:
        if since.isdisjoint(store.names(epoch)):
            store.audited(epoch)


def merge_lost(lost: Mapping[str, str], delta: Delta) -> dict[str, str]:
    """What is lost after ``delta``."""
    stored = {name for blob in delta.blobs for name in blob.names}
    before = {k: v for k, v in lost.items() if k not in stored and k not in delta.deleted}
    return {**before, **delta.lost}


def describe(delta: Delta) -> str:
    """What a late change is called."""
    names = sorted(delta.late)
    if not names:
        return "changed after its cell was stored, and stored now: state of the session beside its names"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"changed behind the names that cells used, and stored now: {', '.join(names[:_NAMED])}{more}"
