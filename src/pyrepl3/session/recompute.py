"""A line of epochs and the names lost in it in; the cells that made them out, and the names again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import CompilationError
from pyrepl3.records import Notice, Reload, Variables
from pyrepl3.session.pasts import flow_of

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


def plan_again(
    line: Sequence[Epoch], lost: Collection[str], makers: Mapping[str, Cell]
) -> tuple[Cell, ...]:
    """The cells to run to have ``lost`` again, oldest first; ``only`` of each is what is taken of it.

    A cell that made lost names runs as it is where all that it read is there, or is lost too. Where that
    has been changed since, the cells that made it come first, together with it as one cell.
    """
    flow = flow_of(line)
    parts: list[dict[str, Cell]] = []
    for name in sorted(lost):
        cells = {past.cell.id: past.cell for past in flow.needed(name, lost)}
        cells = cells or {makers[name].id: makers[name]}
        for other in [part for part in parts if part.keys() & cells.keys()]:
            parts.remove(other)
            cells |= other
        parts.append(cells)
    again: list[Cell] = []
    for part in parts:
        ordered = sorted(part.values(), key=lambda cell: cell.n)
        names = {
            cell.id: frozenset(name for name in lost if makers[name].id == cell.id)
            for cell in ordered
        }
        if all(names.values()):
            again += [
                msgspec.structs.replace(cell, only=names[cell.id], background=False)
                for cell in ordered
            ]
        else:
            last = ordered[-1]
            title = ", ".join(str(cell.n) for cell in ordered)
            again.append(
                msgspec.structs.replace(
                    last,
                    source="\n".join(cell.source for cell in ordered),
                    filename=f"<cells {title} again>",
                    first_line=1,
                    only=frozenset().union(*names.values()),
                    background=False,
                )
            )
    return tuple(sorted(again, key=lambda cell: cell.n))


async def recompute_names(
    runner: Runner, again: Sequence[Cell], tell: Observer
) -> tuple[frozenset[str], frozenset[str]]:
    """Run these cells again. Returns the names that they made, and those that could then be loaded.

    Of each cell only the names in its ``only`` are taken; no epoch is made. What was lost for a name that
    it refers to, and is whole in the store, is loaded as it was, not made again. The caller has the turn.
    """
    made: set[str] = set()
    loaded: set[str] = set()
    for cell in again:
        names = (cell.only or frozenset()) - loaded
        if not names:
            continue
        cell = msgspec.structs.replace(cell, id=f"{cell.id}-again", only=names)  # noqa: PLW2901
        outcome = await runner.run(cell, tell)
        made |= names & (await runner.ask(Variables())).keys()
        if not outcome.ok:
            text = f"cell {cell.n} failed when it was run again for {', '.join(sorted(names))}"
            tell(Notice(cell_id=cell.id, kind="restored", text=text))
        loaded.update(await runner.ask(Reload()))
    return frozenset(made - loaded), frozenset(loaded)
