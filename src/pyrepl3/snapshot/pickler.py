"""Names that share objects in, one blob out, with what it reaches, refers to and may run.

A blob is a header, a prologue (see ``commons``), and one or two pickles: for blobs that define
classes first the bare classes, so that blobs may refer to each other in circles; then
``{name: value}``. What is long lies beside it in buffers: first the cuts of the pickle (``stream``),
then the memory that it leaves out.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pyrepl3.records import Blob, Buffer
from pyrepl3.snapshot.arrays import find_shared
from pyrepl3.snapshot.buffers import Buffers, Content, Pieces
from pyrepl3.snapshot.classes import finish_call
from pyrepl3.snapshot.commons import (
    DEFINITIONS,
    MAGIC,
    MODULES,
    PROLOGUE,
    VALUES,
    Aside,
    Commons,
    Pickling,
)
from pyrepl3.snapshot.dispatch import find_handler
from pyrepl3.snapshot.identity import find_reach, walk_reach
from pyrepl3.snapshot.reasons import Failure, explain_failure
from pyrepl3.snapshot.stream import Sink, StoppedError, pack_positions


def digest_of(data: bytes, buffers: Iterable[Buffer]) -> tuple[object, ...]:
    """Tells a blob from another one, for this process only."""
    return len(data), hash(data), *buffers  # bytes remember their hash


_WALK_FROM = 2000  # objects


class Pickled:
    """A blob made, and what was learned on the way.

    ``reach`` holds the ids of the objects whose identity matters; ``refs`` the names it refers to,
    ``links`` the names in its code. ``holdable``: nobody could tell that its values live on. ``size`` is
    that of the pickle, cuts included; ``total`` counts the memory too that it leaves out. ``fresh`` is
    what it reaches now and did not when it was stored last, once that is known. ``alone`` has, for some
    of several names, the digest of the blob that the name would make by itself.
    """

    __slots__ = (
        "_raw",
        "alone",
        "contents",
        "data",
        "fresh",
        "holdable",
        "links",
        "names",
        "reach",
        "refs",
        "size",
        "total",
    )

    def __init__(self, names: tuple[str, ...], data: bytes, raw: list[memoryview | Pieces]) -> None:
        self.names, self.data, self._raw = names, data, raw
        self.contents: tuple[Content, ...] = ()
        self.reach: set[int] = set()
        self.refs: frozenset[str] = frozenset()
        self.links: frozenset[str] = frozenset()
        self.holdable = False
        self.fresh: set[int] | None = None
        self.alone: dict[str, tuple[object, ...]] = {}
        self.size = len(data) + sum(part.size for part in raw if isinstance(part, Pieces))
        self.total = self.size + sum(len(part) for part in raw if isinstance(part, memoryview))

    def note_alone(self, parts: Iterable[Pickled]) -> None:
        """What each name makes by itself; where memory is left out, nobody has hashed that."""
        for part in parts:
            if not part._raw:  # noqa: SLF001 - its own kind
                self.alone[part.names[0]] = digest_of(part.data, ())

    def digest_of(self, name: str) -> tuple[object, ...] | None:
        """Tells whether the value of ``name`` is what it was, whatever shares objects with it; None: unknown.

        Only after ``seal``.
        """
        return self.digest if len(self.names) == 1 else self.alone.get(name)

    def seal(self, buffers: Buffers) -> None:
        """Hash what lies beside the pickle."""
        self.contents = tuple(map(buffers.add, self._raw))
        self._raw = []

    @property
    def blob(self) -> Blob:
        """What a store keeps; only after ``seal``."""
        records = tuple(content.record for content in self.contents)
        return Blob(names=self.names, data=self.data, buffers=records)

    @property
    def digest(self) -> tuple[object, ...]:
        """Tells this blob from another one, for this process only; only after ``seal``."""
        return digest_of(self.data, (content.record for content in self.contents))


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


_APART = 2000  # objects: 3.12 begins with 375 that are never collected


@contextmanager
def no_collection(*, lasting: bool = False) -> Iterator[None]:
    """Without collections of garbage: every few hundred new objects would start one.

    ``lasting``: what is made meanwhile stays. It counts as old from then on, so that the next collection
    need not look at all of it: 40 ms for 300,000 objects.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Two lists are joined to the oldest. Not where somebody keeps objects apart (a zygote, the user).
        if lasting and gc.get_freeze_count() <= _APART:
            gc.freeze()
            gc.unfreeze()
        if collecting:
            gc.enable()


