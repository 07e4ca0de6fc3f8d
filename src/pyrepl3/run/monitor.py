"""Our one tool at ``sys.monitoring`` (PEP 669): threads and code in, exceptions raised inside them out.

Its callback runs in the code's own thread and context at each instruction while events are on, so it
reaches a loop within a millisecond, ``except`` cannot switch it off, and it costs nothing while it is off.
INSTRUCTION, not LINE, which a loop of one line never fires, and not JUMP: what is raised at the last jump of
a ``try`` block passes its handlers by.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from pyrepl3.errors import CellInterrupt
from pyrepl3.records import Line
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.points import ENTRY, find_points, is_spared
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from pyrepl3.run.execution import Execution

_monitoring = sys.monitoring
_E = _monitoring.events


class _Leftover:
    """A thread that was left behind in a call: what is on its stack, and the exception that ends it."""

    def __init__(self, codes: list[CodeType]) -> None:
        self.codes = codes
        self.error: CellInterrupt | None = None
        self.at = 0.0
        self.global_ = False


class Monitor:
    """Claims a tool at the first need, and has events on only in need. Methods from any thread.

    ``decide`` is asked at each instruction of a thread that was not left behind: the exception to raise,
    or None.
    """

    def __init__(
        self, decide: Callable[[CodeType, int], BaseException | None], grace: float
    ) -> None:
        self._decide = decide
        self._grace = grace
        # Reentrant: a signal handler may come in between, on the thread that holds it.
        self._lock = threading.RLock()
        self._tool: int | None = None
        self._armed: set[object] = set()
        self._left: dict[int, _Leftover] = {}
        self._local: dict[int, tuple[CodeType, int, int]] = {}  # code, how often INSTRUCTION, LINE
        self._points: dict[int, tuple[CodeType, bytes]] = {}

    @property
    def tool(self) -> int | None:
        """The tool's number; None before the first need, and while all six are somebody else's."""
        return self._tool

    @property
    def armed(self) -> tuple[object, ...]:
        """For whom events are on."""
        return tuple(self._armed)

    def claim(self) -> bool:
        """Whether there is a tool for us. Asked anew each time: a profiler may have let go of one."""
        with self._lock:
            if self._tool is not None:
                return True
            # 0, 1, 2 and 5 are taken by convention: debugger, coverage, profiler, optimizer.
            for tool in (4, 3, 5, 2, 1, 0):
                if _monitoring.get_tool(tool) is None:
                    _monitoring.use_tool_id(tool, "pyrepl3")
                    _monitoring.register_callback(tool, _E.INSTRUCTION, self._on_instruction)
                    _monitoring.register_callback(tool, _E.LINE, self._on_line)
                    self._tool = tool
                    return True
            return False

    def arm(self, key: object) -> bool:
        """Ask ``decide`` at every instruction until ``disarm``. False: no tool is free."""
        with self._lock:
            if not self.claim():
                return False
            assert self._tool is not None
            self._armed.add(key)
            _monitoring.set_events(self._tool, _E.INSTRUCTION)
            return True

    def disarm(self, key: object) -> None:
        """Undo ``arm``; the last one out switches the events off."""
        with self._lock:
            self._armed.discard(key)
            if not self._armed and self._tool is not None:
                _monitoring.set_events(self._tool, 0)
                self._points.clear()

    def point(self, code: CodeType, offset: int) -> int:
        """SAFE, ENTRY or 0."""
        # By id: hashing a code object takes longer than all else here. The entry holds the code.
        found = self._points.get(id(code))
        if found is None or found[0] is not code:
            found = self._points[id(code)] = (code, find_points(code))
        return found[1][offset]

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        if self._left:
            left = self._left.get(threading.get_ident())
            if left is not None:
                self._end(left, code, offset)
                return
        error = self._decide(code, offset)
        if error is not None:
            raise error

    # --- threads that were left behind ------------------------------------------------------------------

    def kill_on_return(self, thread: int) -> None:
        """Raise in ``thread`` at its next instruction, whenever the call that it is in ends.

        Its ``finally`` and ``with`` blocks may clean up for the grace period, so that no lock stays locked;
        what swallows the exception is hit again at once. Only the code on its stack is instrumented, so
        that waiting for hours costs others nothing.
        """
        frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  the documented way
        codes: list[CodeType] = []
        while frame is not None:
            if not is_spared(frame.f_code.co_filename):
                codes.append(frame.f_code)
            frame = frame.f_back
        with self._lock:
            if not self.claim():
                throw(thread, CellInterrupt)
                return
            self._left[thread] = _Leftover(codes)
            for code in codes:
                self._count(code, instruction=1)

    def release(self, thread: int) -> None:
        """The thread is out, if it was left behind. Called by that thread."""
        if thread not in self._left:
            return
        with self._lock:
            left = self._left.pop(thread, None)
            if left is not None:
                for code in left.codes:
                    self._count(code, instruction=-1)
                self.disarm(left)

    def _end(self, left: _Leftover, code: CodeType, offset: int) -> None:
        if is_spared(code.co_filename):
            return
        if left.error is None:
            left.error, left.at = CellInterrupt(), time.monotonic()
            thread = threading.get_ident()
            WATCHDOG.call_later(self._grace, lambda: self._press(thread, left))
        elif time.monotonic() - left.at < self._grace and (
            handles(left.error) or self.point(code, offset) == ENTRY
        ):
            return
        raise left.error

    def _press(self, thread: int, left: _Leftover) -> None:
        # Its clean-up takes too long, and may be in code that was not on the stack.
        with self._lock:
            if self._left.get(thread) is left:
                self.arm(left)

    # --- tracing ----------------------------------------------------------------------------------------

    def trace(self, codes: list[CodeType]) -> bool:
        """Report each line of ``codes`` that a cell runs to its observer, until ``untrace``."""
        with self._lock:
            if not self.claim():
                return False
            for code in codes:
                self._count(code, line=1)
            return True

    def untrace(self, codes: list[CodeType]) -> None:
        """Undo ``trace``."""
        with self._lock:
            for code in codes:
                self._count(code, line=-1)

    def _on_line(self, code: CodeType, line: int) -> object:
        execution: Execution | None = CURRENT.get()
        if execution is None or execution.sink is None:
            return None
        cell, sink = execution.cell, execution.sink
        if code.co_filename != cell.filename:
            return None
        left = sink.lines_left
        if left is not None:
            if left <= 0:
                return _monitoring.DISABLE  # this line costs nothing any more
            sink.lines_left = left - 1  # two threads at once may count as one
        sink.emit(Line(cell_id=cell.id, line=line - cell.first_line + 1))
        if left == 1:
            sink.notice("dropped", "no more lines are reported: ExecutorConfig.max_trace_events")
        return None

    def _count(self, code: CodeType, *, instruction: int = 0, line: int = 0) -> None:
        """Switch the events of one code object as many need them. Under the lock."""
        assert self._tool is not None
        _, instructions, lines = self._local.get(id(code), (code, 0, 0))
        instructions, lines = instructions + instruction, lines + line
        if instructions or lines:
            self._local[id(code)] = (code, instructions, lines)
        else:
            self._local.pop(id(code), None)
        events = (_E.INSTRUCTION if instructions else 0) | (_E.LINE if lines else 0)
        _monitoring.set_local_events(self._tool, code, events)


def handles(error: BaseException) -> bool:
    """Whether the code that this is called from is a handler of ``error``, or called by one."""
    handled = sys.exception()
    for _ in range(100):  # a chain may be long, and users have made it a ring
        if handled is None:
            return False
        if handled is error:
            return True
        handled = handled.__context__
    return False


def throw(thread: int, error: type[BaseException] | None) -> None:
    """Raise ``error`` in ``thread`` at its next chance; None: take back what was not raised yet.

    The means where no tool is free. It is worse: ``except`` swallows it, and it may come a moment late.
    """
    import ctypes  # noqa: PLC0415  seldom needed

    value = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)
