"""A line of epochs and the names lost in it in; the cells that made them out, and the names again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import CompilationError
from pyrepl3.records import Notice, Variables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pyrepl3.ports import Observer, Runner
    from pyrepl3.records import Cell, Epoch


def find_makers(line: Sequence[Epoch], lost: Collection[str]) -> dict[str, Cell]:
    """For each of ``lost`` the last cell of ``line`` (oldest first) that binds it by its text.

    Where no text does (``globals()[...] = ...``), the cell after which it could not be stored.
    """
    found: dict[str, Cell] = {}
    told: dict[str, Cell] = {}
    for epoch in reversed(line):
        cell = epoch.receipt.cell
        for name in epoch.lost.keys() & set(lost):
            told.setdefault(name, cell)
        names = [name for name in lost if name not in found and name in cell.source]
        if names:
            binds = _bound(cell.source)
            found.update({name: cell for name in names if name in binds})
        if len(found) == len(lost):
            break
    return {**told, **found}


def _bound(source: str) -> frozenset[str]:
    from pyrepl3.lang.names import find_names  # noqa: PLC0415  only where something was lost

    try:
        return find_names(source).binds
    except CompilationError:  # text for another version of Python
        return frozenset()


async def recompute_names(
    runner: Runner, makers: Mapping[str, Cell], tell: Observer
) -> frozenset[str]:
    """Run the cells again that made these names, oldest first. Returns the names that are back.

    Of each cell only its own names are taken; no epoch is made. The caller has the turn.
    """
    cells = {cell.id: cell for cell in makers.values()}
    back: set[str] = set()
    for cell in sorted(cells.values(), key=lambda cell: cell.n):
        names = frozenset(name for name, maker in makers.items() if maker.id == cell.id)
        again = msgspec.structs.replace(cell, id=f"{cell.id}-again", only=names, background=False)
        outcome = await runner.run(again, tell)
        back |= names & (await runner.ask(Variables())).keys()
        if not outcome.ok:
            text = f"cell {cell.n} failed when it was run again for {', '.join(sorted(names))}"
            tell(Notice(cell_id=again.id, kind="restored", text=text))
    return frozenset(back)
