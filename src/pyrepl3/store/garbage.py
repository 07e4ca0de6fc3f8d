"""Epochs to keep in, room on the disk out: rows that no epoch needs go, and packs that are half empty.

Each step is one transaction, and a file goes only when no row tells of it any more, so a crash
anywhere leaves all kept epochs whole. What a crash leaves behind is found the next time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

from pyrepl3.store.blobs import unpack_buffers
from pyrepl3.store.changes import decode_change, encode, sum_epoch
from pyrepl3.store.chunks import Absent, read_tree
from pyrepl3.store.line import Row, make_root, read_line
from pyrepl3.store.packs import Packs, Piece
from pyrepl3.store.trouble import corrupt, value_of

_WORTH = 1024 * 1024  # bytes; less garbage in a pack is left there


def drop(db: sqlite3.Connection, packs: Packs, head: int, keep: int | None, where: str) -> int:
    """Delete all epochs but the last ``keep`` (None: all) of those that lead to ``head``. How many.

    One transaction; afterwards packs that no row tells of are deleted. Raises StoreCorruptError where it
    cannot be told what the kept epochs need: nothing is deleted then.
    """
    line = read_line(db, head, where)
    kept = line if keep is None else line[-keep:]
    with transaction(db):
        before: int = db.execute("SELECT count(*) FROM epoch").fetchone()[0]
        if before > len(kept):  # else all rows are needed
            if len(kept) < len(line):
                _uproot(db, line[: len(line) - len(kept) + 1])
                kept = read_line(db, head, where)
            _fill(db, "live_epoch", [row[0] for row in kept])
            db.execute("DELETE FROM epoch WHERE id NOT IN (SELECT id FROM live_epoch)")
            db.execute("DELETE FROM keyframe WHERE epoch NOT IN (SELECT id FROM live_epoch)")
            _drop_blobs(db, packs, kept, where)
    _forget(db, packs)
    return before - len(kept)


def give_back(db: sqlite3.Connection, packs: Packs) -> None:
    """Write packs anew that are more than half garbage, and the database if a quarter of it is."""
    live = dict(
        db.execute(
            "SELECT pack, sum(size) FROM (SELECT pack, size FROM chunk UNION ALL "
            "SELECT pack, size FROM blob) GROUP BY pack"
        )
    )
    for number in list(packs.ends):
        needed = live.get(number, 0)
        if packs.size(number) - needed >= max(_WORTH, needed):
            _move(db, packs, number)
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    if free * 4 > pages and free > 64:
        db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class transaction:  # noqa: N801 - reads as a statement
    """All that is done inside, or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _uproot(db: sqlite3.Connection, line: list[Row]) -> None:
    """Make the last epoch of ``line`` one that needs none before it."""
    number, _, size, _, receipt, _, _ = line[-1]
    change = encode(make_root(line))
    db.execute(
        "UPDATE epoch SET parent = 0, change = ?, sum = ? WHERE id = ?",
        (change, sum_epoch(number, 0, size, change, receipt), number),
    )


def _drop_blobs(db: sqlite3.Connection, packs: Packs, kept: list[Row], where: str) -> None:
    holders: dict[int, list[str]] = {}
    for row in kept:
        change = decode_change(row[3])
        for blob, names in change.blobs:
            holders.setdefault(blob, []).extend(names)
        if change.engine:
            holders.setdefault(change.engine, [])
    _fill(db, "live_blob", holders)
    db.execute("DELETE FROM blob WHERE id NOT IN (SELECT id FROM live_blob)")
    live: set[bytes] = set()
    trees: set[bytes] = set()
    for key, column in db.execute("SELECT id, buffers FROM blob WHERE buffers != x''").fetchall():
        for buffer in unpack_buffers(column):
            if buffer.root not in trees:
                trees.add(buffer.root)
                try:
                    lists, chunks = read_tree(db, packs, buffer)
                except Absent:
                    raise corrupt(where, value_of(holders.get(key, ()))) from None
                live.update(lists, chunks)
    db.execute("CREATE TEMP TABLE IF NOT EXISTS live_chunk (digest BLOB PRIMARY KEY) WITHOUT ROWID")
    db.executemany("INSERT INTO live_chunk VALUES (?)", ((digest,) for digest in live))
    db.execute("DELETE FROM chunk WHERE digest NOT IN (SELECT digest FROM live_chunk)")
    db.execute("DELETE FROM piece WHERE id NOT IN (SELECT at FROM chunk WHERE pack = 0)")
    db.execute(
        "DELETE FROM pack WHERE id NOT IN (SELECT pack FROM chunk UNION SELECT pack FROM blob)"
    )
    db.execute("DELETE FROM live_chunk")


def _fill(db: sqlite3.Connection, table: str, numbers: Collection[int]) -> None:
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")
    db.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    db.executemany(f"INSERT INTO {table} VALUES (?)", ((number,) for number in numbers))  # noqa: S608


def _forget(db: sqlite3.Connection, packs: Packs) -> None:
    """Delete the packs that no row tells of."""
    packs.look(db)
    for number in packs.numbers():
        if number not in packs.ends:
            packs.remove(number)


def _move(db: sqlite3.Connection, packs: Packs, number: int) -> None:
    """Copy what rows need of a pack to another, and delete it. Left alone where it cannot be read."""
    rows = db.execute(
        "SELECT at, size, digest, 0 FROM chunk WHERE pack = ? UNION ALL "
        "SELECT at, size, NULL, id FROM blob WHERE pack = ? ORDER BY at",
        (number, number),
    ).fetchall()

    def pieces() -> Iterator[Piece]:
        for at, size, _, _ in rows:
            data = memoryview(bytearray(size))
            if not packs.read_into((number, at), data):
                raise Absent
            yield data

    try:
        places, end = packs.write(pieces(), avoid=number)
    except Absent:
        return  # a pack that was cut: verify tells of it
    with transaction(db):
        for (_, _, digest, key), (pack, at) in zip(rows, places, strict=True):
            if digest is None:
                db.execute("UPDATE blob SET pack = ?, at = ? WHERE id = ?", (pack, at, key))
            else:
                db.execute("UPDATE chunk SET pack = ?, at = ? WHERE digest = ?", (pack, at, digest))
        db.execute("DELETE FROM pack WHERE id = ?", (number,))
        db.execute("INSERT OR REPLACE INTO pack VALUES (?, ?)", (places[0][0], end))
    _forget(db, packs)
