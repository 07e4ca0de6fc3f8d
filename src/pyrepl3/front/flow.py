"""``pyrepl3 sessions graph | slice`` and ``%graph``, ``%stale``, ``%slice``: who depends on whom, as text.

The commands of the shell read only, and so they work while another process has the session open.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pyrepl3.front.console import printable
from pyrepl3.front.past import Refusal, reading, write_json
from pyrepl3.session.pasts import flow_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pyrepl3.ports import Reader
    from pyrepl3.records import Graph, Slice, StaleCell

FORMATS = ("text", "mermaid", "dot")


def run_graph(options: argparse.Namespace) -> int:
    """Print how the cells of a session depend on each other."""

    def graph(store: Reader) -> None:
        found = flow_of(store.history()).graph()
        if options.json:
            write_json(found)
        elif not found.cells:
            print(f"session {options.name} is empty")
        else:
            sys.stdout.write(graph_text(found, options.format))

    return reading(options, graph)


def run_slice(options: argparse.Namespace) -> int:
    """Print the cells that make a value, as a script."""

    def cut(store: Reader) -> None:
        found = flow_of(store.history()).slice(options.variable)
        if found is None:
            raise Refusal(f"no cell of session {options.name} has bound {options.variable!r}")
        if options.json:
            write_json(found)
        else:
            print(slice_text(found), end="")

    return reading(options, cut)


def graph_text(graph: Graph, form: str) -> str:
    """The graph in one of ``FORMATS``. Raises ValueError for another."""
    match form:
        case "text":
            return "\n".join(printable(line) for line in graph.text().split("\n")) + "\n"
        case "mermaid":
            return graph.mermaid()
        case "dot":
            return graph.dot()
        case _:
            raise ValueError(f"{form!r} is no format: write {', '.join(FORMATS)}")


def slice_text(found: Slice) -> str:
    """A script, with what is not certain of it as comments on top."""
    notes = "".join(f"# note: {note}\n" for note in found.notes)
    return notes + found.source


def stale_text(stale: Sequence[StaleCell]) -> str:
    """A line a stale cell, and why it is."""
    lines = []
    for cell in stale:
        why = ", ".join(f"{name} (c{n})" for name, n in sorted(cell.because.items()))
        lines.append(f"c{cell.n}: {printable(cell.line)}\n    changed since: {why}\n")
    return "".join(lines) or "nothing is stale\n"
