"""NamespaceManager: the one dict that cells run on, and what belongs to it rather than to an executor.

The dict is a module's ``__dict__`` for ever: never copied, never replaced, globals *and* locals of every
cell, so that functions, lambdas and nested scopes see what they should. It is a plain dict: a locking
subclass costs ten times as much, and ``global`` stores pass it by anyway.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import LostValueError, NamespaceError
from pyrepl3.run.blocking import BlockingThread
from pyrepl3.run.classes import forget_module, serve_classes_of
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.sources import Sources, release_prefix, unique_prefix
from pyrepl3.run.turn import Turn
from pyrepl3.snapshot.reaches import ESCAPES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from pyrepl3.lang.compile import CompiledCell
    from pyrepl3.snapshot.process import Process

ENGINE_NAMES = frozenset(
    {
        "__name__",
        "__doc__",
        "__package__",
        "__loader__",
        "__spec__",
        "__builtins__",
        "__file__",
        "__cached__",
        "__annotations__",
        "__warningregistry__",
        "display",
    }
)
"""Names in the dict that are not the user's: neither listed nor stored."""

OFFERED: ContextVar[Mapping[str, object]] = ContextVar("pyrepl3_offered", default={})  # noqa: B039
"""The functions of the host that belong to the namespace which is being restored. Never changed."""

_PROTECTED = frozenset({"__name__", "__builtins__", "__spec__", "__loader__", "__package__"})
_ENGINE_SOURCES = frozenset({"executor", "engine"})


def fresh_main() -> ModuleType:
    """A new ``__main__``: cells of a command line or a worker find themselves where scripts do."""
    module = ModuleType("__main__", None)
    vars(module).setdefault("__annotations__", {})
    sys.modules["__main__"] = module
    return module


