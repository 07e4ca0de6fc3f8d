"""Where every reader of files ends: a file as a tuple of cells, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class SourceCell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as it stands in a file.

    ``source`` is also what tells an unchanged cell from a changed one. ``filename`` is what
    tracebacks show, ``first_line`` (from 1) is where ``source`` starts in it. ``show`` is False
    where a value would be noise (a text that serves as a comment); ``may_fail`` lets the run go on
    after an error (tag ``raises-exception``); ``timed`` prints the wall time (``%%time``).
    ``position`` is the index in the notebook's own list of cells, -1 in a ``.py`` file.
    """

    source: str
    filename: str
    first_line: int = 1
    label: str = ""
    show: bool = True
    may_fail: bool = False
    timed: bool = False
    position: int = -1


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file cut into cells.

    ``path`` is absolute, or ``<stdin>``. ``notebook`` is the parsed JSON of an ``.ipynb`` (format 4
    only). ``notices`` say what of the file was left out or read otherwise than written.
    """

    path: str
    cells: tuple[SourceCell, ...]
    notices: tuple[str, ...] = ()
    notebook: dict[str, Any] | None = None

    def owns(self, filename: str) -> bool:
        """Whether a recorded cell of that file name came from this file."""
        return filename == self.path or filename.startswith(f"{self.path}, cell ")


def first_code_line(lines: Sequence[str]) -> str:
    """The first line that is neither blank nor a comment, to name a cell by."""
    return next((bare for line in lines if (bare := line.strip()) and not bare.startswith("#")), "")
