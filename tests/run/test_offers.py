"""Functions of the host: the promises of ``tools``, in this process; and callers that are not honest."""

from __future__ import annotations

import asyncio
import threading

import pytest

import pyrepl3
from pyrepl3.run.namespace import NamespaceManager
from pyrepl3.run.offers import Serving, make_offers, offer_here
from pyrepl3.run.plain import pack_value
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.run.tools import IN_FLIGHT, MOST_SENT, HostFunction
from pyrepl3.testing.tools import tool_checks


@pytest.mark.parametrize("check", tool_checks(), ids=lambda check: check.name)
async def test_the_conformance_suite(check):
    async def open_with(tools):
        manager = NamespaceManager()
        offer_here(make_offers(tools), manager)
        return ThreadRunner(manager)

    await check.run(open_with)


def serve(**tools):
    answers = asyncio.Queue()
    serving = Serving(make_offers(tools), lambda *answer: answers.put_nowait(answer))
    return serving, answers


NO_ARGUMENTS = pack_value([[], {}])


async def forever():
    await asyncio.Event().wait()


async def test_more_calls_than_an_honest_caller_sends_are_refused():
    serving, _ = serve(forever=forever)
    for n in range(IN_FLIGHT):
        serving.take(n, "forever", NO_ARGUMENTS)
    with pytest.raises(ValueError, match="more calls at once"):
        serving.take(IN_FLIGHT, "forever", NO_ARGUMENTS)
    serving.close()


async def test_more_bytes_than_an_honest_caller_sends_are_refused():
    serving, _ = serve(forever=forever)
    half = pack_value([[], {"x": bytes(MOST_SENT // 2)}])
    serving.take(1, "forever", half)
    with pytest.raises(ValueError, match="more calls at once"):
        serving.take(2, "forever", half)
    serving.close()


async def test_a_number_that_is_used_and_a_name_that_is_not_offered_are_refused():
    serving, _ = serve(forever=forever)
    serving.take(1, "forever", NO_ARGUMENTS)
    with pytest.raises(ValueError, match="no function"):
        serving.take(1, "forever", NO_ARGUMENTS)
    with pytest.raises(ValueError, match="no function"):
        serving.take(2, "__import__", NO_ARGUMENTS)
    serving.close()


async def test_a_call_that_is_dropped_before_it_began_is_answered():
    serving, answers = serve(forever=forever)
    serving.take(1, "forever", NO_ARGUMENTS)
    serving.drop(1)
    serving.drop(7)
    assert await answers.get() == (1, b"", ("CancelledError", "the call was cancelled"))
    serving.close()


async def test_what_is_no_arguments_is_answered_and_harms_nobody():
    serving, answers = serve(f=lambda x: x)
    bad = [b"", b"\xc1", pack_value(1), pack_value([[], []]), b"\x91" * 100_000, b"\xc7\x00\x63"]
    for n, data in enumerate(bad):
        serving.take(n, "f", data)
        got, result, (kind, _) = await answers.get()
        assert (got, result, kind) == (n, b"", "")
    serving.close()


async def test_threads_that_never_end_are_bounded():
    stop = threading.Event()
    serving, answers = serve(stuck=stop.wait)
    for n in range(IN_FLIGHT):
        serving.take(n, "stuck", NO_ARGUMENTS)
        await asyncio.sleep(0)
        serving.drop(n)
        assert (await answers.get())[2][0] == "CancelledError"
    serving.take(IN_FLIGHT, "stuck", NO_ARGUMENTS)
    _, _, (kind, text) = await answers.get()
    assert (kind, "given up" in text) == ("RuntimeError", True)
    stop.set()
    while True:  # and are counted off when they end
        serving.take(99, "stuck", NO_ARGUMENTS)
        if (await answers.get())[2] is None:
            break
    serving.close()


def test_what_cannot_be_offered_is_refused_when_the_session_is_made():
    for tools in ({"a b": forever}, {"class": forever}, {"display": forever}):
        with pytest.raises(ValueError, match="cannot be the name"):
            pyrepl3.open_session(tools=tools)
    with pytest.raises(TypeError, match="is to be a function"):
        pyrepl3.open_session(tools={"f": 3})

    def odd(x: NoSuchName):  # noqa: F821
        return x

    with pytest.raises(TypeError, match="no argument can be held against"):
        pyrepl3.open_session(tools={"odd": odd})
    with pytest.raises(ValueError, match="timeout must be positive"):
        pyrepl3.Tool(fn=forever, timeout=0)


async def test_a_function_without_a_signature_takes_what_comes():
    async with pyrepl3.open_session(tools={"most": max}) as session:
        assert (await session.run("await most(3, 9, 4)")).value == 9


async def test_records_of_the_host_are_made_from_plain_values():
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int
        y: int = 0

    async def norm(point: Point) -> int:
        return point.x + point.y

    Point.__module__ = __name__
    norm.__annotations__["point"] = Point
    async with pyrepl3.open_session(tools={"norm": norm}) as session:
        assert (await session.run("await norm({'x': 3, 'y': 4})")).value == 7
        error = (await session.run("await norm({'y': 4})")).error
        assert "required field `x`" in str(error)


async def test_a_function_that_is_not_offered_any_more_says_so_when_it_is_called(tmp_path):
    async def search(x: int) -> int:
        return x

    async with pyrepl3.open_session("s", store=tmp_path, tools={"search": search}) as session:
        assert (await session.run("mine = [search]; await search(1)")).value == 1
    async with pyrepl3.open_session("s", store=tmp_path) as session:
        assert not session.lost
        outcome = await session.run("await mine[0](1)")
        assert isinstance(outcome.error, pyrepl3.ToolError)
        assert "does not offer" in str(outcome.error)
    async with pyrepl3.open_session("s", store=tmp_path, tools={"search": search}) as session:
        assert (await session.run("await mine[0](2), mine[0] is search")).value == (2, True)


async def test_a_step_keeps_what_a_host_function_gave(tmp_path):
    calls = []

    async def search(x: int) -> int:
        calls.append(x)
        return x * 10

    async with pyrepl3.open_session("s", store=tmp_path, tools={"search": search}) as session:
        source = "from pyrepl3 import step\n[await step(search, 1), await search(2)]"
        assert (await session.run(source)).value == [10, 20]
        assert (await session.run("from pyrepl3 import step\nstep(search.sync, 3)")).value == 30
    assert calls == [1, 2, 3]


async def test_a_forked_process_has_no_way_to_the_host():
    async def search() -> int:
        return 1

    source = """
import os, warnings
warnings.simplefilter("ignore")
r, w = os.pipe()
if not os.fork():
    try:
        search.sync()
    except BaseException as error:
        os.write(w, str(error).encode())
    finally:
        os._exit(0)
os.wait()
os.read(r, 1000).decode()
"""
    async with pyrepl3.open_session(tools={"search": search}, isolation="process") as session:
        assert "a forked process" in (await session.run(source)).text


async def test_calls_end_with_their_session():
    ended = asyncio.Event()
    began = asyncio.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with pyrepl3.open_session(tools={"wait": wait}) as session:
        assert (await session.run("import asyncio; task = asyncio.create_task(wait())")).ok
        await began.wait()
    await ended.wait()


def test_it_can_be_copied_and_says_what_it_is():
    import copy

    function = HostFunction("search", None)
    assert copy.deepcopy([function])[0] is function
    assert copy.copy(function) is function
    assert repr(function) == "<function search of the host>"