def pickle_names(commons: Commons, values: Mapping[str, object]) -> Pickled | Failure:
    """One blob of all ``values``, or why there is none. Runs user code; raises nothing."""
    with no_collection():  # the memo of a big value is as big again
        return _pickle_names(commons, values)


class Written:
    """A pickle as it was written: its bytes, what lies beside them, and who wrote it where."""

    __slots__ = ("data", "pickler", "raw", "sink")

    def __init__(
        self, pickler: BlobPickler, sink: Sink, data: bytes, raw: list[memoryview | Pieces]
    ) -> None:
        self.pickler, self.sink, self.data, self.raw = pickler, sink, data, raw


def write_names(
    commons: Commons, values: Mapping[str, object], make_sink: Callable[[], Sink] = Sink
) -> Written | Failure:
    """The pickle of all ``values``, or why there is none. ``Stopped`` of a sink passes through."""
    shared = find_shared(values)
    tries = 3
    definitions = commons.definitions
    roots = {id(v): n for n, v in values.items() if definitions.name_of(v) == n}
    while True:
        sink, aside = make_sink(), Aside()
        pickler = BlobPickler(sink, commons, roots, shared, aside)
        try:
            kind = _write(pickler, sink, values)
        except StoppedError:
            raise
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
    sink.close()
    name = next(iter(values), "")
    raw: list[memoryview | Pieces] = [Pieces((name, n), cut) for n, cut in enumerate(sink.cuts)]
    raw += aside.found
    return Written(pickler, sink, MAGIC + kind + sink.getvalue(), raw)


def _pickle_names(commons: Commons, values: Mapping[str, object]) -> Pickled | Failure:
    written = write_names(commons, values)
    if isinstance(written, Failure):
        return written
    pickler = written.pickler
    made = Pickled(tuple(values), written.data, written.raw)
    made.refs, made.links = frozenset(pickler.refs), frozenset(pickler.links)
    made.reach, made.holdable = _find_reach(pickler, written.sink, values)
    return made


def pickle_atoms(values: Mapping[str, object]) -> bytes:
    """A blob of values without identity (numbers, short strings): nothing can go wrong."""
    return MAGIC + VALUES + pack_positions() + PROLOGUE + pickle.dumps(dict(values), 5)


def _write(pickler: BlobPickler, sink: Sink, values: Mapping[str, object]) -> bytes:
    """Pickle ``values``; the kind of blob that they make."""
    kind = VALUES
    if pickler.roots:
        kind = DEFINITIONS
    elif all(issubclass(type(value), ModuleType) for value in values.values()):
        kind = MODULES
    sink.write(PROLOGUE)
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
    return kind


def _find_reach(
    pickler: BlobPickler, sink: Sink, values: Mapping[str, object]
) -> tuple[set[int], bool]:
    skip = {id(seed) for seed in pickler.commons.seeds}
    only_builtins = pickler.last is None
    if only_builtins and _count_memo(pickler, sink) > _WALK_FROM:
        pickler.clear_memo()
        return walk_reach(values.values(), skip), False  # nobody looked at each
    skip.update(map(id, pickler.keep))
    skip -= pickler.buffers.keys()
    pickler.last = None
    pickler.keep.clear()
    memo = pickler.memo.copy()
    pickler.clear_memo()
    reach, holdable = find_reach(
        memo,
        pickler.commons.kinds,
        by_value=pickler.by_value,
        skip=skip,
        only_builtins=only_builtins,
    )
    reach.update(pickler.buffers)
    return reach, holdable and not pickler.buffers


def _count_memo(pickler: BlobPickler, sink: Sink) -> int:
    """How many objects a pickler remembers: what it calls the next one that it meets twice."""
    marker: list[object] = []
    pair = marker, marker
    pickler.keep += pair, marker
    data = sink.divert(lambda: pickler.dump(pair))
    at = data.index(pickle.EMPTY_LIST + pickle.MEMOIZE) + 2
    size = {pickle.BINGET: 1, pickle.LONG_BINGET: 4}[data[at : at + 1]]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little")
