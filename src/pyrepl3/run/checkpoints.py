"""Checkpoints of one namespace: its changes out as a Delta, a Snapshot back in.

Joins the Snapshotter, which knows objects, to what the namespace knows: the names that cells touched,
and the state that is no name (context variables, ``__future__`` flags, sources).
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.run.namespace import ENGINE_NAMES
from pyrepl3.snapshot.delta import Snapshotter

if TYPE_CHECKING:
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
        self._audit: Audit | None = None  # running, or finished with no cell since

    def delta(self, *, busy: bool) -> Delta:
        """The changes. ``busy``: something still runs that may touch any name."""
        audit = self._audit
        audited = audit is not None and audit.finished
        touched = self._namespace.touched if audited or not busy else None
        delta = self._snapshotter.delta(touched, extra=self._namespace.engine_state())
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
        self.begin()
        lost, extra = self._snapshotter.restore(snapshot)
        self._namespace.take_engine_state(extra, lost)
        return lost
