"""Notebook JSON in, cells out: code cells of an ``.ipynb``, by plain json (nbformat only writes)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pyrepl3.errors import SourceError
from pyrepl3.front.cells import SourceCell, SourceFile, first_code_line
from pyrepl3.front.magics import MagicError, translate

_SHOWN_ERRORS = 10


def read_notebook(data: bytes, *, path: str, shown: str) -> SourceFile:
    """Cut a notebook (format 4, or 3 as IPython wrote it until 2015) into its code cells.

    Cells are counted from 1 among those that hold code: the number that progress and errors show.
    Tags as nbclient reads them: ``skip-execution``, ``raises-exception``. Raises SourceError.
    """
    notebook = _load(data, shown)
    cells: list[SourceCell] = []
    notices: list[str] = []
    errors: list[str] = []
    for position, cell in enumerate(_cells(notebook, shown)):
        source, tags = _code(cell, position, shown)
        if source is None or "skip-execution" in tags:
            continue
        lines = source.split("\n")
        if not (label := first_code_line(lines)):
            continue
        n = len(cells) + 1
        try:
            translated = translate(source)
        except MagicError as error:
            errors.append(f"{shown}, cell {n}, line {error.line}: {error.text}")
            translated = translate("")
        notices += (f"cell {n}, line {line}: {text}" for line, text in translated.notices)
        cells.append(
            SourceCell(
                source=translated.source,
                filename=f"{path}, cell {n}",
                label=label,
                may_fail="raises-exception" in tags,
                timed=translated.timed,
                position=position,
            )
        )
    if errors:
        more = len(errors) - _SHOWN_ERRORS
        tail = [f"and {more} more"] if more > 0 else []
        raise SourceError("\n".join([*errors[:_SHOWN_ERRORS], *tail]))
    return SourceFile(
        path=path,
        cells=tuple(cells),
        notices=tuple(notices),
        notebook=notebook if notebook["nbformat"] == 4 else None,
    )


def _load(data: bytes, shown: str) -> dict[str, Any]:
    if not data.strip():
        raise SourceError(f"{shown} is empty")
    try:
        notebook = json.loads(data)
    except UnicodeDecodeError:
        raise SourceError(f"{shown} is a binary file, not a notebook") from None
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{shown}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}); "
            "a notebook is a JSON file"
        ) from None
    except RecursionError:
        raise SourceError(f"{shown} is nested too deeply for a notebook") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        raise SourceError(f"{shown} is JSON but no notebook: it has no nbformat number")
    if notebook["nbformat"] not in (3, 4):
        raise SourceError(
            f"{shown} is a notebook of format {notebook['nbformat']}; formats 3 and 4 can be run"
        )
    language = _language(notebook)
    if language and not language.lower().startswith(("python", "ipython")):
        raise SourceError(f"{shown} is a notebook in {language}, not in Python")
    return notebook


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for part, key in (("kernelspec", "language"), ("language_info", "name")):
        found = metadata.get(part) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return str(found[key])
    return ""


def _cells(notebook: dict[str, Any], shown: str) -> Iterator[Any]:
    sheets = notebook.get("worksheets", []) if notebook["nbformat"] == 3 else [notebook]
    for sheet in sheets if isinstance(sheets, list) else [None]:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        if not isinstance(cells, list):
            raise SourceError(f"{shown} is a broken notebook: it has no list of cells")
        yield from cells


def _code(cell: Any, position: int, shown: str) -> tuple[str | None, tuple[str, ...]]:
    """The source and the tags of a cell; None where it holds no code."""
    if not isinstance(cell, dict) or "cell_type" not in cell:
        raise SourceError(
            f"{shown} is a broken notebook: entry {position + 1} of its cells is no cell"
        )
    if cell["cell_type"] != "code":
        return None, ()
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise SourceError(
            f"{shown} is a broken notebook: entry {position + 1} of its cells has no source"
        )
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    return source, tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(
        tags, list
    ) else ()
