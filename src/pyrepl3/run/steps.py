"""``step``, ``sleep`` and ``ask`` for code in cells: each done once, though the process dies in between.

What a step came to is kept, by the Durability port that the cell's session has, before the code goes
on. When the cell runs again after a crash, finished steps give what was kept. Outside of such a
session nothing is kept and functions are called directly.

All of them give an awaitable where they are called in the code of a coroutine (``async def``, a cell
that awaits, comprehensions in these), and the value itself in plain code, which waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import AsyncContextError, StepError
from pyrepl3.records import Asked, ExecutionMode, Kept
from pyrepl3.run.asking import stop_if_asked
from pyrepl3.run.execution import CURRENT, Execution
from pyrepl3.run.places import Place, is_stopped, pause, place_later, place_now, reach, wait
from pyrepl3.run.scopes import SCOPE, Scope
from pyrepl3.run.sources import is_cell
from pyrepl3.run.values import Ending, encode_error, encode_value, mark_call, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from types import FrameType

LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most."""
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def step(
    fn: Callable[..., Any],
    /,
    *args: Any,
    name: str | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    **kwargs: Any,
) -> Any:
    """What ``fn(*args, **kwargs)`` returns (in a coroutine: an awaitable of it), called once for all.

    The result is kept on disk before this returns. When the cell runs again after a crash it is given
    back without a call; a step that was in flight is called again, with the same ``step_key()``.
    What ``fn`` raises is kept and raised again in the same way, after ``retries`` more tries with
    pauses of ``backoff`` seconds, doubled each time up to a minute. ``name`` stands for the function
    in ids and messages. ``timeout``: seconds for each try, awaited steps only. Arguments of ``fn``
    that are called like one of these go in by ``functools.partial``.

    Awaited, a plain function runs on a thread, so that the loop goes on. In plain code ``fn`` runs right
    there. Raises StepMismatchError where another step was kept at this place, StepValueError for a
    result that cannot be pickled (it is not called again), AsyncContextError for a coroutine function
    in plain code, DurabilityError where the disk fails.
    """
    call = _Call(fn, args, kwargs, name, retries, backoff, timeout)
    if _awaits(sys._getframe(1)):  # noqa: SLF001  the documented way
        coro: Any = _step_later(call)
        coro.__qualname__ = call.what  # tasks are told apart by it
        return coro
    return _step_now(call)


