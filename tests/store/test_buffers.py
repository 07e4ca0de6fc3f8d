"""Buffers from packs: mapped where they can be, read where they must be, told where they are damaged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pyrepl3.errors import SessionClosedError, StoreCorruptError, StoreError
from pyrepl3.records import CHUNK
from pyrepl3.store import buffers, mapping, packs
from pyrepl3.store.buffers import find_stretches
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.pieces import make_delta, make_receipt, noise, read_values


@pytest.fixture
def path(tmp_path):
    return tmp_path / "demo"


BIG = 40 * CHUNK + 100


def fill(path, size=BIG):
    """Epoch 1 has ``x`` and ``v``, epoch 2 another ``x``, with one chunk changed."""
    store = SqliteStore(path)
    content = noise(1, size)
    first = store.commit(
        make_delta({"v": b"1"}, buffers={"x": [content]}), make_receipt(1), parent=0
    )
    changed = content[: 7 * CHUNK] + noise(2, CHUNK) + content[8 * CHUNK :]
    store.commit(make_delta(buffers={"x": [changed]}), make_receipt(2), parent=first)
    store.close()
    return content, changed


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


def open_x(store, epoch=None):
    snapshot = store.load(epoch)
    return snapshot.open(snapshot.blobs[-1].buffers[0])


def mapped(view):
    """The parts of files that lie in the memory of ``view``: bytes."""
    import ctypes

    start = ctypes.addressof(ctypes.c_char.from_buffer(view))
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low < start + len(view) and high > start and "pack-" in line:
            total += high - low
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="mapped on Linux only")
def test_a_big_buffer_is_mapped_and_a_changed_chunk_copied_into_it(path):
    content, changed = fill(path)
    store = SqliteStore(path)
    old, new = open_x(store, 1), open_x(store, 2)
    assert mapped(old) >= 40 * CHUNK
    assert 39 * CHUNK <= mapped(new) < 40 * CHUNK
    assert (bytes(old), bytes(new)) == (content, changed)
    new[7 * CHUNK] ^= 1
    new[9 * CHUNK] ^= 1
    assert bytes(open_x(store, 2)) == changed
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mapped on Linux only")
def test_a_mapping_costs_no_descriptor_and_goes_with_its_last_view(path):
    fill(path)
    store = SqliteStore(path)
    open_x(store)
    before = len(list(Path("/proc/self/fd").iterdir()))
    views = [open_x(store) for _ in range(50)]
    parts = [view[5 * CHUNK : 6 * CHUNK] for view in views]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    count = Path("/proc/self/maps").read_text().count(f"{path}/pack-")
    assert count >= 50
    del views
    assert Path("/proc/self/maps").read_text().count(f"{path}/pack-") == count, (
        "a part holds the whole"
    )
    del parts
    assert Path("/proc/self/maps").read_text().count(f"{path}/pack-") == 0
    store.close()


@pytest.mark.parametrize("way", ["nowhere", "refused"])
def test_where_nothing_can_be_mapped_it_is_read(path, monkeypatch, way):
    content, changed = fill(path)
    if way == "nowhere":
        monkeypatch.setattr(mapping, "can_overlay", lambda: False)
    else:
        monkeypatch.setattr(mapping, "overlay", lambda *args: False)
    store = SqliteStore(path)
    view = open_x(store)
    assert bytes(view) == changed
    assert not view.readonly
    assert bytes(open_x(store, 1)) == content
    flip(path / "pack-000001", 20 * CHUNK)  # what is read is checked, all of it
    with pytest.raises(StoreCorruptError, match="'x'"):
        open_x(store)
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mapped on Linux only")
def test_a_kernel_that_refuses_a_mapping_is_believed():
    memory = mapping.reserve(10 * 4096)
    with Path("/dev/null").open("rb") as file:
        assert not mapping.overlay(memory, 0, 4096, file.fileno(), 0)


def test_many_scattered_chunks_are_copied_not_mapped_one_by_one(path):
    """Else the kernel's 65,530 mappings a process would be used up."""
    store = SqliteStore(path)
    parts = [noise(n, CHUNK) for n in range(40)]
    at = store.commit(make_delta(buffers={"x": [b"".join(parts)]}), make_receipt(1), parent=0)
    parts[::2] = [noise(100 + n, CHUNK) for n in range(20)]
    store.commit(make_delta(buffers={"x": [b"".join(parts)]}), make_receipt(2), parent=at)
    snapshot = store.load()
    ((buffer,),) = (blob.buffers for blob in snapshot.blobs)
    assert len(find_stretches(store._db, store._packs, buffer)) == 40
    view = snapshot.open(buffer)
    assert bytes(view) == b"".join(parts)
    if sys.platform == "linux":
        assert mapped(view) == 0
    store.close()


