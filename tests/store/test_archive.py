"""A session as one file: it comes back whole, or it is refused and nothing is imported."""

from __future__ import annotations

import random
import zipfile

import pytest

from pyrepl3.errors import (
    SessionExistsError,
    SessionNotFoundError,
    StoreCorruptError,
    StoreError,
)
from pyrepl3.records import CHUNK
from pyrepl3.store.directory import SessionDirectory
from pyrepl3.testing.buffers import read_buffers
from pyrepl3.testing.conformance import make_delta, make_receipt, read_values
from pyrepl3.testing.pieces import noise


@pytest.fixture
def directory(tmp_path):
    return SessionDirectory(tmp_path / "sessions")


@pytest.fixture
def exported(directory, tmp_path):
    """An export of session ``a``, which has two lines of epochs, a pack and rows."""
    store = directory.open("a")
    first = store.commit(
        make_delta({"x": b"1"}, buffers={"b": [noise(1, 9 * CHUNK + 1)]}), make_receipt(1), parent=0
    )
    store.commit(make_delta({"x": b"2"}), make_receipt(2), parent=first)
    store.commit(
        make_delta({"x": bytes(300_000)}, buffers={"s": [noise(2, 5000)]}),
        make_receipt(3),
        parent=first,
    )
    store.close()
    path = tmp_path / "a.pyrepl3"
    directory.export("a", path)
    return path


def tell(store):
    """All that a store holds."""
    loaded = [store.load(epoch.epoch) for epoch in store.epochs()]
    return (
        list(store.epochs()),
        store.load().epoch,
        [(read_values(each), read_buffers(each)) for each in loaded],
    )


def nothing_more(directory):
    return [path.name for path in directory.root.iterdir()] == ["a"]


def test_what_was_exported_is_imported_under_its_name_or_another(directory, exported, tmp_path):
    other = SessionDirectory(tmp_path / "other")
    assert other.take_in(exported) == "a"
    assert other.take_in(exported, "b") == "b"
    assert sorted(path.name for path in other.root.iterdir()) == ["a", "b"]
    stores = [directory.open("a"), other.open("a"), other.open("b")]
    expected = tell(stores[0])
    assert len(expected[0]) == 3
    for store in stores[1:]:
        assert tell(store) == expected
        store.verify()
        assert (
            store.commit(
                make_delta(buffers={"n": [noise(3, 9 * CHUNK)]}), make_receipt(4), parent=3
            )
            == 4
        )
    for store in stores:
        store.close()


def test_a_session_in_use_is_exported_as_it_was_by_anybody(directory, exported, tmp_path):
    store = directory.open("a")
    before = store.load()
    directory.export("a", tmp_path / "other")
    store.commit(make_delta({"more": b"1"}), make_receipt(9), parent=before.epoch)
    store.export(tmp_path / "again")
    store.close()
    elsewhere = SessionDirectory(tmp_path / "elsewhere")
    assert elsewhere.take_in(tmp_path / "again", "again") == "again"
    assert elsewhere.take_in(tmp_path / "other", "other") == "other"
    names = []
    for name in ("again", "other"):
        found = elsewhere.read(name)
        names.append("more" in found.names())
        found.close()
    assert names == [True, False]


def test_no_session_is_replaced_and_no_file(directory, exported, tmp_path):
    with pytest.raises(SessionExistsError, match=r"'a' is in .* already; choose another name"):
        directory.take_in(exported)
    with pytest.raises(StoreError, match="exists: export to another file"):
        directory.export("a", exported)
    with pytest.raises(SessionNotFoundError):
        directory.export("none", tmp_path / "none")
    with pytest.raises(ValueError, match="cannot name a session"):
        directory.take_in(exported, "../b")
    assert nothing_more(directory)


@pytest.mark.slow
def test_no_flipped_bit_is_imported(directory, exported):
    """Either it does not matter, or the file is refused; never is another session imported."""
    good = exported.read_bytes()
    store = directory.open("a")
    expected = tell(store)
    store.close()
    rng = random.Random(3)
    refused = 0
    for n in range(150):
        bad = bytearray(good)
        bad[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        exported.write_bytes(bad)
        try:
            directory.take_in(exported, f"n{n}")
        except StoreError:
            assert not (directory.root / f"n{n}").exists()
            refused += 1
            continue
        store = directory.open(f"n{n}")
        assert tell(store) == expected
        store.close()
        directory.remove(f"n{n}")
    assert refused > 120
    assert nothing_more(directory)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(directory, exported, share):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StoreCorruptError, match=r"damaged.*nothing was imported"):
        directory.take_in(exported, "b")
    assert nothing_more(directory)


@pytest.mark.parametrize("name", ["../evil", "lock", "/tmp/evil", "session.db-wal", "pack-1"])
def test_nothing_but_parts_of_a_session_is_unpacked(directory, exported, name):
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(name, "evil")
    with pytest.raises(StoreCorruptError, match="is in it"):
        directory.take_in(exported, "b")
    assert nothing_more(directory)


def test_another_file_is_refused(directory, exported, tmp_path):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(StoreCorruptError, match="no export of a session"):
        directory.take_in(other)
    with pytest.raises(StoreError, match=r"cannot import .*No such file"):
        directory.take_in(tmp_path / "none")
    with pytest.raises(StoreError, match=r"cannot import .*directory"):
        directory.take_in(tmp_path)


def test_an_export_of_a_newer_version_says_upgrade(directory, exported, tmp_path):
    newer = tmp_path / "newer"
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(newer, "w") as new:
        new.writestr("session.json", '{"format": 99, "name": "x"}')
        new.writestr("session.db", old.read("session.db"))
    with pytest.raises(StoreError, match=r"format 99.*upgrade"):
        directory.take_in(newer)


def test_a_session_with_a_pack_that_was_cut_is_not_exported(directory, exported, tmp_path):
    with (directory.root / "a" / "pack-000001").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(StoreCorruptError, match="pack-000001 is missing or was cut"):
        directory.export("a", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_an_import_that_was_cut_short_left_is_removed_by_the_next(directory, exported):
    left = directory.root / ".new-left"
    left.mkdir()
    (left / "session.db").write_bytes(b"half")
    assert [info.name for info in directory.list()] == ["a"]
    directory.take_in(exported, "b")
    assert sorted(path.name for path in directory.root.iterdir()) == ["a", "b"]
