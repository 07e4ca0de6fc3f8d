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
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import AsyncContextError, StepError, StepMismatchError
from pyrepl3.records import Asked, ExecutionMode, Kept
from pyrepl3.run.asking import stop_if_asked
from pyrepl3.run.execution import CURRENT, Execution
from pyrepl3.run.scopes import SCOPE, CellSteps, Scope
from pyrepl3.run.sources import is_cell
from pyrepl3.run.values import Ending, decode, encode_error, encode_value, mark_call, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from types import FrameType

    from pyrepl3.records import Opened

LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most."""
_LOOK = 0.02  # seconds between two looks whether a cell that waits here is to stop
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


# --- where it is kept --------------------------------------------------------------------------------


class _Place:
    """One step (or sleep, or question) of a cell: its id, once the cell has opened, and its scope."""

    __slots__ = ("durability", "execution", "opened", "path", "scope")

    opened: Opened

    def __init__(self, execution: Execution, steps: CellSteps) -> None:
        self.execution = execution
        self.durability = steps.durability
        self.scope = SCOPE.get() or steps.root
        # Before anything is awaited: the order in which code asks is what counts.
        self.path = self.scope.next_step()

    @property
    def id(self) -> str:
        return self.opened.key + self.path

    def inside(self) -> Scope:
        salt = self.opened.salt
        return Scope(self.path, f"{self.id}-{salt}" if salt else self.id)

    def end_of(self, kept: Kept, mark: str, what: str) -> Ending:
        """What was kept, if it is this call's. Raises StepMismatchError."""
        self.check(kept.mark, mark)
        return decode(kept.data, what)

    def check(self, kept: str, made: str) -> None:
        if kept != made:
            raise StepMismatchError(self.id, kept, made)


def _find_steps() -> tuple[Execution | None, CellSteps | None]:
    execution = CURRENT.get()
    return execution, None if execution is None else execution.steps


def _place_now() -> _Place | None:
    """The place of what plain code does next; None: nothing is kept here."""
    execution, steps = _find_steps()
    if execution is None or steps is None:
        return None
    place = _Place(execution, steps)
    place.opened = _wait(steps.open(), execution)
    return None if place.opened.closed else place


async def _place_later() -> _Place | None:
    execution, steps = _find_steps()
    if execution is None or steps is None:
        return None
    place = _Place(execution, steps)
    place.opened = await _reach(steps.open())
    return None if place.opened.closed else place


def _wait[T](future: Future[T], execution: Execution) -> T:
    """The result of ``future``; a cell that is to stop raises meanwhile."""
    while True:
        try:
            return future.result(_LOOK)
        except TimeoutError:
            if future.done():
                return future.result()
        stop_if_asked(execution)


async def _reach[T](future: Future[T]) -> T:
    """The result of ``future``. Who waits may be cancelled; what is under way goes on."""
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake(_: object) -> None:
            try:
                loop.call_soon_threadsafe(_settle, waiter)
            except RuntimeError:  # the loop is closed: nobody waits
                return

        future.add_done_callback(wake)
        await waiter
    return future.result()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


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
        pause = self.backoff
        for _ in range(self.retries):
            yield min(pause, LONGEST_PAUSE)
            pause *= 2
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
    place = _place_now()
    if place is None:
        return _give(_try_now(call, CURRENT.get(), Scope("", uuid.uuid4().hex)))
    mark = call.mark()
    if place.opened.known:
        kept = _wait(place.durability.find(place.id), place.execution)
        if kept is not None:
            return _give(place.end_of(kept, mark, call.what))
    ending = _try_now(call, place.execution, place.inside())
    data, ending = call.encode(ending)
    _wait(place.durability.step(place.id, Kept(mark=mark, data=data)), place.execution)
    return _give(ending)


def _try_now(call: _Call, execution: Execution | None, scope: Scope) -> Ending:
    for pause in call.pauses():
        token = SCOPE.set(scope)
        try:
            value = call.fn(*call.args, **call.kwargs)
        except Exception as error:
            if _is_stopped(execution):
                raise  # it was stopped, so it has not ended: it runs again
            if pause is None:
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
        _pause(pause, execution)
    raise AssertionError("the last try has no pause")


