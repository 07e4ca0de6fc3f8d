"""The epochs of a store in, what people ask of a session's past out: a log, a difference, a way back.

Everything here blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import EpochNotFoundError, SessionError, StoreError
from pyrepl3.records import Difference, LogEntry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrepl3.ports import Reader, Store
    from pyrepl3.records import Epoch, KeptName

_NEAR = 3  # epochs that are offered in place of one that is not there


def find_log(store: Reader, at: int) -> tuple[LogEntry, ...]:
    """All epochs of ``store`` by number, for a session that is at epoch ``at``. Raises StoreError."""
    return list_entries(store.epochs(), at)


def find_difference(store: Reader, before: int | None, after: int, *, name: str) -> Difference:
    """How the names of two epochs differ; ``before`` None: the parent of ``after``.

    Raises EpochNotFoundError, StoreError.
    """
    try:
        if before is None:
            line = store.history(after) if after else ()
            before = line[-1].parent if line else 0
        return compare(before, store.names(before), after, store.names(after))
    except StoreError:
        for epoch in (before or 0, after):
            check_known(store, epoch, name=name)
        raise


def find_before(store: Reader, at: int, n: int, *, name: str) -> int:
    """The epoch ``n`` cells before ``at`` on its line; 0 is the empty session.

    Raises ValueError for ``n`` below 1, SessionError where the line is shorter, StoreError.
    """
    if n < 1:
        raise ValueError(f"cannot undo {n} cells: give a number from 1")
    line = store.history(at) if at else ()
    if n > len(line):
        there = f"only {len(line)} {'is' if len(line) == 1 else 'are'}" if line else "none is"
        raise SessionError(f"cannot undo {n} cells of session {name!r}: {there} there to undo")
    return line[-n].parent


def make_fork(store: Store, new: str, epoch: int, *, of: str) -> None:
    """Make session ``new`` beside session ``of``, from ``epoch``. The only one here that writes.

    Raises SessionExistsError, ValueError for a name that is none, EpochNotFoundError, StoreError.
    """
    try:
        store.fork(new, epoch).close()
    except StoreError:
        check_known(store, epoch, name=of)
        raise


def check_known(store: Reader, epoch: int, *, name: str) -> None:
    """Raises EpochNotFoundError, with the nearest ones, where ``epoch`` is not 0 nor in the store.

    For the time when something has failed: it reads all epochs.
    """
    numbers = [each.epoch for each in store.epochs()]
    if epoch and epoch not in numbers:
        near = sorted(numbers, key=lambda number: (abs(number - epoch), number))[:_NEAR]
        raise EpochNotFoundError(name, epoch, tuple(sorted(near)))


# --- pure ---------------------------------------------------------------------------------------------


def list_entries(epochs: Sequence[Epoch], at: int) -> tuple[LogEntry, ...]:
    """The log of ``epochs``, which may come in any order; ``at`` is the one that the session is at."""
    ordered = sorted(epochs, key=lambda epoch: epoch.epoch)
    parents = {epoch.epoch: epoch.parent for epoch in ordered}
    line = set()
    while at in parents and at not in line:
        line.add(at)
        at = parents[at]
    at = max(line, default=0)
    children: dict[int, int] = {}
    for parent in parents.values():
        children[parent] = children.get(parent, 0) + 1
    bound: dict[int, set[str]] = {}
    # Of one cell and one parent the last one counts, if nothing was built on those before.
    last = {(epoch.receipt.cell.id, epoch.parent): epoch.epoch for epoch in ordered}
    built_on = set(parents.values()) | {at}
    entries = []
    for epoch in ordered:
        names = bound.get(epoch.parent, set())
        children[epoch.parent] -= 1
        if children[epoch.parent]:
            names = set(names)  # others start from there too
        else:
            bound.pop(epoch.parent, None)
        heir = last[epoch.receipt.cell.id, epoch.parent]
        entry = _entry(epoch, names, on_line=epoch.epoch in line, current=epoch.epoch == at)
        if heir != epoch.epoch and epoch.epoch not in built_on:
            entry = msgspec.structs.replace(entry, amended=heir)
        entries.append(entry)
        names |= epoch.stored | epoch.lost.keys()
        names -= epoch.deleted
        bound[epoch.epoch] = names
    return tuple(entries)


def _entry(epoch: Epoch, names: set[str], *, on_line: bool, current: bool) -> LogEntry:
    receipt = epoch.receipt
    first, newline, rest = receipt.cell.source.strip().partition("\n")
    now = epoch.stored | epoch.lost.keys()
    return LogEntry(
        epoch=epoch.epoch,
        parent=epoch.parent,
        cell_id=receipt.cell.id,
        n=receipt.cell.n,
        line=first.rstrip(),
        more=bool(newline and rest.strip()),
        status=receipt.status,
        background=receipt.cell.background,
        at=receipt.at,
        duration=receipt.duration,
        size=epoch.size,
        added=tuple(sorted(now - names)),
        changed=tuple(sorted((now & names) - epoch.same)),
        removed=tuple(sorted(epoch.deleted & names)),
        lost=epoch.lost,
        audited=epoch.audited,
        on_line=on_line,
        current=current,
    )


def compare(
    before: int, old: Mapping[str, KeptName], after: int, new: Mapping[str, KeptName]
) -> Difference:
    """How the names ``new`` of epoch ``after`` differ from the names ``old`` of epoch ``before``."""
    return Difference(
        before=before,
        after=after,
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        changed={
            name: (old[name], new[name])
            for name in sorted(new.keys() & old.keys())
            if new[name].epoch != old[name].epoch
        },
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
    )