class NamespaceManager:
    """A namespace: its dict, its module, its context, its turn.

    ``resonate`` is None or a Resonate instance: kept for ``durable``, never called here. ``name`` is
    what cells and the module are called by (``pyrepl3.cells.<name>``, unique in the process); pass
    ``module`` (``__main__``, say) to run cells in that one instead. Methods from any thread.

    Several executors may share a namespace: their cells take turns.
    """

    def __init__(
        self,
        resonate: object | None = None,
        *,
        name: str | None = None,
        module: ModuleType | None = None,
        process: Process | None = None,
    ) -> None:
        self.resonate = resonate
        self.process = process
        """The state of the process, where it belongs to this namespace and is kept with it."""
        self.name = unique_prefix(name or "cells")
        if module is None:
            module = ModuleType(f"pyrepl3.cells.{self.name}", None)
            sys.modules[module.__name__] = module
            gone = weakref.finalize(self, forget_module, module.__name__, weakref.ref(module))
            gone.atexit = False
        self._named = weakref.finalize(self, release_prefix, self.name)
        self._named.atexit = False
        self.module = module
        self.module_name = module.__name__
        self._dict = module.__dict__
        self.sources = Sources(self._dict, self.module_name)
        serve_classes_of(self.module_name, self.sources)
        self._dict.setdefault("__builtins__", __builtins__)
        self._lock = threading.RLock()
        self.turn = Turn()
        self.context = contextvars.copy_context()
        self.flags = 0
        """``__future__`` flags that cells so far have set; later cells inherit them."""
        self.count = 0
        """Cells begun so far."""
        self.thread = BlockingThread(f"pyrepl3-{self.name}-blocking")
        """The one thread for blocking cells, started by the first one."""
        self.touched: set[str] | None = None
        """Names that cells named since the last checkpoint; None: any may have changed, or none was made."""
        self.lost: dict[str, str] = {}
        """Names that a restore could not bring back: name to reason. A binding takes one off."""
        self.offered: Mapping[str, object] = {}
        """Functions of the host: bound again after a restore, where no other value has their name."""
        self._base_context = dict(self.context)

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's names and values, as a new dict."""
        with self._lock:
            return {k: v for k, v in self._dict.copy().items() if k not in ENGINE_NAMES}

    def get_for_execution(self, context: str = "") -> dict[str, Any]:  # noqa: ARG002  the specification's
        """The live dict, whatever the context: async, thread and plain code share it."""
        return self._dict

    def get_snapshot(self) -> dict[str, Any]:
        """The same as ``namespace``: a shallow copy, values shared."""
        return self.namespace

    def update_namespace(
        self, changes: Mapping[str, Any], *, source_context: str = "user"
    ) -> dict[str, Any]:
        """Bind names. Returns those whose value is another object than before.

        Raises NamespaceError, with nothing bound, for a name that is no string or that the engine needs
        (``__builtins__``, say), unless ``source_context`` is ``"executor"`` or ``"engine"``.
        """
        if source_context not in _ENGINE_SOURCES:
            for name in changes:
                if not isinstance(name, str):
                    raise NamespaceError(f"a name must be a string, not {type(name).__name__}")
                if name in _PROTECTED:
                    raise NamespaceError(f"{name!r} belongs to the engine; choose another name")
        missing = object()
        with self._lock:
            changed = {
                name: value
                for name, value in changes.items()
                if self._dict.get(name, missing) is not value
            }
            self._dict.update(changed)
        return changed

    def merge_thread_results(
        self, results: Mapping[str, Any], base: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Bring back what code did on a *copy* of the namespace; cells of ours never need it.

        ``base`` is the copy as it was before. Compared by identity, so that arrays merge and objects
        changed in place do too: what is another object than in ``base`` is bound here, what is missing
        is deleted. Without ``base``, compared with the live dict, and nothing is deleted. Returns what
        was bound.
        """
        missing = object()
        against = self._dict if base is None else base
        changes = {
            name: value
            for name, value in results.items()
            if name not in ENGINE_NAMES and against.get(name, missing) is not value
        }
        with self._lock:
            self._dict.update(changes)
            if base is not None:
                for name in base.keys() - results.keys() - ENGINE_NAMES:
                    self._dict.pop(name, None)
        return changes

    def move(self) -> None:
        """Another thread and loop take over: a Context that nobody has entered, a free turn."""
        self.context = self.context.copy()
        self.turn = Turn()

    def clear(self) -> None:
        """Unbind all of the user's names."""
        with self._lock:
            for name in [name for name in self._dict if name not in ENGINE_NAMES]:
                del self._dict[name]

    def offer(self, functions: Mapping[str, object]) -> None:
        """Bind functions of the host, now and after each restore."""
        self.offered = functions
        self._bind_offered()

    def _bind_offered(self) -> None:
        for name, function in self.offered.items():
            if self._dict.setdefault(name, function) is function and self.touched is not None:
                self.touched.add(name)

    def forget_touched(self) -> None:
        """A checkpoint holds all that cells touched so far."""
        self.touched = set()

    def engine_state(self) -> dict[str, Any]:
        """What belongs to the session beside its names: flags, context variables, sources, count."""
        missing = object()
        variables = []
        decimal = {}
        for variable, value in self.context.items():
            if variable is CURRENT or self._base_context.get(variable, missing) is value:
                continue
            if variable.name == "decimal_context":  # C code's own: nobody can refer to it
                decimal["context"] = value
            else:
                variables.append((variable, value))
        return {
            **({"decimal": decimal} if decimal else {}),
            "flags": self.flags,
            "contextvars": variables,
            "sources": self.sources.living(),
            "lost": dict(self.lost),
        }

    def take_engine_state(
        self,
        state: Mapping[str, Any],
        lost: Mapping[str, str],
        *,
        codes: Iterable[weakref.ref[CodeType]] = (),
    ) -> None:
        """Go back to ``engine_state``; what is missing in ``state`` starts afresh.

        ``codes``: those of the functions that came back.
        """
        self.flags = state.get("flags", 0)
        self.context = contextvars.Context()
        for variable, value in (*self._base_context.items(), *state.get("contextvars", ())):
            self.context.run(variable.set, value)
        if "decimal" in state:
            from decimal import setcontext  # noqa: PLC0415  only where cells used it

            self.context.run(setcontext, state["decimal"]["context"])
        self.sources.restore(state.get("sources", {}), codes)
        self.lost = {**state.get("lost", {}), **lost}
        self.forget_touched()
        self._bind_offered()

    def note(self, compiled: CompiledCell) -> None:
        """A cell is about to run: remember what it may touch, and what later cells inherit."""
        self.flags = compiled.flags
        if self.process is not None:
            self.process.saw(compiled.names)
        touched = self.touched
        if touched is not None:
            touched.update(compiled.names)
            if not ESCAPES.isdisjoint(compiled.names):
                self.touched = None
        if self.lost:
            for name in self.lost.keys() & self._dict.keys():
                del self.lost[name]

    def explain_lost(self, error: NameError) -> LostValueError | None:
        """The error to raise instead of ``error`` if its name was lost in a restore."""
        reason = self.lost.get(error.name or "")
        if reason is None or error.name in self._dict:
            return None
        return LostValueError(
            f"name {error.name!r} was lost in the restart: {reason}", name=error.name
        )

    def close(self) -> None:
        """End the blocking thread and free the name. Idempotent; the dict stays readable."""
        self._named()
        self.thread.close()
