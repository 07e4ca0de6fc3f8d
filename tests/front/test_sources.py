"""Reading files: encodings, and clear errors for what cannot be read."""

import io
import os

import pytest

from pyrepl3.errors import SourceError
from pyrepl3.front.sources import read_source


def read(tmp_path, data, name="job.py"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_source(str(path))


TEXTS = {
    "utf-8": ("a = 'é'\n".encode(), "a = 'é'\n"),
    "byte order mark": (b"\xef\xbb\xbfa = 1\n", "a = 1\n"),
    "crlf": (b"a = f(\r\n1)\r\n", "a = f(\n1)\n"),
    "cr": (b"a = 1\rb = 2\r", "a = 1\nb = 2\n"),
    "cookie": (
        b"# -*- coding: latin-1 -*-\na = '\xe9'\n",
        "# -*- coding: latin-1 -*-\na = 'é'\n",
    ),
    "cookie below a shebang": (
        b"#!python\n# vim: set fileencoding=cp1252 :\na = '\x80'\n",
        "#!python\n# vim: set fileencoding=cp1252 :\na = '€'\n",
    ),
    "no newline": (b"a = 1", "a = 1\n"),
}


@pytest.mark.parametrize(("data", "source"), TEXTS.values(), ids=TEXTS)
def test_a_text_is_read_as_python_reads_it(tmp_path, data, source):
    (cell,) = read(tmp_path, data).cells
    assert cell.source == source


def test_cells_carry_the_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "job.py").write_text("a = 1\n")
    monkeypatch.chdir(tmp_path)
    found = read_source("job.py")
    assert found.path == found.cells[0].filename == str(tmp_path / "job.py")


def test_a_dash_is_standard_input():
    found = read_source("-", stdin=io.BytesIO(b"a = 1\n"))
    assert (found.path, found.cells[0].source) == ("<stdin>", "a = 1\n")


def test_standard_input_may_be_empty():
    assert read_source("-", stdin=io.BytesIO(b"")).cells == ()


def test_a_file_with_comments_only_has_no_cells(tmp_path):
    assert read(tmp_path, b"# nothing\n").cells == ()


BROKEN = {
    "empty": (b" \n", "job.py is empty"),
    "binary": (b"\x7fELF\0\0", "is a binary file"),
    "utf-16": ("a = 1".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "not utf-8": (b"a = 1\nb = '\xe9'\n", "line 2: byte 0xe9 is not utf-8; save"),
    "unknown cookie": (b"# coding: klingon\na = 1\n", "line 1: unknown encoding"),
    "cookie against mark": (b"\xef\xbb\xbf# coding: latin-1\n", "line 1: encoding problem"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_text_is_refused_with_the_cure(tmp_path, data, message):
    with pytest.raises(SourceError) as caught:
        read(tmp_path, data)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"no such file: .*gone\.py"):
        read_source(str(tmp_path / "gone.py"))


def test_a_directory_is_named(tmp_path):
    with pytest.raises(SourceError, match="is a directory"):
        read_source(str(tmp_path))


def test_a_name_with_a_null_character_is_refused():
    with pytest.raises(SourceError, match="cannot be read"):
        read_source("a\0b.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "secret.py"
    path.write_text("a = 1\n")
    path.chmod(0)
    with pytest.raises(SourceError, match="permission denied"):
        read_source(str(path))


def test_a_cell_belongs_to_its_file_also_after_renumbering(tmp_path):
    found = read(tmp_path, b"a = 1\n")
    assert found.owns(found.path)
    assert found.owns(f"{found.path}, cell 99")
    assert not found.owns(f"{found.path}.bak")


def test_a_standard_input_that_is_closed_is_said(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        read_source("-")
