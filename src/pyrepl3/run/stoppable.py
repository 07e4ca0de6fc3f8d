"""Which threads a debugger may stop, and whose they are; whatever is none of these goes on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pyrepl3.run.execution import Group

_WATCHDOG = "pyrepl3-watchdog"  # a cell may be the first to need it; it serves all
_SUSPENDED = 2  # pydevd's number for the state of a thread


class Stoppable:
    """Threads that run cells, and those that they start, in the terms of pydevd. One for a process."""

    def __init__(self) -> None:
        self._owners: weakref.WeakKeyDictionary[threading.Thread, Group] = (
            weakref.WeakKeyDictionary()
        )
        self._instruct_pydevd()
        self._follow_starts()

    def __contains__(self, thread: threading.Thread) -> bool:
        return thread in self._owners

    def _instruct_pydevd(self) -> None:
        from _pydevd_bundle.pydevd_additional_thread_info import (  # noqa: PLC0415
            set_additional_thread_info,
        )
        from _pydevd_sys_monitoring import pydevd_sys_monitoring  # noqa: PLC0415

        # The compiled module, or the one in Python.
        home: Any = sys.modules[pydevd_sys_monitoring.start_monitoring.__module__]
        owners = self._owners

        def info(thread: Any, *, traced: bool) -> Any:
            state = None if thread is None else set_additional_thread_info(thread)
            return home.ThreadInfo(thread, threading.get_ident(), traced, state)

        def find_current() -> Any:
            # Not current_thread(): that makes up a thread, if this one is not quite begun.
            me = threading.get_ident()
            found = threading._active.get(me)  # type: ignore[attr-defined]  # noqa: SLF001
            return found or next((each for each in list(owners) if each.ident == me), None)

        class Local(threading.local):
            """What pydevd knows of the thread that asks: here it learns that it traces only ours."""

            def __setattr__(self, name: str, value: Any) -> None:
                if name == "thread_info":
                    thread = find_current()
                    if thread not in owners:
                        value = info(thread, traced=False)
                super().__setattr__(name, value)

        home._thread_local_info = local = Local()  # noqa: SLF001  there is no other way in

        def adopt() -> None:
            local.thread_info = info(threading.current_thread(), traced=True)

        self._adopt_here = adopt
        self._home = home

    def _follow_starts(self) -> None:
        # What pydevd asks before it suspends all threads.
        threading.Thread.pydev_do_not_trace = True  # type: ignore[attr-defined]
        thread_class: Any = threading.Thread
        start = thread_class.start

        def start_with_owner(self: threading.Thread) -> None:
            owner = owners.get(threading.current_thread())
            if owner is not None and self.name != _WATCHDOG:
                own(self, owner)
            start(self)

        owners, own = self._owners, self._own
        start_with_owner.__doc__ = start.__doc__
        thread_class.start = start_with_owner

    def _own(self, thread: threading.Thread, owner: Group) -> None:
        self._owners[thread] = owner
        thread.pydev_do_not_trace = False  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def untraced(self) -> Iterator[None]:
        """While pydevd is called on a thread of ours: it would stop in itself. Steps begin at the end."""
        self._home.suspend_current_thread_tracing()
        try:
            yield
        finally:
            self._home.resume_current_thread_tracing()

    def adopt(self, owner: Group) -> None:
        """The thread that calls this may be stopped from now on, and so may those that it starts."""
        thread = threading.current_thread()
        known = thread in self._owners
        self._own(thread, owner)
        if not known:
            self._adopt_here()

    def stopped(self, owner: Group) -> list[threading.Thread]:
        """Those of ``owner`` that are stopped now."""
        found = []
        for thread, of in list(self._owners.items()):
            state = getattr(thread, "additional_info", None)
            if of is owner and state is not None and state.pydev_state == _SUSPENDED:
                found.append(thread)
        return found

    def end_steps(self, filename: str) -> None:
        """A step that leads out of a cell ends with it: it would end in whatever runs next."""
        state = getattr(threading.current_thread(), "additional_info", None)
        if state is None or state.pydev_step_cmd == -1:
            return
        frame = state.pydev_step_stop
        if frame is None or frame.f_code.co_filename == filename:
            state.pydev_step_cmd = state.pydev_original_step_cmd = -1
            state.pydev_step_stop = None
            state.update_stepping_info()


def find_awaiting_frame() -> FrameType | None:
    """Where the task that waits for the current one stands; None where nobody awaits it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    for callback, _ in getattr(task, "_callbacks", None) or ():
        waiter = getattr(callback, "__self__", None)
        if isinstance(waiter, asyncio.Task):
            step: Any = waiter.get_coro()
            frame = None
            while step is not None:
                frame = getattr(step, "cr_frame", None) or frame
                step = getattr(step, "cr_await", None)
            return frame
    return None
