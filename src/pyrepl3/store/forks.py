"""A session and the number of an epoch in, another session that has the line to it out."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pyrepl3.store.garbage import drop
from pyrepl3.store.packs import Packs
from pyrepl3.store.schema import read_head, write_head


def copy_session(
    source: sqlite3.Connection, packs: Packs, folder: Path, epoch: int, where: str
) -> None:
    """Fill ``folder`` with the line that leads to ``epoch``; nothing is synced yet."""
    target, others = sqlite3.connect(folder / "session.db", isolation_level=None), Packs(folder)
    try:
        copy_line(source, packs, target, others, epoch, where)
    finally:
        target.close()
        others.close()


def copy_line(
    source: sqlite3.Connection,
    packs: Packs,
    target: sqlite3.Connection,
    others: Packs,
    epoch: int,
    where: str,
) -> None:
    """Fill an empty database and its packs with the line that leads to ``epoch``, which is its head."""
    source.backup(target)
    target.execute("PRAGMA synchronous = OFF")
    packs.copy_to(others, packs.ends)
    write_head(target, epoch, read_head(target, where)[1])
    drop(target, others, epoch, None, where)