# --- what is not as it should be ----------------------------------------------------------------


def test_a_bit_that_flipped_in_a_mapped_chunk_is_found_by_verify(path):
    _, changed = fill(path)
    flip(
        path / "pack-000001", 7 * CHUNK + 5
    )  # of the first x only: the second has a chunk of its own
    store = SqliteStore(path)
    with pytest.raises(
        StoreCorruptError, match=r"the value of 'x' cannot be read back.*older epoch"
    ):
        store.verify()
    with pytest.raises(StoreCorruptError, match="'x'"):
        store.verify(1)
    store.verify(2)
    assert bytes(open_x(store, 2)) == changed
    assert read_values(store.load(1))["v"] == b"1"
    store.close()


@pytest.mark.skipif(not mapping.can_overlay(), reason="nothing is mapped here")
def test_what_was_mapped_is_compared_slice_by_slice_when_there_is_time(path, monkeypatch):
    monkeypatch.setattr(buffers, "CHECK_FIRST", 0)
    monkeypatch.setattr(buffers, "SLICE", 10 * CHUNK)
    fill(path)
    flip(path / "pack-000001", 7 * CHUNK + 5)  # of the first x only
    store = SqliteStore(path)
    good, bad = store.load(2), store.load(1)
    for snapshot in (good, bad):
        snapshot.open(snapshot.blobs[-1].buffers[0])
    calls = 1
    while good.verify():
        calls += 1
    assert calls >= 4
    with pytest.raises(StoreCorruptError, match="'x'"):
        while bad.verify():
            pass
    while bad.verify():  # told once; the rest is compared
        pass
    store.close()
    with pytest.raises(SessionClosedError):
        bad.verify()


@pytest.mark.skipif(not mapping.can_overlay(), reason="nothing is mapped here")
def test_what_was_collected_meanwhile_is_not_compared(path, monkeypatch):
    monkeypatch.setattr(buffers, "CHECK_FIRST", 0)
    fill(path)
    store = SqliteStore(path)
    snapshot = store.load(2)
    view = snapshot.open(snapshot.blobs[-1].buffers[0])
    content = bytes(view)
    at = store.commit(make_delta(deleted=("x", "v")), make_receipt(3), parent=2)
    store.collect(keep=1)
    assert list(path.glob("pack-*")) == []
    assert not snapshot.verify()
    assert bytes(view) == content
    assert store.load().epoch == at
    store.close()


def test_little_that_is_mapped_is_compared_at_once(path):
    fill(path)
    flip(path / "pack-000001", 20 * CHUNK)
    store = SqliteStore(path)
    for epoch in (1, 2):
        with pytest.raises(StoreCorruptError, match="'x'"):
            open_x(store, epoch)
    store.close()


