"""Changes of the state machine in, SQLite rows out; and promises back: what is pending, or one by one.

Every promise is a row, with its task in it. What is asked for by tags is found by an index: those of
ours in ``tag``, ``resonate:origin``, ``:branch`` and ``:parent`` by the id, which begins with them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, assert_never

import msgspec

from pyrepl3.durable.state.records import (
    Change,
    Created,
    Promise,
    Query,
    Schedule,
    Scheduled,
    Settled,
    Task,
    Tasked,
    Unscheduled,
    Waits,
    WaitsNot,
)
from pyrepl3.errors import StoreCorruptError, StoreError

type Synchronous = Literal["FULL", "NORMAL"]

_VERSION = 1
_APPLICATION_ID = 0x70795264  # "pyRd", in the file's header

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE promise (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, timeout_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL, settled_at INTEGER, tags BLOB NOT NULL, task BLOB,
    param BLOB NOT NULL, value BLOB NOT NULL
);
CREATE INDEX pending ON promise (id) WHERE state = 'pending';
CREATE INDEX settled ON promise (settled_at) WHERE state <> 'pending';
CREATE TABLE tag (
    name TEXT, value TEXT, id TEXT, PRIMARY KEY (name, value, id)
) WITHOUT ROWID;
CREATE TABLE wait (awaited TEXT, awaiter TEXT, PRIMARY KEY (awaited, awaiter)) WITHOUT ROWID;
CREATE INDEX awaiter ON wait (awaiter);
CREATE TABLE schedule (id TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_COLUMNS = "id, state, timeout_at, created_at, settled_at, tags, task, param, value"
_BY_ID = ("resonate:origin", "resonate:branch", "resonate:parent")
_MANY = ("resonate:scope", "resonate:target")  # on most promises: an index would not help
_LINEAGES = 200  # that are removed in one transaction

type _Row = tuple[str, str, int, int, int | None, bytes, bytes | None, bytes, bytes]


class Rows:
    """The rows of one file; ``":memory:"`` keeps them nowhere. One thread at a time.

    Changes are written into a transaction that is open until ``commit`` or ``rollback``; what is read
    includes them. Raises sqlite3's own errors; from the constructor also StoreError (the file is not
    ours, or of a newer version).
    """

    def __init__(self, path: Path | Literal[":memory:"], synchronous: Synchronous) -> None:
        self._tasks = msgspec.json.Decoder(Task)
        self._tags = msgspec.json.Decoder(dict[str, str])
        self._schedules = msgspec.json.Decoder(Schedule)
        self._encode = msgspec.json.Encoder().encode
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=64, timeout=1.0
        )
        try:
            self._prepare(str(path), synchronous)
        except BaseException:
            self._db.close()
            raise

    @property
    def open(self) -> bool:
        """Whether there are changes that ``commit`` would keep."""
        return self._db.in_transaction

    def commit(self) -> None:
        """Keep the changes; with FULL they are synced to the disk."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the changes."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def write(self, changes: Iterable[Change]) -> None:
        """Put changes into the transaction."""
        for change in changes:
            self._begin()
            self._write(change)

    def find(self, id_: str) -> tuple[Promise, Task | None] | None:
        """A promise and its task; None: there is no such promise."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM promise WHERE id = ?", (id_,)).fetchone()  # noqa: S608
        return self._read(row) if row else None

    def pending(self) -> Iterator[tuple[Promise, Task | None]]:
        """All promises that are not settled, with their tasks."""
        for row in self._db.execute(
            f"SELECT {_COLUMNS} FROM promise WHERE state = 'pending'"  # noqa: S608
        ):
            yield self._read(row)

    def waits(self) -> list[tuple[str, str]]:
        """Who waits for what: awaited, awaiter."""
        return self._db.execute("SELECT awaited, awaiter FROM wait").fetchall()

    def schedules(self) -> list[Schedule]:
        """All schedules."""
        rows = self._db.execute("SELECT data FROM schedule").fetchall()
        return [self._schedules.decode(data) for (data,) in rows]

    def search(self, query: Query) -> list[Promise]:
        """The promises that match, at most ``query.limit``, by id."""
        ours = [name for name in query.tags if name not in _BY_ID and name not in _MANY]
        key = "t0.id" if ours else "p.id"  # what an index has in order, so that nothing is sorted
        wheres, values, source = [f"{key} > ?"], [query.after], "promise p"
        if query.state is not None:
            wheres.append("p.state = ?" if query.state != "pending" else "p.state = 'pending'")
            values += [query.state] if query.state != "pending" else []
        for n, name in enumerate(ours):
            source = f"tag t{n} CROSS JOIN {source}" if n == 0 else f"{source} CROSS JOIN tag t{n}"
            wheres.append(f"t{n}.name = ? AND t{n}.value = ? AND t{n}.id = p.id")
            values += [name, query.tags[name]]
        for name, value in query.tags.items() - {(name, query.tags[name]) for name in ours}:
            if name in _BY_ID:
                wheres.append(f"{key} >= ? AND {key} < ?")
                values += [value, value + "\U0010ffff"]
            wheres.append("json_extract(p.tags, ?) = ?")
            values += [f'$."{name}"', value]
        columns = ", ".join(f"p.{name}" for name in _COLUMNS.split(", "))
        asked = (
            f"SELECT {columns} FROM {source} WHERE {' AND '.join(wheres)} ORDER BY {key} LIMIT ?"  # noqa: S608
        )
        rows = self._db.execute(asked, (*values, query.limit)).fetchall()
        return [self._read(row)[0] for row in rows]

    def forget(self, prefix: str) -> list[str]:
        """Remove all promises whose ids start so, pending or not. Returns the ids of those pending."""
        bounds = (prefix, prefix + "\U0010ffff")
        where = "id >= ? AND id < ?"
        held = [
            id_
            for (id_,) in self._db.execute(
                f"SELECT id FROM promise WHERE state = 'pending' AND {where}",  # noqa: S608
                bounds,
            )
        ]
        self._remove(*bounds)
        return held

    def collect(self, before: int) -> tuple[int, bool]:
        """Remove promises that were settled up to ``before`` (ms); a lineage goes whole or stays whole.

        A lineage is what begins with an id up to its ``:``, or with the id of one of our cells: the finished
        steps of a cell that is not over stay, however old. Returns how many went, and whether there may be
        more to remove.
        """
        asked = "SELECT id FROM promise WHERE state <> 'pending' AND settled_at <= ?"
        cells = {
            id_
            for (id_,) in self._db.execute(
                "SELECT id FROM tag WHERE name = 'pyrepl3' AND value = 'cell'"
            )
        }
        seen: set[str] = set()
        gone = removed = 0
        for (id_,) in self._db.execute(asked, (before,)).fetchall():
            origin, after = _find_origin(id_, cells)
            if origin in seen:
                continue
            seen.add(origin)
            bounds = (origin + after, origin + chr(ord(after) + 1))
            young = self._db.execute(
                "SELECT 1 FROM promise WHERE (id = ? OR (id >= ? AND id < ?))"
                " AND (state = 'pending' OR settled_at > ?) LIMIT 1",
                (origin, *bounds, before),
            ).fetchone()
            if young is None:
                gone += self._remove(origin, origin + "\0") + self._remove(*bounds)
                removed += 1
            if removed >= _LINEAGES:
                return gone, True
        return gone, False

    # --- inside -------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _write(self, change: Change) -> None:
        execute = self._db.execute
        match change:
            case Created(promise, task):
                tags = promise.tags
                row = (
                    promise.id,
                    promise.state,
                    promise.timeout_at,
                    promise.created_at,
                    promise.settled_at,
                    self._encode(tags),
                    self._encode(task) if task else None,
                    memoryview(promise.param),
                    memoryview(promise.value),
                )
                execute(f"INSERT INTO promise ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
                for name, value in tags.items():
                    if name not in _BY_ID and name not in _MANY:
                        execute("INSERT INTO tag VALUES (?, ?, ?)", (name, value, promise.id))
            case Settled(promise, task):
                execute(
                    "UPDATE promise SET state = ?, settled_at = ?, task = ?, value = ? WHERE id = ?",
                    (
                        promise.state,
                        promise.settled_at,
                        self._encode(task) if task else None,
                        memoryview(promise.value),
                        promise.id,
                    ),
                )
            case Tasked(task):
                execute("UPDATE promise SET task = ? WHERE id = ?", (self._encode(task), task.id))
            case Waits(awaited, awaiter):
                execute("INSERT INTO wait VALUES (?, ?)", (awaited, awaiter))
            case WaitsNot(awaited, awaiter):
                column = "awaited" if awaiter is None else "awaiter"
                execute(f"DELETE FROM wait WHERE {column} = ?", (awaited or awaiter,))  # noqa: S608
            case Scheduled(schedule):
                row_of = (schedule.id, self._encode(schedule))
                execute("INSERT OR REPLACE INTO schedule VALUES (?, ?)", row_of)
            case Unscheduled(id_):
                execute("DELETE FROM schedule WHERE id = ?", (id_,))
            case _:
                assert_never(change)

    def _remove(self, low: str, high: str) -> int:
        self._begin()
        bounds = (low, high)
        for name, value, id_ in self._tags_in(*bounds):
            self._db.execute(
                "DELETE FROM tag WHERE name = ? AND value = ? AND id = ?", (name, value, id_)
            )
        self._db.execute("DELETE FROM wait WHERE awaited >= ? AND awaited < ?", bounds)
        self._db.execute("DELETE FROM wait WHERE awaiter >= ? AND awaiter < ?", bounds)
        return self._db.execute("DELETE FROM promise WHERE id >= ? AND id < ?", bounds).rowcount

    def _tags_in(self, low: str, high: str) -> list[tuple[str, str, str]]:
        rows = self._db.execute(
            "SELECT id, tags FROM promise WHERE id >= ? AND id < ?", (low, high)
        )
        return [
            (name, value, id_)
            for id_, tags in rows.fetchall()
            for name, value in self._tags.decode(tags).items()
            if name not in _BY_ID and name not in _MANY
        ]

    def _read(self, row: _Row) -> tuple[Promise, Task | None]:
        id_, state, timeout_at, created_at, settled_at, tags, task, param, value = row
        promise = Promise(
            id=id_,
            state=state,  # type: ignore[arg-type]  # what was written was one of them
            param=msgspec.Raw(param),
            value=msgspec.Raw(value),
            tags=self._tags.decode(tags),
            timeout_at=timeout_at,
            created_at=created_at,
            settled_at=settled_at,
        )
        return promise, self._tasks.decode(task) if task else None

    def _prepare(self, file: str, synchronous: Synchronous) -> None:
        db = self._db
        # Not locked for good, which the lock beside the file is for: an export reads it meanwhile.
        version = self._ask("PRAGMA user_version")
        ours = self._ask("PRAGMA application_id") == _APPLICATION_ID
        if not ours and (version or self._ask("SELECT count(*) FROM sqlite_master")):
            raise StoreCorruptError(f"{file} is a database, but not durable state: move it away")
        if version > _VERSION:
            raise StoreError(
                f"{file} was written by a newer PyREPL3 (version {version}, this one reads up to "
                f"{_VERSION}): upgrade pyrepl3"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if not ours:
            db.executescript(_TABLES)

    def _ask(self, query: str) -> int:
        found: int = self._db.execute(query).fetchone()[0]
        return found


def _find_origin(id_: str, cells: Collection[str]) -> tuple[str, str]:
    """What the ids of a lineage begin with, and the character that follows in all but the first."""
    at = id_.find("-")
    while at >= 0:
        if id_[:at] in cells:
            return id_[:at], "-"
        at = id_.find("-", at + 1)
    if id_ in cells:
        return id_, "-"
    return id_.partition(":")[0], ":"
