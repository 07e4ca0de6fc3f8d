"""The last few epochs of a session that has no name, in memory: they outlive its worker, not its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrepl3.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pyrepl3.records import Delta, Receipt

KEPT = 8
"""Epochs that are kept at least: to undo a few cells."""
_OFTEN = 32  # epochs between two collections
_MUCH = 64 * 1024 * 1024  # bytes that are reason enough for one


class MemoryStore(SqliteStore):
    """A store without a place. What is older than the last ``KEPT`` epochs goes, by and by."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._epochs = self._bytes = 0

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Keep the epoch after ``parent`` and make it the head. Returns its number."""
        epoch = super().commit(delta, receipt, parent=parent)
        self._epochs += 1
        self._bytes += delta.size
        if self._epochs >= _OFTEN or self._bytes >= _MUCH:
            self._epochs = self._bytes = 0
            self.collect(keep=KEPT)
        return epoch
