"""The number of an epoch in, the epochs that led to it out: their records, and who wrote which name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from pyrepl3.records import Epoch, KeptName, Receipt
from pyrepl3.store.blobs import unpack_buffers
from pyrepl3.store.changes import Change, decode_change, sum_epoch
from pyrepl3.store.sums import checksum
from pyrepl3.store.trouble import corrupt

_COLUMNS = "epoch.id, epoch.parent, epoch.size, epoch.change, epoch.receipt, epoch.sum, epoch.audit"
_MANY = 500  # blobs a query

type Row = tuple[int, int, int, bytes, bytes, int, int]


def audit_mark(epoch: int, *, audited: bool) -> int:
    """What the column ``audit`` holds: a checksum, so that a flipped bit is no audit."""
    return checksum(epoch, b"audited") if audited else 0


def is_audited(epoch: int, mark: int, where: str) -> bool:
    """Whether an epoch was audited, from its column. Raises StoreCorruptError."""
    if mark not in (0, audit_mark(epoch, audited=True)):
        raise corrupt(where, f"epoch {epoch}")
    return bool(mark)


def read_line(db: sqlite3.Connection, at: int, where: str) -> list[Row]:
    """The rows of the line that leads to ``at``, oldest first. Raises StoreCorruptError."""
    line = check_rows(
        db.execute(
            f"WITH RECURSIVE line AS (SELECT * FROM epoch WHERE id = ? UNION ALL "  # noqa: S608 - our own columns
            f"SELECT epoch.* FROM epoch JOIN line ON epoch.id = line.parent "
            f"WHERE line.parent < line.id) SELECT {_COLUMNS.replace('epoch.', '')} FROM line",
            (at,),
        ),
        where,
    )
    if at and (not line or line[-1][1] != 0):
        raise corrupt(where, f"the line of epochs that leads to {at}")
    line.reverse()
    return line


def read_all(db: sqlite3.Connection, where: str) -> list[Row]:
    """The rows of all epochs, by number. Raises StoreCorruptError."""
    return check_rows(db.execute(f"SELECT {_COLUMNS} FROM epoch ORDER BY id"), where)  # noqa: S608 - our own


def check_rows(rows: Iterable[Row], where: str) -> list[Row]:
    """The rows, each compared with its checksum. Raises StoreCorruptError."""
    found = list(rows)
    for number, parent, size, change, receipt, check, _ in found:
        if check != sum_epoch(number, parent, size, change, receipt):
            raise corrupt(where, f"epoch {number}")
    return found


def make_epochs(rows: Iterable[Row], where: str) -> list[Epoch]:
    """Rows as records. Raises StoreCorruptError."""
    decode = msgspec.msgpack.Decoder(Receipt).decode  # a millisecond, not at the start
    found: list[Epoch] = []
    for number, parent, size, packed, receipt, _, mark in rows:
        change = decode_change(packed)
        epoch = Epoch(
            epoch=number,
            parent=parent,
            receipt=decode(receipt),
            size=size,
            stored=frozenset(name for _, names in change.blobs for name in names),
            deleted=frozenset(change.deleted),
            lost=change.lost,
            audited=is_audited(number, mark, where),
            same=frozenset(change.same),
        )
        found.append(epoch)
    return found


class Origin(msgspec.Struct):
    """Where the state of a name comes from: the epoch of its value, its blob (0: none), its text."""

    epoch: int
    blob: int
    text: str
    lost: str


def find_origins(line: Iterable[Row]) -> dict[str, Origin]:
    """Each name as of the last epoch of ``line``, which must begin at its root."""
    found: dict[str, Origin] = {}
    for number, _, _, packed, _, _, _ in line:
        change = decode_change(packed)
        for name in change.deleted:
            found.pop(name, None)
        for name, why in change.lost.items():
            found[name] = Origin(number, 0, "", why)
        same = set(change.same)
        for blob, names in change.blobs:
            for name in names:
                before = found.get(name) if name in same else None
                epoch = number if before is None else before.epoch
                found[name] = Origin(epoch, blob, change.reprs.get(name, ""), "")
    return found


def tell_names(db: sqlite3.Connection, origins: Mapping[str, Origin]) -> dict[str, KeptName]:
    """What is known of names without their objects."""
    blobs = sorted({origin.blob for origin in origins.values()} - {0})
    sizes: dict[int, int] = {0: 0}
    for start in range(0, len(blobs), _MANY):
        some = blobs[start : start + _MANY]
        marks = ",".join("?" * len(some))
        query = f"SELECT id, size, buffers FROM blob WHERE id IN ({marks})"  # noqa: S608 - only marks
        for key, size, buffers in db.execute(query, some):
            sizes[key] = size + sum(buffer.size for buffer in unpack_buffers(buffers))
    return {
        name: KeptName(
            epoch=origin.epoch,
            size=sizes.get(origin.blob, 0),
            text=origin.text,
            lost=origin.lost,
        )
        for name, origin in origins.items()
    }


def make_root(line: list[Row]) -> Change:
    """A change that makes the state as of the last epoch of ``line`` out of nothing."""
    blobs: dict[int, list[str]] = {}
    lost: dict[str, str] = {}
    reprs: dict[str, str] = {}
    for name, origin in find_origins(line).items():
        if origin.blob:
            blobs.setdefault(origin.blob, []).append(name)
            reprs[name] = origin.text
        else:
            lost[name] = origin.lost
    engine = decode_change(line[-1][3]).engine
    return Change(list(blobs.items()), [], lost, reprs, engine)