@pytest.mark.parametrize("chunk", [0, 40])
def test_a_bit_that_flipped_where_a_stretch_begins_or_is_copied_is_found_at_once(path, chunk):
    fill(path)
    if chunk == 40:  # the last one is short: it is a row
        store = SqliteStore(path)
        store._db.execute("UPDATE piece SET data = zeroblob(100) WHERE length(data) = 100")
        store.close()
    else:
        flip(path / "pack-000001", 5)
    store = SqliteStore(path)
    with pytest.raises(StoreCorruptError, match="'x'"):
        open_x(store)
    assert read_values(store.load())["v"] == b"1"
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE piece SET data = zeroblob(length(data)) WHERE length(data) = 32 * 41",  # a list
        "UPDATE piece SET data = zeroblob(length(data)) WHERE length(data) = 32",  # lists of lists
        "UPDATE piece SET data = 'text'",
        "DELETE FROM piece",
        "DELETE FROM chunk WHERE pack = 0",
        "DELETE FROM chunk WHERE pack = 1 AND at = 65536",
        "UPDATE chunk SET at = at + 4096 WHERE pack = 1 AND at = 65536 * 3",
        "UPDATE chunk SET at = at + 65536 WHERE pack = 1",
        "UPDATE chunk SET at = -at WHERE pack = 1 AND at = 65536 * 3",
        "UPDATE chunk SET pack = 77 WHERE pack = 1",
        "UPDATE chunk SET size = 5 WHERE pack = 1 AND at = 0",
        "UPDATE chunk SET size = 'text'",
        "UPDATE chunk SET at = 1000000000 WHERE pack = 0",
        "UPDATE blob SET buffers = x'00' WHERE length(buffers) > 0",
        "UPDATE blob SET buffers = CAST(substr(buffers, 1, 20) || '!' || substr(buffers, 22) AS BLOB)"
        " WHERE length(buffers) > 0",
        "UPDATE blob SET buffers = 'text' WHERE length(buffers) > 0",
        "UPDATE blob SET pack = 1 WHERE length(buffers) > 0",
    ],
)
def test_rows_that_were_changed_are_found_and_name_the_names(path, change):
    fill(path)
    store = SqliteStore(path)
    store._db.execute(change)
    with pytest.raises(StoreCorruptError, match=r"'x'"):
        open_x(store)
    with pytest.raises(StoreCorruptError, match=r"'x'"):
        store.verify()
    store.close()


@pytest.mark.parametrize("left", [None, 0, 5 * CHUNK, 40 * CHUNK - 1])
def test_a_pack_that_was_cut_or_is_missing_is_told_and_the_session_goes_on(path, left):
    """Touching a mapping of what is not in the file would end the process."""
    fill(path)
    pack = path / "pack-000001"
    if left is None:
        pack.unlink()
    else:
        os.truncate(pack, left)
    store = SqliteStore(path)
    with pytest.raises(StoreCorruptError, match="'x'"):
        open_x(store)
    with pytest.raises(StoreCorruptError, match="'x'"):
        store.verify()
    assert read_values(store.load())["v"] == b"1"
    # What is new goes to another pack: rows still tell of places in this one.
    new = {"y": [noise(9, BIG)]}
    third = store.commit(make_delta(buffers=new, deleted=("x",)), make_receipt(3), parent=2)
    assert read_buffers(store.load(third)) == new
    store.verify(third)
    assert (path / "pack-000002").exists()
    store.collect(keep=1)
    store.verify()
    assert not pack.exists()
    store.close()


def test_what_a_crash_left_behind_the_last_commit_is_ignored_and_not_overwritten(path):
    _, changed = fill(path)
    with (path / "pack-000001").open("ab") as file:
        file.write(b"torn" * 1000)
    store = SqliteStore(path)
    assert bytes(open_x(store)) == changed
    new = {"y": [noise(9, BIG)]}
    store.commit(make_delta(buffers=new), make_receipt(3), parent=2)
    assert read_buffers(store.load())["y"] == new["y"]
    assert b"torn" * 1000 in (path / "pack-000001").read_bytes()
    store.verify()
    store.close()


def test_the_pack_of_a_commit_that_did_not_come_to_its_end_is_left_alone_until_a_collection(path):
    fill(path)
    (path / "pack-000002").write_bytes(b"orphan" * 1000)
    os.truncate(path / "pack-000001", 0)
    store = SqliteStore(path)
    store.commit(make_delta(buffers={"x": [noise(9, BIG)]}), make_receipt(3), parent=2)
    assert (path / "pack-000002").read_bytes() == b"orphan" * 1000
    assert (path / "pack-000003").exists()
    store.collect(keep=1)
    assert sorted(file.name for file in path.glob("pack-*")) == ["pack-000003"]
    store.verify()
    store.close()


