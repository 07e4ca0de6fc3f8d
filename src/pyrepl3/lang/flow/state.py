"""What is known of the global names between two statements of a session: see ``State``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.lang.flow.effects import Effects

type Version = tuple[int, ...]
"""Indices of the cells that made a value, ascending: who bound it, and who changed it in place since."""


class Known:
    """What is known of one name at one time."""

    __slots__ = ("certain", "code", "lazy", "module", "plain", "version")

    def __init__(self, version: Version) -> None:
        self.version = version
        self.certain = version
        """Those of the version that made or changed it for sure."""
        self.code: frozenset[Effects] = frozenset()
        """Functions that run when the value is used."""
        self.module = ""
        self.lazy = False
        """Reading it uses it up."""
        self.plain = False
        """A number, a text or the like: nothing can change it in place."""


class State:
    """Which names there are, whose versions they are, what they hold and whom they share objects with."""

    def __init__(self) -> None:
        self.names: dict[str, Known] = {}
        self.used: set[tuple[int, str]] = set()
        """(cell, name): somebody has read what the cell made of the name, maybe the cell itself."""
        self.hidden: Version = ()
        """Cells that may have bound any name (``exec``, ``import *``)."""
        self._groups: dict[str, set[str]] = {}

    def version(self, name: str) -> Version:
        """Who made the present value; empty where nobody did."""
        known = self.names.get(name)
        return known.version if known else ()

    def know(self, name: str) -> Known | None:
        return self.names.get(name)

    def shared(self, name: str) -> set[str]:
        """``name`` and the names that may share objects with it."""
        return self._groups.get(name) or {name}

    def bind(self, name: str, at: int, *, whole: bool) -> Known:
        """The cell binds a name: for sure, or maybe."""
        old = self.names.get(name)
        if old is None or whole:
            self._leave(name)
            self.names[name] = known = Known((at,))
            return known
        old.version = _with(old.version, at)
        old.certain = _with(old.certain, at)
        return old

    def delete(self, name: str, *, whole: bool) -> None:
        if whole:
            self._leave(name)
            self.names.pop(name, None)

    def change(self, name: str, at: int, *, sure: bool) -> None:
        known = self.names.get(name)
        if known is not None:
            known.version = _with(known.version, at)
            if sure:
                known.certain = _with(known.certain, at)

    def share(self, name: str, others: Iterable[str]) -> None:
        group = {name} | self.shared(name)
        mine = self.names.get(name)
        if mine is not None and (mine.module or mine.plain):
            group = set()
        for other in others:
            known = self.names.get(other)
            if known is not None and not (known.module or known.plain):
                group |= self.shared(other)
        for each in group:
            self._groups[each] = group

    def _leave(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            group.discard(name)

    def use(self, name: str, version: Version) -> None:
        self.used.update((source, name) for source in version)


def _with(version: Version, at: int) -> Version:
    return version if at in version else (*version, at)
