"""A namespace and what the store holds of it in; the names that may differ out, found beside the cells.

Deltas look at the names that cells used. What changes behind these (through a module's attribute, from
a thread) shows only when everything is looked at: each group is pickled once more and compared with what
was stored. That takes as long as storing it all, so it is done on a thread of its own, in slices of
``SLICE`` seconds, and stops at once when a cell begins. It only points at names: the delta that follows
pickles them where they belong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pyrepl3.records import CHUNK
from pyrepl3.snapshot.pickler import write_names
from pyrepl3.snapshot.reasons import Failure
from pyrepl3.snapshot.stream import Sink, StoppedError

if TYPE_CHECKING:
    from pyrepl3.records import Buffer
    from pyrepl3.snapshot.buffers import Buffers, Content, Pieces
    from pyrepl3.snapshot.state import Group
    from pyrepl3.snapshot.work import Work

SLICE = 0.005
"""Seconds of work at a stretch, and as long a rest after each."""
_LONGEST_STOP = (
    0.1  # seconds that a cell waits for user code that is being asked for an object's state
)


class Audit:
    """One search. ``run`` on a thread of its own; ``stop`` from any.

    ``suspects``: names whose objects may not be as stored; of them ``unsure``: nobody knows what they
    were, since they were restored, or shared objects with a name that is gone. ``finished``: all was
    looked at.
    """

    def __init__(self, work: Work, groups: Collection[Group]) -> None:
        self.suspects: set[str] = set()
        self.unsure: set[str] = set()
        self.finished = False
        self._work: Work | None = work
        self._groups = groups
        self._stop = threading.Event()
        self._over = threading.Event()
        self._hurry = False
        self._begun = 0.0

    def run(self, *, hurry: bool = False) -> None:
        """Look at everything; ``hurry``: without rests. Raises nothing."""
        self._hurry = hurry
        work, self._work = self._work, None
        assert work is not None
        self._begun = time.perf_counter()
        try:
            for group in self._groups:
                self._pace()
                if self._differs(work, group):
                    self.suspects |= group.names
                    if not group.sure and group.lost is None:
                        self.unsure |= group.names
            self.finished = True
        except StoppedError:
            return
        finally:
            self._groups = ()
            self._over.set()

    def stop(self) -> None:
        """End it and wait for that, unless user code keeps it."""
        self._stop.set()
        self._over.wait(_LONGEST_STOP)

    # --- inside -------------------------------------------------------------------------------

    def _pace(self) -> None:
        if self._stop.is_set():
            raise StoppedError
        if not self._hurry and time.perf_counter() - self._begun > SLICE:
            self._stop.wait(SLICE)
            self._begun = time.perf_counter()

    def _differs(self, work: Work, group: Group) -> bool:
        state = work.state
        values = {n: work.values[n] for n in sorted(group.names) if n in work.values}
        if any(id(value) != state.ids.get(name) for name, value in values.items()):
            return False  # bound to something else: any delta sees that
        if not values:
            return False
        if group.lost is None and group.parts is not None and work.is_same(group):
            return False
        written = write_names(work.commons, values, lambda: _PacedSink(self))
        if isinstance(written, Failure):
            return group.lost is None
        if group.lost is not None:
            return written.pickler.refs.isdisjoint(state.lost)
        digest = group.digest
        if digest is None or digest[:2] != (len(written.data), hash(written.data)):
            return True
        return not self._are_stored(written.raw, group, digest[2:], state.buffers)

    def _are_stored(
        self,
        raw: Collection[memoryview | Pieces],
        group: Group,
        records: tuple[object, ...],
        buffers: Buffers,
    ) -> bool:
        if len(raw) != len(records):
            return False
        contents = group.contents
        for n, part in enumerate(raw):
            known = contents[n] if len(contents) == len(raw) else None
            doubtful = None
            if known is not None and known.record == records[n] and isinstance(part, memoryview):
                doubtful = buffers.find_doubtful(part, known)
            if known is not None and doubtful is not None:
                if not self._is_same(part, doubtful, known):
                    return False
            elif not self._is_stored(part, records[n], known):
                return False
        return True

    def _is_same(self, part: Any, doubtful: Collection[int], known: Content) -> bool:
        """Whether these chunks are as they were; of the others it is known."""
        from pyrepl3.snapshot.buffers import digest_chunk

        for index in doubtful:
            self._pace()
            digest = digest_chunk(part[index * CHUNK : (index + 1) * CHUNK])
            if known.digests[index * 32 : (index + 1) * 32] != digest:
                return False
        return True

    def _is_stored(self, part: memoryview | Pieces, record: object, known: Content | None) -> bool:
        from pyrepl3.snapshot.buffers import Pieces, digest_chunk, record_of

        if isinstance(part, Pieces):
            pieces = part.pieces
        else:
            pieces = [part[at : at + CHUNK] for at in range(0, len(part), CHUNK)]
        digests = bytearray()
        for piece in pieces:
            self._pace()
            digests += digest_chunk(piece)
            if known is not None and not known.digests.startswith(digests[-32:], len(digests) - 32):
                return False
        made: Buffer = record_of(bytes(digests), sum(map(len, pieces)))
        return made == record


class _PacedSink(Sink):
    """The file of a pickler that takes its time."""

    __slots__ = ("_audit",)

    def __init__(self, audit: Audit) -> None:
        super().__init__()
        self._audit = audit

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._audit._pace()  # noqa: SLF001 - its other half
        return super().write(data)
