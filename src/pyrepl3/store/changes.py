"""What epochs changed in, the map from each name to its blob out, for any epoch.

An epoch stores its change only. Now and then a *keyframe* stores the whole map, so that neither a
commit nor a load grows with the number of epochs. The rule, for every line of epochs:

    weight of the changes since the last keyframe  <=  max(256, names) + one change
"""

from __future__ import annotations

import sqlite3

import msgspec

from pyrepl3.records import Delta
from pyrepl3.store.sums import checksum
from pyrepl3.store.text import plain_text
from pyrepl3.store.trouble import ODD, corrupt

_KEYFRAME_AFTER = 256


class Change(msgspec.Struct, array_like=True):
    """What an epoch did to the map; ``engine`` is the blob of the runner's own state (0: none).

    ``same``: names in ``blobs`` whose values are what they were; epochs of older versions do not tell.
    """

    blobs: list[tuple[int, list[str]]]
    deleted: list[str]
    lost: dict[str, str]
    reprs: dict[str, str]
    engine: int
    same: list[str] = []

    @property
    def weight(self) -> int:
        """How much work it is to apply."""
        names = sum(len(names) for _, names in self.blobs)
        return 1 + names + len(self.deleted) + len(self.lost)


class NameMap(msgspec.Struct, array_like=True):
    """The state as of an epoch: each name's blob, or (a str) the reason why it is lost."""

    names: dict[str, int | str]
    engine: int

    def apply(self, change: Change) -> None:
        for name in change.deleted:
            self.names.pop(name, None)
        self.names.update(change.lost)
        for blob, names in change.blobs:
            for name in names:
                self.names[name] = blob
        self.engine = change.engine

    def copy(self) -> NameMap:
        return NameMap(dict(self.names), self.engine)


def make_change(delta: Delta, blobs: list[tuple[int, list[str]]], engine: int) -> Change:
    """What ``delta`` does to the map, its blobs being those."""
    return Change(
        blobs,
        sorted(delta.deleted),
        {name: plain_text(why) for name, why in delta.lost.items()},
        {name: plain_text(text) for name, text in delta.reprs.items()},
        engine,
        sorted(delta.same),
    )


encode = msgspec.msgpack.Encoder().encode
decode_change = msgspec.msgpack.Decoder(Change).decode
_decode_map = msgspec.msgpack.Decoder(NameMap).decode


def wants_keyframe(weight: int, names: NameMap) -> bool:
    """Whether the changes since the last keyframe weigh enough for another."""
    return weight > max(_KEYFRAME_AFTER, len(names.names))


def sum_epoch(epoch: int, parent: int, size: int, change: bytes, receipt: bytes) -> int:
    """The checksum of a whole row of the table ``epoch``."""
    return checksum(epoch, change, receipt, b"%d %d" % (parent, size))


def write_keyframe(db: sqlite3.Connection, epoch: int, names: NameMap) -> None:
    """Insert the map as of ``epoch``."""
    data = encode(names)
    db.execute("INSERT INTO keyframe VALUES (?, ?, ?)", (epoch, data, checksum(epoch, data)))


def read_map(db: sqlite3.Connection, epoch: int, where: str) -> tuple[NameMap, int]:
    """The map as of ``epoch`` (0: empty), and the weight of the changes since its keyframe."""
    try:
        return _read_map(db, epoch, where)
    except ODD as error:  # ValueError: MessagePack that cannot be decoded is one too
        raise corrupt(where, f"the line of epochs that leads to {epoch}") from error


def _read_map(db: sqlite3.Connection, epoch: int, where: str) -> tuple[NameMap, int]:
    changes: list[Change] = []
    names, at = NameMap({}, 0), epoch
    while at:
        row = db.execute(
            "SELECT parent, size, change, receipt, epoch.sum, map, keyframe.sum FROM epoch "
            "LEFT JOIN keyframe ON keyframe.epoch = epoch.id WHERE id = ?",
            (at,),
        ).fetchone()
        if row is None:
            raise corrupt(where, f"epoch {at}")
        parent, size, change, receipt, check, keyframe, keyframe_check = row
        if keyframe is not None:
            if keyframe_check != checksum(at, keyframe):
                raise corrupt(where, f"the list of names of epoch {at}")
            names = _decode_map(keyframe)
            break
        if check != sum_epoch(at, parent, size, change, receipt) or not 0 <= parent < at:
            raise corrupt(where, f"epoch {at}")
        changes.append(decode_change(change))
        at = parent
    for item in reversed(changes):
        names.apply(item)
    return names, sum(item.weight for item in changes)
