"""Keys and when they are due; what is due comes out in order. Each operation costs log n, amortised."""

from __future__ import annotations

import heapq


class Deadlines:
    """One deadline a key. Old entries stay in the heap until they come up or are the larger part."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def set(self, key: str, at: int) -> None:
        """From now on ``key`` is due at ``at`` and at no other time."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        self._tidy()

    def drop(self, key: str) -> None:
        """``key`` is not due any more."""
        if self._at.pop(key, None) is not None:
            self._tidy()

    def first(self) -> int | None:
        """When something is due next; None: nothing ever is."""
        heap, at = self._heap, self._at
        while heap and at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now: int) -> list[str]:
        """What is due by ``now``, by time and then by key; it has no deadline from here on."""
        found = []
        while (first := self.first()) is not None and first <= now:
            key = heapq.heappop(self._heap)[1]
            del self._at[key]
            found.append(key)
        return found

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)
