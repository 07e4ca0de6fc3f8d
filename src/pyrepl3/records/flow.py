"""How the cells of a session depend on each other: what each does to names, and who reads whose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pyrepl3.records.cells import Cell, Record
from pyrepl3.records.epochs import ReceiptStatus


class PastCell(Record, frozen=True, kw_only=True):
    """A cell that has run, as an analysis takes it.

    ``changed``: the names whose values a store saw change, come or go, None where nobody looked;
    ``lost`` those that it could not look into. ``stop_line``: the
    line (of its file) on which it failed, 0 where that is not known or it did not.
    """

    cell: Cell
    status: ReceiptStatus = "done"
    changed: frozenset[str] | None = None
    lost: frozenset[str] = frozenset()
    stop_line: int = 0


class CellFlow(Record, frozen=True, kw_only=True):
    """What one cell did to the global names, itself and through the functions that it may have called.

    ``reads``, ``binds`` and ``deletes`` miss nothing but what ``unsure`` tells of (``exec``, ``import *``,
    …): such a cell may have touched any name. ``mutates``: changed in place, by the text or as the store
    saw it; ``may_mutate``: handed to code that nobody could see. Both are best efforts: an object that is
    reached only through a library is not found, unless the session is kept.
    """

    n: int
    cell_id: str
    line: str
    status: ReceiptStatus = "done"
    reads: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    mutates: frozenset[str] = frozenset()
    may_mutate: frozenset[str] = frozenset()
    unsure: tuple[str, ...] = ()


class FlowEdge(Record, frozen=True, kw_only=True):
    """Cell ``target`` used what cell ``source`` had made of ``names``. Both are cell counts."""

    source: int
    target: int
    names: tuple[str, ...]


class Hint(Record, frozen=True, kw_only=True):
    """Something that nobody uses: a name (``"unused"``) or all that a cell bound (``"dead"``)."""

    kind: Literal["unused", "dead"]
    n: int
    names: tuple[str, ...]


class StaleCell(Record, frozen=True, kw_only=True):
    """A cell whose result is out of date. ``because``: a name that it read to the cell that changed it."""

    n: int
    cell_id: str
    line: str
    because: Mapping[str, int]


class Slice(Record, frozen=True, kw_only=True):
    """The cells that make the value of ``name``, by count, oldest first, as one script.

    ``source`` has them under ``# %%`` lines; ``pyrepl3 run`` runs it, and so does Python where no cell
    awaits at its top. ``notes`` say what of it is not certain.
    """

    name: str
    cells: tuple[int, ...]
    source: str
    notes: tuple[str, ...] = ()


class Graph(Record, frozen=True, kw_only=True):
    """All cells of a line, oldest first, and who used what of whom.

    ``makers``: for each name that is bound now the cells that made its value.
    """

    cells: tuple[CellFlow, ...] = ()
    edges: tuple[FlowEdge, ...] = ()
    makers: Mapping[str, tuple[int, ...]] = {}
    hints: tuple[Hint, ...] = ()

    def dependents(self, name: str) -> tuple[CellFlow, ...]:
        """The cells that used the present value of ``name``, themselves or through others."""
        makers = set(self.makers.get(name, ()))
        found = {e.target for e in self.edges if e.source in makers and name in e.names} - makers
        for edge in self.edges:  # by target, oldest first, and they lead forth only
            if edge.source in found:
                found.add(edge.target)
        return tuple(cell for cell in self.cells if cell.n in found)

    def text(self) -> str:
        """A line a cell: what it bound or changed, and from which cells it took what."""
        lines = []
        into: dict[int, list[FlowEdge]] = {}
        for edge in self.edges:
            into.setdefault(edge.target, []).append(edge)
        for cell in self.cells:
            made = sorted(cell.binds | cell.mutates | cell.may_mutate)
            taken = [f"c{e.source} ({', '.join(e.names)})" for e in into.get(cell.n, ())]
            parts = [f"c{cell.n}: {cell.line}"]
            parts += [f"    makes {', '.join(made)}"] if made else []
            parts += [f"    from {', '.join(taken)}"] if taken else []
            parts += [f"    deletes {', '.join(sorted(cell.deletes))}"] if cell.deletes else []
            parts += [f"    not certain: {', '.join(cell.unsure)}"] if cell.unsure else []
            lines += parts
        for hint in self.hints:
            what = (
                "is used by nobody" if hint.kind == "unused" else "was replaced before it was used"
            )
            lines.append(f"hint: {', '.join(hint.names)} of c{hint.n} {what}")
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The graph as Mermaid's text."""
        lines = ["flowchart TD"]
        lines += [f'    c{c.n}["{_for_mermaid(f"c{c.n}: {c.line}")}"]' for c in self.cells]
        for edge in self.edges:
            names = _for_mermaid(", ".join(edge.names))
            lines.append(f'    c{edge.source} -->|"{names}"| c{edge.target}')
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """The graph as Graphviz' DOT text."""
        lines = ["digraph cells {", "    node [shape=box, fontname=monospace];"]
        lines += [f"    c{c.n} [label={_for_dot(f'c{c.n}: {c.line}')}];" for c in self.cells]
        lines += [
            f"    c{e.source} -> c{e.target} [label={_for_dot(', '.join(e.names))}];"
            for e in self.edges
        ]
        return "\n".join([*lines, "}"]) + "\n"


def _for_mermaid(text: str) -> str:
    """``text`` with all that Mermaid could take for its own as entities."""
    return re.sub(r"[^\w\s.,:=+()*/-]", lambda found: f"#{ord(found[0])};", text)


def _for_dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
