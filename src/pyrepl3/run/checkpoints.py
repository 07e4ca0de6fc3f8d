"""Checkpoints of one namespace: its changes out as a Delta, a Snapshot back in.

Joins the Snapshotter, which knows objects, to what the namespace knows: the names that cells touched,
and the state that is no name (context variables, ``__future__`` flags, sources).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrepl3.run.namespace import ENGINE_NAMES
from pyrepl3.snapshot.delta import Snapshotter

if TYPE_CHECKING:
    from pyrepl3.records import Delta, Snapshot
    from pyrepl3.run.namespace import NamespaceManager


class Checkpoints:
    """What changed since the last mark. To be used on the thread that the cells run on."""

    def __init__(self, namespace: NamespaceManager) -> None:
        self._namespace = namespace
        self._snapshotter = Snapshotter(
            namespace.get_for_execution(), module=namespace.module_name, skip=ENGINE_NAMES
        )

    def delta(self, *, busy: bool) -> Delta:
        """The changes. ``busy``: something still runs that may touch any name."""
        touched = None if busy else self._namespace.touched
        return self._snapshotter.delta(touched, extra=self._namespace.engine_state())

    def mark(self) -> None:
        """The last delta is safe."""
        self._namespace.forget_touched()
        self._snapshotter.mark()

    def restore(self, snapshot: Snapshot) -> dict[str, str]:
        """Replace the namespace. Returns what could not come back: name to reason."""
        lost, extra = self._snapshotter.restore(snapshot)
        self._namespace.take_engine_state(extra, lost)
        return lost
