"""A namespace, the state of the store and the touched names in; blobs and the next state out.

One ``Work`` is one delta. It changes nothing outside itself until ``commit``.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from itertools import compress
from operator import ne

from pyrepl3.records import Blob
from pyrepl3.snapshot.arrays import use_one_memory
from pyrepl3.snapshot.commons import Commons
from pyrepl3.snapshot.definitions import Definitions, is_definition
from pyrepl3.snapshot.fingerprint import fingerprint, same
from pyrepl3.snapshot.pickler import Pickled, pickle_atoms, pickle_names
from pyrepl3.snapshot.reaches import ESCAPES, reaches
from pyrepl3.snapshot.reasons import Failure, describe, find_path
from pyrepl3.snapshot.reprs import short_repr
from pyrepl3.snapshot.sameness import find_same
from pyrepl3.snapshot.state import Group, Homes, State, is_small_atom, keeper_of

_SPLIT_BELOW = 256 * 1024  # bytes times names: below it is looked whether a group still is one


class Work:
    """What one delta finds out. ``run`` first; then the results; ``commit`` at the mark."""

    def __init__(
        self,
        namespace: dict[str, object],
        module: str,
        skip: Container[str],
        state: State,
        *,
        again: bool = False,
    ) -> None:
        self.state, self._skip = state, skip
        self._again = again  # the delta before was never marked
        self.values = dict(namespace)  # one look at it: other threads may bind names meanwhile
        self.names, self.ids = list(self.values), list(map(id, self.values.values()))
        self.definitions = state.definitions
        self.commons = Commons(namespace, module, self.definitions)
        self.changed: list[str] = []
        self.deleted: list[str] = []
        self.redefined: set[str] = set()
        self.atoms: dict[str, object] = {}
        self.done: dict[str, Pickled] = {}  # by each of its names
        self.lost: dict[str, Group] = {}
        self.reprs: dict[str, str] = {}
        self.same: set[str] = set()
        self.chunks: Mapping[bytes, bytes | memoryview] = {}
        self._retaken: set[Group] = set()  # groups of the state that are written anew
        self._touched: set[str] | None = set()
        self._by_id: dict[int, str] | None = None

    def run(self, touched: Collection[str] | None) -> None:
        """Find what changed and make its blobs."""
        self._scan()
        units = [[name] for name in self.changed if name not in self.atoms]
        units += self._touch(touched)
        if self.redefined:
            units += self._retake(
                g for g in self._groups() if not g.refs.isdisjoint(self.redefined)
            )
        while units:
            fresh = self._pickle(units)
            units = self._follow(fresh)
            if not units:
                units = self._settle()

    # --- 1: new, rebound and deleted names ----------------------------------------------------

    def _scan(self) -> None:
        state = self.state
        old = state.ids
        if self.names == state.names:  # in C from end to end: nearly always only values differ
            differ: Iterable[str] = compress(self.names, map(ne, self.ids, state.id_list))
        else:
            get = old.get
            pairs = zip(self.names, self.ids, strict=True)
            differ = [name for name, key in pairs if get(name) != key]
            self.deleted = [name for name in old.keys() - self.values.keys() if self._is_user(name)]
        self.changed = [name for name in differ if self._is_user(name)]
        for name in list(state.died):
            if name in self.values and name not in self.changed and self._is_user(name):
                self.changed.append(name)
        for name in self.changed:
            if is_small_atom(self.values[name]):
                self.atoms[name] = self.values[name]
        self._redefine()

    def _is_user(self, name: object) -> bool:
        return type(name) is str and name not in self._skip and name.isprintable()

    def _redefine(self) -> None:
        old, module = self.state.ids, self.commons.name
        own: Definitions | None = None
        # Removals first: an id that is free may be a new definition's already.
        for name in (*self.changed, *self.deleted):
            if name in old and self.definitions.has(old[name]):
                own = own or self.definitions.copy()
                if own.remove(name, old[name]):
                    self.redefined.add(name)
        for name in self.changed:
            if name not in self.atoms and is_definition(self.values[name], module):
                own = own or self.definitions.copy()
                own.add(name, self.values[name])
        if own is not None:
            self.definitions = self.commons.definitions = own

    # --- 2: what may have changed -------------------------------------------------------------

    def close_over(self, names: Iterable[str]) -> set[str]:
        """``names``, and all names in the code that a use of them may run."""
        found: set[str] = set()
        pending = set(names)
        unknown = set(self.changed)
        groups = self.state.groups
        while pending:
            name = pending.pop()
            if name in found:
                continue
            found.add(name)
            group = groups.get(name)
            if group is not None:
                pending |= group.refs | group.links
            if name in unknown or (group is not None and group.lost is not None):
                pending |= reaches([name], self.values)
        return found

    def _touch(self, touched: Collection[str] | None) -> list[list[str]]:
        """The groups that ``touched`` names reach (None: all), as units to write."""
        if touched is not None and self._touched is not None:
            closed = self.close_over(touched)
            if closed.isdisjoint(ESCAPES):
                self._touched |= closed
                groups = self.state.groups
                found = (groups[name] for name in closed & groups.keys())
                return self._retake(found, unless_same=True)
        self._touched = None
        return self._retake(self._groups(), unless_same=True)

    def _groups(self) -> list[Group]:
        return list(dict.fromkeys(self.state.groups.values()))

    def _retake(self, groups: Iterable[Group], *, unless_same: bool = False) -> list[list[str]]:
        units = []
        for group in groups:
            if group in self._retaken:
                continue
            if unless_same and group.parts is not None and self.is_same(group):
                continue
            self._retaken.add(group)
            names = [n for n in group.names if n in self.values and n not in self.changed]
            if names:
                units.append(sorted(names))
        return units

    def is_same(self, group: Group) -> bool:
        """Whether a definition is what it was, as far as its own blob goes."""
        if len(group.names) != 1:
            return False
        (name,) = group.names
        if name not in self.values or name in self.changed:
            return False
        parts = fingerprint(self.values[name], self.definitions, self.commons.name)
        return parts is not None and group.parts is not None and same(group.parts, parts)

    # --- 3: pickling --------------------------------------------------------------------------

    def _pickle(self, units: list[list[str]]) -> list[Pickled]:
        fresh = []
        for names in units:
            for pickled in self._pickle_unit(names):
                for name in pickled.names:
                    self.done[name] = pickled
                    self.lost.pop(name, None)
                fresh.append(pickled)
        return fresh

    def _pickle_unit(self, names: list[str]) -> list[Pickled]:
        values = {name: self.values[name] for name in names}
        made = pickle_names(self.commons, values)
        if isinstance(made, Failure):
            if len(names) > 1:  # alone, each name shows whether it is the bad one
                return [p for name in names for p in self._pickle_unit([name])]
            (name,) = names
            path = find_path(name, self.values[name], made.value)
            self._lose(name, describe(made, path), frozenset())
            return []
        if len(names) > 1 and made.size * len(names) <= _SPLIT_BELOW:
            if not use_one_memory(values):
                return self._split(made)
        return [made]

    def _split(self, whole: Pickled) -> list[Pickled]:
        """``whole``, or its parts if they share nothing any more."""
        found = [pickle_names(self.commons, {n: self.values[n]}) for n in whole.names]
        alone = [part for part in found if isinstance(part, Pickled)]
        seen: set[int] = set()
        for part in alone:
            if len(alone) < len(found) or not seen.isdisjoint(part.reach):
                whole.note_alone(alone)
                return [whole]
            seen |= part.reach
        return alone

    def _lose(self, name: str, reason: str, refs: frozenset[str]) -> None:
        group = Group([name])
        group.lost, group.refs = reason, refs
        self.lost[name] = group
        self.done.pop(name, None)

    def _follow(self, fresh: list[Pickled]) -> list[list[str]]:
        """Units that the code in what was just written may have changed as well."""
        if self._touched is None:
            return []
        names = {name for pickled in fresh for name in pickled.refs | pickled.links}
        return self._touch(names - self._touched)

    # --- 4: sharing, and references to what is lost ---------------------------------------------

    def _settle(self) -> list[list[str]]:
        """Units to write again, until no two blobs share an object and none refers to a lost name."""
        return self._merge() or self._lose_dependents()

    def _merge(self) -> list[list[str]]:
        joined: dict[str, set[str]] = {}  # name to the set of names it belongs with
        blobs = list(dict.fromkeys(self.done.values()))
        homes = Homes() if len(blobs) > 1 else None
        for pickled in blobs:
            names = set(pickled.names)
            for group in self.state.find_owners(self._new_reach(pickled)):
                for unit in self._retake([group]):
                    names.update(unit)
            if homes is not None:
                names.update(homes.add(pickled.reach, pickled.names))
            if len(names) > len(pickled.names):
                for name in list(names):
                    names |= joined.get(name, set())
                for name in names:
                    joined[name] = names
        units = {id(names): names for names in joined.values()}
        return [sorted(names) for names in units.values() if not self._is_one(names)]

    def _new_reach(self, pickled: Pickled) -> set[int]:
        """What a group reached before, no other group in the store does."""
        if pickled.fresh is None:
            old = self.state.groups.get(pickled.names[0])
            again = old is not None and old in self._retaken
            pickled.fresh = (
                pickled.reach - old.reach if old is not None and again else pickled.reach
            )
        return pickled.fresh

    def _is_one(self, names: set[str]) -> bool:
        made = {id(self.done[name]) for name in names if name in self.done}
        return len(made) == 1 and all(name in self.done for name in names)

    def _lose_dependents(self) -> list[list[str]]:
        state = self.state
        gone = self.done.keys() | set(self.changed) | set(self.deleted)
        lost = (state.lost - gone) | self.lost.keys()
        if not lost and not state.lost:
            return []
        # Blobs in the store that refer to what is lost now, and losses that refer to what is not any more
        turned = lost ^ state.lost
        if turned:
            units = self._retake(g for g in self._groups() if not g.refs.isdisjoint(turned))
            if units:
                return units
        for pickled in dict.fromkeys(self.done.values()):
            bad = pickled.refs & lost
            if bad:
                if len(pickled.names) > 1:
                    self._break_up(pickled, lost)
                else:
                    self._depend(pickled.names[0], pickled, bad)
                return self._settle()
        return []

    def _break_up(self, pickled: Pickled, lost: set[str]) -> None:
        for name in pickled.names:
            alone = pickle_names(self.commons, {name: self.values[name]})
            if isinstance(alone, Failure):
                self._lose(name, describe(alone, None), frozenset())
            elif alone.refs & lost:
                self._depend(name, alone, alone.refs & lost)
            else:
                self.done[name] = alone

    def _depend(self, name: str, pickled: Pickled, bad: frozenset[str] | set[str]) -> None:
        other = min(bad)
        group = self.lost.get(other) or self.state.groups[other]
        self._lose(
            name, f"it refers to {other!r}, which cannot be stored: {group.lost}", pickled.refs
        )

    # --- the results --------------------------------------------------------------------------

    def blobs(self) -> tuple[Blob, ...]:
        """What must be written: blobs that are not in the store yet. Fills ``reprs``.

        And ``same``: the names in them whose values are what they were.
        """
        made: list[Blob] = []
        if self.atoms:
            made.append(Blob(names=tuple(self.atoms), data=pickle_atoms(self.atoms)))
            for name, value in self.atoms.items():
                self.reprs[name] = short_repr(value, 0)
        state, buffers = self.state, self.state.buffers
        buffers.begin(again=self._again)
        for pickled in dict.fromkeys(self.done.values()):
            pickled.seal(buffers)
            old = state.groups.get(pickled.names[0])
            if old is None or old.digest != pickled.digest or old.names != set(pickled.names):
                made.append(pickled.blob)
                self.same |= find_same(state, self.commons, pickled, self.changed)
                for name in pickled.names:
                    self.reprs[name] = short_repr(self.values[name], pickled.total)
        self.chunks = buffers.chunks
        return tuple(made)

    def new_losses(self) -> dict[str, str]:
        """What the store does not know yet to be lost, with the reasons."""
        found = {}
        for name, group in self.lost.items():
            old = self.state.groups.get(name)
            if old is None or old.lost != group.lost:
                found[name] = group.lost or ""
        return found

    def find_name(self, value: object) -> str | None:
        """The name under which the store will hold ``value``, if it does."""
        if self._by_id is None:
            self._by_id = {
                key: name
                for name, key in zip(self.names, self.ids, strict=True)
                if self._is_user(name) and not is_small_atom(self.values[name])
            }
        name = self._by_id.get(id(value))
        if name is None or name in self.lost:
            return None
        group = self.state.groups.get(name)
        if name not in self.done and (group is None or group.lost is not None):
            return None
        return name

    def commit(self) -> None:
        """The blobs are safe: make what was found the state."""
        state = self.state
        for name in (*self.changed, *self.deleted):
            state.leave(name)
            state.values.pop(name, None)
            state.holds.pop(name, None)
            state.died.discard(name)
        blobs = dict.fromkeys(self.done.values())
        kept: dict[Pickled, Group] = {}
        for pickled in blobs:
            old = state.groups.get(pickled.names[0])
            if old is not None and old in self._retaken and old.lost is None:
                if old.names == set(pickled.names):
                    kept[pickled] = old
        for group in self._retaken.difference(kept.values()):
            state.drop(group)
        for name in self.lost:
            state.values.pop(name, None)
        for pickled in blobs:
            for name in pickled.names:
                state.values[name] = pickled.digest_of(name)
            group = kept.get(pickled) or Group(pickled.names)
            group.refs, group.links = pickled.refs, pickled.links
            group.digest, group.contents = pickled.digest, pickled.contents
            group.parts, group.sure, group.read = None, True, None
            if len(pickled.names) == 1:
                value = self.values[pickled.names[0]]
                group.parts = fingerprint(value, self.definitions, self.commons.name)
            if pickled in kept:
                state.replace_reach(group, pickled.reach)
            else:
                group.reach = pickled.reach
                state.add(group)
        for group in self.lost.values():
            state.add(group)
        state.definitions = self.definitions
        state.names, state.id_list = self.names, self.ids
        for name in self.deleted:
            del state.ids[name]
        for name in self.changed:
            state.ids[name] = id(self.values[name])
            made = self.done.get(name)
            size, holdable = (made.total, made.holdable) if made is not None else (0, False)
            state.hold(name, keeper_of(self.values[name], size, holdable=holdable))
        groups = dict.fromkeys(state.groups.values())
        state.buffers.commit(content for group in groups for content in group.contents)
