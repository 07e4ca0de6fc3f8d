"""A run in, a notebook with its outputs out (``--save-to``): nbformat 4, written whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from pyrepl3.errors import SourceError
from pyrepl3.front.cells import SourceCell, SourceFile
from pyrepl3.front.resume import Plan
from pyrepl3.records import (
    Display,
    Done,
    Epoch,
    Event,
    Failed,
    Finished,
    Interrupted,
    Outcome,
    Output,
    Replayed,
    Started,
)


class NotebookReport:
    """Keeps the outputs of a run and writes them into a notebook when it ends.

    Raises SourceError when made, before anything runs, where nbformat is missing or the target
    cannot be written. A notebook as source keeps its own cells and metadata; cells that did not
    run have no outputs.
    """

    def __init__(self, path: str) -> None:
        if importlib.util.find_spec("nbformat") is None:
            raise SourceError("--save-to needs nbformat: pip install 'pyrepl3[notebook]'")
        self._path = Path(path).absolute()  # a cell may change the directory
        if self._path.is_dir():
            raise SourceError(f"--save-to {path}: is a directory; name a file in it")
        folder = self._path.resolve().parent
        if not folder.is_dir():
            raise SourceError(f"--save-to {path}: there is no directory {folder}")
        if not os.access(folder, os.W_OK):
            raise SourceError(f"--save-to {path}: {folder} may not be written")
        self._file: SourceFile | None = None
        self._outputs: list[list[dict[str, Any]]] = []
        self._counts: list[int | None] = []
        self._index = 0
        self._ids: dict[str, int] = {}  # cell id: index

    def begin(self, file: SourceFile, session: str | None) -> None:  # noqa: ARG002
        self._file = file
        self._outputs = [[] for _ in file.cells]
        self._counts = [None for _ in file.cells]

    def resumed(self, plan: Plan, *, replay: bool) -> None:
        """Nothing: what was kept comes by ``skipped``."""

    def skipped(self, index: int, cell: SourceCell, epoch: Epoch, *, replay: bool) -> None:  # noqa: ARG002
        receipt = epoch.receipt
        self._ids[receipt.cell.id] = index
        self._counts[index] = index + 1
        for event in receipt.events:
            self.event(event)
        if receipt.shown:
            self._result(index, receipt.text, receipt.data)
        elif receipt.error:
            self._error(index, None, receipt.error)

    def cell(self, index: int, cell: SourceCell) -> None:  # noqa: ARG002
        self._index = index

    def event(self, event: Event) -> None:
        match event:
            case Started(cell=cell):
                self._ids[cell.id] = self._index
                self._counts[self._index] = self._index + 1
            case Output(cell_id=cell_id, stream=stream, text=text) if cell_id in self._ids:
                self._stream(self._outputs[self._ids[cell_id]], stream, text)
            case Display(cell_id=cell_id, data=data, metadata=metadata) if cell_id in self._ids:
                self._outputs[self._ids[cell_id]].append(
                    {
                        "output_type": "display_data",
                        "data": _bundle(data),
                        "metadata": dict(metadata),
                    }
                )
            case Finished(outcome=outcome) if outcome.cell.id in self._ids:
                self._outcome(self._ids[outcome.cell.id], outcome)
            case _:
                pass

    def note(self, text: str) -> None:
        """Nothing: notes are of the run, not of the notebook."""

    def end(self, status: int, problem: str = "") -> None:  # noqa: ARG002
        """Write the notebook. Raises SourceError where that fails."""
        if problem:
            return  # nothing was run
        import nbformat  # noqa: PLC0415  heavy, and an extra

        notebook = nbformat.from_dict(self._notebook())  # type: ignore[no-untyped-call]
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise SourceError(f"--save-to {self._path}: {error.strerror or error}") from None

    def _notebook(self) -> dict[str, Any]:
        file = self._file
        assert file is not None
        old = file.notebook
        if old is None:
            cells = [_code_cell(f"cell-{n}", cell.source) for n, cell in enumerate(file.cells, 1)]
            where = dict(enumerate(range(len(cells))))
            metadata: dict[str, Any] = {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
        else:
            cells = [_clean(cell, n) for n, cell in enumerate(old["cells"], 1)]
            where = {index: cell.position for index, cell in enumerate(file.cells)}
            found = old.get("metadata")
            metadata = dict(found) if isinstance(found, dict) else {}
            kernel = metadata.get("kernelspec")
            if isinstance(kernel, dict):  # the format wants both names; not every writer gives them
                metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", **kernel}
        for index, position in where.items():
            cells[position]["outputs"] = self._outputs[index]
            cells[position]["execution_count"] = self._counts[index]
        return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}

    def _outcome(self, index: int, outcome: Outcome) -> None:
        match outcome:
            case (
                Done(shown=True, text=text, data=data) | Replayed(shown=True, text=text, data=data)
            ):
                self._result(index, text, data)
            case Failed(error=error, traceback=traceback):
                self._error(index, error, traceback)
            case Interrupted(traceback=traceback):
                self._error(index, KeyboardInterrupt(), traceback or "KeyboardInterrupt\n")
            case Done() | Replayed():
                pass
            case _:
                assert_never(outcome)

    def _result(self, index: int, text: str, data: Mapping[str, Any]) -> None:
        file = self._file
        if file is not None and not file.cells[index].show:
            return
        self._outputs[index].append(
            {
                "output_type": "execute_result",
                "execution_count": index + 1,
                "data": _bundle({"text/plain": text, **data}),
                "metadata": {},
            }
        )

    def _error(self, index: int, error: BaseException | None, traceback: str) -> None:
        lines = traceback.rstrip("\n").split("\n")
        name, _, value = lines[-1].partition(": ")
        if error is not None:
            name = type(error).__name__
        self._outputs[index].append(
            {
                "output_type": "error",
                "ename": _text(name),
                "evalue": _text(value),
                "traceback": [_text(line) for line in lines],
            }
        )

    @staticmethod
    def _stream(outputs: list[dict[str, Any]], stream: str, text: str) -> None:
        last = outputs[-1] if outputs else {}
        if last.get("output_type") == "stream" and last["name"] == stream:
            last["text"] += _text(text)
        else:
            outputs.append({"output_type": "stream", "name": stream, "text": _text(text)})


def _code_cell(name: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": name,
        "source": _text(source.rstrip("\n")),
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


def _clean(cell: dict[str, Any], n: int) -> dict[str, Any]:
    """A cell of the source notebook as format 4.5 wants it, without old outputs."""
    source = cell.get("source", "")
    clean = {
        **cell,
        "id": cell.get("id") or f"cell-{n}",
        "metadata": cell.get("metadata") or {},
        "source": "".join(source) if isinstance(source, list) else source,
    }
    if cell["cell_type"] == "code":
        clean |= {"outputs": [], "execution_count": None}
    return clean


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _bundle(data: Mapping[str, Any]) -> dict[str, Any]:
    """A MIME bundle as JSON: bytes as base64, as the format says."""
    bundle: dict[str, Any] = {}
    for mime, part in data.items():
        if isinstance(part, bytes):
            bundle[str(mime)] = base64.b64encode(part).decode()
        elif isinstance(part, str):
            bundle[str(mime)] = _text(part)
        elif str(mime).endswith("json"):
            bundle[str(mime)] = part
        else:
            bundle[str(mime)] = _text(str(part))
    return bundle
