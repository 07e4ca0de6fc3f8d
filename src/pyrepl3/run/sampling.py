"""Threads and tasks that run code of cells in, where they are found fifty times a second out.

A thread of its own looks at ``sys._current_frames()``; what it looks at pays only for the moments in which
that thread has the GIL. A look that had to wait (a call of C that kept the GIL) counts for all that time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.snapshot.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType

INTERVAL = 0.02  # seconds between two looks
_IDLE = 0.05  # the same while no cell runs
_TASKS = 3  # looks at threads for one at tasks
_DEEPEST = 2000  # frames of one stack
_MOST = 20_000  # lines that are kept apart

_clock = time.perf_counter


class Spent:
    """Seconds at one line or in one function."""

    __slots__ = ("awaiting", "cpu", "own", "total")

    def __init__(self) -> None:
        self.own = self.cpu = self.total = self.awaiting = 0.0


class Sampler:
    """Measures from ``start`` to ``stop``. ``owns``: whether code under a file name is of cells of ours.

    ``tasks`` gives the tasks to look at, ``busy`` whether anything runs; ``after`` is called after each
    look, on the sampler's thread. The results may be read at any time, on any thread.
    """

    def __init__(
        self,
        owns: Callable[[str], bool],
        tasks: Callable[[], Iterable[asyncio.Task[Any]]],
        busy: Callable[[], bool],
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self._owns, self._tasks, self._busy, self._after = owns, tasks, busy, after
        self._owned: dict[str, bool] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._cpu: dict[int, float] = {}
        self._begun = 0.0
        self._spent = 0.0
        self.samples = 0
        self.lines: dict[tuple[CodeType, int], Spent] = {}
        self.functions: dict[CodeType, Spent] = {}

    @property
    def on(self) -> bool:
        """Whether it measures."""
        return self._thread is not None

    @property
    def seconds(self) -> float:
        """How long it has measured."""
        return self._spent + (_clock() - self._begun if self.on else 0.0)

    def start(self) -> None:
        """Begin, or go on. Idempotent."""
        if self._thread is None:
            self._end.clear()
            self._begun = _clock()
            self._thread = threading.Thread(target=self._run, name="pyrepl3-hot", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; what was measured stays. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._end.set()
            if thread is not threading.current_thread():
                thread.join(1.0)
            self._spent += _clock() - self._begun

    def clear(self) -> None:
        """Forget what was measured."""
        self._spent, self._begun, self.samples = 0.0, _clock(), 0
        self.lines, self.functions = {}, {}

    def _run(self) -> None:
        end, me = self._end, threading.get_ident()
        last = since = _clock()
        looks = 0
        while not end.wait(INTERVAL if self._busy() else _IDLE):
            now = _clock()
            self._look(now - last, me)
            last = now
            looks += 1
            if looks % _TASKS == 0:
                self._look_at_tasks(now - since)
                since = now
            self._after()

    def _look(self, seconds: float, me: int) -> None:
        self.samples += 1
        for thread, frame in sys._current_frames().items():  # noqa: SLF001  the documented way
            if thread != me:
                self._look_at(thread, frame, seconds)

    def _look_at(self, thread: int, top: FrameType, seconds: float) -> None:
        owned = self._owned
        inner = True
        seen: set[CodeType] = set()
        frame: FrameType | None = top
        for _ in range(_DEEPEST):
            if frame is None:
                break
            code = frame.f_code
            mine = owned.get(code.co_filename)
            if mine is None:
                mine = self._ask(code.co_filename)
            if mine:
                code = plain(code)  # machine code counts for the function's first line
                spent = self._function(code)
                if inner:
                    inner = False
                    computed = self._computed(thread, seconds)
                    for one in (spent, self._line(code, frame.f_lineno or code.co_firstlineno)):
                        one.own += seconds
                        one.cpu += computed
                if code not in seen:
                    seen.add(code)
                    spent.total += seconds
            frame = frame.f_back

    def _computed(self, thread: int, seconds: float) -> float:
        """How much of the last ``seconds`` the thread has had a processor."""
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        if clock_of is None:
            return seconds
        try:  # it lives: its state is there, and we hold the GIL
            now = time.clock_gettime(clock_of(thread))
        except OSError:
            return seconds
        before = self._cpu.get(thread)
        self._cpu[thread] = now
        return seconds if before is None else min(seconds, now - before)

    def _look_at_tasks(self, seconds: float) -> None:
        found: Iterable[asyncio.Task[Any]] = ()
        with suppress(RuntimeError):  # they came and went faster than one could look
            found = list(self._tasks())
        for task in found:
            place = None if task.done() else self._waits_at(task.get_coro())
            if place is not None:
                code, line = place
                self._function(code).awaiting += seconds
                self._line(code, line).awaiting += seconds

    def _waits_at(self, coro: Any) -> tuple[CodeType, int] | None:
        """The innermost line of a cell that a coroutine waits at; None: it runs, or waits in none."""
        place = None
        for _ in range(_DEEPEST):
            frame: FrameType | None = None
            for kind in ("cr", "gi", "ag"):
                if hasattr(coro, f"{kind}_frame"):
                    frame = getattr(coro, f"{kind}_frame")
                    if getattr(coro, f"{kind}_running"):
                        return None
                    name = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                    coro = getattr(coro, name)
                    break
            if frame is None:
                break
            if self._ask(frame.f_code.co_filename):
                place = frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno
        return place

    def _ask(self, filename: str) -> bool:
        found = self._owned.get(filename)
        if found is None:
            if len(self._owned) > _MOST:
                self._owned.clear()
            found = self._owned[filename] = self._owns(filename)
        return found

    def _function(self, code: CodeType) -> Spent:
        found = self.functions.get(code)
        if found is None:
            found = self.functions[code] = Spent()
        return found

    def _line(self, code: CodeType, line: int) -> Spent:
        found = self.lines.get((code, line))
        if found is None:
            if len(self.lines) >= _MOST:
                return Spent()  # a drop in the sea
            found = self.lines[code, line] = Spent()
        return found
