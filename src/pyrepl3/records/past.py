"""What people see of a session's past: the entries of its log, and how two epochs differ."""

from __future__ import annotations

from collections.abc import Mapping

from pyrepl3.records.cells import Record
from pyrepl3.records.epochs import KeptName, ReceiptStatus


class LogEntry(Record, frozen=True, kw_only=True):
    """One epoch in the log of a session.

    ``line`` is the first line of the cell's source, ``more`` whether there are others; ``at`` is seconds
    since the epoch, ``duration`` in seconds, ``size`` in bytes written. ``added``, ``changed`` and
    ``removed`` are names, in order, compared with the parent (0: the empty session); ``lost`` are those
    that could not be stored, and why. ``on_line``: it leads to the epoch that the session is at;
    ``current``: it is that one. ``amended``: the epoch of the same cell that took its place, since more had
    changed than was seen at first; 0 where there is none.
    """

    epoch: int
    parent: int
    cell_id: str
    n: int
    line: str
    more: bool = False
    status: ReceiptStatus
    background: bool = False
    at: float = 0.0
    duration: float = 0.0
    size: int = 0
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    lost: Mapping[str, str] = {}
    audited: bool = True
    on_line: bool = True
    current: bool = False
    amended: int = 0


class Difference(Record, frozen=True, kw_only=True):
    """How the names of epoch ``after`` differ from those of ``before`` (0: the empty session).

    ``changed`` has what was there before and after. A name counts as changed where a cell between the
    two stored it anew, be it with an equal value.
    """

    before: int
    after: int
    added: Mapping[str, KeptName] = {}
    changed: Mapping[str, tuple[KeptName, KeptName]] = {}
    removed: Mapping[str, KeptName] = {}
