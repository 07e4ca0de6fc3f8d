"""Where a session's time goes: lines, functions, and what was compiled."""

from __future__ import annotations

from typing import Literal

from pyrepl3.records.cells import Record


class HotLine(Record, frozen=True, kw_only=True):
    """A line of a cell. Times in seconds, sampled.

    ``own``: the line was being run, or waited in a call that blocks; what it calls outside of cells counts.
    ``cpu``: the part of that in which its thread computed. ``awaiting``: tasks were suspended there.
    ``hits``: how often it ran, exactly; None where nobody counted. ``text``: the line itself.
    """

    filename: str
    line: int
    text: str = ""
    own: float = 0.0
    cpu: float = 0.0
    awaiting: float = 0.0
    hits: int | None = None


class HotFunction(Record, frozen=True, kw_only=True):
    """A function made in a cell, or the top of a cell (``name`` is ``"<module>"``). Times as in HotLine.

    ``total`` is ``own`` and what it called in other code of cells. ``line`` is its first one.
    """

    name: str
    filename: str
    line: int
    own: float = 0.0
    cpu: float = 0.0
    total: float = 0.0
    awaiting: float = 0.0
    calls: int | None = None


class HotCompiled(Record, frozen=True, kw_only=True):
    """A function that was hot enough to be compiled, and what came of it.

    ``reason`` says why it is refused or was dropped. ``plain`` and ``compiled``: the best time of one call
    in seconds in the first calls, which ran both ways. ``calls`` that ran compiled; ``returned``: those that
    the interpreter ran again, for an exception, or a result that is not finite.
    """

    name: str
    state: Literal["compiling", "trying", "on", "refused", "dropped"]
    reason: str = ""
    plain: float = 0.0
    compiled: float = 0.0
    calls: int = 0
    returned: int = 0

    @property
    def speedup(self) -> float:
        """How many times faster a compiled call is; 0 where that was not measured."""
        return self.plain / self.compiled if self.compiled else 0.0


class HotReport(Record, frozen=True, kw_only=True):
    """Where the time of ``seconds`` of watching went, the hottest first (200 of each at most).

    ``watching``: it goes on. ``counting``: lines and calls are counted exactly. ``cpython``: which JIT the
    interpreter has, and whether it is on. ``numba``: whether functions are compiled here, or why not.
    """

    watching: bool = False
    counting: bool = False
    seconds: float = 0.0
    samples: int = 0
    lines: tuple[HotLine, ...] = ()
    functions: tuple[HotFunction, ...] = ()
    compiled: tuple[HotCompiled, ...] = ()
    cpython: str = ""
    numba: str = ""
