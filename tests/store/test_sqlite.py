"""The files of a session: what they hold, and what is said when they are not what they should be."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from pyrepl3.errors import (
    SessionClosedError,
    SessionExistsError,
    SessionInUseError,
    StoreCorruptError,
    StoreError,
)
from pyrepl3.records import Delta
from pyrepl3.store import opening, sqlite
from pyrepl3.store.lock import SessionLock
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import make_delta, make_receipt, read_values


@pytest.fixture
def path(tmp_path):
    return tmp_path / "demo"


def fill(path, epochs=3):
    with_values = SqliteStore(path)
    at = 0
    for n in range(epochs):
        at = with_values.commit(
            make_delta({f"n{n}": b"value %d" % n * 20}), make_receipt(n), parent=at
        )
    with_values.close()


def test_a_commit_syncs_the_log_before_it_returns(path):
    store = SqliteStore(path)
    ask = store._db.execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,)  # FULL
    store.close()


def test_the_directories_of_a_new_session_are_on_disk_before_it_counts_as_made(path, monkeypatch):
    """Else a power cut may leave the files of commits without a name."""
    synced, made = [], []
    for module in (sqlite, opening):
        monkeypatch.setattr(module, "sync", synced.append)
    mark_made = SessionLock.mark_made
    monkeypatch.setattr(
        SessionLock, "mark_made", lambda lock: (made.append(len(synced)), mark_made(lock))
    )
    place = path / "deeper"
    SqliteStore(place).close()
    assert {path.parent, path, place, place / "session.db"} <= set(synced)
    assert made == [len(synced)]
    synced.clear()
    SqliteStore(place).close()
    assert synced == []


def test_a_closed_store_holds_no_file(path):
    def held():
        return {
            str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        }

    store = SqliteStore(path)
    big = random.Random(1).randbytes(1_000_000)
    store.commit(make_delta({"big": big}), make_receipt(1), parent=0)
    store.load()
    assert any("pack-000001" in name for name in held())
    store.close()
    assert not any(str(path) in name for name in held())


def test_a_fork_in_memory_has_a_name_of_its_own(path):
    store = SqliteStore(":memory:")
    store.commit(make_delta({"a": b"1"}), make_receipt(1), parent=0)
    fork = store.fork("other")
    with pytest.raises(SessionExistsError, match="other"):
        store.fork("other")
    fork.close()
    store.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace is not here")
def test_a_commit_makes_one_sync_of_the_log(path):
    """Counted by the kernel: at least one fsync or fdatasync for each commit, on the log."""
    script = (
        "import pathlib, sys\n"
        "from pyrepl3.store.sqlite import SqliteStore\n"
        "from pyrepl3.testing.conformance import make_delta, make_receipt\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "at = store.commit(make_delta({'a': b'1'}), make_receipt(1), parent=0)\n"
        "sys.stderr.write('BEGIN\\n'); sys.stderr.flush()\n"
        "for n in range(20):\n"
        "    at = store.commit(make_delta({'a': b'%d' % n}), make_receipt(n), parent=at)\n"
        "sys.stderr.write('END\\n'); sys.stderr.flush()\n"
    )
    done = subprocess.run(
        [
            "/usr/bin/strace",
            "-f",
            "-y",
            "-e",
            "trace=fsync,fdatasync,write",
            sys.executable,
            "-c",
            script,
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    during = done.stderr.partition('"BEGIN\\n"')[2].partition('"END\\n"')[0]
    syncs = [line for line in during.splitlines() if "sync(" in line]
    assert len(syncs) == 20
    assert all("session.db-wal" in line for line in syncs)


def test_the_directory_is_for_its_owner_only(path):
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_second_open_names_the_pid_that_has_it(path):
    store = SqliteStore(path)
    with pytest.raises(SessionInUseError, match=f"'demo' is in use by pid {os.getpid()}"):
        SqliteStore(path)
    store.close()
    SqliteStore(path).close()


@pytest.mark.slow
def test_another_process_is_refused_until_the_first_dies(path):
    script = (
        "import pathlib, sys\nfrom pyrepl3.store.sqlite import SqliteStore\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]))\nprint('open', flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "open\n"
    with pytest.raises(SessionInUseError) as refused:
        SqliteStore(path)
    assert refused.value.pid == child.pid
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    SqliteStore(path).close()


@pytest.mark.slow
def test_a_forked_child_does_not_keep_the_lock(path):
    script = (
        "import os, pathlib, sys, signal\nfrom pyrepl3.store.sqlite import SqliteStore\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    print(os.getpid(), flush=True)\n    signal.pause()\n"
        "os._exit(0)"
    )
    done = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    child = int(done.stdout.readline())
    done.wait()
    try:
        SqliteStore(path).close()
    finally:
        os.kill(child, 9)
        done.stdout.close()


def test_the_same_engine_state_is_stored_once(path):
    store = SqliteStore(path)
    at = 0
    for n in range(5):
        at = store.commit(make_delta(engine=b"e" * 1000), make_receipt(n), parent=at)
    assert store._db.execute("SELECT count(*) FROM blob").fetchone() == (1,)
    store.close()


@pytest.mark.slow
def test_a_commit_does_not_grow_with_the_number_of_epochs(path):
    """The rows that a commit writes, and those that a load reads, are bounded."""
    store = SqliteStore(path)
    at = 0
    for n in range(1200):
        at = store.commit(make_delta({f"n{n % 50}": b"%d" % n}), make_receipt(n), parent=at)
    keyframes = store._db.execute("SELECT epoch FROM keyframe ORDER BY epoch").fetchall()
    gaps = [b - a for (a,), (b,) in pairwise(keyframes)]
    assert gaps
    assert max(gaps) <= 257
    assert min(gaps) >= 100
    biggest = store._db.execute("SELECT max(length(change)), max(length(map)) FROM epoch, keyframe")
    assert max(biggest.fetchone()) < 1000
    store.close()


def test_a_big_blob_lies_in_a_pack(path):
    store = SqliteStore(path)
    data = random.Random(1).randbytes(1_234_567)
    store.commit(make_delta({"big": data, "small": b"1"}), make_receipt(1), parent=0)
    assert read_values(store.load()) == {"big": data, "small": b"1"}
    assert data in (path / "pack-000001").read_bytes()
    os.truncate(path / "pack-000001", 1_000_000)
    with pytest.raises(StoreCorruptError, match="'big'"):
        store.load()
    store.close()


def test_an_epoch_that_is_not_there_is_told_with_the_newest(path):
    fill(path, epochs=2)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="has no epoch 7; the newest is 2"):
        store.load(7)
    with pytest.raises(StoreError, match="has no epoch 7; the newest is 2"):
        store.commit(make_delta({"x": b"1"}), make_receipt(3), parent=7)
    assert store.head == 2
    store.close()


def test_it_may_be_used_from_another_thread(path):
    store = SqliteStore(path)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(
            store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
        )
    )
    thread.start()
    thread.join()
    assert store.load().epoch == found[0]
    store.close()


def test_a_closed_store_says_so(path):
    store = SqliteStore(path)
    store.close()
    with pytest.raises(SessionClosedError, match="closed"):
        store.commit(Delta(), make_receipt(1), parent=0)


# --- what is not as it should be --------------------------------------------------------------


def test_a_flipped_bit_in_a_value_names_its_names(path):
    fill(path)
    db = sqlite3.connect(path / "session.db")
    db.execute(
        "UPDATE blob SET data = CAST(replace(data, 'value 1', 'valuf 1') AS BLOB) WHERE id = 2"
    )
    db.commit()
    db.close()
    store = SqliteStore(path)
    with pytest.raises(StoreCorruptError, match=r"'n1'.*older epoch"):
        store.load()
    assert read_values(store.load(1)) == {"n0": b"value 0" * 20}
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE epoch SET parent = 0 WHERE id = 3",
        "UPDATE epoch SET parent = 3 WHERE id = 1",
        "UPDATE epoch SET receipt = X'00' WHERE id = 2",
        "UPDATE epoch SET change = X'00' WHERE id = 2",
        "DELETE FROM epoch WHERE id = 2",
        "DELETE FROM blob WHERE id = 1",
        "UPDATE blob SET sum = 0",
        "UPDATE blob SET data = NULL",
        "UPDATE blob SET data = 'text'",
        "UPDATE epoch SET change = 'text', receipt = 7",
        "UPDATE epoch SET parent = 'text'",
        "UPDATE head SET epoch = 77",
        "DELETE FROM head",
        "DROP TABLE blob",
    ],
)
def test_rows_that_were_changed_are_found(path, change):
    fill(path)
    db = sqlite3.connect(path / "session.db")
    db.execute(change)
    db.commit()
    db.close()
    with pytest.raises(StoreError) as told:
        store = SqliteStore(path)
        try:
            store.load()
            store.history()
        finally:
            store.close()
    assert str(path) in str(told.value)


@pytest.mark.slow
def test_no_flipped_byte_gives_wrong_values_or_a_foreign_error(path):
    """Either it does not matter, or it is a StoreError: never other values, never other errors."""
    fill(path, epochs=12)
    file = path / "session.db"
    good = file.read_bytes()
    store = SqliteStore(path)
    expected = store.load(), list(store.history())
    store.close()
    rng = random.Random(5)
    found = {"same": 0, "told": 0}
    for _ in range(600):
        at = rng.randrange(len(good))
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        file.write_bytes(bad)
        for extra in path.glob("session.db-*"):
            extra.unlink()
        store = None
        try:
            store = SqliteStore(path)
            assert (store.load(), list(store.history())) == expected, at
            found["same"] += 1
        except StoreError:
            found["told"] += 1
        finally:
            if store is not None:
                store.close()
    assert min(found.values()) > 20


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_told(path, share):
    fill(path, epochs=30)
    file = path / "session.db"
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(StoreCorruptError, match="backup"):
        store = SqliteStore(path)
        try:
            store.load()
        finally:
            store.close()


def test_a_missing_file_is_told(path):
    fill(path)
    (path / "session.db").unlink()
    with pytest.raises(StoreCorruptError, match=r"is missing.*backup"):
        SqliteStore(path)


@pytest.mark.parametrize("left", [b"", b"SQLite format 3\x00 and then nothing"])
@pytest.mark.parametrize("lock", ["", "new\n", "new\n123 456\n"])
def test_a_making_cut_short_is_begun_anew(path, left, lock):
    path.mkdir()
    (path / "lock").write_text(lock)
    (path / "session.db").write_bytes(left if lock else b"")
    store = SqliteStore(path)
    assert store.load().epoch == 0
    store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    store.close()
    store = SqliteStore(path)
    assert store.load().epoch == 1
    store.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 20, b"x"])
def test_what_is_no_database_is_told(path, content):
    path.mkdir()
    (path / "session.db").write_bytes(content)
    with pytest.raises(StoreCorruptError, match="not a database"):
        SqliteStore(path)


def test_a_database_of_somebody_else_is_left_alone(path):
    path.mkdir()
    db = sqlite3.connect(path / "session.db")
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = (path / "session.db").read_bytes()
    with pytest.raises(StoreCorruptError, match="not a PyREPL3 session"):
        SqliteStore(path)
    assert (path / "session.db").read_bytes() == before


def test_a_newer_version_says_upgrade(path):
    fill(path)
    db = sqlite3.connect(path / "session.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=r"newer PyREPL3 \(store version 99.*upgrade"):
        SqliteStore(path)


def test_a_file_in_place_of_the_directory_is_told(path):
    path.write_text("hello")
    with pytest.raises(StoreError, match="a file stands where a directory is needed"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="a file stands where a directory is needed"):
        SqliteStore(path / "deeper")


def test_a_place_where_nothing_can_be_made_is_told():
    with pytest.raises(StoreError, match="check the path, the rights"):
        SqliteStore(Path("/proc/nowhere/demo"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_directory_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        SqliteStore(tmp_path / "demo")
    tmp_path.chmod(0o700)


def test_a_full_disk_keeps_the_old_epoch_and_goes_on_when_there_is_room(path):
    store = SqliteStore(path)
    first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        store.commit(make_delta({"x": b"2", "y": bytes(100_000)}), make_receipt(2), parent=first)
    assert read_values(store.load()) == {"x": b"1"}
    store._db.execute("PRAGMA max_page_count = 100000")
    store.commit(make_delta({"x": b"3"}), make_receipt(2), parent=first)
    assert read_values(store.load()) == {"x": b"3"}
    store.close()


class Failing:
    """A database whose ``statement`` fails, undone or done."""

    def __init__(self, db, statement, *, done):
        self.db, self.statement, self.done = db, statement, done

    def __getattr__(self, name):
        return getattr(self.db, name)

    def execute(self, statement, *more):
        if not statement.startswith(self.statement):
            return self.db.execute(statement, *more)
        if self.done:
            self.db.execute(statement, *more)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("done", [True, False])
def test_what_a_failed_commit_may_have_kept_is_whole(path, done):
    """The disk fails while the transaction ends: nobody knows whether it did."""
    store = SqliteStore(path)
    big = [random.Random(n).randbytes(1_000_000) for n in range(3)]
    store.commit(make_delta({"x": big[0]}), make_receipt(1), parent=0)
    database = store._db
    store._db = Failing(database, "COMMIT", done=done)
    with pytest.raises(StoreError):
        store.commit(make_delta({"x": big[1]}), make_receipt(2), parent=1)
    store._db = database
    assert store.head == 1 + done
    assert read_values(store.load()) == {"x": big[done]}
    assert big[1] in (path / "pack-000001").read_bytes()
    at = store.commit(make_delta({"y": big[2]}), make_receipt(3), parent=store.head)
    store.verify()
    store.close()
    store = SqliteStore(path)
    assert (store.head, read_values(store.load())) == (at, {"x": big[done], "y": big[2]})
    store.verify()
    store.close()


def test_a_commit_that_fails_before_its_end_leaves_nothing_behind(path):
    store = SqliteStore(path)
    big = [random.Random(n).randbytes(1_000_000) for n in range(2)]
    store.commit(make_delta({"x": big[0]}), make_receipt(1), parent=0)
    size = (path / "pack-000001").stat().st_size
    database = store._db
    store._db = Failing(database, "INSERT INTO epoch", done=True)
    with pytest.raises(StoreError):
        store.commit(make_delta({"x": big[1]}), make_receipt(2), parent=1)
    store._db = database
    assert (path / "pack-000001").stat().st_size == size
    assert store.commit(make_delta({"x": big[1]}), make_receipt(2), parent=1) == 2
    store.verify()
    store.close()


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_a_store_error(path):
    """The kernel refuses the write (RLIMIT_FSIZE), as a full disk or a quota does."""
    script = """
