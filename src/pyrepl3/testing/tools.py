"""A way to open a runner with host functions in, checks that cells may call them as promised out.

As in ``runner``: ``await check.run(open_with)``; ``open_with(tools)`` is an awaitable of a new Runner.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from pyrepl3.config import Tool
from pyrepl3.errors import ToolError
from pyrepl3.ports import Runner
from pyrepl3.records import Done, Failed, Interrupted, Snapshot
from pyrepl3.testing.desk import PATIENCE, Desk, Open

type Tools = Mapping[str, Tool | Callable[..., Any]]
type OpenWith = Callable[[Tools], Awaitable[Runner]]


class Host:
    """The functions that the checks offer, and what has been seen of their calls."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = asyncio.Event()
        self.held = asyncio.Event()
        self.free = asyncio.Event()
        self.runs = asyncio.Event()
        self.two = asyncio.Event()
        self.now = self.most = 0
        self.threads: list[int] = []

    def tools(self) -> Tools:
        """What is offered."""

        async def echo(value: Any) -> Any:
            return value

        async def add(a: int, b: int = 1, *more: int) -> int:
            """Add numbers."""
            return a + b + sum(more)

        async def fail(kind: str) -> None:
            raise {"value": ValueError, "exit": SystemExit, "key": KeyError}[kind]("the text")

        async def forever() -> None:
            self.began.set()
            self.runs.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        async def count() -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now > 1:
                self.two.set()
            # Or a quick host may be through with each before the next one comes.
            await self.two.wait()
            await asyncio.sleep(0)
            self.now -= 1
            return self.most

        def plain(text: str) -> str:
            self.threads.append(threading.get_ident())
            return text.upper()

        async def hold() -> str:
            self.held.set()
            await self.free.wait()
            return "freed"

        async def held() -> None:
            await self.held.wait()

        async def free() -> None:
            self.free.set()

        async def runs() -> None:
            await self.runs.wait()

        async def odd() -> object:
            return object()

        return {
            "echo": echo,
            "add": add,
            "fail": fail,
            "forever": forever,
            "count": count,
            "plain": plain,
            "odd": odd,
            "hold": hold,
            "held": held,
            "free": free,
            "runs": runs,
            "late": Tool(fn=forever, timeout=0.01),
        }


class HostDesk(Desk):
    """A desk whose runner has the functions of ``host``."""

    def __init__(self, open_runner: Open, host: Host) -> None:
        super().__init__(open_runner)
        self.host = host


class ToolCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: ``name`` is the claim, ``run`` raises AssertionError where it is not kept."""

    name: str
    check: Callable[[HostDesk], Awaitable[None]]

    async def run(self, open_with: OpenWith) -> None:
        """Check a runner, and close it. Raises AssertionError, or TimeoutError for one that hangs."""
        host = Host()

        async def open_runner() -> Runner:
            return await open_with(host.tools())

        async with asyncio.timeout(PATIENCE):
            desk = HostDesk(open_runner, host)
            desk.runner = await open_runner()
            try:
                await self.check(desk)
            finally:
                await desk.runner.aclose()


def tool_checks() -> list[ToolCheck]:
    """What every Runner must do that is given functions of the host."""
    return [ToolCheck(name=check.__name__.lstrip("_"), check=check) for check in _ALWAYS]


async def _shown(desk: Desk, source: str) -> str:
    outcome = await desk.run(source)
    assert isinstance(outcome, Done), outcome
    return outcome.text


async def _error(desk: Desk, source: str) -> BaseException:
    outcome = await desk.run(source)
    assert isinstance(outcome, Failed), outcome
    return outcome.error


async def _it_is_called_like_an_async_function_and_by_sync(desk: HostDesk) -> None:
    assert await _shown(desk, "await add(1)") == "2"
    assert await _shown(desk, "await add(1, 2, 3)") == "6"
    assert await _shown(desk, "add.sync(1, b=5)") == "6"
    source = "import asyncio; await asyncio.gather(*(add(n) for n in range(4)))"
    assert await _shown(desk, source) == "[1, 2, 3, 4]"
    assert await _shown(desk, "import inspect; inspect.iscoroutinefunction(add)") == "True"
    assert "Add numbers." in await _shown(desk, "add.__doc__")


async def _a_plain_function_runs_on_a_thread(desk: HostDesk) -> None:
    assert await _shown(desk, "await plain('a')") == "'A'"
    assert threading.get_ident() not in desk.host.threads


async def _values_come_back_as_they_went(desk: HostDesk) -> None:
    value = "[None, True, -1, 1 << 80, 0.5, 2j, 'ä', b'b', bytearray(b'c'), (1,), {2}, {4: [5]}]"
    assert await _shown(desk, f"sent = {value}; back = await echo(sent); back == sent") == "True"
    assert await _shown(desk, "[type(v) for v in back] == [type(v) for v in sent]") == "True"
    assert await _shown(desk, "back is sent or back[-1] is sent[-1]") == "False"


async def _arguments_are_held_against_the_signature(desk: HostDesk) -> None:
    for source, said in (
        ("await add('1')", "a: Expected `int`, got `str`"),
        ("await add()", "missing a required argument"),
        ("await add(1, c=2)", "unexpected keyword argument"),
        ("await add(1, 2, 'x')", "more: Expected `int`"),
        ("await echo(object())", "does not cross"),
        ("add.sync(1, [])", "b: Expected `int`"),
    ):
        error = await _error(desk, source)
        assert isinstance(error, TypeError), error
        assert said in str(error)


async def _what_it_raises_is_named_and_no_more(desk: HostDesk) -> None:
    for kind, name in (("value", "ValueError"), ("exit", "SystemExit"), ("key", "KeyError")):
        outcome = await desk.run(f"await fail({kind!r})")
        assert isinstance(outcome, Failed)
        error = outcome.error
        assert isinstance(error, ToolError)
        assert (error.tool, error.kind) == ("fail", name)
        assert "the text" in error.text
        assert "testing/tools.py" not in outcome.traceback  # nothing of the host's own frames
    error = await _error(desk, "await odd()")
    assert "it returned a object, which does not cross" in str(error)
    assert await _shown(desk, "await add(1)") == "2"


async def _plain_code_that_waits_for_one_leaves_the_loop_to_others(desk: HostDesk) -> None:
    for source in ("hold.sync()", "def wait(): return hold.sync()\nwait()", "[hold][0].sync()"):
        desk.host.held.clear()
        desk.host.free.clear()
        later = "async def later():\n    await held()\n    await free()"
        begin = f"import asyncio\n{later}\ntask = asyncio.create_task(later())"
        assert (await desk.run(begin)).ok
        assert await _shown(desk, source) == "'freed'"  # else neither would ever end


async def _a_call_that_takes_too_long_is_a_timeout(desk: HostDesk) -> None:
    error = await _error(desk, "await late()")
    assert isinstance(error, ToolError)
    assert (error.kind, error.text) == ("TimeoutError", "it took more than 0.01 s")
    await desk.host.cancelled.wait()


async def _an_interrupt_of_the_cell_cancels_the_call(desk: HostDesk) -> None:
    for source in ("await forever()", "forever.sync()"):
        desk.host.began.clear()
        desk.host.cancelled.clear()
        running = desk.start(source)
        await asyncio.to_thread(desk.host.began.wait, PATIENCE)
        assert desk.runner.interrupt()
        assert isinstance(await running, Interrupted)
        await desk.host.cancelled.wait()


async def _a_cell_that_gives_up_cancels_the_call(desk: HostDesk) -> None:
    # Not before it runs: one that has not begun is never called.
    source = (
        "import asyncio\ncall = asyncio.ensure_future(forever())\nawait runs()\n"
        "await asyncio.wait_for(call, 0.02)"
    )
    assert isinstance(await _error(desk, source), TimeoutError)
    await desk.host.cancelled.wait()


async def _many_calls_at_once_wait_for_their_turn(desk: HostDesk) -> None:
    source = "import asyncio; max(await asyncio.gather(*(count() for _ in range(300))))"
    assert 1 < int(await _shown(desk, source)) <= 64


async def _it_comes_back_with_a_restore_and_is_not_pickled(desk: HostDesk) -> None:
    assert (await desk.run("mine = {'f': add}; echo = 5; del plain")).ok
    delta = await desk.runner.snapshot()
    assert b"Calls" not in b"".join(blob.data for blob in delta.blobs)
    await desk.runner.restore(
        Snapshot(epoch=1, count=1, blobs=delta.blobs, lost={}, engine=delta.engine)
    )
    assert await _shown(desk, "(await mine['f'](1), mine['f'] is add, echo)") == "(2, True, 5)"
    assert await _shown(desk, "await plain('b')") == "'B'"
    await desk.runner.restore(Snapshot(epoch=0))
    assert await _shown(desk, "await echo(await add(1))") == "2"


_ALWAYS = (
    _it_is_called_like_an_async_function_and_by_sync,
    _a_plain_function_runs_on_a_thread,
    _values_come_back_as_they_went,
    _arguments_are_held_against_the_signature,
    _what_it_raises_is_named_and_no_more,
    _plain_code_that_waits_for_one_leaves_the_loop_to_others,
    _a_call_that_takes_too_long_is_a_timeout,
    _an_interrupt_of_the_cell_cancels_the_call,
    _a_cell_that_gives_up_cancels_the_call,
    _many_calls_at_once_wait_for_their_turn,
    _it_comes_back_with_a_restore_and_is_not_pickled,
)
