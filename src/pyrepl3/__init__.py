"""Python sessions that never lose their state: the public names, each loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers, which cannot follow __getattr__
    from pyrepl3.config import ExecutorConfig as ExecutorConfig
    from pyrepl3.config import GiB as GiB
    from pyrepl3.config import ImportPolicy as ImportPolicy
    from pyrepl3.config import KiB as KiB
    from pyrepl3.config import Limits as Limits
    from pyrepl3.config import MiB as MiB
    from pyrepl3.config import Policy as Policy
    from pyrepl3.config import Tool as Tool
    from pyrepl3.engine.opening import open_session as open_session
    from pyrepl3.engine.stored import export_session as export_session
    from pyrepl3.engine.stored import import_session as import_session
    from pyrepl3.errors import AsyncContextError as AsyncContextError
    from pyrepl3.errors import CancellationError as CancellationError
    from pyrepl3.errors import CellIdError as CellIdError
    from pyrepl3.errors import CheckerError as CheckerError
    from pyrepl3.errors import CompilationError as CompilationError
    from pyrepl3.errors import ConfinementError as ConfinementError
    from pyrepl3.errors import DebugError as DebugError
    from pyrepl3.errors import DurabilityError as DurabilityError
    from pyrepl3.errors import EpochNotFoundError as EpochNotFoundError
    from pyrepl3.errors import ExecutionError as ExecutionError
    from pyrepl3.errors import LimitExceededError as LimitExceededError
    from pyrepl3.errors import LostValueError as LostValueError
    from pyrepl3.errors import MissingExtraError as MissingExtraError
    from pyrepl3.errors import NamespaceError as NamespaceError
    from pyrepl3.errors import PyREPL3Error as PyREPL3Error
    from pyrepl3.errors import RemoteError as RemoteError
    from pyrepl3.errors import ReplayedError as ReplayedError
    from pyrepl3.errors import SessionClosedError as SessionClosedError
    from pyrepl3.errors import SessionError as SessionError
    from pyrepl3.errors import SessionExistsError as SessionExistsError
    from pyrepl3.errors import SessionInUseError as SessionInUseError
    from pyrepl3.errors import SessionNotFoundError as SessionNotFoundError
    from pyrepl3.errors import SourceError as SourceError
    from pyrepl3.errors import StaleBaseError as StaleBaseError
    from pyrepl3.errors import StepError as StepError
    from pyrepl3.errors import StepMismatchError as StepMismatchError
    from pyrepl3.errors import StepValueError as StepValueError
    from pyrepl3.errors import StoreCorruptError as StoreCorruptError
    from pyrepl3.errors import StoreError as StoreError
    from pyrepl3.errors import ToolError as ToolError
    from pyrepl3.errors import WorkerDiedError as WorkerDiedError
    from pyrepl3.isolate.pool import Pool as Pool
    from pyrepl3.lang.cache import CompilationCache as CompilationCache
    from pyrepl3.lang.modes import explain_mode as explain_mode
    from pyrepl3.lang.optimize.optimizer import ASTOptimizer as ASTOptimizer
    from pyrepl3.lang.parallel import explain_parallel as explain_parallel
    from pyrepl3.lang.parallel import independent as independent
    from pyrepl3.metrics import ExecutionMetrics as ExecutionMetrics
    from pyrepl3.ports import Asker as Asker
    from pyrepl3.ports import Durability as Durability
    from pyrepl3.ports import Observer as Observer
    from pyrepl3.ports import Runner as Runner
    from pyrepl3.ports import Stage as Stage
    from pyrepl3.ports import Store as Store
    from pyrepl3.ports import TypeChecker as TypeChecker
    from pyrepl3.records import Asked as Asked
    from pyrepl3.records import Blocked as Blocked
    from pyrepl3.records import Cell as Cell
    from pyrepl3.records import CellFlow as CellFlow
    from pyrepl3.records import CheckReport as CheckReport
    from pyrepl3.records import Collected as Collected
    from pyrepl3.records import Committed as Committed
    from pyrepl3.records import DebugServer as DebugServer
    from pyrepl3.records import Delta as Delta
    from pyrepl3.records import Diagnostic as Diagnostic
    from pyrepl3.records import Difference as Difference
    from pyrepl3.records import Display as Display
    from pyrepl3.records import Done as Done
    from pyrepl3.records import Epoch as Epoch
    from pyrepl3.records import Event as Event
    from pyrepl3.records import ExecutionMode as ExecutionMode
    from pyrepl3.records import Failed as Failed
    from pyrepl3.records import Finished as Finished
    from pyrepl3.records import FlowEdge as FlowEdge
    from pyrepl3.records import Graph as Graph
    from pyrepl3.records import Hint as Hint
    from pyrepl3.records import HotReport as HotReport
    from pyrepl3.records import Interrupted as Interrupted
    from pyrepl3.records import KeptName as KeptName
    from pyrepl3.records import Line as Line
    from pyrepl3.records import LogEntry as LogEntry
    from pyrepl3.records import ModeReport as ModeReport
    from pyrepl3.records import Names as Names
    from pyrepl3.records import Notice as Notice
    from pyrepl3.records import Outcome as Outcome
    from pyrepl3.records import Output as Output
    from pyrepl3.records import ParallelReport as ParallelReport
    from pyrepl3.records import ParallelStatement as ParallelStatement
    from pyrepl3.records import PastCell as PastCell
    from pyrepl3.records import Placement as Placement
    from pyrepl3.records import Reason as Reason
    from pyrepl3.records import Receipt as Receipt
    from pyrepl3.records import Replayed as Replayed
    from pyrepl3.records import Restored as Restored
    from pyrepl3.records import Slice as Slice
    from pyrepl3.records import Snapshot as Snapshot
    from pyrepl3.records import StaleCell as StaleCell
    from pyrepl3.records import Started as Started
    from pyrepl3.records import TaskInfo as TaskInfo
    from pyrepl3.records import Wall as Wall
    from pyrepl3.run.cancel import ExecutionCancellation as ExecutionCancellation
    from pyrepl3.run.coroutines import CoroutineManager as CoroutineManager
    from pyrepl3.run.debugger import post_mortem as post_mortem
    from pyrepl3.run.display import display as display
    from pyrepl3.run.executor import AsyncExecutor as AsyncExecutor
    from pyrepl3.run.fds import capture_fds as capture_fds
    from pyrepl3.run.imports import ImportController as ImportController
    from pyrepl3.run.loop import EventLoopCoordinator as EventLoopCoordinator
    from pyrepl3.run.namespace import NamespaceManager as NamespaceManager
    from pyrepl3.run.recovery import ErrorRecovery as ErrorRecovery
    from pyrepl3.run.steps import ask as ask
    from pyrepl3.run.steps import sleep as sleep
    from pyrepl3.run.steps import step as step
    from pyrepl3.run.steps import step_key as step_key
    from pyrepl3.session import Session as Session

_HOMES = {
    "config": "ExecutorConfig GiB ImportPolicy KiB Limits MiB Policy Tool",
    "engine.opening": "open_session",
    "engine.stored": "export_session import_session",
    "errors": (
        "AsyncContextError CancellationError CellIdError CheckerError CompilationError "
        "ConfinementError DebugError DurabilityError EpochNotFoundError ExecutionError "
        "LimitExceededError LostValueError MissingExtraError NamespaceError PyREPL3Error "
        "RemoteError ReplayedError SessionClosedError SessionError SessionExistsError "
        "SessionInUseError SessionNotFoundError SourceError StaleBaseError StepError "
        "StepMismatchError StepValueError StoreCorruptError StoreError ToolError "
        "WorkerDiedError"
    ),
    "isolate.pool": "Pool",
    "lang.cache": "CompilationCache",
    "lang.modes": "explain_mode",
    "lang.optimize.optimizer": "ASTOptimizer",
    "lang.parallel": "explain_parallel independent",
    "metrics": "ExecutionMetrics",
    "ports": "Asker Durability Observer Runner Stage Store TypeChecker",
    "records": (
        "Asked Blocked Cell CellFlow CheckReport Collected Committed DebugServer Delta "
        "Diagnostic Difference Display Done Epoch Event ExecutionMode Failed Finished FlowEdge "
        "Graph Hint HotReport Interrupted KeptName Line LogEntry ModeReport Names Notice Outcome "
        "Output ParallelReport ParallelStatement PastCell Placement Reason Receipt Replayed Restored "
        "Slice Snapshot StaleCell Started TaskInfo Wall"
    ),
    "run.cancel": "ExecutionCancellation",
    "run.coroutines": "CoroutineManager",
    "run.debugger": "post_mortem",
    "run.display": "display",
    "run.executor": "AsyncExecutor",
    "run.fds": "capture_fds",
    "run.imports": "ImportController",
    "run.loop": "EventLoopCoordinator",
    "run.namespace": "NamespaceManager",
    "run.recovery": "ErrorRecovery",
    "run.steps": "ask sleep step step_key",
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
