"""Epochs in, what an analysis of their data flow takes of them out; and the flow itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyrepl3.records import PastCell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrepl3.lang.dataflow import Flow
    from pyrepl3.records import Epoch


def past_of(line: Sequence[Epoch]) -> tuple[PastCell, ...]:
    """The cells of a line of epochs, oldest first, with what the store saw of each."""
    return tuple(
        PastCell(
            cell=epoch.receipt.cell,
            status=epoch.receipt.status,
            changed=(epoch.stored - epoch.same) | epoch.deleted | epoch.lost.keys(),
            lost=frozenset(epoch.lost),
            stop_line=line_of(epoch.receipt.error, epoch.receipt.cell.filename),
        )
        for epoch in line
    )


def flow_of(line: Iterable[Epoch]) -> Flow:
    """The data flow of a line of epochs: for who reads a store."""
    from pyrepl3.lang.dataflow import Flow  # noqa: PLC0415  it is asked for seldom

    return Flow(past_of(tuple(line)))


def line_of(told: str, filename: str) -> int:
    """The line of the cell at which a traceback begins; 0 where none of it is the cell's."""
    found = re.search(rf'File "{re.escape(filename)}", line (\d+)', told) if told else None
    return int(found[1]) if found else 0
