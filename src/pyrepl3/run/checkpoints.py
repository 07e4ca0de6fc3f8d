"""Checkpoints of one namespace: its changes out as a Delta, a Snapshot back in.

Joins the Snapshotter, which knows objects, to what the namespace knows: the names that cells touched,
and the state that is no name (context variables, ``__future__`` flags, sources).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.run.namespace import ENGINE_NAMES, OFFERED
from pyrepl3.snapshot.delta import Snapshotter
from pyrepl3.snapshot.process import is_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyrepl3.records import Delta, Snapshot
    from pyrepl3.run.namespace import NamespaceManager
    from pyrepl3.snapshot.audit import Audit


class Checkpoints:
    """What changed since the last mark. To be used on the thread that the cells run on."""

    def __init__(self, namespace: NamespaceManager) -> None:
        self._namespace = namespace
        self._snapshotter = Snapshotter(
            namespace.get_for_execution(), module=namespace.module_name, skip=ENGINE_NAMES
        )
        self._process = namespace.process
        self.notes: list[str] = []
        """What the last restore did not do quite as it was."""
        self._audit: Audit | None = None  # running, or finished with no cell since

    def delta(self, *, busy: bool, beside: Sequence[str] = ()) -> Delta:
        """The changes. ``busy``: something still runs that may touch any name; ``beside`` tells what."""
        audit = self._audit
        audited = audit is not None and audit.finished
        touched = self._namespace.touched if audited or not busy else None
        extra = self._namespace.engine_state()
        if beside:
            extra["beside"] = list(beside)
        if self._process is not None:
            extra |= self._process.changes(busy=busy)
        delta = self._snapshotter.delta(touched, extra=extra)
        late: frozenset[str] = frozenset()
        if audited and audit is not None:
            stored = frozenset(name for blob in delta.blobs for name in blob.names)
            late = (stored | delta.lost.keys() | delta.deleted) - audit.unsure
        return msgspec.structs.replace(
            delta, audited=audited or touched is None, late=late, dropped=self._snapshotter.dropped
        )

    def mark(self) -> None:
        """The last delta is safe."""
        self._namespace.forget_touched()
        self._snapshotter.mark()

    def begin(self) -> None:
        """A cell is about to run: what an audit finds would be old."""
        audit, self._audit = self._audit, None
        if audit is not None:
            audit.stop()

    async def audit(self, *, hurry: bool) -> bool:
        """Look for what changed behind the names that cells touched. False: it was ended before that."""
        self.begin()
        audit = self._audit = self._snapshotter.audit()
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def run() -> None:
            audit.run(hurry=hurry)
            try:
                loop.call_soon_threadsafe(over.set)
            except RuntimeError:  # closed: nobody waits
                return

        threading.Thread(target=run, name="pyrepl3-audit", daemon=True).start()
        try:
            await over.wait()
        except asyncio.CancelledError:
            self.begin()
            raise
        if self._audit is not audit:
            return False
        self._snapshotter.suspect(audit.suspects)
        return True

    def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back: name to reason."""
        with self._offering():
            return self._restore(snapshot)

    def reload(self) -> tuple[str, ...]:
        """Load what referred to a lost name that is bound again. Returns the names that came back."""
        with self._offering():
            return tuple(sorted(self._snapshotter.reload()))

    @contextmanager
    def _offering(self) -> Iterator[None]:
        """What is loaded meanwhile finds the host functions of this session."""
        token = OFFERED.set(self._namespace.offered)
        try:
            yield
        finally:
            OFFERED.reset(token)

    def _restore(self, snapshot: Snapshot) -> dict[str, str]:
        self.begin()
        process = self._process
        notes: list[str] = []
        if process is None:
            lost, extra = self._snapshotter.restore(snapshot)
        else:
            lost, extra = self._snapshotter.restore(
                snapshot, lambda state: notes.extend(process.prepare(state))
            )
            notes += process.resume(extra)
        for name, n in snapshot.makers.items():
            if name in lost:
                lost[name] = f"{lost[name]} (made by cell {n})"
        self._namespace.take_engine_state(extra, lost, codes=self._snapshotter.codes)
        if process is None and any(map(is_kept, extra)):
            parts = ", ".join(key.partition(":")[2] for key in extra if is_kept(key))
            notes.append(
                f"changed for the whole process, and left alone: {parts}; "
                "open_session(..., process=True) restores that"
            )
        notes += [f"{path} is lost: {why}" for path, why in self._snapshotter.dropped.items()]
        told = extra.get("beside", [])
        assert isinstance(told, list)
        self.notes = [*notes, *self._snapshotter.notes, *told]
        return lost
