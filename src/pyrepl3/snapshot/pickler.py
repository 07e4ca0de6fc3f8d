"""Names that share objects in, one blob out, with what it reaches, refers to and may run.

A blob is a header, a prologue (see ``commons``), and one or two pickles: for blobs that define
classes first the bare classes, so that blobs may refer to each other in circles; then
``{name: value}``.
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pyrepl3.snapshot.classes import finish_call
from pyrepl3.snapshot.commons import (
    DEFINITIONS,
    MAGIC,
    MODULES,
    PROLOGUE,
    VALUES,
    Commons,
    Pickling,
)
from pyrepl3.snapshot.dispatch import find_handler
from pyrepl3.snapshot.identity import find_reach
from pyrepl3.snapshot.reasons import Failure, explain_failure


class Pickled:
    """A blob made, and what was learned on the way.

    ``reach`` holds the ids of the objects whose identity matters; ``refs`` the names it refers to,
    ``links`` the names in its code. ``plain``: it holds builtin containers and atoms only.
    """

    __slots__ = ("data", "links", "names", "plain", "reach", "refs")

    def __init__(self, names: tuple[str, ...], data: bytes) -> None:
        self.names, self.data = names, data
        self.reach: set[int] = set()
        self.refs: frozenset[str] = frozenset()
        self.links: frozenset[str] = frozenset()
        self.plain = False

    @property
    def digest(self) -> tuple[int, int]:
        """Tells this blob from another one; for this process only."""
        return len(self.data), hash(self.data)  # bytes remember their hash


class BlobPickler(Pickling):
    """Pickles for one blob, asking reducers about all that is not built in."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        self.last = obj
        handlers = self.commons.handlers
        try:
            handler = handlers[kind]
        except KeyError:
            handler = handlers[kind] = find_handler(kind, self.commons.name)
        return NotImplemented if handler is None else handler(self, obj)


def pickle_names(commons: Commons, values: Mapping[str, object]) -> Pickled | Failure:
    """One blob of all ``values``, or why there is none. Runs user code; raises nothing."""
    # The memo of a big value is as big again, and every few hundred entries would start a collection.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _pickle_names(commons, values)
    finally:
        if collecting:
            gc.enable()


def _pickle_names(commons: Commons, values: Mapping[str, object]) -> Pickled | Failure:
    shared: frozenset[int] = frozenset()
    tries = 3
    definitions = commons.definitions
    roots = {id(v): n for n, v in values.items() if definitions.name_of(v) == n}
    while True:
        file = io.BytesIO()
        pickler = BlobPickler(file, commons, roots, shared)
        try:
            _write(pickler, file, values)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; it is told
            tries -= 1
            if tries and type(error) is RuntimeError and "during iteration" in str(error):
                continue  # another thread changed a container meanwhile
            failure = explain_failure(error, pickler.last)
            del error, pickler
            return failure
        again = frozenset(o for o, arrays in pickler.buffers.items() if len(arrays) > 1) - shared
        if not again:
            break
        shared |= again  # once more, with these arrays as views of one memory
    made = Pickled(tuple(values), file.getvalue())
    made.refs, made.links = frozenset(pickler.refs), frozenset(pickler.links)
    made.reach, made.plain = _find_reach(pickler)
    return made


def pickle_atoms(values: Mapping[str, object]) -> bytes:
    """A blob of values without identity (numbers, short strings): nothing can go wrong."""
    return MAGIC + VALUES + PROLOGUE + pickle.dumps(dict(values), 5)


def _write(pickler: BlobPickler, file: io.BytesIO, values: Mapping[str, object]) -> None:
    kind = VALUES
    if pickler.roots:
        kind = DEFINITIONS
    elif all(issubclass(type(value), ModuleType) for value in values.values()):
        kind = MODULES
    file.write(MAGIC + kind + PROLOGUE)
    pickler.names = frozenset(values)
    root: object = dict(values)
    if kind == DEFINITIONS:
        pickler.bare = True
        bare = tuple(
            v for v in values.values() if id(v) in pickler.roots and issubclass(type(v), type)
        )
        pickler.dump(bare)
        pickler.bare = False
        order = sorted(pickler.unfinished, key=lambda cls: len(cls.__mro__))  # bases first
        calls = [finish_call(pickler, cls) for cls in order]
        pickler.keep += (bare, calls, root)
        root = (calls, root)
    pickler.keep.append(root)
    pickler.dump(root)


def _find_reach(pickler: BlobPickler) -> tuple[set[int], bool]:
    skip = {id(seed) for seed in pickler.commons.seeds}
    skip.update(map(id, pickler.keep))
    skip -= pickler.buffers.keys()
    only_builtins = pickler.last is None
    pickler.last = None
    pickler.keep.clear()
    memo = pickler.memo.copy()
    pickler.clear_memo()
    reach, plain = find_reach(
        memo,
        pickler.commons.kinds,
        by_value=pickler.by_value,
        skip=skip,
        only_builtins=only_builtins,
    )
    reach.update(pickler.buffers)
    return reach, plain and not pickler.buffers
