"""One cell and what is known of the names before it in; what it does to them, and what is known then, out."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from pyrepl3.lang.flow.effects import Call, Effects
from pyrepl3.lang.flow.known import CHANGING_CALLS, MUTATORS, PURE_CALLS, PURE_METHODS, PURE_MODULES
from pyrepl3.lang.flow.walk import find_effects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pyrepl3.lang.flow.state import Known, State, Version
    from pyrepl3.records import CellFlow, PastCell

_BUILTINS = frozenset(dir(builtins))
_GIVEN = frozenset(
    {"__name__", "__file__", "__doc__", "__builtins__", "__annotations__", "display", "_"}
)
"""Names that are there before the first cell."""
_OURS = frozenset({"_", "_last_exception"})
"""Names that the engine binds after a cell."""
_BINDING = frozenset({"exec", "eval", "globals", "import *"})
_STATEFUL = frozenset({"random", "numpy.random"})


class Step:
    """What became of one cell."""

    __slots__ = ("flow", "inputs", "missing", "sure", "writes")

    def __init__(self, flow: CellFlow) -> None:
        self.flow = flow
        self.inputs: dict[str, Version] = {}
        """The version of each name that it took from others."""
        self.sure: dict[str, Version] = {}
        """The same without writers that are only guessed."""
        self.writes: set[str] = set()
        self.missing: set[str] = set()
        """Names that it read and no known cell had bound."""


class CellWalk:
    """One cell on its way through the analysis."""

    def __init__(self, state: State, at: int, past: PastCell, step: Step) -> None:
        self._state, self._at, self._past, self._step = state, at, past, step
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.deletes: set[str] = set()
        self.mutates: set[str] = set()
        self.may: set[str] = set()
        self.unsure: set[str] = set()
        self._last: type[ast.stmt] | None = None

    def take(self, statement: ast.stmt, *, whole: bool) -> None:
        """The next statement. ``whole``: it ran to its end."""
        self._last = type(statement)
        effects = find_effects(statement)
        certain = whole and _is_certain(statement)
        running = self._close(effects)
        self._note_reads(running)
        mutated, guessed, together = self._look_into(effects, running)
        if self.unsure & _BINDING and self._past.changed is None:
            guessed |= {*self._state.names}
            if self._at not in self._state.hidden:
                self._state.hidden += (self._at,)
        for name in sorted(mutated):
            self._change(name, sure=True)
        for name in sorted(self._spread(guessed | mutated) - mutated):
            self._change(name, sure=False)
        held = self._held(effects)
        # What was added to is the same object, where it could be changed in place.
        for name in effects.augments:
            held.setdefault(name, _Held()).others.add(name)
        for value in held.values():
            value.others = self._spread(value.others)  # as it is now, before names are bound anew
        plain = self._plain(effects) if certain else frozenset()
        for each in running:
            whole = certain and each is effects
            for name in sorted(each.binds):
                self._bind(name, effects, held, whole=whole, plain=whole and name in plain)
            for name in sorted(each.deletes):
                self._delete(name, whole=whole)
        self._note_shares(held)
        for names in together:
            there = {name for name in names if self._state.know(name) is not None}
            if len(there) > 1:
                self._state.share(there.pop(), there)

    def _note_reads(self, running: list[Effects]) -> None:
        for each in running:
            for name in sorted(each.reads):
                self._read(name)
            self.unsure |= each.unsure
        if self.unsure:
            for name in list(self._state.names):
                self._read(name)

    def _look_into(
        self, effects: Effects, running: list[Effects]
    ) -> tuple[set[str], set[str], list[set[str]]]:
        """What changes in place, for sure and maybe; and what may hold a part of each other afterwards."""
        mutated: set[str] = set()
        guessed: set[str] = set()
        together: list[set[str]] = []
        for each in running:
            mutated |= each.mutates
            guessed |= self._spread(each.augments) - each.augments
            guessed |= {name for name in each.reads if (k := self._state.know(name)) and k.lazy}
            for call in each.calls:
                sure, maybe = self._called(call)
                mutated |= sure
                guessed |= maybe
                if (sure or maybe) and self._keeps(call):
                    together.append(sure | maybe | call.names)
            if each is not effects:
                together += [{*names, *sources} for names, sources, _, _ in each.shares]
                if each.keeps:
                    handed = set[str]().union(*(call.names for call in effects.calls))
                    together.append(each.mutates | each.binds | handed)
        return mutated, guessed, together

    def _keeps(self, call: Call) -> bool:
        """Whether what is called may put a part of one argument into another."""
        known = self._state.know(call.root)
        if known is None or not known.code:
            return True
        return any(code.keeps for code in known.code)

    def end(self) -> None:
        """All statements are through: what a store saw, and no text told, comes last."""
        changed = self._past.changed
        if changed is None:
            if self._last is ast.Expr:
                self._state.bind("_", self._at, whole=True)
            return
        for name in sorted(changed & _OURS):
            self._state.bind(name, self._at, whole=True)
        for name in sorted(changed - self.binds - self.mutates - self.deletes - _OURS):
            if self._state.know(name) is None:
                self._state.bind(name, self._at, whole=True)
                self.binds.add(name)
                self._step.writes.add(name)
            else:
                self._change(name, sure=True)

    # --- what runs ------------------------------------------------------------------------------------

    def _close(self, effects: Effects) -> list[Effects]:
        """``effects`` and all functions that may run with them."""
        found: dict[Effects, None] = {}
        rest = [effects, *effects.now]
        while rest:
            each = rest.pop()
            if each in found:
                continue
            found[each] = None
            if each is not effects:
                rest += each.code
            for name in each.reads:
                known = self._state.know(name)
                if known is not None:
                    rest += known.code
        return list(found)

    def _read(self, name: str) -> None:
        known = self._state.know(name)
        if known is None:
            if name not in _BUILTINS:
                self.reads.add(name)
                others = tuple(source for source in self._state.hidden if source != self._at)
                if others:
                    self._step.inputs.setdefault(name, others)
                elif name not in _GIVEN:
                    self._step.missing.add(name)
            return
        self.reads.add(name)
        self._need(name, known)

    def _need(self, name: str, known: Known) -> None:
        """The cell takes a name as it is now."""
        self._state.use(name, known.version)
        others = tuple(source for source in known.version if source != self._at)
        inputs, sure = self._step.inputs, self._step.sure
        if others and name not in inputs:
            inputs[name] = others
            sure[name] = tuple(source for source in known.certain if source != self._at)

    def _called(self, call: Call) -> tuple[set[str], set[str]]:
        """What a call changes in place: for sure, and maybe."""
        sure: set[str] = set()
        maybe: set[str] = set()
        known = self._state.know(call.root)
        last = call.path[-1] if call.path else ""
        arguments = call.names
        if known is not None and known.module:
            home, _, last = ".".join((known.module, *call.path)).rpartition(".")
            for at, names in call.arguments:
                if at == "out":
                    sure |= names
            if home in _STATEFUL:
                return {call.root, *(arguments if last == "shuffle" else sure)}, set()
            if last in MUTATORS and (len(call.path) > 1 or last in {"chdir", "putenv"}):
                sure.add(call.root)
            if last in CHANGING_CALLS or known.module.partition(".")[0] not in PURE_MODULES:
                maybe |= arguments
            return sure, maybe
        if call.path:
            if not call.root and last in MUTATORS:
                sure |= {name for at, names in call.arguments if at == -1 for name in names}
            if call.root and last in MUTATORS:
                sure.add(call.root)
            elif call.root and last not in PURE_METHODS:
                maybe.add(call.root)
            # What a method may do with its arguments nobody knows; most only keep them.
            maybe |= arguments if last not in PURE_METHODS and last not in MUTATORS else set()
            return sure, maybe
        if known is None:
            return sure, maybe if call.root in PURE_CALLS else maybe | arguments
        if not known.code:
            return sure, maybe | arguments
        return sure, maybe | _handed(known.code, call)

    def _spread(self, names: Iterable[str]) -> set[str]:
        """``names`` and all that may share objects with them."""
        found: set[str] = set()
        for name in names:
            found |= self._state.shared(name)
        return found

    # --- what it does ---------------------------------------------------------------------------------

    def _agrees(self, name: str, *, sure: bool) -> bool:
        """Whether the store does not know better: it looked at all names that the cell read or bound."""
        changed = self._past.changed
        if changed is None or name in changed or name in self._past.lost:
            return True
        known = self._state.know(name)
        return sure and known is not None and bool(known.module)

    def _change(self, name: str, *, sure: bool) -> None:
        known = self._state.know(name)
        if known is None or (known.module and not sure) or not self._agrees(name, sure=sure):
            return
        if known.plain and not self._past.changed:
            return
        if self._past.changed is not None and name in self._past.changed:
            sure = True
        self._read(name)
        (self.mutates if sure else self.may).add(name)
        self._step.writes.add(name)
        self._state.change(name, self._at, sure=sure)

    def _held(self, effects: Effects) -> dict[str, _Held]:
        """For each name that is bound, or holds something from now on: what that is."""
        found: dict[str, _Held] = {}
        own = {each.name: each for each in effects.code}
        lambdas = [each for each in effects.code if each.name == "<lambda>"]
        for names, sources, called, used_up in effects.shares:
            value = _Held()
            value.lazy = used_up
            value.others |= sources
            value.code |= {*lambdas}
            for name in sources:
                known = self._state.know(name)
                if known is not None:
                    value.code |= known.code
                    value.lazy = value.lazy or (known.lazy and name in names)
            for name in called:
                self._add_result(value, name)
            for name in names:
                found.setdefault(name, _Held()).add(value)
        for name, each in own.items():
            if each.name != "<lambda>":
                found.setdefault(name, _Held()).code |= {each, *each.code}
        return found

    def _add_result(self, value: _Held, name: str) -> None:
        """``value`` may hold what a call of ``name`` gives: an object of a class, a function made there."""
        known = self._state.know(name)
        for each in known.code if known is not None else ():
            value.lazy = value.lazy or each.lazy
            value.code |= {each, *each.code} if each.is_class else {*each.code}
            value.others |= each.returns
            for read in each.reads:
                inner = self._state.know(read)
                value.code |= inner.code if inner is not None else set()

    def _plain(self, effects: Effects) -> frozenset[str]:
        """The names that are bound to what nothing can change in place."""
        return frozenset(
            name
            for name, given in effects.plain.items()
            if all((known := self._state.know(each)) and known.plain for each in given)
        )

    def _bind(
        self,
        name: str,
        effects: Effects,
        held: dict[str, _Held],
        *,
        whole: bool,
        plain: bool,
    ) -> None:
        self.binds.add(name)
        if not whole and not self._agrees(name, sure=False):
            return
        known = self._state.bind(name, self._at, whole=whole)
        known.plain = plain
        self._step.writes.add(name)
        value = held.get(name)
        if value is not None:
            known.code |= value.code
            known.lazy = known.lazy or value.lazy
        known.module = effects.imports.get(name, "")

    def _delete(self, name: str, *, whole: bool) -> None:
        self.deletes.add(name)
        there = self._state.know(name)
        if there is not None:
            self._need(name, there)
        if self._agrees(name, sure=True):
            self._state.delete(name, whole=whole)
            self._step.writes.add(name)

    def _note_shares(self, held: dict[str, _Held]) -> None:
        for name, value in held.items():
            known = self._state.know(name)
            if known is not None:
                known.code |= value.code
                if value.others - {name} and not known.plain:
                    self._state.share(name, value.others)


class _Held:
    """What a name holds: functions that run when it is used, and objects that others may hold too."""

    def __init__(self) -> None:
        self.code: set[Effects] = set()
        self.others: set[str] = set()
        self.lazy = False

    def add(self, other: _Held) -> None:
        self.code |= other.code
        self.others |= other.others
        self.lazy = self.lazy or other.lazy


def _handed(codes: Collection[Effects], call: Call) -> set[str]:
    """The names whose objects a call of these functions may change, or hand on to who knows what."""
    found: set[str] = set()
    made = any(code.is_class for code in codes)
    for code in codes:
        if code.is_class or (made and code.name != "__init__") or not code.changed:
            continue
        parameters = code.parameters[1:] if made else code.parameters
        for at, names in call.arguments:
            if isinstance(at, int) and 0 <= at < len(parameters):
                found |= names if parameters[at] in code.changed else set()
            elif at not in parameters or at in code.changed:
                found |= names
    return found


def _is_certain(statement: ast.stmt) -> bool:
    """Whether all that the statement binds is bound for sure when it has run to its end."""
    return isinstance(
        statement,
        ast.Assign
        | ast.AugAssign
        | ast.AnnAssign
        | ast.FunctionDef
        | ast.AsyncFunctionDef
        | ast.ClassDef
        | ast.Import
        | ast.ImportFrom
        | ast.Delete
        | ast.TypeAlias,
    )
