"""Code of cells in, how often each of its lines and functions ran out, exactly: by ``sys.monitoring``.

Every line costs a call then, so code that does little a line takes 3.5 times as long (with a call
that does nothing, 2.2 times). Code of others is asked about once a line and then left alone.
Off, nothing is paid.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_monitoring = sys.monitoring
_E = _monitoring.events


class LineCounter:
    """Counts from ``start`` to ``stop``. ``owns``: whether code under a file name is of cells of ours."""

    def __init__(self, owns: Callable[[str], bool]) -> None:
        self._owns = owns
        self._tool: int | None = None
        # By id: hashing a code object takes longer than counting.
        self._codes: dict[int, CodeType] = {}
        self._counts: dict[int, list[int]] = {}
        self._files: dict[str, list[int]] = {}
        """How often each line of a file ran, by its number. All code of the file counts here."""
        self._calls: dict[int, int] = {}

    @property
    def on(self) -> bool:
        """Whether it counts."""
        return self._tool is not None

    def start(self) -> bool:
        """Begin. Idempotent. False: all tools of ``sys.monitoring`` are somebody else's."""
        if self._tool is not None:
            return True
        for tool in (_monitoring.PROFILER_ID, 3, 4, 1, 5):
            if _monitoring.get_tool(tool) is None:
                _monitoring.use_tool_id(tool, "pyrepl3-hot")
                _monitoring.register_callback(tool, _E.LINE, self._line_callback())
                _monitoring.register_callback(tool, _E.PY_START, self._start_callback())
                _monitoring.set_events(tool, _E.LINE | _E.PY_START)
                _monitoring.restart_events()
                self._tool = tool
                return True
        return False

    def stop(self) -> None:
        """End; the counts stay. Idempotent."""
        tool, self._tool = self._tool, None
        if tool is not None:
            _monitoring.set_events(tool, 0)
            _monitoring.register_callback(tool, _E.LINE, None)
            _monitoring.register_callback(tool, _E.PY_START, None)
            _monitoring.free_tool_id(tool)

    def clear(self) -> None:
        """Forget the counts."""
        for counted in (self._codes, self._counts, self._files, self._calls):
            counted.clear()
        if self._tool is not None:  # the old one has a list of the old counts
            _monitoring.register_callback(self._tool, _E.LINE, self._line_callback())

    def lines(self) -> dict[tuple[str, int], int]:
        """How often each line of a file ran."""
        return {
            (filename, line): count
            for filename, counts in list(self._files.items())
            for line, count in enumerate(counts)
            if count
        }

    def calls(self) -> dict[CodeType, int]:
        """How often each function was called, each cell begun."""
        return {self._codes[key]: count for key, count in list(self._calls.items()) if count}

    def _line_callback(self) -> Callable[[CodeType, int], Any]:
        every, known = self._counts, self._knows
        last: CodeType | None = None
        counts: list[int] = []

        def on_line(code: CodeType, line: int) -> Any:
            # Exact in threads, too: the interpreter switches at calls and jumps only, and there is none
            # between the parts of a count, nor between `last` and `counts`.
            nonlocal last, counts
            if code is last:
                counts[line] += 1
                return None
            found = every.get(id(code))
            if found is None:
                if not known(code):
                    return _monitoring.DISABLE
                found = every[id(code)]
            last, counts = code, found
            found[line] += 1
            return None

        return on_line

    def _start_callback(self) -> Callable[[CodeType, int], Any]:
        calls, known = self._calls, self._knows

        def on_start(code: CodeType, _offset: int) -> Any:
            try:
                calls[id(code)] += 1
            except KeyError:
                if not known(code):
                    return _monitoring.DISABLE
                calls[id(code)] += 1
            return None

        return on_start

    def _knows(self, code: CodeType) -> bool:
        """Whether ``code`` is counted; it is, from now on, if it is of a cell."""
        if not self._owns(code.co_filename):
            return False
        key = id(code)
        self._codes[key] = code
        self._calls.setdefault(key, 0)
        counts = self._files.setdefault(code.co_filename, [])
        lines = [line for _, _, line in code.co_lines() if line is not None]
        counts.extend([0] * (max(lines, default=0) + 1 - len(counts)))
        self._counts[key] = counts
        return True
