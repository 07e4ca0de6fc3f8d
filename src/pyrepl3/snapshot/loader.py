"""Blobs in, a filled namespace out; what cannot come back is told name by name.

Blobs refer to each other by name, in circles too. So each is loaded when it is first needed: its bare
classes, then its values. Modules come first, then definitions, then the rest, since loading a
value may run code that uses them; what failed is tried once more when all else is there.
"""

from __future__ import annotations

import io
import pickle
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

from pyrepl3.records import Blob, Buffer, Snapshot
from pyrepl3.snapshot.commons import DEFINITIONS, MAGIC, NO_MODULE
from pyrepl3.snapshot.reaches import code_names
from pyrepl3.snapshot.reasons import safe_text
from pyrepl3.snapshot.stream import Source, unpack_positions


class LostReferenceError(Exception):
    """Something refers to a name that could not be restored."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        return f"it refers to {self.name!r}, which was not restored: {self.reason}"


class Entry:
    """One blob being loaded: what it has made so far, what it refers to, and why it failed."""

    __slots__ = (
        "_made",
        "_unpickler",
        "bare",
        "blob",
        "cuts",
        "kind",
        "links",
        "loader",
        "loading",
        "module",
        "namespace",
        "opened",
        "reason",
        "refs",
        "unmet",
        "values",
    )

    def __init__(self, loader: Loader, blob: Blob) -> None:
        self.loader, self.blob = loader, blob
        self.namespace, self.module = loader.namespace, loader.module
        self.kind = blob.data[len(MAGIC) : len(MAGIC) + 1]
        self.values: dict[str, object] | None = None
        self.bare: dict[str, object] = {}  # definitions that exist, finished or not
        self.refs: set[str] = set()
        self.links: set[str] = set()
        self.reason: str | None = None
        self.unmet = False  # it failed for a name that it refers to
        self.cuts: tuple[Buffer, ...] = ()
        self.opened: list[tuple[Buffer, memoryview]] = []
        self.loading = False
        self._made: dict[int, Any] = {}
        self._unpickler: pickle.Unpickler | None = None

    # What blobs call: rebuild.Builder

    def find(self, name: str) -> object:
        self.refs.add(name)
        return self.loader.find(name)

    def made(self, key: int, name: str | None, make: Callable[[], Any]) -> Any:
        # The same key again: inside a circle, or when the blob is tried a second time.
        if key not in self._made:
            self._made[key] = make()
            if name is not None:
                self.bare[name] = self._made[key]
        return self._made[key]

    def saw_code(self, code: CodeType) -> None:
        self.links |= code_names(code)
        self.loader.codes.append(weakref.ref(code))

    def note(self, text: str) -> None:
        self.loader.notes.append(text)

    # Loading

    def start(self) -> None:
        """Make the bare classes, if the blob has any. Idempotent."""
        if self._unpickler is None:
            data = self.blob.data
            if not data.startswith(MAGIC):
                raise ValueError("it was written by another version of PyREPL3: upgrade")
            positions, start = unpack_positions(data, len(MAGIC) + 1)
            buffers = self.blob.buffers
            file: io.BytesIO | Source = io.BytesIO(data)
            file.seek(start)
            if positions:
                cuts = [self.loader.open(buffer) for buffer in buffers[: len(positions)]]
                file = Source(data[start:], positions, cuts)
            self.cuts, beside = buffers[: len(positions)], self._open(buffers[len(positions) :])
            self._unpickler = unpickler = _BlobUnpickler(file, self, beside)
            try:
                unpickler.load()  # the prologue
                if self.kind == DEFINITIONS:
                    self.loader.depth += 1
                    try:
                        unpickler.load()
                    finally:
                        self.loader.depth -= 1
            except BaseException:
                self._unpickler = None
                raise

    def _open(self, buffers: Iterable[Buffer]) -> Iterator[memoryview]:
        self.opened.clear()
        for buffer in buffers:
            view = self.loader.open(buffer)
            self.opened.append((buffer, view))
            yield view

    def load(self) -> dict[str, object]:
        """The values; raises what loading them raises."""
        if self.values is None:
            self.loading = True
            try:
                self.start()
                assert self._unpickler is not None
                loaded = self._unpickler.load()
                self.values = loaded[1] if self.kind == DEFINITIONS else loaded
                self.reason = None
            finally:
                self.loading = False
                self._unpickler = None
        assert self.values is not None
        return self.values


class Loader:
    """Loads blobs into ``namespace``, the dict of the module called ``module``.

    Only code inside the values may raise through ``load_all`` what is no Exception
    (KeyboardInterrupt); everything else is a reason. ``live``: names that ``snapshot`` does not have are
    looked for in the namespace.
    """

    def __init__(
        self, namespace: dict[str, object], module: str, snapshot: Snapshot, *, live: bool = False
    ) -> None:
        self.namespace, self.module, self.lost = namespace, module, dict(snapshot.lost)
        self.entries = [Entry(self, blob) for blob in snapshot.blobs]
        self._open = snapshot.open
        self._live = live
        self.notes: list[str] = []
        self.codes: list[weakref.ref[CodeType]] = []  # of the functions made
        self.depth = 0  # above 0 while bare classes are made: then bare is enough
        self._by_name = {name: entry for entry in self.entries for name in entry.blob.names}
        module_object: Any = sys.modules.get(module)
        if getattr(module_object, "__dict__", None) is not namespace:
            module_object = NO_MODULE
        self.seeds = (namespace, module_object, vars(sys.modules["builtins"]))

    def load_all(self) -> None:
        """Fill the namespace; ``lost`` then has the reason for each name that is not in it."""
        order = sorted(self.entries, key=lambda entry: entry.kind)
        for entry in order:
            self._bind(entry)
        for entry in order:
            if entry.reason is not None:
                self._bind(entry)
        for entry in self.entries:  # in the order in which they were written, as far as it is known
            for name in entry.blob.names:
                if entry.reason is not None:
                    self.lost[name] = entry.reason
                elif name in self.namespace:
                    self.namespace[sys.intern(name)] = self.namespace.pop(name)

    def find(self, name: str) -> object:
        """The object bound to ``name``; bare where it is being loaded, or bare is enough."""
        entry = self._by_name.get(name)
        if entry is None:
            if self._live and name in self.namespace:
                return self.namespace[name]
            raise LostReferenceError(name, self.lost.get(name, "it is not in the store"))
        if entry.values is not None:
            return entry.values[name]
        try:
            entry.start()
            if name in entry.bare and (self.depth or entry.loading):
                return entry.bare[name]
            if entry.loading:
                raise LostReferenceError(name, "it refers to itself in a circle")
            return self._fill(entry)[name]
        except LostReferenceError:
            raise
        except Exception as error:
            raise LostReferenceError(name, explain(error)) from error

    def open(self, buffer: Buffer) -> memoryview:
        """The bytes of a buffer; writable, nobody else's. Raises StoreError."""
        if self._open is None:
            raise ValueError("its bytes are missing from the snapshot")
        return self._open(buffer)

    def _bind(self, entry: Entry) -> None:
        try:
            self._fill(entry)
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - user code; told
            entry.reason, entry.unmet = explain(error), isinstance(error, LostReferenceError)

    def _fill(self, entry: Entry) -> dict[str, object]:
        values = entry.load()
        for name in entry.blob.names:
            # Bound at once: code that later values run may look for it. Interned as names in code are:
            # a pickle tells strings apart that are equal and not the same.
            self.namespace[sys.intern(name)] = values[name]
        return values


class _BlobUnpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO | Source, entry: Entry, buffers: Iterable[memoryview]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._entry = entry
        self._seeds = (*entry.loader.seeds, entry)

    def persistent_load(self, pid: Any) -> Any:
        return self._seeds[pid]

    def find_class(self, module: str, name: str) -> Any:
        if module == self._entry.module and name.partition(".")[0] not in self._entry.namespace:
            head, *rest = name.split(".")
            found: Any = self._entry.find(head)
            for step in rest:
                found = getattr(found, step)
            return found
        return super().find_class(module, name)


def explain(error: BaseException) -> str:
    if isinstance(error, LostReferenceError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the module {error.name!r} is not installed here"
    if isinstance(error, ImportError):
        return f"an import failed: {safe_text(error)}"
    return f"{type(error).__name__}: {safe_text(error)}"
