"""The source of each cell, by the file name that its code carries, for tracebacks and ``inspect``.

Sources go into ``linecache``, where ``traceback``, ``inspect``, ``pdb`` and ``warnings`` look. The last
``KEPT`` cells of a namespace stay; an older one stays while a function or class made in it lives.
"""

from __future__ import annotations

import linecache
import threading
import weakref
from collections import deque
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT = 256
"""Cells whose source stays in any case, unless they have more than ``KEPT_SIZE`` characters together."""

KEPT_SIZE = 16 * 1024 * 1024

_OPTIMIZED = 0x1  # CO_OPTIMIZED: functions have it, class bodies do not

type _Entry = tuple[int, None, list[str], str]
"""As ``linecache`` wants it: size, no time (it is no file that could change), lines, file name."""

# What each file name shows too, for code may clear linecache. An entry is its
# namespace's own, by identity: a session may have the name of one that is closed but not collected yet.
_ENTRIES: dict[str, _Entry] = {}

_taken: set[str] = set()
_lock = threading.Lock()


def unique_prefix(name: str) -> str:
    """``name``, or ``name~2`` and so on while another namespace in this process has that name."""
    with _lock:
        found = name
        serial = 2
        while found in _taken:
            found = f"{name}~{serial}"
            serial += 1
        _taken.add(found)
    return found


def release_prefix(name: str) -> None:
    """Let the next namespace have this name."""
    # Without the lock: a collection may call this where it is held.
    _taken.discard(name)


def is_cell(filename: str) -> bool:
    """Whether code under this file name was compiled from a cell."""
    return filename in _ENTRIES


def split_lines(source: str) -> list[str]:
    """The lines of ``source`` as the compiler counts them, each with its end.

    Not ``splitlines``: to the compiler a form feed or a Unicode line separator ends no line.
    """
    if "\r" in source:
        source = source.replace("\r\n", "\n").replace("\r", "\n")
    if source[:1] == "\ufeff":
        source = source[1:]
    if "\n" not in source:
        return [source + "\n"] if source else []
    lines = [f"{line}\n" for line in source.split("\n")]
    if lines[-1] == "\n":
        lines.pop()
    return lines


