"""Runners and type checkers in, checks of how they look at code before it runs out."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pyrepl3.ports import TypeChecker
from pyrepl3.records import Check, Hot, HotReport, Looked, Types
from pyrepl3.testing.desk import Desk


async def _a_cell_is_looked_at_before_it_runs(desk: Desk) -> None:
    """What is found, and the stubs for a type checker; nothing of the cell runs."""
    source = (
        "class C:\n    def m(self, a): ...\nc, n, seen = C(), 1, []\nasync def g(): seen.append(1)"
    )
    assert (await desk.run(source)).ok
    looked = await desk.runner.ask(Check(source="c.m(n)\ng()\nmissing\nd = seen.append(2)"))
    assert isinstance(looked, Looked)
    assert [(found.kind, found.line) for found in looked.diagnostics] == [
        ("unawaited", 2),
        ("undefined-name", 3),
    ]
    assert {"c", "n", "g"} <= {*looked.names}
    assert "class C:" in looked.stub
    assert "n: int" in looked.stub
    assert looked.binds == ("d",)
    types = await desk.runner.ask(Types())
    assert (types["c"], types["n"], types["seen"]) == ("C", "int", "list[Any]")
    assert (await desk.run("assert not seen")).ok
    (syntax,) = (await desk.runner.ask(Check(source="if n\n    c"))).diagnostics
    assert (syntax.kind, syntax.proposal) == ("syntax", "if n:\n    c")


async def _where_the_time_goes_is_known_by_line_and_task(desk: Desk) -> None:
    assert not (await desk.runner.ask(Hot())).watching
    source = """import asyncio, time
def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end: pass
async def wait():
    await asyncio.sleep(0.4)
def one(): return 1"""
    assert (await desk.run(source)).ok
    assert (await desk.runner.ask(Hot(watch=True, counts=True))).watching
    assert (await desk.run("task = asyncio.create_task(wait()); spin(0.4)")).ok
    assert (await desk.run("await task; x = [one() for _ in range(1000)]")).ok
    assert (await desk.run("time.sleep(0.3)")).ok
    report = await desk.runner.ask(Hot(watch=False))
    assert isinstance(report, HotReport)
    assert not report.watching
    functions = {one.name: one for one in report.functions}
    assert functions["spin"].own > 0.1
    assert functions["spin"].total >= functions["spin"].own
    lines = {one.text: one for one in report.lines}
    waiting = lines["await asyncio.sleep(0.4)"]
    assert waiting.awaiting > 0.1 > waiting.own
    asleep = lines["time.sleep(0.3)"]
    assert asleep.own > 0.1 > asleep.cpu
    assert lines["def one(): return 1"].hits == 1000
    assert functions["spin"].calls == 1
    (before,) = {report.samples, (await desk.runner.ask(Hot())).samples}
    assert before > 0
    assert "JIT" in report.cpython


LOOKING = (
    _a_cell_is_looked_at_before_it_runs,
    _where_the_time_goes_is_known_by_line_and_task,
)
"""What every Runner must do where it is asked about code."""


class CheckerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of the TypeChecker port; see ``conformance``."""

    name: str
    run: Callable[[TypeChecker], None]


def checker_checks() -> list[CheckerCheck]:
    """What every TypeChecker must do."""
    checks = (
        _a_wrong_argument_is_found_where_it_stands,
        _a_name_of_the_stub_may_be_bound_anew,
        _top_level_await_and_unknown_names_are_none_of_its_business,
        _types_of_what_a_cell_binds_are_inferred,
        _a_closed_checker_begins_anew,
    )
    return [CheckerCheck(name=check.__name__.lstrip("_"), run=check) for check in checks]


_LIVE = Looked(
    imports="import math",
    stub="def f(a: int) -> str: ...\nn: int\nasync def g() -> int: ...\n",
    names=("f", "n", "g"),
)


def _a_wrong_argument_is_found_where_it_stands(checker: TypeChecker) -> None:
    typed = checker.check("x = 'é'; f(x, 2)\nmath.nosuch", _LIVE)
    assert typed.engine
    assert [(one.kind, one.severity, one.line) for one in typed.diagnostics] == [
        ("wrong-arguments", "error", 1),
        ("wrong-arguments", "error", 1),
        ("type", "error", 2),
    ]
    first = min(typed.diagnostics, key=lambda one: (one.line, one.column))
    assert (first.column, first.end_column) == (11, 12)


def _a_name_of_the_stub_may_be_bound_anew(checker: TypeChecker) -> None:
    typed = checker.check("n = 'text'\nn.upper()\ndef f(): ...\nf()\nclass g: ...\ng()", _LIVE)
    assert typed.diagnostics == ()


def _top_level_await_and_unknown_names_are_none_of_its_business(checker: TypeChecker) -> None:
    assert checker.check("y = await g()\nunknown + 1", _LIVE).diagnostics == ()


def _types_of_what_a_cell_binds_are_inferred(checker: TypeChecker) -> None:
    looked = msgspec.structs.replace(_LIVE, binds=("a", "b"))
    typed = checker.check("a = f(n)\nb = [n]", looked, types=True)
    assert typed.types == {"a": "str", "b": "list[int]"}
    assert typed.diagnostics == ()


def _a_closed_checker_begins_anew(checker: TypeChecker) -> None:
    checker.close()
    checker.close()
    assert len(checker.check("f()", _LIVE).diagnostics) == 1
