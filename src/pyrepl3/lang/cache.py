"""Compiled code, kept by source text: the least recently used goes first.

The key is the text itself with everything else that decides what the compiler makes of it, never a
hash (it collides) and never the file name: cells with the same text have one compilation, and each
gets it under its own file name.
"""

from __future__ import annotations

# A lock, not threads: `lang` starts none, but a session's thread and its caller's share one cache.
from _thread import allocate_lock
from collections import OrderedDict
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING

from pyrepl3.config import MiB
from pyrepl3.lang.compile import CompiledCell, code_size
from pyrepl3.lang.filenames import renamed_code

if TYPE_CHECKING:
    from collections.abc import Mapping

type _Key = tuple[str, int | str, int]


class CompilationCache:
    """Compiled cells and code objects, bounded in entries and in bytes.

    ``max_size`` is a count, ``max_bytes`` an estimate in bytes (source and code). What is larger than
    ``max_bytes`` alone is not kept. Every method may be called from any thread. ``hits`` and ``misses``
    are exact, where there is a global interpreter lock.
    """

    def __init__(self, max_size: int = 1000, max_bytes: int = 64 * MiB) -> None:
        if max_size < 0 or max_bytes < 0:
            raise ValueError("max_size and max_bytes must not be negative")
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[_Key, CompiledCell | CodeType] = OrderedDict()
        self._bytes = 0
        self._lock = allocate_lock()

    # --- for the engine -----------------------------------------------------------------------

    def store(self, key: _Key, compiled: CompiledCell) -> None:
        """Keep ``compiled`` under a key as ``lookup`` takes it; it replaces what was there."""
        self._put(key, compiled, compiled.size)

    # --- the specification's ------------------------------------------------------------------

    def get_compiled(self, code: str, filename: str, mode: str, flags: int) -> CodeType | None:
        """The code stored for this text, mode and flags, under ``filename``; None if there is none."""
        compiled = self.lookup((code, mode, flags))
        if not isinstance(compiled, CodeType) or compiled.co_filename == filename:
            return compiled  # type: ignore[return-value]  # str keys: code
        return renamed_code(compiled, filename)

    def store_compiled(
        self, code: str, filename: str, mode: str, flags: int, compiled: CodeType
    ) -> None:
        """Keep ``compiled`` for this text, mode and flags; ``filename`` is no part of the key."""
        if compiled.co_filename != filename:
            compiled = renamed_code(compiled, filename)
        key = code, mode, flags
        self._put(key, compiled, _size(key, compiled))

    # --- both ---------------------------------------------------------------------------------

    def lookup(self, key: _Key) -> CompiledCell | CodeType | None:
        """What is stored for this text, under whatever file name; None if nothing is.

        The key of a cell is its source, its inherited flags and its first line.
        """
        # Without the lock, which costs as much as all of this: the interpreter switches threads at
        # calls and jumps only, so each call and each `+=` here is whole.
        entries = self._entries
        compiled = entries.get(key)
        if compiled is None:
            self.misses += 1
            return None
        self.hits += 1
        try:  # noqa: SIM105  suppress() would cost more than the look-up
            entries.move_to_end(key)
        except KeyError:
            pass  # another thread has just thrown it out
        return compiled

    def _put(self, key: _Key, compiled: CompiledCell | CodeType, size: int) -> None:
        entries = self._entries
        with self._lock:
            if key in entries:
                self._bytes -= _size(key, entries.pop(key))
            if size > self.max_bytes or self.max_size == 0:
                return
            entries[key] = compiled
            self._bytes += size
            while len(entries) > self.max_size or self._bytes > self.max_bytes:
                self._bytes -= _size(*entries.popitem(last=False))

    @property
    def hit_rate(self) -> float:
        """Hits by look-ups, from 0 to 1; 0 before the first."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0

    @property
    def size_in_bytes(self) -> int:
        """The estimate for what is kept now."""
        return self._bytes

    @property
    def cache(self) -> Mapping[_Key, CompiledCell | CodeType]:
        """What is kept now, least recently used first; a copy, read only."""
        with self._lock:
            return MappingProxyType(dict(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget what is kept; the counts stay."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0


def _size(key: _Key, compiled: CompiledCell | CodeType) -> int:
    """Bytes of an entry, roughly."""
    if isinstance(compiled, CompiledCell):
        return compiled.size
    return key[0].__sizeof__() + code_size(compiled)
