"""CPython's own tables: which sources are coroutines at top level, and which are unfinished.

The tests of the running interpreter run as they are; what they hand to ``compile`` and ``codeop`` is
written down with what CPython makes of it. Then the same sources go to our compiler and our prompt.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import importlib
import platform
from types import ModuleType
from typing import Any

from external import ours
from external.cases import Suite
from pyrepl3 import AsyncExecutor
from pyrepl3.front.entry import needs_more

AWAIT_TESTS = (
    "test_compile_top_level_await_no_coro",
    "test_compile_top_level_await",
    "test_compile_top_level_await_invalid_cases",
    "test_compile_async_generator",
)
CODEOP_TESTS = ("test_valid", "test_incomplete", "test_invalid", "test_invalid_exec")

PRELUDE = """\
import asyncio
async def arange(n):
    for i in range(n):
        yield i
a = 0"""


def _import(name: str, suite: Suite) -> ModuleType | None:
    try:
        return importlib.import_module(f"test.{name}")
    except ImportError as error:
        suite.skipped.append(f"{name}: this interpreter comes without its tests ({error})")
        return None


def run_await() -> Suite:
    """test_builtin: what compiles to a coroutine; those that do also run, and bind what they should."""
    suite = Suite("builtin", f"CPython {platform.python_version()}, test_builtin")
    module = _import("test_builtin", suite)
    if module is None:
        return suite
    seen: dict[str, str] = {}

    def compile_and_note(source: Any, filename: str, mode: str, *args: Any, **options: Any) -> Any:
        flagged = options.get("flags", 0) & ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        try:
            code = builtins.compile(source, filename, mode, *args, **options)
        except SyntaxError:
            if flagged:
                seen[source] = "SyntaxError"
            raise
        if flagged:
            seen[source] = "coroutine" if code.co_flags & 0x80 else "plain"
        return code

    vars(module)["compile"] = compile_and_note
    for name in AWAIT_TESTS:
        seen.clear()
        module.BuiltinTest(name).debug()
        for source, wanted in seen.items():
            suite.add(name, source, wanted, ours.kind(source))
            if wanted == "coroutine":  # their test then looks for a == 1
                suite.add(name, f"run: {source}", "a == 1", asyncio.run(_run(source)))
    return suite


async def _run(source: str) -> str:
    executor = AsyncExecutor()
    try:
        await executor.execute(PRELUDE)
        got = await ours.run(executor, source)
        if got != "runs":
            return got
        a = executor.namespace.namespace["a"]
        return "a == 1" if a == 1 else f"a == {a!r}"
    finally:
        await executor.aclose()


def run_codeop() -> Suite:
    """test_codeop: whether the prompt runs a text, asks for more, or says what is wrong."""
    suite = Suite("codeop", f"CPython {platform.python_version()}, test_codeop")
    module = _import("test_codeop", suite)
    if module is None:
        return suite

    def note(wanted: str) -> Any:
        def check(test: Any, text: str, symbol: str = "single", **_: object) -> None:
            name = test._testMethodName
            if symbol == "eval":
                name += ", eval"
            suite.add(name, repr(text), wanted, _classify(text))

        return check

    class Tests(module.CodeopTests):
        assertValid = note("valid")  # noqa: N815  their names
        assertIncomplete = note("incomplete")  # noqa: N815
        assertInvalid = note("invalid")  # noqa: N815

    for name in CODEOP_TESTS:
        Tests(name).debug()
    return suite


def _classify(text: str) -> str:
    if needs_more(text):
        return "incomplete"
    return "invalid" if ours.kind(text) == "SyntaxError" else "valid"
