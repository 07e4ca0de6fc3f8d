"""Every example in README.md and docs/ is a test: fenced blocks in, failures with their lines out.

- ``python``: a cell. All cells of a file run one after another in one namespace, by our own executor.
- ``python file=NAME``: not run, but written to NAME beside the commands of the file.
- ``output``: what the ``python`` block before it prints.
- ``console``: ``$ pyrepl3 run …`` and ``$ pyrepl3 sessions …`` run, and must print what follows them.
  Other commands are not run.

``...`` in expected text stands for anything. ``<!-- skip: next "reason" -->`` skips a block.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).parent
INFO = re.compile(
    r"(?P<language>python|output|console)(?: file=(?P<file>\S+))?[ \t]*$\n", re.MULTILINE
)
RUN = ("run", "sessions", "--version")


class Cells:
    """Runs the python blocks of a document, each as one cell."""

    def __init__(self) -> None:
        import pyrepl3  # noqa: PLC0415  only where a document has cells

        self.loop = asyncio.Runner()
        self.executor = pyrepl3.AsyncExecutor(None, pyrepl3.NamespaceManager(), "docs")

    def run(self, source: str) -> str:
        """What the cell prints."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.loop.run(self.executor.execute(source))
        return printed.getvalue()


def difference(expected: str, got: str) -> str | None:
    """How ``got`` differs from ``expected``, in which ``...`` matches anything; None where it does not."""
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    example = doctest.Example("", expected)
    if checker.check_output(example.want, got, flags):
        return None
    return checker.output_difference(example, got, flags | doctest.REPORT_NDIFF)


def run_command(line: str, directory: Path) -> str:
    """What ``pyrepl3 …`` prints, to both streams, in the document's own directory and data directory."""
    _, *arguments = shlex.split(line)
    done = subprocess.run(
        [sys.executable, "-m", "pyrepl3", *arguments],
        cwd=directory,
        env={**os.environ, "XDG_DATA_HOME": str(directory / "data"), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def check_console(text: str, directory: Path) -> str | None:
    """The first difference between a console block and what its commands print."""
    for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = command.partition("\n")
        words = shlex.split(line)
        if words[0] == "pyrepl3" and words[1:2] and words[1] in RUN:
            problem = difference(expected, run_command(line, directory))
            if problem:
                return f"$ {line}\n{problem}"
    return None


def evaluate(example: Example) -> str | None:
    """Run or check one block; what is returned is the failure."""
    language, file, text = example.parsed
    state: dict[str, Any] = example.namespace
    if language == "output":
        return difference(text, state.pop("printed", ""))
    if language == "console":
        return check_console(text, state["directory"])
    if file:
        (state["directory"] / file).write_text(text, encoding="utf-8")
        return None
    if "cells" not in state:
        state["cells"] = Cells()
    # Blank lines above, so that a traceback names the line of the document.
    try:
        state["printed"] = state["cells"].run("\n" * example.line + text)
    except BaseException as error:  # noqa: BLE001  what the example raises is the failure, told by its own traceback
        return "".join(traceback.format_exception(error))
    return None


def parse(document: Document) -> Iterator[Region]:
    """The fenced blocks of a document that are checked."""
    for region in RawFencedCodeBlockLexer(INFO)(document):
        found = region.lexemes
        region.parsed = (found["language"], found["file"], str(found["source"]))
        region.evaluator = evaluate
        yield region


def setup(state: dict[str, Any]) -> None:
    """A directory for the commands of a document, with the examples in it."""
    state["directory"] = Path(tempfile.mkdtemp(prefix="pyrepl3-docs-"))
    shutil.copytree(ROOT / "examples", state["directory"] / "examples")


def teardown(state: dict[str, Any]) -> None:
    """Close the loop and remove the directory."""
    if "cells" in state:
        state["cells"].loop.close()
    shutil.rmtree(state["directory"])


pytest_collect_file = Sybil(
    parsers=[parse, SkipParser()],
    patterns=["README.md", "docs/**/*.md"],
    setup=setup,
    teardown=teardown,
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what an example forgot to close be a warning: an error outside of it would stop Sybil itself."""
    for item in items:
        if isinstance(item, SybilItem):
            item.add_marker(
                pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
            )
