"""An executor in, where the time of its cells goes out; its hot numeric functions compiled, if asked for."""

from __future__ import annotations

import asyncio
import linecache
import sys
import sysconfig
import weakref
from contextlib import suppress
from importlib.util import find_spec
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import MissingExtraError
from pyrepl3.records import HotFunction, HotLine, HotReport
from pyrepl3.run.compiled import Compiled, may_be_compiled
from pyrepl3.run.counting import LineCounter
from pyrepl3.run.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrepl3.run.executor import AsyncExecutor

_SHOWN = 200  # lines, and functions, of a report
_HOT = 0.25  # seconds of computing that make a function hot
_AGAIN = 3  # times that a function may be dropped and compiled anew


class Hot:
    """What one executor's cells spend. Methods from any thread. ``jit``: compile what proves hot.

    Raises MissingExtraError for ``jit`` without numba.
    """

    def __init__(self, executor: AsyncExecutor, *, jit: bool = False) -> None:
        self._executor = weakref.ref(executor)
        self._sources = executor.namespace.sources
        self._names = executor.namespace.get_for_execution()
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._compiled: dict[CodeType, list[Compiled]] = {}
        self._refused: set[CodeType] = set()
        self._jit = jit
        if jit and find_spec("numba") is None:
            raise MissingExtraError("ExecutorConfig.jit needs numba", "jit")
        owns, busy = self._sources.has, self._busy
        self._sampler = Sampler(owns, self._tasks, busy, self._compile_hot if jit else _nothing)
        self._counter = LineCounter(owns)
        self._watching = False
        if jit:
            self._sampler.start()

    def answer(self, watch: bool | None, *, counts: bool) -> HotReport:  # noqa: FBT001  a question's field
        """Begin (True) or end (False) to measure, or neither; what was measured so far."""
        if watch is not None:
            self.watch(on=watch, counts=counts)
        return self.report()

    def watch(self, *, on: bool, counts: bool = False) -> None:
        """Begin to measure from zero, or end. What ``jit`` needs goes on."""
        if on:
            self._sampler.clear()
            self._counter.clear()
            self._sampler.start()
            if counts:
                self._counter.start()
            else:
                self._counter.stop()
        else:
            self._counter.stop()
            if not self._jit:
                self._sampler.stop()
        self._watching = on

    def close(self) -> None:
        """End everything; functions get their own code back. Idempotent."""
        self._sampler.stop()
        self._counter.stop()
        for several in self._compiled.values():
            for one in several:
                one.end("dropped", "the session is closed")

    def report(self) -> HotReport:
        """What was measured so far."""
        hits, calls = self._counter.lines(), self._counter.calls()
        counted = self._counter.on or bool(hits)
        return HotReport(
            watching=self._watching,
            counting=self._counter.on,
            seconds=self._sampler.seconds,
            samples=self._sampler.samples,
            lines=tuple(self._lines(hits, counted=counted)),
            functions=tuple(self._functions(calls, counted=counted)),
            compiled=tuple(one.record for several in self._compiled.values() for one in several),
            cpython=describe_cpython_jit(),
            numba=self._describe_numba(),
        )

    def _lines(self, hits: dict[tuple[str, int], int], *, counted: bool) -> Iterator[HotLine]:
        found: dict[tuple[str, int], list[float]] = {place: [0.0, 0.0, 0.0] for place in hits}
        for (code, line), spent in list(self._sampler.lines.items()):
            sums = found.setdefault((code.co_filename, line), [0.0, 0.0, 0.0])
            for at, seconds in enumerate((spent.own, spent.cpu, spent.awaiting)):
                sums[at] += seconds
        order = sorted(
            found.items(), key=lambda one: (-one[1][0] - one[1][2], -hits.get(one[0], 0))
        )
        for (filename, line), (own, cpu, awaiting) in order[:_SHOWN]:
            yield HotLine(
                filename=filename,
                line=line,
                text=linecache.getline(filename, line).strip()[:200],
                own=own,
                cpu=cpu,
                awaiting=awaiting,
                hits=hits.get((filename, line), 0) if counted else None,
            )

    def _functions(self, calls: dict[CodeType, int], *, counted: bool) -> Iterator[HotFunction]:
        found = dict(self._sampler.functions)
        order = sorted(found.items(), key=lambda one: -one[1].total - one[1].awaiting)
        for code, spent in order[:_SHOWN]:
            yield HotFunction(
                name=code.co_qualname,
                filename=code.co_filename,
                line=code.co_firstlineno,
                own=spent.own,
                cpu=spent.cpu,
                total=spent.total,
                awaiting=spent.awaiting,
                calls=calls.get(code, 0) if counted else None,
            )

    # --- what the sampler asks --------------------------------------------------------------------------

    def _busy(self) -> bool:
        executor = self._executor()
        return executor is not None and bool(executor.running())

    def _tasks(self) -> Iterator[asyncio.Task[Any]]:
        executor = self._executor()
        running = () if executor is None else executor.running()
        for execution in running:
            if execution.loop is not None:
                self._loops.add(execution.loop)
            if execution.task is not None:
                with suppress(Exception):  # it ends just now
                    self._loops.add(execution.task.get_loop())
        seen = {execution.task for execution in running if execution.task is not None}
        for loop in list(self._loops):
            seen |= asyncio.all_tasks(loop)
        yield from seen

    # --- compiling --------------------------------------------------------------------------------------

    def _compile_hot(self) -> None:
        """On the sampler's thread, after each look."""
        for several in self._compiled.values():
            for one in several:
                self._tell(one)
        for code, spent in list(self._sampler.functions.items()):
            if spent.cpu < _HOT or code in self._refused or code.co_name.startswith("<"):
                continue
            before = self._compiled.get(code, [])
            if before and (before[-1].state != "dropped" or len(before) >= _AGAIN):
                continue
            function = self._find(code)
            if function is None:
                continue  # a method, or one that no global name holds: a later look may find it
            if may_be_compiled(function):
                self._refused.add(code)
                continue
            spent.cpu = 0.0 if before else spent.cpu
            self._compiled.setdefault(code, []).append(Compiled(function))

    def _tell(self, one: Compiled) -> None:
        executor = self._executor()
        for execution in () if executor is None else executor.running():
            if one.news and execution.sink is not None:
                execution.sink.notice(*one.news.popleft())

    def _find(self, code: CodeType) -> FunctionType | None:
        value = self._names.get(code.co_name)
        return value if type(value) is FunctionType and value.__code__ is code else None

    def _describe_numba(self) -> str:
        if not self._jit:
            return "off: pass ExecutorConfig(jit=True)"
        from importlib.metadata import version  # noqa: PLC0415  asked for seldom

        return f"on: numba {version('numba')}"


def describe_cpython_jit() -> str:
    """Which JIT this interpreter itself has, and whether it is on."""
    version = sys.version.split()[0]
    state = getattr(sys, "_jit", None)  # from 3.14 on
    if state is not None:
        built, on = state.is_available(), state.is_enabled()
    else:
        import os  # noqa: PLC0415  asked for seldom

        arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
        _, _, after = arguments.partition("--enable-experimental-jit")
        built = "--enable-experimental-jit" in arguments and not after.startswith("=no")
        asked = os.environ.get("PYTHON_JIT", "")
        off_by_default = after.startswith(("=yes-off", "=interpreter"))
        on = built and (asked == "1" or (asked != "0" and not off_by_default))
    if not built:
        return f"CPython {version} was built without its experimental JIT"
    return (
        f"CPython {version} was built with its experimental JIT, which is {'on' if on else 'off'}"
    )


def _nothing() -> None:
    return
