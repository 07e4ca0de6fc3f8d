"""The log of the database stays short, whatever is committed."""

from __future__ import annotations

import sqlite3

from pyrepl3.store import folding
from pyrepl3.store.folding import Folding
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.pieces import make_delta, make_receipt, noise


def commits(store, count):
    """So many epochs of 100 kB, in rows; told one by one."""
    at = 0
    for n in range(count):
        at = store.commit(make_delta({"v": noise(n, 100_000)}), make_receipt(n), parent=at)
        yield at


def test_the_log_is_folded_into_the_file_beside_the_commits(tmp_path, monkeypatch):
    monkeypatch.setattr(folding, "_LOG", 512 * 1024)
    store = SqliteStore(tmp_path / "demo")
    for _ in commits(store, 30):
        store._folding.wait()
    assert (tmp_path / "demo" / "session.db-wal").stat().st_size < 2_000_000
    assert (tmp_path / "demo" / "session.db").stat().st_size > 2_000_000
    store.close()


def test_a_short_log_is_left_alone(tmp_path):
    """Each fold costs two syncs, which compete with the commits."""
    store = SqliteStore(tmp_path / "demo")
    assert len(list(commits(store, 20))) == 20
    store._folding.wait()
    assert (tmp_path / "demo" / "session.db").stat().st_size < 200_000
    store.close()


def test_what_cannot_be_folded_waits_for_the_next_time(tmp_path, monkeypatch):
    monkeypatch.setattr(folding, "_LOG", 1)
    file = tmp_path / "session.db"
    beside = Folding(file)
    beside.wrote(1)  # there is no such file
    beside.wait()
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("CREATE TABLE t (a)")
    db.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
    assert file.stat().st_size < 100_000
    beside.wrote(1)
    beside.wait()
    assert file.stat().st_size > 100_000
    db.close()
