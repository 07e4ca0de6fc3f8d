"""The cells of a session's line in; who depends on whom, what is stale, what makes a value out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pyrepl3.errors import NamespaceError
from pyrepl3.records import Failed, Interrupted, PastCell
from pyrepl3.session.pasts import line_of, past_of
from pyrepl3.session.travel import Travel

if TYPE_CHECKING:
    from pyrepl3.lang.dataflow import Flow
    from pyrepl3.records import CellFlow, Graph, Outcome, Slice, StaleCell

_MOST = 1_000  # cells that a session that is not kept remembers: its memory stays flat


class Flowing(Travel):
    """The part of a Session that knows how its cells depend on each other.

    Of a session that is kept the cells are those of the line of epochs that it is at, and what changed
    is what the store saw; of another one those that it ran, by their text alone.
    """

    if TYPE_CHECKING:

        async def run(
            self, source: str, *, filename: str | None = None, first_line: int = 1
        ) -> Outcome: ...

    def __init__(self) -> None:
        self._past: deque[PastCell] = deque(maxlen=_MOST)

    async def graph(self) -> Graph:
        """All cells that led here: what each did to the names, and who used what of whom.

        Also as text: ``graph.text()``, ``graph.mermaid()``, ``graph.dot()``.
        """
        return (await self._flow()).graph()

    async def dependents(self, name: str) -> tuple[CellFlow, ...]:
        """The cells that used the present value of ``name``, themselves or through others."""
        return (await self.graph()).dependents(name)

    async def stale(self) -> tuple[StaleCell, ...]:
        """The cells whose result is out of date: what they read was changed since, or is stale itself."""
        return (await self._flow()).stale()

    async def slice(self, name: str) -> Slice:
        """The fewest cells that make the present value of ``name``, as a script.

        By the text, and by what the store saw change. Files, clocks and the like are no part of it. Raises
        NamespaceError where no cell bound the name.
        """
        found = (await self._flow()).slice(name)
        if found is None:
            raise NamespaceError(f"no cell of this session has bound {name!r}")
        return found

    async def rerun_stale(self) -> tuple[Outcome, ...]:
        """Run the stale cells again, in their order, as new cells; until one of them fails.

        Before one that changes a value in place run those that made that value. What cells do outside
        of the session they do again.
        """
        outcomes: list[Outcome] = []
        for past in (await self._flow()).again():
            cell = past.cell
            if cell.filename.startswith("<"):
                outcome = await self.run(cell.source)
            else:
                outcome = await self.run(
                    cell.source, filename=cell.filename, first_line=cell.first_line
                )
            outcomes.append(outcome)
            if not outcome.ok:
                break
        return tuple(outcomes)

    async def _flow(self) -> Flow:
        self._check()
        from pyrepl3.lang.dataflow import Flow  # noqa: PLC0415  it is asked for seldom

        past = tuple(self._past) if self._store is None else past_of(await self._line(None))
        return await asyncio.to_thread(Flow, past)  # of a long session it takes a while

    def _note_end(self, outcome: Outcome) -> None:
        """A cell of a session that is not kept is over."""
        match outcome:
            case Failed(traceback=told) | Interrupted(traceback=told):
                status = "failed" if isinstance(outcome, Failed) else "interrupted"
            case _:
                status, told = "done", ""
        cell = outcome.cell
        self._past.append(
            PastCell(cell=cell, status=status, stop_line=line_of(told, cell.filename))  # type: ignore[arg-type]  # a Literal
        )