class Sources:
    """The sources of one namespace's cells. Used from the threads that run its cells.

    ``namespace`` and ``module`` are the dict and the module name of its classes.
    """

    def __init__(self, namespace: Mapping[str, Any] | None = None, module: str = "") -> None:
        self._namespace: Mapping[str, Any] = {} if namespace is None else namespace
        self._module = module
        self._recent: deque[_Entry] = deque()
        self._size = 0
        self._files: dict[str, _Entry] = {}
        """Those that run cell by cell, each at its lines."""
        self._held: dict[str, _Entry] = {}
        """Those with functions or classes, which may outlast their time among the recent ones."""
        self._pinned: set[str] = set()
        """Those that did."""
        # What keeps a source: code objects of functions, and classes, that were made in the cell.
        self._holders: dict[str, list[weakref.ref[Any]]] = {}
        # Classes that a cell is about to make, to be found by name when it has: file name, qualified name.
        self._coming: list[tuple[str, str]] = []
        self._homes: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
        self._sweep_at = 64
        self._last: tuple[str, list[str]] = "", []
        entries = self._recent, self._files, self._held
        weakref.finalize(self, _forget_all, *entries).atexit = False

    def add(self, filename: str, source: str, first_line: int = 1) -> None:
        """Make ``source`` what ``filename`` shows from ``first_line`` on."""
        if first_line != 1 or filename in _ENTRIES:
            if first_line != 1 or filename in self._files:
                self._add_lines(filename, source, first_line)
                return
            self._remove(filename)  # the caller gave two cells one name: the newest counts
        last = self._last
        if source != last[0]:  # cells that run often run again: one text's lines serve all
            last = self._last = source, split_lines(source)
        size = len(source)
        # mtime None: linecache never compares it with a file. Not lazy: it ignores that for <names>.
        entry = size, None, last[1], filename
        linecache.cache[filename] = _ENTRIES[filename] = entry
        recent = self._recent
        recent.append(entry)
        self._size += size
        while len(recent) > KEPT or (self._size > KEPT_SIZE and len(recent) > 1):
            old = recent.popleft()
            self._size -= old[0]
            name = old[3]
            if name in self._held:
                self._outlast(name)
            else:
                _forget(old)

    def has(self, filename: str) -> bool:
        """Whether code under this file name is of a cell of this namespace. Any thread."""
        entry = _ENTRIES.get(filename)
        if entry is None:
            return False
        mine = filename in self._files or filename in self._held
        return mine or any(one is entry for one in tuple(self._recent))

    def hold(self, filename: str, nested: tuple[CodeType, ...]) -> None:
        """Keep the source of ``filename`` as long as a function or class of these codes lives."""
        if self._coming:
            self._find_classes()
        holders: list[weakref.ref[Any]] = [weakref.ref(code) for code in nested]
        if filename in self._files:  # the file's other cells count too
            holders += [one for one in self._holders.get(filename, ()) if one() is not None]
        self._holders[filename] = holders
        self._held[filename] = _ENTRIES[filename]
        self._expect(filename, nested)

    def living(self) -> dict[str, str]:
        """File name to source of the cells whose functions or classes live: what a checkpoint keeps."""
        if self._coming:
            self._find_classes()
        return {name: "".join(entry[2]) for name, entry in self._held.items() if self._lives(name)}

    def restore(
        self, sources: Mapping[str, str], codes: Iterable[weakref.ref[CodeType]] = ()
    ) -> None:
        """Take back what ``living`` gave, after the functions and classes themselves came back.

        ``codes``: those of the functions; cells that none of these was made in keep what they had.
        """
        if not sources:
            return
        for filename, source in sources.items():
            self.add(filename, source)
            self._holders[filename] = [
                one for one in self._holders.get(filename, ()) if one() is not None
            ]
            self._held[filename] = _ENTRIES[filename]
            if "class " in source:
                self._expect(filename, _codes_in(source, filename))
        for holder in codes:
            code = holder()
            if code is not None and code.co_filename in sources:
                self._holders[code.co_filename] += map(weakref.ref, _and_inside([code]))
        self._find_classes()

    def home(self, cls: type) -> str | None:
        """The file name of the cell that made ``cls``."""
        if self._coming:
            self._find_classes()
        return self._homes.get(cls)

    # --- classes: their own code lives no longer than the cell ------------------------------------

    def _expect(self, filename: str, codes: tuple[CodeType, ...]) -> None:
        self._coming += [
            (filename, code.co_qualname)
            for code in codes
            if not code.co_flags & _OPTIMIZED and "<locals>" not in code.co_qualname
        ]

    def _find_classes(self) -> None:
        """See which of the classes that were to come are there now. The newest cell comes first."""
        coming, self._coming = self._coming, []
        for filename, qualname in reversed(coming):
            found = self._look_up(qualname)
            if found is None:
                if filename in _ENTRIES:
                    self._coming.insert(0, (filename, qualname))  # its cell may run still
            elif found not in self._homes:
                self._homes[found] = filename
                self._holders.setdefault(filename, []).append(weakref.ref(found))
        del self._coming[:-64]  # what never comes (a class in a branch not taken) is given up then

    def _look_up(self, qualname: str) -> type | None:
        first, *rest = qualname.split(".")
        found = self._namespace.get(first)
        for name in rest:
            found = type.__dict__["__dict__"].__get__(found).get(name) if _is_class(found) else None
        if not _is_class(found):
            return None
        assert isinstance(found, type)
        mine = found.__qualname__ == qualname and found.__module__ == self._module
        return found if mine else None

    # --- keeping and forgetting -------------------------------------------------------------------

    def _add_lines(self, filename: str, source: str, first_line: int) -> None:
        """Put the lines of a cell where they stand in its file; all of them show under its name."""
        before = self._files.get(filename) or self._remove(filename)
        lines = [] if before is None else [*before[2]]
        new = split_lines(source)
        start = first_line - 1
        lines.extend(["\n"] * (start - len(lines)))
        lines[start : start + len(new)] = new
        entry = sum(map(len, lines)), None, lines, filename
        linecache.cache[filename] = _ENTRIES[filename] = self._files[filename] = entry
        if filename in self._held:
            self._held[filename] = entry

    def _remove(self, filename: str) -> _Entry | None:
        """Take a cell of this namespace out of the order of cells, if it is there."""
        self._pinned.discard(filename)
        for entry in self._recent:
            if entry[3] == filename:
                self._recent.remove(entry)
                self._size -= entry[0]
                return entry
        return self._held.get(filename)

    def _outlast(self, filename: str) -> None:
        """A cell of functions or classes is no recent one any more: it stays while these live."""
        if self._coming:
            self._find_classes()
        if not self._lives(filename):
            self._drop(filename)
            return
        self._pinned.add(filename)
        if len(self._pinned) >= self._sweep_at:
            for name in [name for name in self._pinned if not self._lives(name)]:
                self._pinned.discard(name)
                self._drop(name)
            self._sweep_at = max(64, 2 * len(self._pinned))

    def _lives(self, filename: str) -> bool:
        return any(holder() is not None for holder in self._holders.get(filename, ()))

    def _drop(self, filename: str) -> None:
        self._holders.pop(filename, None)
        _forget(self._held.pop(filename))


def _is_class(value: object) -> bool:
    return issubclass(type(value), type)


def _codes_in(source: str, filename: str) -> tuple[CodeType, ...]:
    """The code objects inside a cell; none where it does not compile by itself (a top-level return)."""
    from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT  # noqa: PLC0415  on a restore only

    try:
        codes = [compile(source, filename, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ()
    return tuple(_and_inside(codes)[1:])


def _and_inside(codes: list[CodeType]) -> list[CodeType]:
    """``codes``, and behind them the codes inside of them."""
    for code in codes:  # grows while it is read
        codes += [const for const in code.co_consts if type(const) is CodeType]
    return codes


def _forget(entry: _Entry) -> None:
    filename = entry[3]
    if _ENTRIES.get(filename) is entry:
        del _ENTRIES[filename]
        linecache.cache.pop(filename, None)


def _forget_all(recent: deque[_Entry], files: dict[str, _Entry], held: dict[str, _Entry]) -> None:
    for entry in (*recent, *files.values(), *held.values()):
        _forget(entry)
