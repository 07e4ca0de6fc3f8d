"""Runs one compiled cell on a namespace, inside its stages; (True, value) or (False, exception) comes out.

Errors come out as values, not raised: a SystemExit or KeyboardInterrupt raised in a task would stop
the whole event loop, and each frame that it passed would stand in the user's traceback.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt
from pyrepl3.run.cancel import finish
from pyrepl3.run.display import mime_bundle
from pyrepl3.run.execution import CURRENT, Execution
from pyrepl3.run.tracebacks import format_error, trim

if TYPE_CHECKING:
    from pyrepl3.lang.compile import CompiledCell
    from pyrepl3.run.limits import Guard

type Result = tuple[bool, Any]

type Run = tuple[CodeType | None, CodeType | None, CompiledCell, dict[str, Any]]
"""What of a cell runs: body and tail under the cell's own file name, what is known of them, the dict
they run on. A bare tuple: it is made for every cell."""

get_depth = sys.get_coroutine_origin_tracking_depth
set_depth = sys.set_coroutine_origin_tracking_depth
_get_thread = threading.get_ident


def evaluate(execution: Execution, run: Run, around: Guard | None = None) -> Result:
    """Run a cell without top-level await, here and now. Call it in the session's Context."""
    # One frame and no ``with`` for what most cells do not have: each costs as much as the cell itself.
    body, tail, compiled, namespace = run
    execution.thread = _get_thread()
    token = CURRENT.set(execution)
    depth = get_depth()
    result: Result
    # So that the warning about a coroutine that is never awaited names the line that made it.
    set_depth(1)
    try:
        if execution.stop is not None:  # asked to stop before the first line
            raise CellInterrupt  # as if the first line had raised it
        if around is not None:
            around.__enter__()
        try:
            value = None
            if compiled.wrapped and body is not None:
                value = FunctionType(body, namespace)()
            elif body is not None:
                eval(body, namespace)  # noqa: S307  running code is what this is for
            if tail is not None:
                value = eval(tail, namespace)  # noqa: S307
            elif compiled.value_name is not None:
                value = namespace.get(compiled.value_name)
            if execution.show and value is not None and compiled.shows:
                _show(execution, namespace, value)
        except BaseException as error:
            if execution.show:
                _tell(execution, error)
            if around is None or not around.__exit__(type(error), error, error.__traceback__):
                raise
            value = None
        else:
            if around is not None:
                around.__exit__(None, None, None)
        result = (True, value)
    except BaseException as error:  # noqa: BLE001  whatever the user's code raises is its result
        result = (False, error)
    finally:
        execution.finished = True
        set_depth(depth)
        CURRENT.reset(token)
    if execution.stop is not None:
        finish(execution, result)
    return result


async def evaluate_async(  # noqa: C901  one frame, see evaluate
    execution: Execution, run: Run, around: Guard | None = None
) -> Result:
    """Run a cell with top-level await: the same as ``evaluate``, step by step, with three awaits."""
    body, tail, compiled, namespace = run
    execution.thread = _get_thread()
    token = CURRENT.set(execution)
    result: Result
    try:
        if execution.stop is not None:  # asked to stop before the first line
            raise CellInterrupt  # see evaluate
        if around is not None:
            around.__enter__()
        try:
            value = None
            if compiled.wrapped and body is not None:
                value = await FunctionType(body, namespace)()
            elif body is not None:
                # eval, not exec: exec of code with CO_COROUTINE silently runs nothing.
                begun = eval(body, namespace)  # noqa: S307
                if compiled.body_async:
                    await begun
            if tail is not None:
                value = eval(tail, namespace)  # noqa: S307
                if compiled.tail_async:
                    value = await value
            elif compiled.value_name is not None:
                value = namespace.get(compiled.value_name)
            if execution.show and value is not None and compiled.shows:
                _show(execution, namespace, value)
        except BaseException as error:
            if execution.show:
                _tell(execution, error)
            if around is None or not around.__exit__(type(error), error, error.__traceback__):
                raise
            value = None
        else:
            if around is not None:
                around.__exit__(None, None, None)
        result = (True, value)
    except BaseException as error:  # noqa: BLE001  see evaluate
        result = (False, error)
    finally:
        execution.finished = True
        CURRENT.reset(token)
    if execution.stop is not None:
        finish(execution, result)
    return result


def _show(execution: Execution, namespace: dict[str, Any], value: object) -> None:
    """Make the value ready to be seen, and ``_``. A part of the cell: reprs are the user's code."""
    execution.shown = mime_bundle(value)[0]
    namespace["_"] = value


def _tell(execution: Execution, error: BaseException) -> None:
    """Make the text of an error ready: its ``__str__`` is the user's code too, and may never end."""
    with suppress(BaseException):  # stopped: what is told then is that
        execution.told = (error, format_error(trim(error), verbose=execution.verbose))
