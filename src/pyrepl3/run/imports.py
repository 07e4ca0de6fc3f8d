"""ImportController: an import policy in, an ``__import__`` for cells that keeps to it out.

A policy for the imports that cells write, not a security boundary: ``sys.modules``, a module's own
references (``shutil.os``) and a dozen other ways pass it by. The boundary is a confined worker process.
A library's own imports are never in its way: only code whose globals are the cells' dict is asked.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from typing import TYPE_CHECKING, Any

from pyrepl3.config import ExecutorConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The policies in force, by the id of the dict that cells run on. Looked up by importlib's two functions.
_guarded: dict[int, ImportController] = {}
_originals: dict[str, Any] = {}


class ImportController:
    """Control module imports by a configuration: ``allow_imports``, ``denied_modules``, ``allowed_modules``.

    The top package counts: ``os.path`` is ``os``. Denied wins over allowed; relative imports pass.
    """

    def __init__(self, config: ExecutorConfig | None = None) -> None:
        self.config = config or ExecutorConfig()
        self.original_import = builtins.__import__
        self._policy = self.config.imports
        self._namespace: dict[str, Any] | None = None

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
        """Hold code that runs on ``namespace`` to the policy, until ``release``.

        Import statements, ``__import__`` and ``exec`` by its builtins; ``importlib.import_module`` and
        ``importlib.__import__`` by a hook that looks at the calling frame and passes all others on.
        """
        self._namespace = namespace
        namespace["__builtins__"] = self.builtins()
        if not _guarded:
            _hook()
        _guarded[id(namespace)] = self

    def release(self) -> None:
        """Let go of the namespace; the last one out takes importlib's hook away. Idempotent."""
        if self._namespace is None:
            return
        _guarded.pop(id(self._namespace), None)
        self._namespace["__builtins__"] = builtins
        self._namespace = None
        if not _guarded:
            _unhook()


def _asked(frame_globals: dict[str, Any]) -> ImportController | None:
    return _guarded.get(id(frame_globals))


def _hook() -> None:
    import_module = _originals["import_module"] = importlib.import_module
    import_function = _originals["__import__"] = importlib.__import__

    def controlled_module(name: str, package: str | None = None) -> Any:
        controller = _asked(sys._getframe(1).f_globals)  # noqa: SLF001  who calls is the question
        if controller is not None and not name.startswith("."):
            controller.check(name)
        return import_module(name, package)

    def controlled_function(name: str, *args: Any, **options: Any) -> Any:
        controller = _asked(sys._getframe(1).f_globals)  # noqa: SLF001
        if controller is not None:
            controller.check(name)
        return import_function(name, *args, **options)

    controlled_module.__doc__ = import_module.__doc__
    controlled_function.__doc__ = import_function.__doc__
    _originals["hooks"] = (controlled_module, controlled_function)
    importlib.import_module = controlled_module
    importlib.__import__ = controlled_function


def _unhook() -> None:
    controlled_module, controlled_function = _originals["hooks"]
    if importlib.import_module is controlled_module:
        importlib.import_module = _originals["import_module"]
    if importlib.__import__ is controlled_function:
        importlib.__import__ = _originals["__import__"]