def sleep(seconds: float) -> Any:
    """Wait (in a coroutine: an awaitable). The time goes on while the process is dead.

    The end is fixed, by the wall clock, when the sleep begins; a cell that runs again waits for what is
    left, if anything is. Raises ValueError for what is no number of seconds from 0 on.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"cannot sleep {seconds!r} seconds: give a number from 0 on")
    if _awaits(sys._getframe(1)):  # noqa: SLF001
        return _sleep_later(float(seconds))
    return _sleep_now(float(seconds))


def ask(prompt: str, *, choices: Sequence[str] = ()) -> Any:
    """The answer of a person, a str (in a coroutine: an awaitable); the question survives restarts.

    It is answered by ``pyrepl3 sessions answer``, from another process, whether this one lives or not;
    the cell waits as long as it takes. ``choices``: the only answers allowed. Where nothing is kept
    it asks as ``input`` does.
    """
    question = Asked(id="", prompt=str(prompt), choices=tuple(map(str, choices)))
    if _awaits(sys._getframe(1)):  # noqa: SLF001
        return _ask_later(question)
    return _ask_now(question)


def step_key() -> str:
    """Inside a step: a text that is the same whenever this step runs, and that no other step has.

    For services that take an idempotency key. Raises StepError outside of a step.
    """
    scope = SCOPE.get()
    if scope is None or scope.key is None:
        raise StepError("step_key() belongs inside a function that step() calls")
    return scope.key


# --- which form --------------------------------------------------------------------------------------


def _awaits(frame: FrameType | None) -> bool:
    """Whether ``frame`` is code of a coroutine, so that its author writes ``await``."""
    while frame is not None and frame.f_code.co_name == "<genexpr>":
        frame = frame.f_back  # whoever iterates it
    if frame is None:
        return False
    code = frame.f_code
    if code.co_flags & _ASYNC:
        return True
    # Of a cell that awaits, the part without an await is compiled as plain code.
    execution = CURRENT.get()
    return (
        execution is not None
        and execution.mode is ExecutionMode.TOP_LEVEL_AWAIT
        and code.co_name == "<module>"
        and is_cell(code.co_filename)
    )


# --- steps -------------------------------------------------------------------------------------------


class _Call:
    """What to call, and how often."""

    __slots__ = ("args", "backoff", "fn", "kwargs", "name", "retries", "timeout", "what")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None,
        retries: int,
        backoff: float,
        timeout: float | None,
    ) -> None:
        if not callable(fn):
            raise TypeError(
                f"step() takes a function and its arguments, not {fn!r}: write step(f, 1) for f(1)"
            )
        if retries < 0 or not 0 <= backoff < math.inf or (timeout is not None and not timeout > 0):
            raise ValueError("retries and backoff start at 0, and timeout is more than that")
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.name, self.retries, self.backoff, self.timeout = name, retries, backoff, timeout
        self.what = name or name_of(fn)

    def mark(self) -> str:
        return mark_call(self.name, self.fn, self.args, self.kwargs)

    def pauses(self) -> Iterator[float | None]:
        """One for each try: seconds to wait after it; None after the last."""
        seconds = self.backoff
        for _ in range(self.retries):
            yield min(seconds, LONGEST_PAUSE)
            seconds *= 2
        yield None

    def encode(self, ending: Ending) -> tuple[bytes, Ending]:
        """The bytes to keep, and what they stand for: another end where a result cannot be kept."""
        ok, value = ending
        if not ok:
            return encode_error(value, self.what), ending
        data, unfit = encode_value(value, self.what)
        return data, ending if unfit is None else (False, unfit)


def _give(ending: Ending) -> Any:
    ok, value = ending
    if ok:
        return value
    raise value


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or (
        not inspect.isroutine(fn) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    )


def _step_now(call: _Call) -> Any:
    if _is_async(call.fn):
        raise AsyncContextError(
            f"{call.what} is a coroutine function: write `await step({call.what}, …)`"
        )
    if call.timeout is not None:
        raise ValueError(
            "only an awaited step has a timeout: write `await step(…)`, or give the call its own"
        )
    place = place_now()
    if place is None:
        return _give(_try_now(call, CURRENT.get(), Scope("", os.urandom(16).hex())))
    mark = call.mark()
    if place.opened.known:
        kept = wait(place.durability.find(place.id), place.execution)
        if kept is not None:
            return _give(place.end_of(kept, mark, call.what))
    ending = _try_now(call, place.execution, place.inside())
    data, ending = call.encode(ending)
    wait(place.durability.step(place.id, Kept(mark=mark, data=data)), place.execution)
    return _give(ending)


def _try_now(call: _Call, execution: Execution | None, scope: Scope) -> Ending:
    for rest in call.pauses():
        token = SCOPE.set(scope)
        try:
            value = call.fn(*call.args, **call.kwargs)
        except Exception as error:
            if execution is not None:
                stop_if_asked(execution)
            if is_stopped(execution):
                raise  # it was stopped, so it has not ended: it runs again
            if rest is None:
                return False, error
        else:
            if not inspect.iscoroutine(value):
                return True, value
            value.close()
            raise AsyncContextError(
                f"{call.what} returned a coroutine: write `await step({call.what}, …)`"
            )
        finally:
            SCOPE.reset(token)
        pause(rest, execution)
    raise AssertionError("the last try has no pause")


async def _step_later(call: _Call) -> Any:
    place = await place_later()
    if place is None:
        return _give(await _try_later(call, CURRENT.get(), Scope("", os.urandom(16).hex())))
    mark = call.mark()
    if place.opened.known:
        kept = await reach(place.durability.find(place.id))
        if kept is not None:
            return _give(place.end_of(kept, mark, call.what))
    ending = await _try_later(call, place.execution, place.inside())
    data, ending = call.encode(ending)
    await reach(place.durability.step(place.id, Kept(mark=mark, data=data)))
    return _give(ending)


async def _try_later(call: _Call, execution: Execution | None, scope: Scope) -> Ending:
    for rest in call.pauses():
        token = SCOPE.set(scope)
        try:
            async with asyncio.timeout(call.timeout):
                return True, await _await(call)
        except Exception as error:
            if is_stopped(execution):
                raise
            if rest is None:
                return False, error
        finally:
            SCOPE.reset(token)
        await asyncio.sleep(rest)
    raise AssertionError("the last try has no pause")


async def _await(call: _Call) -> Any:
    if _is_async(call.fn):
        return await call.fn(*call.args, **call.kwargs)
    context = contextvars.copy_context()

    def run() -> Any:
        return context.run(call.fn, *call.args, **call.kwargs)

    value = await asyncio.get_running_loop().run_in_executor(None, run)
    return await value if inspect.iscoroutine(value) else value


# --- sleeping and asking -----------------------------------------------------------------------------


def _sleep_now(seconds: float) -> None:
    place = place_now()
    if place is None:
        pause(seconds, CURRENT.get())
        return
    mark = f"sleep({seconds:g})"
    kept, until = wait(place.durability.sleep(place.id, mark, seconds), place.execution)
    place.check(kept, mark)
    while (left := until - time.time()) > 0:  # by the wall clock: a suspended machine slept too
        pause(min(left, 1.0), place.execution)


async def _sleep_later(seconds: float) -> None:
    place = await place_later()
    if place is None:
        await asyncio.sleep(seconds)
        return
    mark = f"sleep({seconds:g})"
    kept, until = await reach(place.durability.sleep(place.id, mark, seconds))
    place.check(kept, mark)
    while (left := until - time.time()) > 0:  # noqa: ASYNC110  only time passes, no event
        await asyncio.sleep(min(left, 1.0))


def _asked_at(place: Place, question: Asked) -> Asked:
    """The question with its id."""
    shown = ", ".join((repr(question.prompt), *map(repr, question.choices)))
    return Asked(
        id=place.id, prompt=question.prompt, choices=question.choices, mark=f"ask({shown})"
    )


def _put(place: Place, asked: Asked) -> Future[Kept]:
    """Ask, and tell whoever watches how to answer."""
    answer = place.durability.ask(place.id, asked)
    sink = place.execution.sink
    if sink is not None:
        how = f"pyrepl3 sessions answer {place.session} {asked.id} ANSWER"
        sink.notice("asking", f"a cell asks: {asked.prompt}\nto answer: {how}")
    return answer


def _ask_now(question: Asked) -> str:
    place = place_now()
    if place is None:
        return input(question.prompt)
    asked = _asked_at(place, question)
    kept = None
    if place.opened.known:
        kept = wait(place.durability.find(place.id), place.execution)
    if kept is None:
        kept = wait(_put(place, asked), place.execution)
    place.check(kept.mark, asked.mark)
    return kept.data.decode()


async def _ask_later(question: Asked) -> str:
    place = await place_later()
    if place is None:
        return await asyncio.to_thread(input, question.prompt)
    asked = _asked_at(place, question)
    kept = None
    if place.opened.known:
        kept = await reach(place.durability.find(place.id))
    if kept is None:
        kept = await reach(_put(place, asked))
    place.check(kept.mark, asked.mark)
    return kept.data.decode()
