"""Errors in; what to do about them out: a repaired source, a new event loop, or words.

Nothing here runs the user's code. The repairs themselves are in ``lang.repair``.
"""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.lang.repair import Repair

_ON_THE_LOOP = "cells run on an event loop already"
_SAME_THREAD = "open it again in this cell, or keep it in cells that run on the same thread"

# What CPython says (asyncio, signal, sqlite3 in 3.12 to 3.14), and what to write instead. The whole
# message has to match, or a user's own words would be taken for CPython's.
_CURES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), cure)
    for pattern, cure in (
        (
            r"(?:asyncio\.run|Runner\.run)\(\) cannot be called from a running event loop",
            f"{_ON_THE_LOOP}: write `await main()` instead of `asyncio.run(main())`",
        ),
        (
            r"This event loop is already running",
            f"{_ON_THE_LOOP}: write `await f()` instead of `loop.run_until_complete(f())`",
        ),
        (
            r"Cannot run the event loop while another loop is running",
            (
                f"{_ON_THE_LOOP}: write `await f()`, or run the other loop in a thread of its own with "
                "`await asyncio.to_thread(asyncio.run, f())`"
            ),
        ),
        (
            r"no running event loop",
            (
                "this code runs on a thread without a loop: await it in the cell itself, or hand it over "
                "with `asyncio.run_coroutine_threadsafe(f(), loop)`, the loop taken from "
                "`asyncio.get_running_loop()` in a cell of its own"
            ),
        ),
        (
            r"There is no current event loop(?: in thread .*)?\.?",
            (
                "write `asyncio.get_running_loop()` in a cell that awaits, or `asyncio.run(f())` on this "
                "thread"
            ),
        ),
        (
            r"Cannot (?:close|stop) a running event loop",
            "the loop belongs to the session and ends with it: leave the call out",
        ),
        (
            r"(?:signal|set_wakeup_fd) only works in main thread(?: of the main interpreter)?",
            (
                "this cell does not run on the main thread: run the code with `pyrepl3 run` or at the "
                "prompt, where cells do, or stop cells with `session.interrupt()`"
            ),
        ),
        (
            r".*(?:got Future .* attached to a different loop|is bound to a different event loop)",
            (
                "it was made on another loop, as `asyncio.run()` starts one: make it anew in a cell that "
                "awaits"
            ),
        ),
        (
            r"SQLite objects created in a thread can only be used in that same thread\..*",
            (
                f"this cell runs on another thread: {_SAME_THREAD}, or pass `check_same_thread=False` to "
                "`sqlite3.connect` if you keep the calls apart yourself"
            ),
        ),
    )
)
_MISSING = re.compile(
    r"no running event loop|There is no current event loop.*|Event loop is closed"
)


class ErrorRecovery:
    """Implements error recovery strategies: what can be offered for an error, by its kind."""

    @staticmethod
    def handle_compilation_error(e: SyntaxError, code: str) -> str:
        """A repaired ``code`` that compiles, or ``code`` itself where none was found. Never runs it."""
        repair = ErrorRecovery.propose(code, e)
        return code if repair is None else repair.source

    @staticmethod
    def propose(code: str, error: SyntaxError | None = None) -> Repair | None:
        """The repaired source with what was changed, in words; see ``lang.repair.propose``."""
        from pyrepl3.lang.repair import propose  # noqa: PLC0415  only for what does not compile

        return propose(code, error)

    @staticmethod
    def handle_async_context_error(e: RuntimeError) -> bool:
        """Whether this thread has a usable event loop now and had none: then a retry makes sense.

        For "no running event loop", "There is no current event loop" and "Event loop is closed" a new
        loop is set for the calling thread. It is found by ``asyncio.get_event_loop()`` and is ours: it
        is closed when its thread ends. A loop that runs, or that somebody set and that is open, is
        never replaced; then the answer is False, as for every other error.
        """
        if not _MISSING.fullmatch(str(e)) or _current_loop() is not None:
            return False
        asyncio.set_event_loop(_own.open())
        return True

    @staticmethod
    def explain_async_context_error(e: BaseException) -> str | None:
        """What to write instead, or None where the error has nothing to do with loops and threads."""
        return explain_async_context_error(e)


def explain_async_context_error(error: BaseException) -> str | None:
    """What to write instead of what raised ``error``, or None where nothing is known about it.

    Knows the messages of asyncio, signal and sqlite3 about a loop or a thread that is missing, busy or
    another one. Takes no part in the error: the caller decides what to raise.
    """
    known = isinstance(error, (RuntimeError, ValueError)) or type(error).__module__ == "sqlite3"
    if not known or not error.args or not isinstance(error.args[0], str):
        return None
    message = error.args[0]
    return next((cure for pattern, cure in _CURES if pattern.fullmatch(message)), None)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, or the open one that is set for it."""
    # Before 3.14 asking makes a loop where there is none, after a warning: stop it there. The filter
    # is for this module only; catch_warnings() would change the filters of all threads.
    warnings.filterwarnings("error", category=DeprecationWarning, module=re.escape(__name__))
    try:
        loop = asyncio.get_event_loop()
    except (RuntimeError, DeprecationWarning):
        return None
    return None if loop.is_closed() else loop


class _Own(threading.local):
    """The loop that we made for this thread, if any; closed when the thread ends."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> asyncio.AbstractEventLoop:
        """Ours if it is open, else a new one."""
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            self.closer = _Closer(self.loop)
        return self.loop


class _Closer:
    """Closes a loop when it goes: a thread's locals go with the thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __del__(self) -> None:
        if not self._loop.is_running():
            self._loop.close()


_own = _Own()
