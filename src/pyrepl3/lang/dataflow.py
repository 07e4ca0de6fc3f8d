"""The cells of a session in, in their order; who depends on whom, what is stale, what makes a value out.

A *version* of a name is the tuple of cells that made its value: the one that bound it and those that
changed it in place since. Cells are analysed one after the other, statement by statement, with what is
known of the names by then: which hold functions of earlier cells (and so what a call does), which
share objects, which are modules. Where a store saw which values changed, that overrules guesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import CompilationError
from pyrepl3.lang.flow.cell import CellWalk, Step
from pyrepl3.lang.flow.state import State
from pyrepl3.lang.parse import parse, split_lines
from pyrepl3.records import CellFlow, FlowEdge, Graph, Hint, PastCell, Slice, StaleCell

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pyrepl3.lang.flow.state import Version

_QUIET = frozenset({"__annotations__", "__doc__", "__warningregistry__"})


class Flow:
    """The data flow of a line of cells. Immutable once made."""

    def __init__(self, past: Sequence[PastCell]) -> None:
        self._past = tuple(past)
        self._state = State()
        self._steps: list[Step] = []
        for at, cell in enumerate(self._past):
            self._steps.append(self._run(at, cell))

    # --- answers ------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """All of it as data."""
        edges: list[FlowEdge] = []
        for at, step in enumerate(self._steps):
            into: dict[int, set[str]] = {}
            for name, version in step.inputs.items():
                for source in version:
                    into.setdefault(source, set()).add(name)
            edges += [
                FlowEdge(
                    source=self._n(source), target=self._n(at), names=tuple(sorted(into[source]))
                )
                for source in sorted(into)
            ]
        return Graph(
            cells=tuple(step.flow for step in self._steps),
            edges=tuple(edges),
            makers={
                name: tuple(map(self._n, known.version))
                for name, known in sorted(self._state.names.items())
                if known.version
            },
            hints=tuple(self._hints()),
        )

    def stale(self) -> tuple[StaleCell, ...]:
        """The cells that read what has changed since, or what such cells made, and whose result is in use.

        Changes that are only guessed do not count.
        """
        return tuple(
            StaleCell(
                n=flow.n,
                cell_id=flow.cell_id,
                line=flow.line,
                because={name: self._n(by) for name, by in why.items()},
            )
            for at, why in self._find_stale().items()
            for flow in (self._steps[at].flow,)
        )

    def again(self) -> tuple[PastCell, ...]:
        """The cells to run again, in order, so that nothing is stale.

        Beside the stale ones: those that made what a stale one changes in place, since it must not be
        changed twice.
        """
        wanted = set(self._find_stale())
        rest = list(wanted)
        while rest:
            at = rest.pop()
            step = self._steps[at]
            more = {w for name in step.writes & step.sure.keys() for w in step.sure[name]}
            for name in step.writes:
                known = self._state.names.get(name)
                if known is not None and at in known.version:
                    more |= {w for w in known.certain if w > at}
            for other in more - wanted:
                wanted.add(other)
                rest.append(other)
        return tuple(self._past[at] for at in sorted(wanted))

    def slice(self, name: str) -> Slice | None:
        """The cells that make the present value of ``name``; None where nothing is known to bind it."""
        version = self._state.version(name)
        if not version:
            return None
        wanted = self._needed(version)
        cells = [self._past[at] for at in sorted(wanted)]
        return Slice(
            name=name,
            cells=tuple(past.cell.n for past in cells),
            source="\n\n".join(_as_part(past) for past in cells) + "\n",
            notes=tuple(self._notes(sorted(wanted))),
        )

    def needed(self, name: str, lost: Collection[str]) -> tuple[PastCell, ...]:
        """The cells to run again to have ``name``, whose value is lost, where the others are there.

        The cell that bound it, and those that made what it read, as far as that is lost or has been
        changed since. What changed the lost value in place later is no part of it.
        """
        binder = self._binder(name, self._state.version(name))
        wanted: set[int] = set()
        rest = [] if binder is None else [binder]
        while rest:
            at = rest.pop()
            if at in wanted:
                continue
            wanted.add(at)
            for read, version in self._steps[at].inputs.items():
                if read in lost:
                    first = self._binder(read, version)
                    rest += [] if first is None else [first]
                elif version != self._state.version(read) or at in version:
                    rest += version
        return tuple(self._past[at] for at in sorted(wanted))

    def _binder(self, name: str, version: Version) -> int | None:
        """The last cell of a version whose text binds the name, and does not only change what it holds."""
        binders = [at for at in version if name in self._steps[at].flow.binds]
        return max(binders, default=version[0] if version else None)

    def _needed(self, version: Version) -> set[int]:
        wanted: set[int] = set()
        rest = list(version)
        while rest:
            at = rest.pop()
            if at not in wanted:
                wanted.add(at)
                step = self._steps[at]
                rest += [source for each in step.inputs.values() for source in each]
        return wanted

    def _notes(self, wanted: Iterable[int]) -> Iterable[str]:
        for at in wanted:
            flow, past = self._steps[at].flow, self._past[at]
            missing = self._steps[at].missing - flow.binds
            if missing:
                names = ", ".join(sorted(missing))
                yield f"cell {flow.n} reads what no cell that is kept has bound: {names}"
            if flow.unsure:
                yield f"cell {flow.n} may touch any name: {', '.join(flow.unsure)}"
            if past.status != "done":
                how = "failed" if past.status == "failed" else "was interrupted"
                kept = "only the statements before that are here"
                yield f"cell {flow.n} {how}; {kept if past.stop_line else 'all of it is here'}"

    def _n(self, at: int) -> int:
        return self._past[at].cell.n

    # --- stale --------------------------------------------------------------------------------------

    def _find_stale(self) -> dict[int, dict[str, int]]:
        """Index of each stale cell to (name to index of who changed it)."""
        found: dict[int, dict[str, int]] = {}
        last = {past.cell.source: at for at, past in enumerate(self._past)}
        for at, step in enumerate(self._steps):
            if not self._is_live(at, step, last):
                continue
            why: dict[str, int] = {}
            for name, version in step.sure.items():
                known = self._state.names.get(name)
                changed = [w for w in known.certain if w > at and w not in version] if known else []
                if changed and name not in step.writes:
                    why[name] = changed[-1]
                else:
                    made = [source for source in version if source in found]
                    if made:
                        why[name] = made[-1]
            if why:
                found[at] = why
        return found

    def _is_live(self, at: int, step: Step, last: dict[str, int]) -> bool:
        """Whether what a cell made is in use; one that made nothing has shown something."""
        writes = step.writes - _QUIET
        if not writes:
            return last[self._past[at].cell.source] == at
        return any(at in self._state.version(name) for name in writes)

    # --- hints --------------------------------------------------------------------------------------

    def _hints(self) -> Iterable[Hint]:
        for at, step in enumerate(self._steps):
            bound = step.flow.binds - step.flow.deletes - _QUIET
            unused = {
                name
                for name in bound
                if (at, name) not in self._state.used and not name.startswith("_")
            }
            gone = {name for name in unused if at not in self._state.version(name)}
            if gone and gone == bound and step.writes - _QUIET == bound:
                yield Hint(kind="dead", n=step.flow.n, names=tuple(sorted(gone)))
            elif unused - gone:
                yield Hint(kind="unused", n=step.flow.n, names=tuple(sorted(unused - gone)))

    # --- one cell -----------------------------------------------------------------------------------

    def _run(self, at: int, past: PastCell) -> Step:
        cell = past.cell
        first = next((line for line in cell.source.splitlines() if line.strip()), "").strip()
        step = Step(CellFlow(n=cell.n, cell_id=cell.id, line=first, status=past.status))
        one = CellWalk(self._state, at, past, step)
        try:
            statements = parse(cell.source, cell.filename, first_line=cell.first_line).body
        except CompilationError:
            statements = []  # it has not run
        stop = past.stop_line
        for statement in statements:
            if stop and statement.lineno > stop:
                break
            reached = bool(stop) and (statement.end_lineno or stop) >= stop
            one.take(statement, whole=past.status == "done" or (bool(stop) and not reached))
        one.end()
        step.flow = msgspec.structs.replace(
            step.flow,
            reads=frozenset(one.reads),
            binds=frozenset(one.binds),
            deletes=frozenset(one.deletes),
            mutates=frozenset(one.mutates - one.binds),
            may_mutate=frozenset(one.may - one.mutates - one.binds),
            unsure=tuple(sorted(one.unsure)),
        )
        return step


def _as_part(past: PastCell) -> str:
    """A cell as a part of a script; of one that failed, what came before that."""
    cell = past.cell
    source = cell.source.strip("\n")
    if past.stop_line:
        lines = split_lines(cell.source)
        try:
            statements = parse(cell.source, cell.filename, first_line=cell.first_line).body
        except CompilationError:
            statements = []
        last = 0
        for statement in statements:
            end = statement.end_lineno or statement.lineno
            if end >= past.stop_line:
                break
            last = end - cell.first_line + 1
        source = "\n".join(lines[:last])
    return f"# %% cell {cell.n}\n{source}"
