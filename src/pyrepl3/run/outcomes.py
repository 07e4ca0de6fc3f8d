"""The raw end of an execution in, the Outcome that a session gives out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CancellationError
from pyrepl3.records import Done, Failed, Interrupted
from pyrepl3.run.tracebacks import format_error, trim

if TYPE_CHECKING:
    from pyrepl3.records import Outcome
    from pyrepl3.run.evaluator import Result
    from pyrepl3.run.execution import Execution


def make_outcome(execution: Execution, result: Result, duration: float) -> Outcome:
    """The outcome of an execution that is over. ``duration`` in seconds."""
    ok, value = result
    common: dict[str, Any] = {
        "cell": execution.cell,
        "mode": execution.mode,
        "placement": execution.placement,
        "duration": duration,
    }
    if ok:
        if execution.shown is None:
            return Done(value=value, **common)
        text = execution.shown["text/plain"]
        return Done(value=value, shown=True, text=text, data=execution.shown, **common)
    trim(value)
    told = execution.told
    if told is not None and told[0] is value:
        text = told[1]
    else:
        text = format_error(value, verbose=execution.verbose)
    if type(value) is CancellationError and execution.stop is not None:
        return Interrupted(
            forced=execution.stop.stage > 1,
            abandoned=execution.abandoned,
            lost=execution.lost,
            traceback=text,
            **common,
        )
    return Failed(error=value, traceback=text, **common)