def test_a_pack_that_a_fork_shares_gets_no_more_from_either(path):
    """Each cuts off what it could not finish; the other's must not go with it."""
    _, changed = fill(path)
    store = SqliteStore(path)
    fork = store.fork("fork")
    shared = path / "pack-000001"
    assert shared.samefile(path.parent / "fork" / "pack-000001")
    size = shared.stat().st_size
    for n, one in enumerate((fork, store)):
        one.commit(make_delta(buffers={"y": [noise(9 + n, BIG)]}), make_receipt(3), parent=2)
        assert shared.stat().st_size == size
    for n, one in enumerate((fork, store)):
        assert read_buffers(one.load()) == {"x": [changed], "y": [noise(9 + n, BIG)]}
        one.verify()
        one.close()


def test_a_new_pack_has_its_name_on_disk_before_a_row_tells_of_it(path, monkeypatch):
    """Else a power cut may take the pack and leave the epoch."""
    store = SqliteStore(path)
    synced = []

    def sync(folder):
        epochs = store._db.execute("SELECT count(*) FROM epoch").fetchone()[0]
        synced.append((folder, epochs, sorted(file.name for file in path.glob("pack-*"))))

    monkeypatch.setattr(packs, "sync", sync)
    monkeypatch.setattr(packs, "FULL", CHUNK)
    store.commit(make_delta(buffers={"x": [noise(1, BIG)]}), make_receipt(1), parent=0)
    assert synced == []  # the first is made with the session
    store.commit(make_delta(buffers={"x": [noise(2, BIG)]}), make_receipt(2), parent=1)
    assert synced == [(path, 1, ["pack-000001", "pack-000002"])]
    store.close()


# --- what does not go to the disk ---------------------------------------------------------------


def test_a_chunk_that_is_there_is_not_written_again(path):
    content, changed = fill(path)
    size = (path / "pack-000001").stat().st_size
    assert 40 * CHUNK <= size < 41 * CHUNK + 8192
    store = SqliteStore(path)
    twice = {"y": [content], "z": [changed, content + b"more"]}
    store.commit(make_delta(buffers=twice), make_receipt(3), parent=2)
    assert (path / "pack-000001").stat().st_size == size
    assert read_buffers(store.load())["z"] == twice["z"]
    store.close()


def test_bytes_that_are_a_list_here_and_a_chunk_there_are_both(path):
    store = SqliteStore(path)
    content = noise(1, 9 * CHUNK)
    from pyrepl3.testing.pieces import make_buffer

    lists = [bytes(piece) for piece in make_buffer(content)[1].values() if len(piece) < CHUNK]
    assert len(lists) == 2
    contents = {"x": [lists[0], content, *lists], "y": [content]}
    store.commit(make_delta(buffers=contents), make_receipt(1), parent=0)
    assert read_buffers(store.load()) == contents
    store.close()


_SYNCS = r"""
import pathlib, sys
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.pieces import make_delta, make_receipt, noise
store = SqliteStore(pathlib.Path(sys.argv[1]))
at = store.commit(make_delta({'a': b'1'}), make_receipt(1), parent=0)
for n in range(10):
    delta = make_delta({'a': noise(n, int(sys.argv[2]))}, buffers={'b': [noise(100 + n, int(sys.argv[3]))]})
    sys.stderr.write('BEGIN\n'); sys.stderr.flush()
    at = store.commit(delta, make_receipt(n), parent=at)
    sys.stderr.write('END\n'); sys.stderr.flush()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace is not here")
@pytest.mark.parametrize(
    ("value", "buffer", "syncs"),
    [(100, 1000, 1), (60_000, 150_000, 1), (100, 400_000, 2), (400_000, 10, 2)],
)
def test_a_cell_costs_one_sync_and_two_if_it_made_much(path, value, buffer, syncs):
    """Counted by the kernel, on the thread that commits: the log is folded beside it."""
    done = subprocess.run(
        [
            "/usr/bin/strace",
            "-y",
            "-e",
            "trace=fsync,fdatasync,write",
            sys.executable,
            "-c",
            _SYNCS,
            str(path),
            str(value),
            str(buffer),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    during = re.findall(r'"BEGIN\\n"(.*?)"END\\n"', done.stderr, re.DOTALL)
    assert len(during) == 10
    for text in during:
        lines = [line for line in text.splitlines() if "sync(" in line]
        assert len(lines) == syncs, lines
        assert "session.db-wal" in lines[-1]
        assert syncs == 1 or "pack-000001" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1_000_000, 200_000])
def test_a_disk_without_room_for_a_pack_keeps_the_old_epoch_and_what_was_mapped(path, limit):
    """The kernel refuses the write (RLIMIT_FSIZE), as a full disk or a quota does."""
    script = """
