"""Places in a cell's source and new texts for them in, the source with these changes out."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from pyrepl3.lang.parse import column_of, split_lines

type Spot = tuple[int, int]
"""A line from 1 and a column from 0, in characters."""


class Text:
    """A source by lines and columns. Line ends are line feeds."""

    def __init__(self, source: str) -> None:
        self.lines = split_lines(source)
        self.source = "\n".join(self.lines)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def at(self, spot: Spot) -> int:
        """The index of a place."""
        line, column = spot
        return self._starts[line - 1] + column

    def between(self, start: Spot, end: Spot) -> str:
        """The text from ``start`` to before ``end``."""
        return self.source[self.at(start) : self.at(end)]

    def changed(self, edits: Iterable[tuple[Spot, Spot, str]]) -> str:
        """The source with ``edits``, which do not overlap, made."""
        source = self.source
        for start, end, text in sorted(edits, reverse=True):
            source = source[: self.at(start)] + text + source[self.at(end) :]
        return source

    def span(self, node: ast.expr | ast.stmt) -> tuple[Spot, Spot]:
        """Where a node starts and ends."""
        end_line = node.end_lineno or node.lineno
        end_column = node.end_col_offset or node.col_offset
        return (
            (node.lineno, column_of(self.lines[node.lineno - 1], node.col_offset)),
            (end_line, column_of(self.lines[end_line - 1], end_column)),
        )

    def with_import(self, source: str, module: str) -> str:
        """``source``, which is this one changed, with ``import module`` before its first statement."""
        first = 0
        for statement in ast.parse(self.source).body:
            future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
            text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not future and not (text and first == 0):
                break
            first = statement.end_lineno or statement.lineno
        lines = source.split("\n")
        return "\n".join([*lines[:first], f"import {module}", *lines[first:]])
