"""Code of a session in; what is wrong with it, its types, and where its time goes, out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pyrepl3.errors import CheckerError, MissingExtraError
from pyrepl3.records import Check, CheckReport, Hot, HotReport, Looked, Typed, Types

if TYPE_CHECKING:
    from pyrepl3.ports import Runner, TypeChecker


class Checking:
    """The part of a Session that looks at code."""

    _runner: Runner
    _checker: TypeChecker | None = None

    if TYPE_CHECKING:

        def _check(self) -> None: ...

    def use_checker(self, checker: TypeChecker) -> None:
        """Have ``checker`` asked about types; closed with the session."""
        self._checker = checker

    async def check(self, source: str, *, types: bool | None = None) -> CheckReport:
        """What is wrong with a cell, or looks wrong, against the live names; nothing of it runs.

        Syntax errors, names that nobody binds, builtins that it hides, coroutines that nobody awaits and
        calls that block the loop are always found. ``types``: ask a type checker, too, about arguments,
        attributes and operators; None: where one is installed. What code binds by ``exec`` or ``setattr``
        is not seen. Raises MissingExtraError and CheckerError with ``types=True`` only; otherwise
        ``unchecked`` says why types were not looked at.
        """
        looked = await self._look_at(source)
        if types is False:
            return CheckReport(diagnostics=looked.diagnostics, unchecked="not asked for")
        if any(found.kind == "syntax" for found in looked.diagnostics):
            return CheckReport(diagnostics=looked.diagnostics, unchecked="it does not compile")
        try:
            typed = await self._ask_checker(source, looked)
        except (MissingExtraError, CheckerError) as error:
            if types:
                raise
            return CheckReport(diagnostics=looked.diagnostics, unchecked=str(error))
        found = sorted(
            (*looked.diagnostics, *typed.diagnostics), key=lambda one: (one.line, one.column)
        )
        return CheckReport(diagnostics=tuple(found), engine=typed.engine)

    async def types(self, source: str | None = None) -> dict[str, str]:
        """The types of the user's names, from their live values, in the order of binding.

        Of a container some elements are looked at, of a function its signature. With ``source``: of the
        names that it would bind, as a type checker infers them; nothing runs. Raises MissingExtraError,
        CheckerError for that, and for a source that does not compile.
        """
        if source is None:
            self._check()
            live: dict[str, str] = await self._runner.ask(Types())
            return live
        looked = await self._look_at(source)
        if any(found.kind == "syntax" for found in looked.diagnostics):
            raise CheckerError(f"it does not compile: {looked.diagnostics[0].text}")
        return dict((await self._ask_checker(source, looked, types=True)).types)

    async def hot(self, watch: bool | None = None, *, counts: bool = False) -> HotReport:  # noqa: FBT001
        """Where the time of cells goes, by line and function; also while a cell runs.

        ``watch=True`` begins to measure from zero, fifty samples a second (below 5 %), ``False`` ends;
        None: what was measured so far. ``counts``: count lines and calls exactly, too: code that does little
        a line takes 3.5 times as long. Off nothing is paid.
        """
        self._check()
        report: HotReport = await self._runner.ask(Hot(watch=watch, counts=counts))
        return report

    async def _look_at(self, source: str) -> Looked:
        self._check()
        looked: Looked = await self._runner.ask(Check(source=source))
        return looked

    async def _ask_checker(self, source: str, looked: Looked, *, types: bool = False) -> Typed:
        checker = self._checker
        if checker is None:
            raise CheckerError("this session was given no type checker")
        return await asyncio.to_thread(checker.check, source, looked, types=types)

    async def _close_checker(self) -> None:
        checker, self._checker = self._checker, None
        if checker is not None:
            await asyncio.to_thread(checker.close)
