"""Files of a session's directory: in and out, and nothing that a cell plants leads anywhere else."""

from __future__ import annotations

import os
import socket
import sys

import pytest

import pyrepl3
from pyrepl3.session.files import Files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="by descriptors of directories")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_text("the secret")
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


async def test_what_is_written_is_read(place):
    files = Files(str(place))
    await files.write("a", b"\x00\xff" * 1_000_000)
    await files.write("deep/er/b", "ä")
    assert await files.read("a") == b"\x00\xff" * 1_000_000
    assert await files.read("./deep//er/b") == "ä".encode()
    assert await files.list() == ("a", "deep/")
    assert await files.list("deep/er") == ("b",)
    await files.write("a", b"")
    assert await files.read("a") == b""
    await files.remove("a")
    with pytest.raises(FileNotFoundError):
        await files.read("a")
    assert await files.list() == ("deep/",)


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "a/../../b", "", ".", "a\0b", "//x"])
async def test_a_path_that_could_lead_elsewhere_is_refused(place, path):
    files = Files(str(place))
    for call in (files.read(path), files.write(path, b""), files.remove(path)):
        with pytest.raises(ValueError, match="no path inside"):
            await call


async def test_no_link_is_followed(place):
    (place / "file").symlink_to("../out/secret")
    (place / "folder").symlink_to("../out")
    (place / "root").symlink_to("/")
    (place / "loop").symlink_to("loop")
    files = Files(str(place))
    for path in ("file", "folder/secret", "root/etc/passwd", "loop", "loop/x"):
        with pytest.raises((PermissionError, NotADirectoryError)):
            await files.read(path)
    for path in ("folder/new", "root/new"):
        with pytest.raises((PermissionError, NotADirectoryError)):
            await files.write(path, b"harm")
    with pytest.raises((PermissionError, NotADirectoryError)):
        await files.list("folder")
    with pytest.raises((PermissionError, NotADirectoryError)):
        await files.remove("folder/secret")
    await files.write("file", b"own")  # in the place of the link, not through it
    assert (place.parent / "out" / "secret").read_text() == "the secret"
    assert await files.read("file") == b"own"
    await files.remove("folder")
    assert [path.name for path in (place.parent / "out").iterdir()] == ["secret"]


async def test_what_is_no_plain_file_is_not_waited_for(place, monkeypatch):
    os.mkfifo(place / "pipe")
    monkeypatch.chdir(place)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        files = Files(str(place))
        for path in ("pipe", "socket"):
            with pytest.raises(OSError, match=r"pipe|No such device|plain"):
                await files.read(path)
        (place / "folder").mkdir()
        with pytest.raises(IsADirectoryError):
            await files.read("folder")
        await files.write("pipe", b"x")
        assert await files.read("pipe") == b"x"
        with pytest.raises(OSError, match="directory"):
            await files.write("folder", b"x")
        assert await files.list() == ("folder/", "pipe", "socket")  # nothing is left behind


async def test_only_so_much_of_a_file_is_read(place):
    with (place / "huge").open("wb") as file:
        file.truncate(1 << 40)
    files = Files(str(place))
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        await files.read("huge", most=1000)
    await files.write("small", b"12345")
    assert await files.read("small", most=5) == b"12345"
    with pytest.raises(ValueError, match="5 bytes; 4 are read"):
        await files.read("small", most=4)


async def test_a_session_without_a_directory_says_so():
    async with pyrepl3.open_session() as session:
        with pytest.raises(pyrepl3.SessionError, match="no directory of its own"):
            await session.files.read("a")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="confined on Linux only")
async def test_host_and_cells_hand_files_to_each_other():
    async with pyrepl3.open_session(isolation="confined") as session:
        await session.files.write("data/in.csv", "a,b\n1,2\n")
        source = "text = open('data/in.csv').read()\nopen('out', 'w').write(text.upper())"
        assert (await session.run(source)).ok
        assert await session.files.read("out") == b"A,B\n1,2\n"
        assert (await session.run("import os; os.symlink('/etc/passwd', 'link')")).ok
        with pytest.raises(PermissionError):
            await session.files.read("link")
