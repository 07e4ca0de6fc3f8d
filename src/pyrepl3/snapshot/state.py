"""What a store holds of a namespace: the identity of each name's object, groups, definitions."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import Any

from pyrepl3.snapshot.buffers import Buffers, Content
from pyrepl3.snapshot.definitions import Definitions

_SMALL = 1024  # characters or bytes
_WIDE = 5000  # objects
_HOLD_BELOW = 64 * 1024  # bytes: values whose last version may stay alive for our sake
_NUMBERS = frozenset({int, float, bool, type(None), complex, type(...)})


class Group:
    """Names that are stored together, and what was learned when they were.

    ``reach`` is empty after a restore, until the group is written again: then whoever comes to share
    one of its objects has touched it. ``lost`` is the reason if the group (then of one name) is not in
    the store. ``sure``: ``digest`` is that of what these names were when they were last looked at.
    ``read`` is the blob that a restore read, if it is short, until the group is written again.
    """

    __slots__ = (
        "contents",
        "digest",
        "links",
        "lost",
        "names",
        "parts",
        "reach",
        "read",
        "refs",
        "sure",
    )

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self.reach: set[int] = set()
        self.refs: frozenset[str] = frozenset()
        self.links: frozenset[str] = frozenset()
        self.digest: tuple[object, ...] | None = None
        self.contents: tuple[Content, ...] = ()  # of its buffers
        self.sure = False
        self.read: bytes | None = None
        self.lost: str | None = None
        self.parts: list[object] | None = None  # the fingerprint, if it is one definition


class Homes:
    """Which names reach an object, among those added so far."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, ...]] = {}
        self._wide: list[tuple[set[int], tuple[str, ...]]] = []

    def add(self, reach: set[int], names: tuple[str, ...]) -> set[str]:
        """The names of others that reach one of these objects too."""
        found = {name for key in reach & self._names.keys() for name in self._names[key]}
        for other, others in self._wide:
            if not other.isdisjoint(reach):
                found.update(others)
        if len(reach) > _WIDE:
            self._wide.append((reach, names))
        else:
            self._names.update(dict.fromkeys(reach, names))
        return found


class Hold(weakref.ref[Any]):
    """Tells when the object of a name is gone, so that its id may become another object's."""

    __slots__ = ("name",)

    name: str


class State:
    """What the store holds, as of the last mark."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}  # of the object that each of the user's names is bound to
        self.names: list[str] = []  # every key of the namespace, in order, and
        self.id_list: list[int] = []  # the ids of their objects
        self.holds: dict[str, object] = {}  # what keeps those ids from becoming another object's
        self.died: set[str] = set()  # names whose object is gone: the id says nothing
        self.groups: dict[str, Group] = {}  # of names that are no small atoms
        # What the value of a name was, whatever shared objects with it; None: nobody knows
        self.values: dict[str, tuple[object, ...] | None] = {}
        self._owners: dict[int, Group] = {}  # object to the group that reaches it
        self._wide: dict[Group, None] = {}  # groups that reach too many to list each in a dict
        self.lost: set[str] = set()  # the names of lost groups
        self.definitions = Definitions()
        self.buffers = Buffers()

    def add(self, group: Group) -> None:
        for name in group.names:
            self.groups[name] = group
        if group.lost is not None:
            self.lost |= group.names
        self._claim(group)

    def replace_reach(self, group: Group, reach: set[int]) -> None:
        """The same group, written again."""
        self._release(group)
        group.reach = reach
        self._claim(group)

    def find_owners(self, reach: set[int]) -> set[Group]:
        """The groups that reach one of these objects."""
        owners = self._owners
        found = {owners[key] for key in reach & owners.keys()}
        found.update(group for group in self._wide if not group.reach.isdisjoint(reach))
        return found

    def _claim(self, group: Group) -> None:
        if len(group.reach) > _WIDE:
            self._wide[group] = None
        else:
            self._owners.update(dict.fromkeys(group.reach, group))

    def _release(self, group: Group) -> None:
        if group in self._wide:
            del self._wide[group]
            return
        owners = self._owners
        for key in group.reach:
            if owners.get(key) is group:
                del owners[key]

    def drop(self, group: Group) -> None:
        """Forget a group: all its names are in others now."""
        for name in group.names:
            if self.groups.get(name) is group:
                del self.groups[name]
                self.lost.discard(name)
        self._release(group)

    def leave(self, name: str) -> None:
        """``name`` is bound to something else: it has left its group, whose blob stays."""
        group = self.groups.pop(name, None)
        self.lost.discard(name)
        if group is not None:
            group.names -= {name}
            group.sure = False
            if not group.names:
                self.drop(group)

    def hold(self, name: str, keeper: object) -> None:
        """Remember the object of ``name`` in such a way that its id stays its own, or it is told."""
        self.died.discard(name)
        if type(keeper) is weakref.ref:
            target = keeper()
            if target is None:
                self.died.add(name)
                return
            keeper = Hold(target, self._on_death)
            keeper.name = name
        self.holds[name] = keeper

    def _on_death(self, hold: Hold) -> None:
        # Any thread, at any time: one atomic operation each.
        if self.holds.get(hold.name) is hold:
            self.died.add(hold.name)


def is_small_atom(value: object) -> bool:
    """Numbers, None, short strings: nothing to share, nothing that can fail."""
    kind = type(value)
    if kind in _NUMBERS:
        return True
    return (kind is str or kind is bytes) and len(value) <= _SMALL  # type: ignore[arg-type]


def keeper_of(value: object, size: int, *, holdable: bool) -> object:
    """What to keep of ``value`` so that its id is not mistaken: itself, a weak reference, or nothing.

    Itself only where nobody can notice: it is small, and there is no weak reference to what it holds.
    Nothing means that a new object of the same id is seen only if its name was touched.
    """
    if is_small_atom(value) or (holdable and size <= _HOLD_BELOW):
        return value
    if f"{type(value).__module__}.{type(value).__name__}" == "numpy.ndarray":
        return None  # its resize() refuses an array that somebody refers to, weakly too
    try:
        return weakref.ref(value)
    except TypeError:
        return None
