"""Raised at any safe point, an exception finds the handlers that a reader of the code expects."""

from __future__ import annotations

import asyncio
import opcode
import sys
import threading
import weakref

import pytest

from pyrepl3.run.points import ENTRY, SAFE, find_points, is_call, is_engine, is_ours, is_spared

TOOL = 3


class StopHere(BaseException):
    """What is raised."""


class Guard:
    """Counts what was entered and what was left."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("in")

    def __exit__(self, *raised):
        self.log.append("out")

    async def __aenter__(self):
        self.log.append("in")

    async def __aexit__(self, *raised):
        await asyncio.sleep(0)
        self.log.append("out")


def plain(log, lock):
    for _ in range(2):
        with lock:
            len(log)
        with Guard(log):
            len(log)
        try:
            log.append("in")
            len(log)
        finally:
            log.append("out")


def one_line(log, lock):
    n = iter(range(3))
    try:
        log.append("in")
        while next(n, 9) < 2: pass  # noqa: E701  # fmt: skip
    finally:
        log.append("out")


def in_a_generator(log, lock):
    def generate():
        log.append("in")
        try:
            for n in range(3):  # noqa: UP028  a loop with a way back is the test
                yield n
        finally:
            log.append("out")

    generator = generate()
    try:
        for _ in generator:
            with lock:
                pass
    finally:
        generator.close()


async def awaiting(log, lock):
    for _ in range(2):
        async with Guard(log):
            await asyncio.sleep(0)
        try:
            log.append("in")
            await asyncio.sleep(0)
        finally:
            log.append("out")
        with lock:
            await asyncio.sleep(0)


def run_raising_at(function, n):
    """Run ``function``, raise at the n-th safe point of its own code. Whether it was reached, and the log."""
    own = {function.__code__}
    own |= {const for const in function.__code__.co_consts if hasattr(const, "co_code")}
    tables = {id(code): find_points(code) for code in own}
    seen = 0
    log: list[str] = []
    lock = threading.Lock()

    def on_instruction(code, offset):
        nonlocal seen
        if code in own and tables[id(code)][offset] == SAFE:
            seen += 1
            if seen == n:
                raise StopHere

    sys.monitoring.use_tool_id(TOOL, "test")
    sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, on_instruction)
    try:
        for code in own:
            sys.monitoring.set_local_events(TOOL, code, sys.monitoring.events.INSTRUCTION)
        if asyncio.iscoroutinefunction(function):
            asyncio.run(function(log, lock))
        else:
            function(log, lock)
    except StopHere:
        pass
    finally:
        for code in own:
            sys.monitoring.set_local_events(TOOL, code, 0)
        sys.monitoring.free_tool_id(TOOL)
    return seen >= n, log, lock


@pytest.mark.parametrize("function", [plain, one_line, in_a_generator, awaiting])
def test_what_was_entered_is_left_once_wherever_it_is_raised(function):
    n = 0
    reached = True
    while reached:
        n += 1
        reached, log, lock = run_raising_at(function, n)
        # Before the `try` of what counts itself in, CPython's own Ctrl-C may come too: `in` without `out`
        # only as the very last entry, where the call that made it has just returned.
        assert log.count("in") - log.count("out") in ((0, 1) if log and log[-1] == "in" else (0,))
        assert not lock.locked()
    assert n > 3


def test_a_with_statement_has_no_safe_point_between_its_body_and_its_exit():
    def body(lock, x):
        with lock:
            x = x + 1

    points = find_points(body.__code__)
    assert points.count(SAFE) == 2  # the start of the function, and after the call of __exit__
    assert ENTRY in points


def test_after_a_call_whose_result_is_awaited_is_no_safe_point():
    async def body(f):
        await f()

    code = body.__code__
    before_await = code.co_code.index(opcode.opmap["GET_AWAITABLE"])
    assert find_points(code)[before_await] == 0


def test_a_jump_with_an_extended_argument_is_safe_at_its_first_instruction():
    lines = "".join(f"        a{n} = {n}\n" for n in range(300))
    names: dict = {}
    exec(f"def f():\n    while True:\n{lines}", names)
    points = find_points(names["f"].__code__)
    code = names["f"].__code__.co_code
    jump = max(i for i in range(0, len(code), 2) if code[i] == opcode.opmap["JUMP_BACKWARD"])
    assert points[jump] == SAFE
    assert points[jump - 2] == SAFE  # EXTENDED_ARG
    assert code[jump - 2] == opcode.opmap["EXTENDED_ARG"]


def test_a_jump_back_is_no_place_for_what_a_signal_handler_raises():
    def body():
        while True:
            len("")

    code = body.__code__
    jump = code.co_code.rindex(opcode.opmap["JUMP_BACKWARD"])
    assert not is_call(code, jump - jump % 2)
    call = code.co_code.index(opcode.opmap["CALL"])
    assert is_call(code, call)


def test_our_own_code_and_that_of_asyncio_are_spared():
    import queue

    import pyrepl3.run.host

    assert is_ours(pyrepl3.run.host.__file__)
    assert is_engine(asyncio.base_events.__file__)
    assert not is_ours(asyncio.base_events.__file__)
    assert is_spared(threading.__file__)
    assert is_spared(weakref.WeakSet.add.__code__.co_filename)
    assert is_spared(weakref.WeakValueDictionary.__setitem__.__code__.co_filename)
    assert not is_engine(threading.__file__)
    assert not is_spared(queue.__file__)
    assert not is_spared("<cell 1>")
