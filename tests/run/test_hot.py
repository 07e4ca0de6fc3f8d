"""Where the time goes, and functions that are compiled because they are hot: same results, same identity."""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import types
from types import SimpleNamespace

import pytest

import pyrepl3
from pyrepl3 import ExecutorConfig
from pyrepl3.config import unlimited
from pyrepl3.errors import MissingExtraError
from pyrepl3.run import hot
from pyrepl3.run.compiled import Compiled
from pyrepl3.run.counting import LineCounter
from pyrepl3.run.hot import describe_cpython_jit
from pyrepl3.snapshot.plain import plain

JIT = ExecutorConfig(
    max_execution_time=None,
    max_memory_usage=None,
    max_coroutines=None,
    denied_modules=None,
    jit=True,
)

CELL = """
import math
SCALE = 0.5
def norm(n, x=2.0):
    total = 0.0
    for i in range(n):
        total += math.sqrt(x * i) / (i + SCALE)
    return total
also = norm
"""


def compiled(source, name, *args, names=None):
    """A function of a cell, compiled and tried with ``args`` until it is decided."""
    space = {"__name__": "cells", **(names or {})}
    import linecache

    filename = f"<jit {id(space)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec", dont_inherit=True), space)
    function = space[name]
    one = Compiled(function)
    function(*args)
    import threading

    for thread in threading.enumerate():
        if thread.name == "pyrepl3-jit":
            thread.join()
    for _ in range(3):
        function(*args)
    return one, function, space


@pytest.mark.slow
def test_a_compiled_function_is_the_same_function_with_the_same_results():
    one, norm, space = compiled(CELL, "norm", 20_000)
    assert one.state == "on", one.reason
    assert space["also"] is norm
    own = types.FunctionType(one.code, space, "norm")
    for args in ((1000, 3.0), (0, 1.0), (5, 0.0)):
        assert norm(*args) == own(*args)
    assert norm(1000) == own(1000, 2.0)
    assert norm(n=1000, x=2.5) == own(1000, 2.5)
    assert one.record.calls >= 5
    assert one.record.speedup > 1.5
    # What it does not take goes to the interpreter, and so does what raises or is no finite number.
    calls = one.record.calls
    assert norm(1000, 3) == own(1000, 3)
    assert norm(True, 3.0) == own(True, 3.0)
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        norm(10, -1.0)
    assert norm(10, float("inf")) != 0
    with pytest.raises(TypeError):
        norm("a")
    assert one.record.calls == calls
    assert plain(norm.__code__) is one.code is not norm.__code__
    assert norm.__code__.co_varnames == ("n", "x")
    # A global that it rests on is bound anew: from now on the interpreter.
    space["SCALE"] = 4.0
    assert norm(1000, 3.0) == own(1000, 3.0)
    assert (one.state, norm.__code__) == ("dropped", one.code)
    assert "'SCALE' was bound anew" in one.reason
    assert [kind for kind, _ in one.news] == ["compiled", "not-compiled"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "args", "why"),
    [
        (
            "def f(n):\n    k = 0\n    for i in range(n):\n        k += i\n    return k",
            (9,),
            "ints are counters",
        ),
        ("def f(x):\n    return x + 1.0", (1.0,), "gains nothing"),
        ("def f(x):\n    return x", ("text",), "called with a str"),
        ("def f(x):\n    return x", (1 << 40,), "called with a int"),
        ("def f(x): return x\n", (), None),
    ],
)
def test_a_refused_function_has_its_own_code_back_and_a_reason(source, args, why):
    if why is None:
        source, args, why = "f = eval('lambda x: x')", (1.0,), "source is not to be had"
    one, f, _ = compiled(source, "f", *args)
    assert one.state == "refused"
    assert why in one.reason
    assert f.__code__ is one.code
    assert f(*args) == types.FunctionType(one.code, f.__globals__)(*args)


def differ(x):
    return x + 1.0000001


def fail(x):
    raise OverflowError(x)


@pytest.mark.parametrize(
    ("machine_code", "why"), [(differ, "compiled it gave"), (fail, "compiled it raised Overflow")]
)
def test_machine_code_that_differs_or_fails_at_the_live_arguments_is_never_used(
    monkeypatch, machine_code, why
):
    monkeypatch.setattr("pyrepl3.run.compiled._compile", lambda *_: machine_code)
    one, f, _ = compiled("def f(x):\n    return x + 1.0", "f", 1.5)
    assert (one.state, one.record.calls) == ("refused", 0)
    assert why in one.reason
    assert [kind for kind, _ in one.news] == ["not-compiled"]
    assert f.__code__ is one.code
    assert f(1.5) == 2.5


