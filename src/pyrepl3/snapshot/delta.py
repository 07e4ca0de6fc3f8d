"""A namespace in, what changed in it out; and whole snapshots back into it.

The rules of a delta:

1. A name is *new* if its object is not the one seen at the last mark. New names are always found.
2. A name *may have changed* if it was touched: read or bound by a cell, or by code that such a name
   reaches (its functions, the methods of its class, what it refers to by name).
3. Names that share an object whose identity matters form a *group* and are one blob; if one member
   may have changed, all are written. Definitions never join groups: they are referred to by name.
4. A blob that refers to a name by which another object is now called is written again.
5. A blob that says the same as the one in the store is not written.

A delta changes nothing that the next one relies on; ``mark`` does.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from types import CodeType
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import StoreError
from pyrepl3.records import Delta, Snapshot

if TYPE_CHECKING:
    from pyrepl3.snapshot.audit import Audit
    from pyrepl3.snapshot.buffers import Content
    from pyrepl3.snapshot.loader import Entry, Loader
    from pyrepl3.snapshot.work import Work

# pickle and what stands on it load with the first delta: importing this module costs nothing.


class Snapshotter:
    """Turns the changes of one live namespace into deltas.

    ``namespace`` is the dict of the module called ``module``; names in ``skip`` are the engine's. One
    thread at a time. What user code raises while it is pickled is a reason, never an error.
    """

    def __init__(
        self, namespace: dict[str, object], *, module: str, skip: Container[str] = ()
    ) -> None:
        from pyrepl3.snapshot.state import State

        self._namespace, self._module, self._skip = namespace, module, skip
        self._state = State()
        self._work: Work | None = None  # of the last delta, until it is marked
        self._touched: set[str] | None = set()  # since the last mark; None: everything
        self.dropped: dict[str, str] = {}
        """Parts of ``extra`` that the last delta or restore could not keep: path to reason."""
        self.notes: list[str] = []
        """What a restore did not do quite as the original, in words."""
        self.codes: list[weakref.ref[CodeType]] = []
        """The code of the functions that the last restore made."""
        self._unmet: Snapshot | None = None
        """What the last restore could not load for a name that it refers to, until the next mark."""

    def delta(self, touched: Collection[str] | None, *, extra: Mapping[str, object]) -> Delta:
        """What changed since the last mark.

        ``touched``: the names that the cells since then read or bound; None if any may have changed.
        ``extra`` is stored whole in ``Delta.engine``; parts that cannot be are left out and told in
        ``dropped``.
        """
        from pyrepl3.snapshot.engine import pickle_engine

        if touched is None or self._touched is None:
            self._touched = None
        else:
            self._touched |= set(touched)
        self._work = work = self._look(again=self._work is not None)
        work.run(self._touched)
        engine, self.dropped = pickle_engine(work.commons, extra, work.find_name)
        blobs = work.blobs()
        return Delta(
            blobs=blobs,
            deleted=frozenset(work.deleted),
            lost=work.new_losses(),
            reprs=work.reprs,
            engine=engine,
            chunks=work.chunks,
            same=frozenset(work.same),
        )

    def mark(self) -> None:
        """What the last delta told is safe: it counts as unchanged from now on."""
        work, self._work = self._work, None
        self._unmet = None
        if work is not None:
            work.commit()
            self._touched = set()

    def restore(
        self, snapshot: Snapshot, early: Callable[[Mapping[str, object]], object] | None = None
    ) -> tuple[dict[str, str], dict[str, object]]:
        """Replace the user's names by those of ``snapshot``.

        ``early`` is given the part of ``extra`` that has to be there before values are loaded
        (``process.EARLY``).

        Returns what could not come back (name to reason) and the ``extra`` of its delta. Raises only
        what is no Exception (KeyboardInterrupt), out of code that values run when they are loaded.
        """
        from pyrepl3.snapshot.engine import load_engine
        from pyrepl3.snapshot.loader import Loader
        from pyrepl3.snapshot.pickler import no_collection
        from pyrepl3.snapshot.process import EARLY
        from pyrepl3.snapshot.state import Group, State

        namespace = self._namespace
        for name in list(namespace):
            if type(name) is str and name not in self._skip:
                del namespace[name]
        # One object for each name, as the compiler makes them: else what comes back would not pickle
        # to the same bytes, and would count as changed.
        blobs = tuple(
            msgspec.structs.replace(blob, names=tuple(map(sys.intern, blob.names)))
            for blob in snapshot.blobs
        )
        snapshot = msgspec.structs.replace(snapshot, blobs=blobs)
        loader = Loader(namespace, self._module, snapshot)
        with no_collection(lasting=True):
            if early is not None:
                early(load_engine(loader, snapshot.engine, EARLY)[0])
            loader.load_all()
            extra, self.dropped = load_engine(loader, snapshot.engine)
            self.notes, self.codes = loader.notes, loader.codes
            self._work, self._touched = None, set()
            self._state.buffers.close()
            state = self._state = State()
            for name, reason in snapshot.lost.items():
                group = Group([name])
                group.lost = reason
                state.add(group)
            self._adopt(loader, snapshot)
            self._note_unmet(loader, snapshot)
        return loader.lost, extra

    def reload(self) -> frozenset[str]:
        """Load what could not be loaded for a name that it refers to, if that is bound by now.

        Until the first mark after a restore. Returns the names that came back; raises as ``restore``.
        """
        from pyrepl3.snapshot.loader import Loader
        from pyrepl3.snapshot.pickler import no_collection

        snapshot = self._unmet
        if snapshot is None:
            return frozenset()
        loader = Loader(self._namespace, self._module, snapshot, live=True)
        with no_collection(lasting=True):
            loader.load_all()
            self._adopt(loader, snapshot)
            self._note_unmet(loader, snapshot)
        back = (entry.blob.names for entry in loader.entries if entry.reason is None)
        return frozenset(name for names in back for name in names)

    def _note_unmet(self, loader: Loader, snapshot: Snapshot) -> None:
        blobs = tuple(entry.blob for entry in loader.entries if entry.reason and entry.unmet)
        self._unmet = msgspec.structs.replace(snapshot, blobs=blobs, engine=b"") if blobs else None

    def _adopt(self, loader: Loader, snapshot: Snapshot) -> None:
        """Take what was loaded for what the store holds."""
        from pyrepl3.snapshot.definitions import is_definition
        from pyrepl3.snapshot.pickler import digest_of
        from pyrepl3.snapshot.sameness import REMEMBERED
        from pyrepl3.snapshot.state import Group, is_small_atom, keeper_of

        namespace, state = self._namespace, self._state
        whole = [entry for entry in loader.entries if entry.reason is None]
        # The names by which blobs refer to definitions first: aliases come after them.
        for entry in whole:
            for name in entry.blob.names:
                if name in entry.bare and namespace.get(name) is entry.bare[name]:
                    state.definitions.add(name, namespace[name])
        for entry in whole:
            names = [name for name in entry.blob.names if name in namespace]
            for name in names:
                value = namespace[name]
                state.ids[name] = id(value)
                state.hold(name, keeper_of(value, len(entry.blob.data), holdable=False))
                if is_definition(value, self._module):
                    state.definitions.add(name, value)
            names = [name for name in names if not is_small_atom(namespace[name])]
            if names:
                group = Group(names)
                group.refs, group.links = frozenset(entry.refs), frozenset(entry.links)
                if len(names) == len(entry.blob.names):
                    # Where the same bytes come out again, it has not changed.
                    group.digest = digest_of(entry.blob.data, entry.blob.buffers)
                    if len(names) == 1:
                        state.values[names[0]] = group.digest
                    if len(entry.blob.data) <= REMEMBERED:
                        group.read = entry.blob.data
                group.contents = self._adopt_buffers(entry, snapshot)
                state.add(group)
        groups = dict.fromkeys(state.groups.values())
        state.buffers.commit(content for group in groups for content in group.contents)

    def _adopt_buffers(self, entry: Entry, snapshot: Snapshot) -> tuple[Content, ...]:
        """What is known of a blob's buffers, so that only what changes from now on is hashed and stored."""
        if snapshot.digests is None or not entry.blob.buffers:
            return ()
        adopt, name = self._state.buffers.adopt, min(entry.blob.names)
        try:
            found = [
                adopt(buffer, snapshot.digests(buffer), key=(name, n))
                for n, buffer in enumerate(entry.cuts)
            ]
            found += [
                adopt(buffer, snapshot.digests(buffer), view=view) for buffer, view in entry.opened
            ]
        except StoreError:
            return ()  # then all of it is hashed once
        return tuple(found)

    def reaches(self, names: Iterable[str]) -> frozenset[str]:
        """``names``, and every name in the code that a use of them may run.

        Like the function ``reaches``, but through stored containers too (a list of functions).
        """
        return frozenset(self._look().close_over(names))

    def audit(self) -> Audit:
        """A search for all that changed since the last mark, whatever cells named; see ``suspect``."""
        from pyrepl3.snapshot.audit import Audit

        return Audit(self._look(), frozenset(self._state.groups.values()))

    def suspect(self, names: Iterable[str]) -> None:
        """Let the next delta look at ``names`` too."""
        if self._touched is not None:
            self._touched |= set(names)

    def _look(self, *, again: bool = False) -> Work:
        from pyrepl3.snapshot.work import Work

        return Work(self._namespace, self._module, self._skip, self._state, again=again)
