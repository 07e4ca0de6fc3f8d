"""A file name in, its cells out: Python, notebook or standard input, with errors that name the cure."""

# pathlib costs a one-line run more than reading its file does.
# ruff: noqa: PTH100, PTH123

from __future__ import annotations

import os
import sys
from typing import BinaryIO

from pyrepl3.errors import SourceError
from pyrepl3.front.cells import SourceFile
from pyrepl3.front.python import split_python

STDIN_NAME = "<stdin>"


def read_source(file: str, *, stdin: BinaryIO | None = None) -> SourceFile:
    """Read ``file`` (``-`` for standard input) and cut it into cells.

    Raises SourceError where the file cannot be read, or is no text, no notebook, or holds a magic
    that has no meaning here. Python that does not parse is no error of ours: it becomes a cell, and
    running that tells where and why.
    """
    if file == "-":
        if stdin is None and sys.stdin is None:
            raise SourceError("standard input is closed: there is nothing to run")
        data = (stdin or sys.stdin.buffer).read()
        path = shown = STDIN_NAME
    else:
        shown = file
        path = os.path.abspath(file)
        data = _read_bytes(file)
        if file.endswith(".ipynb"):
            # json costs a plain run a few milliseconds
            from pyrepl3.front.notebook import read_notebook  # noqa: PLC0415

            return read_notebook(data, path=path, shown=shown)
    if file != "-" and not data.strip():
        raise SourceError(f"{shown} is empty")
    text = decode(data, shown=shown)
    return SourceFile(path=path, cells=split_python(text, filename=path))


def _read_bytes(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise SourceError(f"no such file: {file}") from None
    except IsADirectoryError:
        raise SourceError(
            f"{file} is a directory; name the .py or .ipynb file in it to run"
        ) from None
    except PermissionError:
        raise SourceError(f"{file} may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise SourceError(f"{file!r} cannot be read: {error}") from None


def decode(data: bytes, *, shown: str) -> str:
    """The text of a Python file: byte order mark, PEP 263 cookie, all line ends as newlines.

    Raises SourceError for what is no text, naming the line.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{shown} is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise SourceError(f"{shown} is a binary file, not Python source (it holds null bytes)")
    encoding = "utf-8-sig"
    if b"coding" in b"".join(data.split(b"\n", 2)[:2]):
        import io  # noqa: PLC0415
        import tokenize  # noqa: PLC0415  files with a cookie are rare

        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        except SyntaxError as error:
            raise SourceError(f"{shown}, line 1: {error.msg or error}") from None
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{shown}, line {line}: byte 0x{data[error.start]:02x} is not {encoding.removesuffix('-sig')}; "
            "save the file as UTF-8, or name its encoding on the first line: # -*- coding: latin-1 -*-"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