@pytest.mark.slow
def test_results_of_arrays_are_numpy_s_and_its_error_state_counts():
    np = pytest.importorskip("numpy")
    source = """
def f(a):
    best = a[0]
    for i in range(1, len(a)):
        best = best + a[i] * a[i - 1]
    return best
"""
    a = np.linspace(0.0, 1.0, 20_000)
    one, f, space = compiled(source, "f", a)
    assert one.state == "on", one.reason
    own = types.FunctionType(one.code, space, "f")
    assert type(f(a)) is np.float64
    assert f(a[::2]) == own(a[::2])
    with pytest.raises(IndexError):
        f(a[:0])
    calls = one.record.calls
    with np.errstate(over="raise"):
        f(a)
    for other in (
        a.astype("f4"),
        a.reshape(2, -1)[0].astype(">f8"),
        a.view(np.ndarray).astype(int),
    ):
        assert f(other) == own(other)
    assert one.record.calls == calls
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert f(a + 1e300) == float("inf")


@pytest.mark.slow
async def test_what_proves_hot_is_compiled_told_and_stored_as_it_was_written(tmp_path):
    told = []

    def see(event):
        metrics.observe(event)
        if isinstance(event, pyrepl3.Notice):
            told.append(event)

    metrics = pyrepl3.ExecutionMetrics()
    async with pyrepl3.open_session("hot", store=tmp_path, config=JIT, observe=see) as session:
        assert (await session.run(CELL)).ok
        source = "for _ in range(100): norm(20_000)\nnorm(100)"
        async with asyncio.timeout(100):
            while not any(event.kind == "compiled" for event in told):
                outcome = await session.run(source)
                assert outcome.ok
        (one,) = (await session.hot()).compiled
        assert (one.name, one.state) == ("norm", "on")
        assert one.speedup > 1.5
        assert metrics.metrics["notices"]["compiled"] == 1
        assert (await session.run("def power(x):\n    return x ** 2.5")).ok
        async with asyncio.timeout(100):
            while not any(event.kind == "not-compiled" for event in told):
                assert (await session.run("for _ in range(100_000): power(1.5)")).ok
        assert "power runs in the interpreter: " in told[-1].text
        refused = (await session.hot()).compiled[-1]
        assert (refused.name, refused.state, refused.speedup) == ("power", "refused", 0)
        assert refused.reason in told[-1].text
        assert metrics.metrics["notices"]["not-compiled"] == 1
        value = outcome.value
        assert (await session.run("norm is also, norm.__name__")).value == (True, "norm")
        failed = await session.run("norm(10, -1.0)")
        assert failed.traceback.count("in norm") == 1
    async with pyrepl3.open_session("hot", store=tmp_path) as session:
        assert (await session.run("norm is also, norm(100)")).value == (True, value)
        code = await session.fetch("norm")
        assert plain(code.__code__) is code.__code__
        assert "math" in code.__code__.co_names


async def test_nothing_is_made_before_somebody_asks():
    async with pyrepl3.open_session(config=unlimited()) as session:
        assert (await session.run("1")).ok
        runner = session._runner
        assert runner.executor._hot is None
        tools = [sys.monitoring.get_tool(n) for n in range(6)]
        await session.hot(True, counts=True)
        await session.hot(False)
        assert [sys.monitoring.get_tool(n) for n in range(6)] == tools
        assert not runner.executor.hot._sampler.on


async def test_jit_without_numba_names_the_extra(monkeypatch):
    monkeypatch.setattr(hot, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pyrepl3\[jit\]"):
        pyrepl3.AsyncExecutor(None, pyrepl3.NamespaceManager(), "x", config=JIT)


def test_all_tools_taken_means_no_counts():
    taken = [n for n in range(6) if sys.monitoring.get_tool(n) is None]
    for n in taken:
        sys.monitoring.use_tool_id(n, "other")
    try:
        assert not LineCounter(lambda _: True).start()
    finally:
        for n in taken:
            sys.monitoring.free_tool_id(n)


@pytest.mark.parametrize(
    ("arguments", "asked", "told"),
    [
        ("--prefix=/usr", "1", "without"),
        ("--enable-experimental-jit=no", "1", "without"),
        ("--enable-experimental-jit", None, "on"),
        ("--enable-experimental-jit=yes-off", None, "off"),
        ("--enable-experimental-jit=yes-off", "1", "on"),
        ("--enable-experimental-jit=yes", "0", "off"),
    ],
)
def test_which_jit_an_interpreter_of_3_13_has_is_told(monkeypatch, arguments, asked, told):
    monkeypatch.delattr(sys, "_jit", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: arguments)
    if asked is None:
        monkeypatch.delenv("PYTHON_JIT", raising=False)
    else:
        monkeypatch.setenv("PYTHON_JIT", asked)
    assert told in describe_cpython_jit().split()


@pytest.mark.parametrize(
    ("built", "on", "told"),
    [(False, False, "without"), (True, False, "off"), (True, True, "on")],
)
def test_an_interpreter_of_3_14_says_itself_which_jit_it_has(monkeypatch, built, on, told):
    state = SimpleNamespace(is_available=lambda: built, is_enabled=lambda: on)
    monkeypatch.setattr(sys, "_jit", state, raising=False)
    assert told in describe_cpython_jit().split()


async def test_a_closed_session_is_let_go():
    async with pyrepl3.open_session() as session:
        await session.hot(True)
        await session.run("x = 1")
    import weakref

    gone = weakref.ref(session)
    del session
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None