import os, pathlib, resource, sys
from pyrepl3.errors import StoreError
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.pieces import make_delta, make_receipt, noise
path = pathlib.Path(sys.argv[1])
store = SqliteStore(path)
old = {"x": [noise(1, 600_000)]}
first = store.commit(make_delta(buffers=old), make_receipt(1), parent=0)
size = (path / "pack-000001").stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
for _ in range(3):
    try:
        store.commit(make_delta(buffers={"x": [noise(2, 2_000_000)]}), make_receipt(2), parent=first)
    except StoreError as error:
        print(error)
    else:
        raise SystemExit("no error")
assert (path / "pack-000001").stat().st_size == size, "nothing is left of it"
assert read_buffers(store.load()) == old
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
new = {"x": [noise(2, 2_000_000)]}
store.commit(make_delta(buffers=new), make_receipt(2), parent=first)
assert read_buffers(store.load()) == new
store.verify()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("free some space") == 3


def mount(folder, size):
    """A file system of ``size`` bytes at ``folder``, or the test is skipped."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a mount")
def test_a_full_file_system_is_told_and_a_collection_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "FULL", 1_000_000)
    folder = tmp_path / "small"
    mount(folder, 6_000_000)
    try:
        store = SqliteStore(folder / "demo")
        at, n = 0, 0

        def commit():
            delta = make_delta(buffers={"x": [noise(n, 700_000)]})
            return store.commit(delta, make_receipt(n), parent=at)

        with pytest.raises(StoreError, match="the disk is full: free some space"):
            while n < 30:
                n += 1
                at = commit()
        assert 3 < n < 12
        kept = {"x": [noise(n - 1, 700_000)]}
        assert read_buffers(store.load()) == kept
        with pytest.raises(StoreError, match=r"cannot export .* the disk is full"):
            store.export(folder / "export")
        assert [path.name for path in folder.iterdir()] == ["demo"]
        collected = store.collect(keep=1)
        assert collected.epochs == n - 2
        assert collected.size > 2_000_000
        assert read_buffers(store.load()) == kept
        at = commit()
        store.verify()
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a mount")
def test_a_read_only_file_system_is_told(tmp_path):
    folder = tmp_path / "small"
    mount(folder, 20_000_000)
    try:
        fill(folder / "demo")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(StoreError, match="the disk is read-only: make it writable"):
            SqliteStore(folder / "demo")
        with pytest.raises(StoreError, match="the disk is read-only: make it writable"):
            SqliteStore(folder / "other")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.slow
def test_a_directory_that_becomes_read_only_is_told_and_the_session_goes_on():
    with tempfile.TemporaryDirectory() as above:
        path = Path(above) / "demo"
        root = os.geteuid() == 0
        if root:  # who may do everything
            os.chown(above, 65534, 65534)
            os.seteuid(65534)
        try:
            _, changed = fill(path)
            store = SqliteStore(path)
            view = open_x(store)
            (path / "pack-000001").chmod(0o400)
            path.chmod(0o500)
            new = make_delta(buffers={"y": [noise(5, BIG)]})
            with pytest.raises(StoreError, match="Permission denied: check the path, the rights"):
                store.commit(new, make_receipt(3), parent=2)
            assert bytes(view) == changed
            assert bytes(open_x(store)) == changed
            path.chmod(0o700)
            (path / "pack-000001").chmod(0o600)
            store.commit(new, make_receipt(3), parent=2)
            store.verify()
            store.close()
        finally:
            os.seteuid(os.getuid())
