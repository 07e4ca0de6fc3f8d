"""ImportController: an import policy in, an ``__import__`` for cells that keeps to it out.

A policy for the imports that cells write, not a security boundary: ``sys.modules``, a module's own
references (``shutil.os``) and a dozen other ways pass it by. The boundary is a confined worker process.
A library's own imports are never in its way: only code whose globals are the cells' dict is asked.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from pyrepl3.config import ExecutorConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_lock = threading.RLock()  # a collection inside it may close an executor, which lets go of its dict
# The policies in force by the id of the dict that cells run on, the newest of each last. A controller
# holds its dict, so the id stays that of one dict.
_guarded: dict[int, list[weakref.ref[ImportController]]] = {}
_hooks: list[_Hook] = []


class ImportController:
    """Control module imports by a configuration: ``allow_imports``, ``denied_modules``, ``allowed_modules``.

    The top package counts: ``os.path`` is ``os``. Denied wins over allowed; relative imports pass.
    """

    def __init__(self, config: ExecutorConfig | None = None) -> None:
        self.config = config or ExecutorConfig()
        self.original_import = builtins.__import__
        self._policy = self.config.imports
        self._namespace: dict[str, Any] | None = None
        self._builtins: dict[str, Any] = {}
        self._entry: weakref.ref[ImportController] | None = None

    def controlled_import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  the names of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """``__import__`` under the policy. Raises ImportError, with ``name`` set, for what it forbids."""
        if level == 0:
            self.check(name)
        return self.original_import(name, globals, locals, fromlist or (), level)

    def check(self, name: str) -> None:
        """Raise ImportError if cells may not import ``name``."""
        if not isinstance(name, str):
            return  # the import itself says what is wrong with it
        policy = self._policy
        top = name.partition(".")[0]
        if not policy.allow:
            why = "imports are switched off; set ExecutorConfig.allow_imports"
        elif top in policy.denied:
            why = f"{top!r} is denied; take it off ExecutorConfig.denied_modules"
        elif policy.allowed is not None and top not in policy.allowed:
            why = f"{top!r} is not allowed; add it to ExecutorConfig.allowed_modules"
        else:
            return
        raise ImportError(f"this session may not import {name!r}: {why}", name=name)

    def builtins(self) -> dict[str, Any]:
        """A copy of the builtins in which ``__import__`` is the controlled one.

        What is put into ``builtins`` later is not seen through it.
        """
        return {**vars(builtins), "__import__": self.controlled_import}

    def guard(self, namespace: dict[str, Any]) -> None:
        """Hold code that runs on ``namespace`` to the policy, until ``release``. Any thread.

        Import statements, ``__import__`` and ``exec`` by its builtins; ``importlib.import_module`` and
        ``importlib.__import__`` by a hook that looks at the calling frame and passes all others on. Of
        several controllers on one dict the newest holds. Functions keep the builtins that they were
        defined with: those of cells stay held to the policy after ``release``.
        """
        with _lock:
            self._namespace = namespace
            namespace["__builtins__"] = self._builtins = self.builtins()
            # Weak, or a dict that nobody else has would live for ever, and its executor with it: errors
            # in the dict hold the frames that they passed.
            self._entry = weakref.ref(self, functools.partial(_forget, id(namespace)))
            _guarded.setdefault(id(namespace), []).append(self._entry)
            if not _hooks:
                _hooks.append(_Hook())

    def release(self) -> None:
        """Let go of the namespace; the last one out takes importlib's hook away. Idempotent."""
        with _lock:
            namespace, self._namespace = self._namespace, None
            if namespace is None or self._entry is None:
                return
            _forget(id(namespace), self._entry)
            before = _controller(namespace)
            namespace["__builtins__"] = builtins if before is None else before._builtins  # noqa: SLF001


def _forget(namespace: int, entry: weakref.ref[ImportController]) -> None:
    """Take a controller off the list, let go or collected."""
    with _lock:
        entries = _guarded.get(namespace)
        if entries is None or entry not in entries:
            return
        entries.remove(entry)
        if not entries:
            del _guarded[namespace]
        if not _guarded and _hooks and _hooks[0].remove():
            _hooks.clear()


def _controller(caller: dict[str, Any]) -> ImportController | None:
    """The policy for code whose globals are ``caller``; None for everybody but cells."""
    entries = _guarded.get(id(caller))
    return entries[-1]() if entries else None


class _Hook:
    """Two functions in importlib's place; they ask who calls. One for all sessions of the process."""

    def __init__(self) -> None:
        import_module = self._module = importlib.import_module
        import_function = self._function = importlib.__import__

        @functools.wraps(import_module)
        def controlled_module(name: str, package: str | None = None) -> Any:
            caller = sys._getframe(1).f_globals  # noqa: SLF001  who calls is the question
            controller = _controller(caller)
            if controller is not None:
                _check_module(controller, name, package, caller)
            return import_module(name, package)

        @functools.wraps(import_function)
        def controlled_function(
            name: str,
            globals: Mapping[str, object] | None = None,  # noqa: A002
            locals: Mapping[str, object] | None = None,  # noqa: A002
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> Any:
            controller = _controller(sys._getframe(1).f_globals)  # noqa: SLF001
            if controller is not None and level == 0:
                controller.check(name)
            return import_function(name, globals, locals, fromlist, level)

        self._ours = controlled_module, controlled_function
        importlib.import_module, importlib.__import__ = self._ours

    def remove(self) -> bool:
        """Put importlib's functions back; False where somebody has put others over ours since.

        Then ours stay below and pass everything on.
        """
        if (importlib.import_module, importlib.__import__) != self._ours:
            return False
        importlib.import_module, importlib.__import__ = self._module, self._function
        return True


def _check_module(
    controller: ImportController, name: Any, package: str | None, caller: dict[str, Any]
) -> None:
    """``import_module(".path", "os")`` names os; relative to the caller's own package it passes."""
    if not (isinstance(name, str) and name.startswith(".")):
        controller.check(name)
    elif package is not None and package != caller.get("__package__"):
        controller.check(package)
