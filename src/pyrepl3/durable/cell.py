"""A cell as a function of Resonate: code and an id in, the record of the cell's one run out.

For programs that drive PyREPL3 from Resonate; a session needs none of it. The namespace is put on disk
before and after the cell (the specification's ``pre_execution`` and ``post_execution``). What is on disk
counts: a cell whose epoch is there is not run again, though the process died before its promise settled.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import StaleBaseError
from pyrepl3.records import Cell, Done, Failed, Interrupted, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from resonate.context import Context
    from resonate.resonate import Resonate

    from pyrepl3.ports import Observer, Runner, Store
    from pyrepl3.records import Outcome


class DurableCells:
    """Where the cells of ``durable_async_execute`` run, and where their epochs go.

    Hand one to ``register``. ``runner`` has a loop of its own (a ThreadRunner, say): no code of a cell runs
    on the loop of the SDK. Nothing else may use the two meanwhile.
    """

    def __init__(self, runner: Runner, store: Store, *, observe: Observer = lambda _: None) -> None:
        self.turn = asyncio.Lock()
        self._runner = runner
        self._store = store
        self._observe = observe
        self._epoch: int | None = None  # None: nothing was loaded yet
        self._count = 0

    async def before(self, execution_id: str) -> int:
        """The epoch that the cell will start from: what the namespace holds is on disk."""
        await self._load()
        delta = await self._runner.snapshot()
        if delta.blobs or delta.deleted:  # the host put names there
            cell = Cell(id=f"{execution_id}-before", n=self._count, source="", filename="<host>")
            await self._commit(Receipt(cell=cell, status="done", at=time.time()))
        assert self._epoch is not None
        return self._epoch

    async def run(self, code: str, execution_id: str, base: int) -> dict[str, Any]:
        """Run the cell, unless its epoch is on disk, and commit it. Returns its record.

        Raises StaleBaseError where the store went on from ``base`` without this cell.
        """
        await self._load()
        for epoch in await self._call(lambda: self._store.history(None)):
            if epoch.receipt.cell.id == execution_id and epoch.parent == base:
                return tell(epoch.receipt, epoch.epoch)
        if self._epoch != base:
            raise StaleBaseError(base, self._epoch or 0)
        self._count += 1
        cell = Cell(
            id=execution_id,
            n=self._count,
            source=code,
            filename=f"<{execution_id}>",
            base=base,
        )
        at = time.time()
        outcome = await self._runner.run(cell, self._observe)
        receipt = make_receipt(outcome, at)
        return tell(receipt, await self._commit(receipt))

    async def _load(self) -> None:
        if self._epoch is not None:
            return
        snapshot = await self._call(lambda: self._store.load(None))
        if snapshot.epoch:
            await self._runner.restore(snapshot)
        self._epoch, self._count = snapshot.epoch, snapshot.count

    async def _commit(self, receipt: Receipt) -> int:
        delta, parent = await self._runner.snapshot(), self._epoch or 0
        epoch = await self._call(lambda: self._store.commit(delta, receipt, parent=parent))
        await self._runner.mark()
        self._epoch = epoch
        return epoch

    async def _call[T](self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)


async def durable_async_execute(ctx: Context, code: str, execution_id: str) -> dict[str, Any]:
    """Run ``code`` as the cell ``execution_id``, once, and return its record (``tell``).

    After a crash it goes on where it was: with the epoch that was there before the cell, or, if the cell's
    own is on disk, with the record of that. A cell that fails has run: its record says ``"failed"``. Raises
    StaleBaseError, StoreError.
    """
    from resonate.retry import Never  # noqa: PLC0415  whoever calls this has loaded the SDK

    cells = ctx.get_dependency(DurableCells)
    # A try of ours is one try: the SDK's own policy would repeat a failure for 68 years.
    once = ctx.options(retry_policy=Never())
    async with cells.turn:
        base = await once.run(_pre_execution, execution_id)
        return await once.run(_execute, code, execution_id, base)


async def _pre_execution(ctx: Context, execution_id: str) -> int:
    return await ctx.get_dependency(DurableCells).before(execution_id)


async def _execute(ctx: Context, code: str, execution_id: str, base: int) -> dict[str, Any]:
    # With the commit after it in one step: there is no record of a cell that is not on disk.
    return await ctx.get_dependency(DurableCells).run(code, execution_id, base)


def register(resonate: Resonate, cells: DurableCells) -> None:
    """Make ``durable_async_execute`` known to ``resonate`` as ``async_execute``, with these cells.

    ``resonate.run("an-id", "async_execute", code=…, execution_id=…)`` runs one.
    """
    from resonate.retry import Never  # noqa: PLC0415

    resonate.with_dependency(cells)
    resonate.register(durable_async_execute, name="async_execute", version=1, retry_policy=Never())


def make_receipt(outcome: Outcome, at: float) -> Receipt:
    """What a cell's epoch records of it; without its output, which went to the observer."""
    cell, duration = outcome.cell, outcome.duration
    match outcome:
        case Done(shown=shown, text=text, data=data):
            return Receipt(
                cell=cell,
                status="done",
                at=at,
                duration=duration,
                shown=shown,
                text=text,
                data=data,
            )
        case Failed(traceback=traceback):
            return Receipt(cell=cell, status="failed", at=at, duration=duration, error=traceback)
        case Interrupted(traceback=traceback):
            return Receipt(
                cell=cell, status="interrupted", at=at, duration=duration, error=traceback
            )
        case _:
            return Receipt(cell=cell, status="done", at=at, duration=duration)


def tell(receipt: Receipt, epoch: int) -> dict[str, Any]:
    """The record of a cell as plain data, which any codec takes: never a value of the cell itself."""
    return {
        "execution_id": receipt.cell.id,
        "epoch": epoch,
        "status": receipt.status,
        "text": receipt.text,
        "error": receipt.error,
        "duration": receipt.duration,
    }
