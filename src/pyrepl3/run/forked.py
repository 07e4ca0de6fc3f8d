"""A process that a cell's code has forked: marked when it begins, ended when the cell's code is over."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pyrepl3.records.outcomes import exit_status
from pyrepl3.run.execution import Stop
from pyrepl3.run.tracebacks import format_error, trim

if TYPE_CHECKING:
    from pyrepl3.run.execution import Execution

_NOTE = (
    "pyrepl3: a forked child ends with the cell that forked it; "
    "what it is to do belongs into that cell\n"
)


def mark(execution: Execution) -> None:
    """Let ``execution``, of which this process has only the forked thread, end with its code.

    As a stop that was delivered: what ends with a stop is looked at again, so cells pay nothing for it.
    """
    stop = execution.stop = Stop()
    stop.delivered = stop.forked = True


def end(result: tuple[bool, Any]) -> NoReturn:
    """Leave with the status that a program with this end has. Its parent has the session.

    Else it would wait for ever for cells that its parent gets.
    """
    ok, error = result
    if not ok and isinstance(error, SystemExit):
        status = exit_status(error)
    else:
        status = int(not ok)
        text = _NOTE if ok else format_error(trim(error))
        with suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)
