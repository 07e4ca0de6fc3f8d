"""A session's history and a file's cells in, what to skip, restore and run out. Pure.

The rule: a session that ran a file holds what the file would have made of it, run from its top. So
the cells that finished and stand unchanged before the first difference are kept, and the state
before that difference is where the rest goes on. Cells that others ran before the file (another
file, the prompt) are the ground on which it runs; cells that ran after it are set aside only when
the file has more to run. Nothing is deleted: an epoch set aside stays in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from pyrepl3.front.cells import SourceCell
from pyrepl3.records import Epoch, Receipt

type Why = Literal[
    "new", "unfinished", "changed", "failed", "interrupted", "restarted", "finished", "exited"
]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does with the cells of its file.

    ``kept`` are the epochs of the first ``len(kept)`` cells, which are skipped. ``restore`` is the
    epoch to go back to before the rest runs (0: the empty namespace), None to stay at the head.
    ``aside`` are the epochs that leave the line by that. ``ground`` counts the epochs before the
    file's own, on which it runs. ``why`` says what stopped the keeping:
    ``"new"``: the file never ran here; ``"exited"``: a kept cell ended the run by ``sys.exit(0)``,
    so nothing is left to run; ``"finished"``: all cells are kept.
    """

    kept: tuple[Epoch, ...] = ()
    restore: int | None = None
    aside: tuple[Epoch, ...] = ()
    ground: int = 0
    why: Why = "new"

    @property
    def first(self) -> int:
        """Index of the first cell to run."""
        return len(self.kept)

    @property
    def over(self) -> bool:
        """Whether nothing is left to run."""
        return self.why in {"finished", "exited"}


def plan(
    history: Sequence[Epoch],
    cells: Sequence[SourceCell],
    *,
    owns: Callable[[str], bool],
    anonymous: bool = False,
    keep_going: bool = False,
    restart: bool = False,
) -> Plan:
    """Decide what to skip, where to go back to, and what to run.

    ``history`` is the line of epochs that leads to the head, oldest first. ``owns`` tells whether a
    recorded file name means this file. ``anonymous`` is for standard input, whose name says
    nothing: where not even its first cell was run before, it counts as a new file. ``keep_going``
    counts failed cells as finished, as tag ``raises-exception`` does for one. ``restart`` keeps
    nothing.
    """
    start, end = _region(history, owns)
    if start == end:
        return Plan(ground=len(history))
    kept: list[Epoch] = []
    why: Why = "restarted"
    if not restart:
        why = "finished"
        for i, cell in enumerate(cells):
            if start + i >= end:
                why = "unfinished"
                break
            epoch = history[start + i]
            if epoch.receipt.cell.source != cell.source:
                why = "changed"
                break
            if exited_cleanly(epoch.receipt):
                kept.append(epoch)
                return Plan(kept=tuple(kept), ground=start, why="exited")
            if not _finished(epoch.receipt, may_fail=cell.may_fail or keep_going):
                why = "interrupted" if epoch.receipt.status == "interrupted" else "failed"
                break
            kept.append(epoch)
        if anonymous and cells and not kept and why == "changed":
            return Plan(ground=len(history))
    stop = start + len(kept)
    if why == "finished" and stop == end:
        # What others ran after the file stays: there is nothing to put on top of the file's state.
        return Plan(kept=tuple(kept), ground=start, why=why)
    aside = tuple(history[stop:])
    before = history[stop - 1].epoch if stop else 0
    return Plan(
        kept=tuple(kept),
        restore=before if aside else None,
        aside=aside,
        ground=start,
        why=why,
    )


def exited_cleanly(receipt: Receipt) -> bool:
    """Whether the cell ended the run by ``sys.exit()`` with success."""
    if receipt.status != "failed":
        return False
    lines = receipt.error.strip().splitlines()
    return bool(lines) and lines[-1].strip() in {"SystemExit", "SystemExit: 0", "SystemExit: None"}


def _finished(receipt: Receipt, *, may_fail: bool) -> bool:
    return receipt.status == "done" or (receipt.status == "failed" and may_fail)


def _region(history: Sequence[Epoch], owns: Callable[[str], bool]) -> tuple[int, int]:
    """The last unbroken stretch of the line that this file's cells made; equal ends if none."""
    end = len(history)
    while end and not owns(history[end - 1].receipt.cell.filename):
        end -= 1
    start = end
    while start and owns(history[start - 1].receipt.cell.filename):
        start -= 1
    return start, end
