"""Cell ids that a client chose in; what became of the cell of that id, if it was submitted before, out.

A client that does not know whether its cell arrived submits it again, under the same id: the cell runs
once, and both get its end. Ids belong to the line of epochs: a cell that was undone may run again.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from pyrepl3.errors import CellIdError
from pyrepl3.records import Done, Failed, Interrupted, Replayed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyrepl3.records import Epoch, Outcome, Receipt

_MOST = 256  # ends that are remembered where there is no store to ask
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_NUMBERED = re.compile(r"(.*)-c([0-9]+)")

type History = Callable[[int | None], Awaitable[Sequence[Epoch]]]
"""The line of epochs that leads to one (None: to the current one), oldest first."""


class Submissions:
    """The ids of one session. On its loop."""

    def __init__(self, session: str, history: History) -> None:
        self._session = session
        self._history = history
        self._flights: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._epochs: dict[str, int] | None = None
        """Which epoch each cell of the line made; None: not looked at yet."""
        self._ends: dict[str, Replayed] = {}

    def number(self, cell_id: str) -> int | None:
        """The cell count that an id stands for; None: it is a name of the client's own.

        Raises CellIdError for what is no id.
        """
        match = _NUMBERED.fullmatch(cell_id)
        if match is not None and match[1] == self._session:
            return int(match[2])
        if match is not None or not _ID.fullmatch(cell_id):
            raise CellIdError(
                f"{cell_id!r} cannot be the id of a cell: use 1 to 128 letters, digits and '._:-', a "
                f"letter or digit first, and none that ends in '-c' and a number, as the session's do"
            )
        return None

    async def once(
        self, cell_id: str, source: str, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """What ``run`` gives, or, where a cell of this id runs or has run, its end as Replayed.

        Raises CellIdError where that cell's text is another one.
        """
        while cell_id in self._flights:
            theirs, landed = self._flights[cell_id]
            self._check(cell_id, theirs, source)
            await asyncio.shield(landed)
        # No await between the look and this.
        landed = asyncio.get_running_loop().create_future()
        self._flights[cell_id] = source, landed
        try:
            found = await self._find(cell_id)
            if found is not None:
                self._check(cell_id, found.cell.source, source)
                return found
            outcome = await run()
            if outcome.epoch is None:  # no store has it
                self._remember(cell_id, replay_of(outcome))
            return outcome
        finally:
            del self._flights[cell_id]
            landed.set_result(None)

    def note(self, cell_id: str, epoch: int) -> None:
        """A cell is on disk."""
        if self._epochs is not None:
            self._epochs[cell_id] = epoch

    def forget(self) -> None:
        """The session went back or forth: other cells count."""
        self._epochs = None
        self._ends.clear()

    async def _find(self, cell_id: str) -> Replayed | None:
        if cell_id in self._ends:
            return self._ends[cell_id]
        if self._epochs is None:
            line = await self._history(None)
            self._epochs = {each.receipt.cell.id: each.epoch for each in line}
        epoch = self._epochs.get(cell_id)
        if epoch is None:
            return None
        line = await self._history(epoch)
        return replay(line[-1].receipt, epoch)

    def _remember(self, cell_id: str, end: Replayed) -> None:
        self._ends[cell_id] = end
        while len(self._ends) > _MOST:
            del self._ends[next(iter(self._ends))]

    def _check(self, cell_id: str, theirs: str, ours: str) -> None:
        if theirs != ours:
            raise CellIdError(
                f"cell id {cell_id!r} was used for another text: submit the same text to have its "
                "end, or choose another id"
            )


def replay(receipt: Receipt, epoch: int) -> Replayed:
    """The end of a cell, as its receipt tells it."""
    return Replayed(
        cell=receipt.cell,
        duration=receipt.duration,
        epoch=epoch,
        events=receipt.events,
        shown=receipt.shown,
        text=receipt.text,
        data=receipt.data,
        status=receipt.status,
        traceback=receipt.error,
    )


def replay_of(outcome: Outcome) -> Replayed:
    """The end of a cell that has just run, as it is told to whoever asks again. Without its output."""
    match outcome:
        case Replayed():
            return outcome
        case Done(shown=shown, text=text, data=data):
            return Replayed(
                cell=outcome.cell,
                mode=outcome.mode,
                placement=outcome.placement,
                duration=outcome.duration,
                epoch=outcome.epoch,
                shown=shown,
                text=text,
                data=data,
            )
        case Failed(traceback=traceback) | Interrupted(traceback=traceback):
            return Replayed(
                cell=outcome.cell,
                mode=outcome.mode,
                placement=outcome.placement,
                duration=outcome.duration,
                epoch=outcome.epoch,
                status="failed" if isinstance(outcome, Failed) else "interrupted",
                traceback=traceback,
            )
