"""A compiled cell in, what an onlooker can tell of running it out: to compare two ways of compiling it.

Values, types, exceptions with their tracebacks and variables, warnings, output, the lines that ran and in
which order, what functions and classes look like.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FrameType

FILENAME = "<observed>"
MOST_LINES = 400
"""Lines after which a program is stopped: it may never end by itself."""

_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+|0x[0-9a-f]{6,}")


class StoppedError(BaseException):
    """A program ran more than ``MOST_LINES`` lines. No Exception: few programs catch it."""


def observe(
    compile_it: Callable[[str], Any], names: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """What there is to be seen of a cell, run in a namespace of its own in which ``names`` are bound.

    ``compile_it`` gives the ``CompiledCell`` under the file name that it gets, or raises CompilationError,
    which is seen, too. Never raises for what the program does. Plain data, to be compared by ``==``.
    """
    seen: dict[str, Any] = {"warnings": [], "lines": [], "error": None}
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        warnings.simplefilter("always")
        try:
            compiled = compile_it(FILENAME)
        except CompilationError as error:
            seen["error"] = (str(error), error.lineno, error.offset)
        else:
            seen["code"] = [_describe_code(code) for code in (compiled.body, compiled.tail) if code]
            seen["cell"] = (
                compiled.value_name,
                compiled.shows,
                compiled.flags,
                compiled.wrapped,
                compiled.is_async,
            )
            namespace: dict[str, Any] = {"__name__": "observed", **(names or {})}
            _run(compiled, namespace, seen)
            seen["names"] = {
                name: describe(value) for name, value in namespace.items() if name != "__builtins__"
            }
    seen["warnings"] = [(w.category.__name__, str(w.message), w.lineno) for w in warned]
    seen["printed"] = _ADDRESS.sub("@", printed.getvalue())
    return seen


def _run(compiled: Any, namespace: dict[str, Any], seen: dict[str, Any]) -> None:
    lines: list[tuple[str, str, int]] = seen["lines"]
    count = [0]
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != FILENAME:
            return None
        # A return at the end of a block has a line or none, as CPython arranges blocks.
        number = 0 if event == "return" else frame.f_lineno
        line = event, frame.f_code.co_qualname, number
        if event == "line":
            count[0] += 1
            if count[0] > 50 * MOST_LINES:  # a line that is told again and again
                raise StoppedError
            # A line after itself: CPython tells it again where parts of an expression meet, or does not.
            if last.get(frame) == number:
                return trace
            last[frame] = number
        lines.append(line)
        if len(lines) > MOST_LINES:
            raise StoppedError
        return trace

    async def go() -> object:
        value = None
        for code in (compiled.body, compiled.tail):
            if code is None:
                continue
            run = types.FunctionType(code, namespace) if compiled.wrapped else None
            value = eval(code, namespace) if run is None else run()  # noqa: S307  what it is for
            if code.co_flags & 0x80:  # CO_COROUTINE
                value = await value
        return value

    before = sys.gettrace()
    try:
        if compiled.is_async:
            seen["value"] = describe(asyncio.run(_traced(go(), trace)))
        else:
            sys.settrace(trace)
            try:
                go().send(None)
            except StopIteration as end:
                sys.settrace(before)
                seen["value"] = describe(end.value)
    except BaseException as error:  # noqa: BLE001  whatever it raises is what is to be seen
        sys.settrace(before)
        seen["error"] = describe_error(error)
    finally:
        sys.settrace(before)


async def _traced(coro: Any, trace: Any) -> object:
    sys.settrace(trace)
    try:
        return await coro
    finally:
        sys.settrace(None)


def describe(value: object, depth: int = 0) -> Any:
    """A value as plain data: what it is and what it looks like. Functions and classes by their parts."""
    if isinstance(value, types.FunctionType):
        return (
            "function",
            value.__doc__,
            _describe_code(value.__code__),
            _ADDRESS.sub(
                "@", repr((value.__defaults__, value.__kwdefaults__, value.__annotations__))
            ),
        )
    if isinstance(value, type) and value.__module__ == "observed" and depth < 3:
        parts = {
            name: describe(part, depth + 1)
            for name, part in vars(value).items()
            if name not in ("__dict__", "__weakref__")
        }
        return ("class", value.__qualname__, value.__doc__, parts)
    if isinstance(value, BaseException) and depth < 3:
        return describe_error(value)
    try:
        text = repr(value)
    except BaseException as error:  # noqa: BLE001  a repr may be a program's own
        text = f"no repr: {type(error).__name__}"
    return (type(value).__name__, _ADDRESS.sub("@", text))


def describe_error(error: BaseException, depth: int = 0) -> Any:
    """An exception: its text, where it was raised, to the column, what variables held, and its causes."""
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        code = frame.f_code
        if code.co_filename == FILENAME:
            # Where a line was counted that is too many is a matter of tracing, not of the program.
            stopped = isinstance(error, StoppedError)
            at = None if stopped else list(code.co_positions())[traceback.tb_lasti // 2]
            held = {}
            if frame.f_locals is not frame.f_globals and depth == 0:
                held = {name: type(value).__name__ for name, value in dict(frame.f_locals).items()}
            places.append((code.co_qualname, traceback.tb_lineno, at, held))
        traceback = traceback.tb_next
    inner = [
        None if one is None or depth > 3 else describe_error(one, depth + 1)
        for one in (error.__cause__, error.__context__)
    ]
    return (type(error).__name__, _ADDRESS.sub("@", str(error)), places, inner)


def _describe_code(code: CodeType) -> Any:
    """What ``inspect`` shows of code, but not the instructions and constants."""
    return (
        code.co_qualname,
        code.co_firstlineno,
        code.co_flags,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
    )
