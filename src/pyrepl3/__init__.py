"""Python sessions that never lose their state: the public names, each loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.config import (
        ExecutorConfig as ExecutorConfig,
        GiB as GiB,
        ImportPolicy as ImportPolicy,
        KiB as KiB,
        Limits as Limits,
        MiB as MiB,
    )
    from pyrepl3.engine import open_session as open_session
    from pyrepl3.lang.modes import explain_mode as explain_mode

_HOMES = {
    "config": "ExecutorConfig GiB ImportPolicy KiB Limits MiB",
    "engine": "open_session",
    "errors": (
        "AsyncContextError CancellationError CompilationError ExecutionError LimitExceededError "
        "LostValueError NamespaceError PyREPL3Error SessionClosedError SessionError SessionInUseError "
        "SessionNotFoundError SourceError StoreCorruptError StoreError WorkerDiedError"
    ),
    "lang.cache": "CompilationCache",
    "lang.modes": "explain_mode",
    "metrics": "ExecutionMetrics",
    "ports": "Asker Clock Observer Runner Stage Store",
    "records": (
        "Blocked Cell Committed Delta Display Done Epoch Event ExecutionMode Failed Finished Interrupted "
        "Line ModeReport Names Notice Outcome Output Placement Reason Receipt Replayed Restored Snapshot "
        "Started TaskInfo"
    ),
    "run.cancel": "ExecutionCancellation",
    "run.coroutines": "CoroutineManager",
    "run.display": "display",
    "run.executor": "AsyncExecutor",
    "run.imports": "ImportController",
    "run.loop": "EventLoopCoordinator",
    "run.namespace": "NamespaceManager",
    "run.recovery": "ErrorRecovery",
    "session": "Session",
}
_HOME = {name: f"pyrepl3.{home}" for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)  # noqa: PLE0605  one list, not two to keep alike


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'pyrepl3' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
