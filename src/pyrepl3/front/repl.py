"""Entries in, cells run: ``pyrepl3`` alone, the plain prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pyrepl3.config import Isolation, Limits
from pyrepl3.errors import CompilationError, PyREPL3Error
from pyrepl3.front.asking import LineReader
from pyrepl3.front.console import Console
from pyrepl3.front.editor import Completer, Editor, EntryEnd, EntryInterrupt, open_editor
from pyrepl3.front.interrupts import Interrupts
from pyrepl3.front.job import USAGE, readable_time
from pyrepl3.front.magics import MagicError, translate
from pyrepl3.front.percent import Percent, guess
from pyrepl3.front.percent import complete as complete_percent
from pyrepl3.front.render import TextReport, brought_back
from pyrepl3.records import Committed, Event, Failed, Finished, Restored
from pyrepl3.records.outcomes import exit_status


def run_prompt(
    host: Callable[..., int],
    *,
    session: str | None,
    store: str | None,
    limits: Limits | None,
    recompute: bool = False,
    isolation: Isolation = "process",
) -> int:
    """Read entries from the terminal and run them until Ctrl-D. Returns the exit status.

    ``host`` runs a program, with the cells of its sessions here or apart, as ``isolation`` says.
    """
    prompt = Prompt(
        session=session, store=store, limits=limits, recompute=recompute, isolation=isolation
    )
    return host(prompt.main, on_sigint=prompt.press, on_unheard=prompt.interrupts.unheard)


class Prompt:
    """A session at a terminal: reads an entry, runs it as a cell, shows what happens."""

    def __init__(
        self,
        *,
        session: str | None,
        store: str | None,
        limits: Limits | None,
        recompute: bool = False,
        isolation: Isolation = "process",
    ) -> None:
        self._isolation = isolation
        self._recompute = recompute
        self._name = session
        self._store = store
        self._limits = limits
        self._console = Console()
        self._report = TextReport(self._console)
        self._reader = LineReader(self._console)
        self._editor: Editor | None = None
        self._percent: Percent | None = None
        self._reading = False
        self.interrupts = Interrupts(self._report.note)

    async def main(self, open_session: Callable[..., Any]) -> int:
        """Open the session, then read and run until the end. On the control thread's loop."""
        opening = open_session(
            self._name,
            store=self._store,
            limits=self._limits,
            observe=self._observe,
            ask=self._reader.ask,
            recompute=self._recompute,
            isolation=self._isolation,
        )
        self._console.line(_banner())
        try:
            session = await opening.__aenter__()
        except (PyREPL3Error, ValueError) as error:
            self._report.note(str(error))
            return USAGE
        try:
            self._console.when_closed = session.interrupt
            if self._name is not None and not session.epoch:
                self._report.note(f"session {self._name}: new")
            self._percent = Percent(
                session,
                self._console,
                self._report.note,
                store=self._store,
                kept=self._name is not None,
            )
            self._editor = open_editor(self._console, self._reader, self._completer(session))
            return await self._loop(session, self._editor)
        finally:
            await opening.__aexit__(None, None, None)

    def press(self) -> None:
        """Ctrl-C while no cell runs. On the main thread, from the signal handler."""
        if self._reading and self._editor is not None:
            self._editor.interrupt()
        else:
            self.interrupts.press()

    async def _loop(self, session: Any, editor: Editor) -> int:
        proposal = ""
        while not self._console.closed:
            self._reading = True
            try:
                text = await editor.read(proposal=proposal)
            except EntryInterrupt:
                proposal = ""
                continue
            except EntryEnd:
                break
            finally:
                self._reading = False
                self.interrupts.presses = 0
            proposal = ""
            if not text.strip():
                continue
            if text.strip() in {"exit", "quit", "exit()", "quit()"}:
                break
            if text.lstrip().startswith(("%", "!")):
                assert self._percent is not None
                if await self._percent.run(text):
                    continue
                text, timed = self._translate(text)
            else:
                timed = False
            if not text:
                continue
            with self.interrupts.ordered(session):
                outcome = await session.run(text + "\n")
            if timed:
                self._console.out(f"Wall time: {readable_time(outcome.duration)}\n")
            match outcome:
                case Failed(error=SystemExit() as error):
                    return exit_status(error)
                case Failed(error=CompilationError(proposal=str(proposed))):
                    proposal = proposed
                    self._report.note("nothing has run; Enter on an empty line takes this over")
                case _:
                    pass
        return 0

    def _translate(self, text: str) -> tuple[str, bool]:
        """What a notebook's ``%`` or ``!`` line means, and whether it is timed; "" where nothing."""
        try:
            found = translate(text)
        except MagicError as error:
            name, meant = text.split(maxsplit=1)[0], guess(text)
            self._report.note(
                f"{name} is no command; {meant}"
                if meant
                else f"{error.text}; %help lists the commands of this prompt"
            )
            return "", False
        for _, notice in found.notices:
            self._report.note(notice)
        return found.source, found.timed

    def _completer(self, session: Any) -> Completer:
        async def complete(source: str, cursor: int) -> tuple[str, ...]:
            found = complete_percent(source, cursor)
            if found is not None:
                return found
            words: tuple[str, ...] = await session.complete(source, cursor)
            return words

        return complete

    def _observe(self, event: Event) -> None:
        if isinstance(event, Restored):
            if self._percent is None or not self._percent.travels:  # else it tells what changed
                what = brought_back(event) or "no names came back"
                self._report.note(what if self._name is None else f"session {self._name}: {what}")
            self._report.lost(event.lost, "did not come back")
            return
        if isinstance(event, Committed) and self._name is None:
            return  # nobody wanted it kept; should the worker die, what is lost is said then
        if isinstance(event, Finished):
            self._reader.drop()
        self._report.event(event)


def _banner() -> str:
    from importlib.metadata import version  # noqa: PLC0415  the prompt only

    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"pyrepl3 {version('pyrepl3')}, Python {python}: "
        "await works at the top level, Ctrl-C stops a cell, %help tells more"
    )
