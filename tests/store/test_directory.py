from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrepl3.errors import SessionInUseError, SessionNotFoundError
from pyrepl3.store.directory import SessionDirectory, find_default_root
from pyrepl3.testing.conformance import make_delta, make_receipt


@pytest.fixture
def directory(tmp_path):
    return SessionDirectory(tmp_path / "sessions")


def test_nothing_is_made_before_a_session_is_opened(directory):
    assert directory.list() == []
    assert not directory.root.exists()
    with pytest.raises(SessionNotFoundError, match="no session 'x'"):
        directory.remove("x")


def test_sessions_are_listed_with_what_they_hold(directory):
    a = directory.open("a")
    at = a.commit(make_delta({"x": bytes(50_000)}), make_receipt(1), parent=0)
    a.commit(make_delta({"x": b"2"}), make_receipt(2), parent=at)
    directory.open("b").close()
    first, second = directory.list()
    assert (first.name, first.epochs, first.in_use_pid) == ("a", 2, os.getpid())
    assert first.size > 50_000
    assert abs(first.last_used - (directory.root / "a" / "session.db").stat().st_mtime) < 100
    assert (second.name, second.epochs, second.in_use_pid) == ("b", 0, None)
    a.close()
    assert directory.list()[0].in_use_pid is None


def test_a_session_that_never_came_to_its_database_is_one_without_cells(directory):
    (directory.root / "a").mkdir(parents=True)
    (directory.root / "a" / "lock").touch()
    (info,) = directory.list()
    assert (info.epochs, info.in_use_pid) == (0, None)
    assert abs(info.last_used - (directory.root / "a" / "lock").stat().st_mtime) < 1
    (directory.root / "a" / "pack-1").touch()  # as a removal that was cut short leaves it
    assert directory.list()[0].epochs is None


def test_listing_neither_locks_nor_writes(directory):
    directory.open("a").close()
    before = {p.name: p.read_bytes() for p in (directory.root / "a").iterdir()}
    directory.list()
    after = {p.name: p.read_bytes() for p in (directory.root / "a").iterdir()}
    assert after == before
    store = directory.open("a")
    directory.list()
    assert store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0) == 1
    store.close()


def test_what_is_no_session_is_not_listed(directory):
    directory.open("a").close()
    (directory.root / "empty").mkdir()
    (directory.root / ".hidden").mkdir()
    (directory.root / "file").touch()
    assert [info.name for info in directory.list()] == ["a"]


def test_a_broken_session_is_listed_and_can_be_removed(directory):
    directory.open("a").close()
    (directory.root / "a" / "session.db").write_bytes(b"rubbish" * 100)
    (info,) = directory.list()
    assert (info.name, info.epochs) == ("a", None)
    directory.remove("a")
    assert directory.list() == []


def test_a_removed_session_is_gone_and_can_be_made_anew(directory):
    store = directory.open("a")
    store.commit(make_delta({"x": b"1"}), make_receipt(1), parent=0)
    store.close()
    directory.remove("a")
    assert not (directory.root / "a").exists()
    again = directory.open("a")
    assert again.load().epoch == 0
    again.close()


def test_an_open_session_is_not_removed(directory):
    store = directory.open("a")
    with pytest.raises(SessionInUseError):
        directory.remove("a")
    store.close()
    assert directory.list()


@pytest.mark.slow
def test_a_session_killed_is_not_in_use(directory):
    script = (
        "import pathlib, sys\nfrom pyrepl3.store.directory import SessionDirectory\n"
        "store = SessionDirectory(pathlib.Path(sys.argv[1])).open('a')\nprint('open', flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(directory.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child.stdout.readline()
    assert directory.list()[0].in_use_pid == child.pid
    child.kill()
    child.wait()
    assert directory.list()[0].in_use_pid is None
    child.stdin.close()
    child.stdout.close()
    directory.remove("a")


def test_a_pid_that_is_another_process_by_now_is_not_the_owner(directory):
    directory.open("a").close()
    (directory.root / "a" / "lock").write_text(f"made\n{os.getpid()} 12345\n")
    if Path("/proc/self/stat").exists():
        assert directory.list()[0].in_use_pid is None


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "x" * 64])
def test_names_that_can_be(directory, name):
    directory.open(name).close()
    assert [info.name for info in directory.list()] == [name]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "a b", "x" * 65, "é", "a\n", "a\x00", "../x"]
)
def test_names_that_cannot_be(directory, name):
    for call in (directory.open, directory.remove):
        with pytest.raises(ValueError, match="use 1 to 64 letters, digits"):
            call(name)
    assert not directory.root.exists()


def test_the_default_place_is_the_users_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("PYREPL3_STORE", str(tmp_path / "mine"))
    assert find_default_root() == tmp_path / "mine"
    assert SessionDirectory().root == tmp_path / "mine"
    monkeypatch.delenv("PYREPL3_STORE")
    assert find_default_root().parts[-2:] == ("pyrepl3", "sessions")
