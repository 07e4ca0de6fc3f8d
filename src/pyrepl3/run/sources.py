"""The source of each cell, by the file name that its code carries, for tracebacks and ``inspect``.

Sources go into ``linecache``, where ``traceback``, ``inspect``, ``pdb`` and ``warnings`` look. The
last ``KEPT`` cells of an executor stay; an older one stays while a function or class made in it lives.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

KEPT = 1000

_taken: set[str] = set()


def unique_prefix(name: str) -> str:
    """``name``, or ``name~2`` and so on while another namespace in this process has that name."""
    found = name
    serial = 2
    while found in _taken:
        found = f"{name}~{serial}"
        serial += 1
    _taken.add(found)
    return found


def release_prefix(name: str) -> None:
    """Let the next namespace have this name."""
    _taken.discard(name)


def is_cell(filename: str) -> bool:
    """Whether code under this file name was compiled from a cell."""
    return filename in _CELLS or filename in _FILES


# File names of cells. Those of files that run cell by cell are kept apart: many cells, one name.
_CELLS: dict[str, str] = {}
_FILES: dict[str, list[str]] = {}


def _add_lines(filename: str, source: str, first_line: int) -> None:
    """Put the lines of a cell where they stand in its file; all of them show under its name."""
    lines = _FILES.get(filename)
    if lines is None:
        lines = _FILES[filename] = _CELLS.pop(filename, "").splitlines(keepends=True)
    new = source.splitlines(keepends=True)
    if new and not new[-1].endswith("\n"):
        new[-1] += "\n"
    start = first_line - 1
    lines.extend(["\n"] * (start - len(lines)))
    lines[start : start + len(new)] = new
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


class Sources:
    """The sources of one executor's cells. Used from the threads that run its cells, one at a time."""

    def __init__(self) -> None:
        self._recent: deque[str] = deque()
        self._pinned: set[str] = set()
        self._holders: dict[str, tuple[weakref.ref[CodeType], ...]] = {}
        self._sweep_at = 64
        weakref.finalize(self, _forget_all, self._recent, self._pinned).atexit = False

    def add(self, filename: str, source: str, first_line: int = 1) -> None:
        """Make ``source`` what ``filename`` shows from ``first_line`` on."""
        if first_line != 1 or filename in _FILES:
            _add_lines(filename, source, first_line)
            return
        _CELLS[filename] = source
        # mtime None: linecache never compares it with a file. Not lazy: it ignores that for <names>.
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        recent = self._recent
        recent.append(filename)
        if len(recent) > KEPT:
            self._evict()

    def hold(self, filename: str, nested: tuple[CodeType, ...]) -> None:
        """Keep the source of ``filename`` as long as one of these code objects lives."""
        self._holders[filename] = tuple(map(weakref.ref, nested))

    def _evict(self) -> None:
        filename = self._recent.popleft()
        if filename not in self._holders:
            _forget(filename)
        elif self._lives(filename):
            self._pinned.add(filename)
            if len(self._pinned) >= self._sweep_at:
                for name in [name for name in self._pinned if not self._lives(name)]:
                    self._pinned.discard(name)
                    self._drop(name)
                self._sweep_at = max(64, 2 * len(self._pinned))
        else:
            self._drop(filename)

    def _lives(self, filename: str) -> bool:
        return any(code() is not None for code in self._holders.get(filename, ()))

    def _drop(self, filename: str) -> None:
        self._holders.pop(filename, None)
        _forget(filename)

    def living(self) -> dict[str, str]:
        """File name to source of the cells whose functions still live: what a checkpoint keeps."""
        return {
            name: _CELLS[name] for name in self._holders if name in _CELLS and self._lives(name)
        }


def _forget(filename: str) -> None:
    _CELLS.pop(filename, None)
    linecache.cache.pop(filename, None)


def _forget_all(recent: deque[str], pinned: set[str]) -> None:
    for filename in (*recent, *pinned):
        _forget(filename)


# --- inspect.getsource for classes ------------------------------------------------------------
# inspect finds the file of a function by its code, but that of a class only by its module's __file__,
# and one module holds the classes of many cells. So its lookup is asked first; the names of its own
# modules are all that this changes. Wrapped once, when the first executor is made.


def _find_class_file(cls: type) -> str | None:
    for value in vars(cls).values():
        function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)) or value)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_filename in _CELLS:
            return str(code.co_filename)
    head = f"class {cls.__qualname__.rpartition('.')[2]}"
    for filename, source in reversed(_CELLS.items()):
        if head in source:
            return filename
    for filename, lines in _FILES.items():
        if any(head in line for line in lines):
            return filename
    return None


_MODULES: set[str] = set()


def serve_classes_of(module_name: str) -> None:
    """Let ``inspect.getsource`` find classes whose ``__module__`` is ``module_name``."""
    _MODULES.add(module_name)
    original = inspect.getfile
    if getattr(original, "_pyrepl3", False):
        return

    def getfile(object: Any) -> str:  # noqa: A002  the name that inspect documents
        if isinstance(object, type) and object.__module__ in _MODULES:
            found = _find_class_file(object)
            if found is not None:
                return found
        return original(object)

    getfile._pyrepl3 = True  # type: ignore[attr-defined]
    getfile.__doc__ = original.__doc__
    inspect.getfile = getfile


def forget_module(module_name: str) -> None:
    """Take a module of cells out of ``sys.modules`` and of the class lookup."""
    _MODULES.discard(module_name)
    sys.modules.pop(module_name, None)
