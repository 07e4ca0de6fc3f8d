"""A cell's source in, the cell run: by us, by peers, and by as little as it takes."""

from __future__ import annotations

import ast
import asyncio
import asyncio.__main__ as asyncio_repl
import code
import contextlib
import io
import os
import sys
import tempfile
import types
import warnings

from benchmarks.measure import Batch, clock, in_turns
from benchmarks.report import Report
from pyrepl3 import AsyncExecutor, Session

OURS = "AsyncExecutor.execute"
EXEC = "exec of compiled code"
AWAIT = "eval and await of compiled code"
TASK = "the same in a task of its own"
COMPILE = "parse, split, compile, exec"
IPYTHON = "IPython run_cell_async, no history"

REFERENCE = 15e-6
"""Seconds that COMPILE takes for ``x = 1 + 1`` where the targets that are times were set."""

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


async def run_bare(source: str, namespace: dict[str, object]) -> object:
    """What any of us has to do for a new source: parse, split off the last expression, compile, run."""
    tree = compile(source, "<bare>", "exec", ast.PyCF_ONLY_AST | _FLAGS, dont_inherit=True)
    last = tree.body[-1]
    tail = None
    if isinstance(last, ast.Expr):
        tree.body.pop()
        expression = ast.Expression(last.value)
        tail = compile(expression, "<bare>", "eval", _FLAGS, dont_inherit=True)
    if tree.body:
        body = compile(tree, "<bare>", "exec", _FLAGS, dont_inherit=True)
        begun = eval(body, namespace)
        if body.co_flags & 0x80:  # CO_COROUTINE
            await begun
    if tail is None:
        return None
    value = eval(tail, namespace)
    return await value if tail.co_flags & 0x80 else value


def floors() -> dict[str, Batch]:
    """The least: compiled code run again, and a new source."""

    async def execute(sources: list[str]) -> float:
        namespace: dict[str, object] = {}
        compiled = compile(sources[0], "<bare>", "exec")
        begun = clock()
        for _ in sources:
            exec(compiled, namespace)
        return clock() - begun

    async def compile_and_execute(sources: list[str]) -> float:
        namespace: dict[str, object] = {"asyncio": asyncio}
        begun = clock()
        for source in sources:
            await run_bare(source, namespace)
        return clock() - begun

    return {EXEC: execute, COMPILE: compile_and_execute}


def calibrate(report: Report) -> None:
    """Let bounds that are times be for the machine on which they were stated, for parts without cells."""
    floor = {COMPILE: floors()[COMPILE]}
    costs = asyncio.run(in_turns(floor, lambda n: ["x = 1 + 1"] * n, rounds=40, warm_up=300))
    report.calibrate(costs[COMPILE], REFERENCE)


def awaiting_floors() -> dict[str, Batch]:
    """The loop's own cost of a cell that awaits: in the caller's task, and in one of its own."""

    async def await_it(sources: list[str]) -> float:
        namespace = {"asyncio": asyncio}
        compiled = compile(sources[0], "<bare>", "eval", _FLAGS)
        begun = clock()
        for _ in sources:
            await eval(compiled, namespace)
        return clock() - begun

    async def await_task(sources: list[str]) -> float:
        namespace = {"asyncio": asyncio}
        compiled = compile(sources[0], "<bare>", "eval", _FLAGS)
        create = asyncio.get_running_loop().create_task
        begun = clock()
        for _ in sources:
            await create(eval(compiled, namespace))
        return clock() - begun

    return {AWAIT: await_it, TASK: await_task}


async def ours() -> dict[str, Batch]:
    executor = AsyncExecutor(execution_id="benchmark")
    await executor.execute("import asyncio")

    async def batch(sources: list[str]) -> float:
        execute = executor.execute
        begun = clock()
        for source in sources:
            await execute(source)
        return clock() - begun

    return {OURS: batch}


def in_session(session: Session) -> Batch:
    """Cells of a session, one after the other, to the outcome of each."""

    async def batch(sources: list[str]) -> float:
        begun = clock()
        for source in sources:
            await session.run(source)
        return clock() - begun

    return batch


def interpreter() -> dict[str, Batch]:
    """The standard library's own evaluator. It knows no await."""
    console = code.InteractiveInterpreter({"asyncio": asyncio})

    async def batch(sources: list[str]) -> float:
        begun = clock()
        for source in sources:
            console.runsource(source, "<console>", "exec")
        return clock() - begun

    return {"code.InteractiveInterpreter": batch}


def asyncio_console() -> dict[str, Batch]:
    """What ``python -m asyncio`` evaluates with, on this loop, typed in from a thread as there."""
    loop = asyncio.get_running_loop()
    asyncio_repl.loop = loop  # it is a global of the script
    console = asyncio_repl.AsyncIOInteractiveConsole({"asyncio": asyncio}, loop)

    # Since 3.13 it takes cells of many statements in its usual mode, and in that one only.
    symbol = "single" if sys.version_info >= (3, 13) else "exec"

    def run(sources: list[str]) -> float:
        before, sys.displayhook = sys.displayhook, lambda _value: None
        begun = clock()
        for source in sources:
            console.runsource(source, "<console>", symbol)
        spent = clock() - begun
        sys.displayhook = before
        return spent

    async def batch(sources: list[str]) -> float:
        return await asyncio.to_thread(run, sources)

    return {"asyncio REPL's console": batch}


def ipython() -> dict[str, Batch]:
    """IPython as its kernel drives it, less the history on disk."""
    os.environ["IPYTHONDIR"] = tempfile.mkdtemp(prefix="ipython-")
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
    except ImportError:
        return {}
    config = Config()
    config.HistoryManager.enabled = False
    hooks = sys.displayhook, sys.excepthook
    shell = InteractiveShell(
        config=config, user_module=types.ModuleType("cells"), user_ns={"asyncio": asyncio}
    )
    sys.displayhook, sys.excepthook = hooks

    async def batch(sources: list[str]) -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # it shows values
            begun = clock()
            for source in sources:
                await shell.run_cell_async(
                    source, store_history=False, transformed_cell=shell.transform_cell(source)
                )
            return clock() - begun

    return {IPYTHON: batch}


def ptpython() -> dict[str, Batch]:
    """ptpython's evaluator, without its terminal."""
    try:
        from prompt_toolkit.input import DummyInput
        from prompt_toolkit.output import DummyOutput
        from ptpython.repl import PythonRepl
    except ImportError:
        return {}
    namespace: dict[str, object] = {"asyncio": asyncio}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repl = PythonRepl(lambda: namespace, input=DummyInput(), output=DummyOutput())

    async def batch(sources: list[str]) -> float:
        begun = clock()
        for source in sources:
            await repl.eval_async(source)
        return clock() - begun

    return {"ptpython's evaluator": batch}