import pathlib, resource, sys
from pyrepl3.errors import StoreError
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import make_delta, make_receipt, read_values
store = SqliteStore(pathlib.Path(sys.argv[1]))
first = store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    store.commit(make_delta({"x": bytes(500_000)}), make_receipt(2), parent=first)
except StoreError as error:
    print(error)
else:
    raise SystemExit("no error")
assert read_values(store.load()) == {"x": b"1"}
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
second = store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first)
assert read_values(store.load()) == {"x": b"2"}
store.close()
store = SqliteStore(pathlib.Path(sys.argv[1]))
assert read_values(store.load()) == {"x": b"2"}
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot commit to the session at" in done.stdout
    assert "disk" in done.stdout


def test_a_read_only_database_is_told(path):
    fill(path)
    store = SqliteStore(path)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="read-only: make it writable"):
        store.commit(make_delta({"x": b"1"}), make_receipt(4), parent=3)
    assert store.load().epoch == 3
    store.close()


def test_a_database_held_by_another_program_is_told(path):
    fill(path)
    store = SqliteStore(path)
    store._db.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path / "session.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program holds the file"):
        store.commit(make_delta({"x": b"1"}), make_receipt(4), parent=3)
    other.execute("ROLLBACK")
    other.close()
    assert store.commit(make_delta({"x": b"1"}), make_receipt(4), parent=3) == 4
    store.close()


def test_an_open_that_fails_lets_go_of_the_lock(path):
    fill(path)
    good = (path / "session.db").read_bytes()
    (path / "session.db").write_bytes(b"rubbish" * 1000)
    for extra in path.glob("session.db-*"):
        extra.unlink()
    with pytest.raises(StoreCorruptError):
        SqliteStore(path)
    (path / "session.db").write_bytes(good)
    store = SqliteStore(path)
    assert store.load().epoch == 3
    store.close()
