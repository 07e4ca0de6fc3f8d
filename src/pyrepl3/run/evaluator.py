"""Runs one compiled cell on a namespace, inside its stages; (True, value) or (False, exception) comes out.

Errors come out as values, not raised: a SystemExit or KeyboardInterrupt raised in a task would stop
the whole event loop, and each frame that it passed would stand in the user's traceback.
"""

from __future__ import annotations

import asyncio
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
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pyrepl3.lang.compile import CompiledCell

type Result = tuple[bool, Any]

type Run = tuple[CodeType | None, CodeType | None, CompiledCell, dict[str, Any]]
"""What of a cell runs: body and tail under the cell's own file name, what is known of them, the dict
they run on. A bare tuple: it is made for every cell."""

_get_depth = sys.get_coroutine_origin_tracking_depth
_set_depth = sys.set_coroutine_origin_tracking_depth


def evaluate(
    execution: Execution,
    run: Run,
    around: AbstractContextManager[object] | None = None,
) -> Result:
    """Run a cell without top-level await, here and now. Call it in the session's Context."""
    execution.thread = threading.get_ident()
    token = CURRENT.set(execution)
    depth = _get_depth()
    result: Result
    # So that the warning about a coroutine that is never awaited names the line that made it.
    _set_depth(1)
    try:
        if execution.stop is not None:  # asked to stop before the first line
            raise CellInterrupt  # as if the first line had raised it
        if around is None:
            value = _evaluate(run, execution)
        else:
            with around:
                value = _evaluate(run, execution)
        result = (True, value)
    except BaseException as error:  # noqa: BLE001  whatever the user's code raises is its result
        result = (False, error)
    finally:
        execution.finished = True
        _set_depth(depth)
        CURRENT.reset(token)
    if execution.stop is not None:
        finish(execution)
    return result


def _evaluate(run: Run, execution: Execution) -> Any:
    if not execution.show:
        return _run(run)
    try:
        value = _run(run)
        if value is not None and run[2].shows:
            _show(execution, run[3], value)
    except BaseException as error:
        _tell(execution, error)
        raise
    return value


def _run(run: Run) -> Any:
    body, tail, compiled, namespace = run
    if compiled.wrapped:
        assert body is not None
        return FunctionType(body, namespace)()
    if body is not None:
        eval(body, namespace)  # noqa: S307  running code is what this is for
    if tail is not None:
        return eval(tail, namespace)  # noqa: S307
    name = compiled.value_name
    return None if name is None else namespace.get(name)


def _show(execution: Execution, namespace: dict[str, Any], value: object) -> None:
    """Make the value ready to be seen, and ``_``. A part of the cell: reprs are the user's code."""
    execution.shown = mime_bundle(value)[0]
    namespace["_"] = value


def _tell(execution: Execution, error: BaseException) -> None:
    """Make the text of an error ready: its ``__str__`` is the user's code too, and may never end."""
    with suppress(BaseException):  # stopped: what is told then is that
        execution.told = (error, format_error(trim(error), verbose=execution.verbose))


async def evaluate_async(
    execution: Execution,
    run: Run,
    give: Callable[[Result], object],
    around: AbstractContextManager[object] | None = None,
) -> None:
    """Run a cell with top-level await and ``give`` its result.

    To be the whole of a task whose Context is the session's; ``CURRENT`` stays set in it only while
    the cell runs.
    """
    execution.thread = threading.get_ident()
    # Here, not by who made the task: its first step runs before that has it in its hands.
    execution.task = task = asyncio.current_task()
    if execution.stop is not None and task is not None:
        task.cancel()  # asked to stop before there was a task to cancel
    token = CURRENT.set(execution)
    depth = _get_depth()
    result: Result
    _set_depth(1)
    try:
        if around is None:
            value = await _evaluate_async(run, execution)
        else:
            with around:
                value = await _evaluate_async(run, execution)
        result = (True, value)
    except BaseException as error:  # noqa: BLE001  see evaluate
        result = (False, error)
    finally:
        execution.finished = True
        _set_depth(depth)
        CURRENT.reset(token)
    if execution.stop is not None:
        finish(execution)
    give(result)


async def _evaluate_async(run: Run, execution: Execution) -> Any:
    if not execution.show:
        return await _run_async(run)
    try:
        value = await _run_async(run)
        if value is not None and run[2].shows:
            _show(execution, run[3], value)
    except BaseException as error:
        _tell(execution, error)
        raise
    return value


async def _run_async(run: Run) -> Any:
    body, tail, compiled, namespace = run
    if compiled.wrapped:
        assert body is not None
        return await FunctionType(body, namespace)()
    if body is not None:
        # eval, not exec: exec of code with CO_COROUTINE silently runs nothing.
        begun = eval(body, namespace)  # noqa: S307
        if compiled.body_async:
            await begun
    if tail is not None:
        value = eval(tail, namespace)  # noqa: S307
        return await value if compiled.tail_async else value
    name = compiled.value_name
    return None if name is None else namespace.get(name)