async def _step_later(call: _Call) -> Any:
    place = await _place_later()
    if place is None:
        return _give(await _try_later(call, CURRENT.get(), Scope("", uuid.uuid4().hex)))
    mark = call.mark()
    if place.opened.known:
        kept = await _reach(place.durability.find(place.id))
        if kept is not None:
            return _give(place.end_of(kept, mark, call.what))
    ending = await _try_later(call, place.execution, place.inside())
    data, ending = call.encode(ending)
    await _reach(place.durability.step(place.id, Kept(mark=mark, data=data)))
    return _give(ending)


async def _try_later(call: _Call, execution: Execution | None, scope: Scope) -> Ending:
    for pause in call.pauses():
        token = SCOPE.set(scope)
        try:
            async with asyncio.timeout(call.timeout):
                return True, await _await(call)
        except Exception as error:
            if _is_stopped(execution):
                raise
            if pause is None:
                return False, error
        finally:
            SCOPE.reset(token)
        await asyncio.sleep(pause)
    raise AssertionError("the last try has no pause")


async def _await(call: _Call) -> Any:
    if _is_async(call.fn):
        return await call.fn(*call.args, **call.kwargs)
    context = contextvars.copy_context()

    def run() -> Any:
        return context.run(call.fn, *call.args, **call.kwargs)

    value = await asyncio.get_running_loop().run_in_executor(None, run)
    return await value if inspect.iscoroutine(value) else value


def _is_stopped(execution: Execution | None) -> bool:
    return execution is not None and execution.stop is not None


def _pause(seconds: float, execution: Execution | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK))
        if execution is not None:
            stop_if_asked(execution)


# --- sleeping and asking -----------------------------------------------------------------------------


def _sleep_now(seconds: float) -> None:
    place = _place_now()
    if place is None:
        _pause(seconds, CURRENT.get())
        return
    mark = f"sleep({seconds:g})"
    kept, until = _wait(place.durability.sleep(place.id, mark, seconds), place.execution)
    place.check(kept, mark)
    while (left := until - time.time()) > 0:  # by the wall clock: a suspended machine slept too
        _pause(min(left, 1.0), place.execution)


async def _sleep_later(seconds: float) -> None:
    place = await _place_later()
    if place is None:
        await asyncio.sleep(seconds)
        return
    mark = f"sleep({seconds:g})"
    kept, until = await _reach(place.durability.sleep(place.id, mark, seconds))
    place.check(kept, mark)
    while (left := until - time.time()) > 0:  # noqa: ASYNC110  only time passes, no event
        await asyncio.sleep(min(left, 1.0))


def _asked_at(place: _Place, question: Asked) -> Asked:
    """The question with its id."""
    shown = ", ".join((repr(question.prompt), *map(repr, question.choices)))
    return Asked(
        id=place.id, prompt=question.prompt, choices=question.choices, mark=f"ask({shown})"
    )


def _put(place: _Place, asked: Asked) -> Future[Kept]:
    """Ask, and tell whoever watches how to answer."""
    answer = place.durability.ask(place.id, asked)
    sink = place.execution.sink
    if sink is not None:
        sink.notice("asking", f"{asked.prompt}\nwaits for an answer to {asked.id}")
    return answer


def _ask_now(question: Asked) -> str:
    place = _place_now()
    if place is None:
        return input(question.prompt)
    asked = _asked_at(place, question)
    kept = None
    if place.opened.known:
        kept = _wait(place.durability.find(place.id), place.execution)
    if kept is None:
        kept = _wait(_put(place, asked), place.execution)
    place.check(kept.mark, asked.mark)
    return kept.data.decode()


async def _ask_later(question: Asked) -> str:
    place = await _place_later()
    if place is None:
        return await asyncio.to_thread(input, question.prompt)
    asked = _asked_at(place, question)
    kept = None
    if place.opened.known:
        kept = await _reach(place.durability.find(place.id))
    if kept is None:
        kept = await _reach(_put(place, asked))
    place.check(kept.mark, asked.mark)
    return kept.data.decode()
