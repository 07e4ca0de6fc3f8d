"""Whose code is running? The cell that caused it, also on threads and in pools that the cell started.

``CURRENT`` reaches tasks, ``call_later`` and ``to_thread`` by itself. Threads and ``submit`` do not
inherit it before Python 3.14, so while streams are routed ``Thread.start`` and
``ThreadPoolExecutor.submit`` take it there.
"""

from __future__ import annotations

import sys
import threading
import weakref
from concurrent.futures.thread import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any

from pyrepl3.records import Cell
from pyrepl3.run.execution import CURRENT, Execution, Group
from pyrepl3.run.scopes import SCOPE, Scope
from pyrepl3.run.tracebacks import format_error, trim

NOBODY = Execution(Cell(id="", n=0, source="", filename=""), Group())
"""Speaks where the host's code is called from a cell's task or thread: an observer, say."""

# A thread's excepthook runs outside the Context that its ``run`` was given.
_origins: weakref.WeakKeyDictionary[threading.Thread, Execution] = weakref.WeakKeyDictionary()


def speaker() -> Execution | None:
    """The execution whose code this is called from; None or one without a sink: nobody's cell."""
    execution = CURRENT.get()
    if execution is None and _origins:
        execution = _origins.get(threading.current_thread())
    return execution


def _of_a_cell() -> Execution | None:
    execution = speaker()
    return None if execution is NOBODY else execution


def forget_threads() -> None:
    """In a forked child: no thread speaks for a cell any more."""
    _origins.clear()


class Carrying:
    """Threads that a cell starts, and calls that it gives to a thread pool, speak for that cell.

    An exception that ends such a thread is told on the cell's stderr.
    """

    def __init__(self) -> None:
        self._start = start = threading.Thread.start
        self._submit = submit = ThreadPoolExecutor.submit
        self._excepthook = excepthook = threading.excepthook

        def start_carrying(self: threading.Thread) -> None:
            execution = _of_a_cell()
            if execution is not None:
                context = Context()
                twin = _origins[self] = _twin(execution)
                context.run(CURRENT.set, twin)
                _give_scope(execution, context, "thread")
                # A bound method of C code: no frame of ours in the thread's tracebacks.
                self.run = partial(context.run, self.run)  # type: ignore[method-assign]
            start(self)

        def submit_carrying(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            execution = _of_a_cell()
            if execution is None:
                return submit(self, fn, *args, **kwargs)
            # The worker that this may start works for others too: it is nobody's.
            token = CURRENT.set(NOBODY)
            try:
                scope = None
                if execution.steps is not None:
                    scope = (SCOPE.get() or execution.steps.root).child(
                        getattr(fn, "__qualname__", "")
                    )
                return submit(self, _speak_for, execution, scope, fn, *args, **kwargs)
            finally:
                CURRENT.reset(token)

        def excepthook_of_cells(args: Any, /) -> None:
            if args.thread not in _origins or args.exc_value is None:
                excepthook(args)
                return
            if issubclass(args.exc_type, SystemExit):
                return  # ends its thread, as everywhere
            # The built-in hook shows no source lines of cells before Python 3.13.
            text = format_error(trim(args.exc_value))
            sys.stderr.write(f"Exception in thread {args.thread.name}:\n{text}")

        start_carrying.__doc__ = start.__doc__
        submit_carrying.__doc__ = submit.__doc__
        self._start_carrying, self._submit_carrying = start_carrying, submit_carrying
        self._excepthook_of_cells = threading.excepthook = excepthook_of_cells
        threading.Thread.start = start_carrying  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = submit_carrying  # type: ignore[method-assign]

    def end(self) -> None:
        """Undo it, where nobody has put something else there since."""
        if threading.excepthook is self._excepthook_of_cells:
            threading.excepthook = self._excepthook
        if threading.Thread.start is self._start_carrying:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._submit_carrying:
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _twin(execution: Execution) -> Execution:
    """Speaks like ``execution``, but no interrupt of the cell reaches it: as with Ctrl-C, threads go on."""
    twin = Execution(execution.cell, execution.group)
    twin.sink, twin.asker, twin.finished = execution.sink, execution.asker, True
    twin.steps = execution.steps
    return twin


def _give_scope(execution: Execution, context: Context, name: str) -> None:
    if execution.steps is not None:
        context.run(SCOPE.set, (SCOPE.get() or execution.steps.root).child(name))


def _speak_for(
    execution: Execution, scope: Scope | None, fn: Any, /, *args: Any, **kwargs: Any
) -> Any:
    token, inner = CURRENT.set(execution), SCOPE.set(scope)
    try:
        return fn(*args, **kwargs)
    finally:
        SCOPE.reset(inner)
        CURRENT.reset(token)
