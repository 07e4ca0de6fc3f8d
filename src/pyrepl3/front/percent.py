"""A line that starts with ``%`` in, what the prompt does about the session itself out.

Each command is a line of ``COMMANDS``. What is not there is none of ours: see ``front.magics``.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyrepl3.engine.stored import sessions
from pyrepl3.errors import PyREPL3Error
from pyrepl3.front.console import Console
from pyrepl3.front.listing import readable_size, session_lines
from pyrepl3.front.looking import hot_lines, report_lines, source_of, type_lines
from pyrepl3.front.pages import epoch_name, find_epoch
from pyrepl3.front.past import show_difference, show_epoch, show_log, show_names, unknown
from pyrepl3.front.timeline import shown


class Percent:
    """The ``%`` commands of one prompt. On the control thread's loop."""

    def __init__(
        self,
        session: Any,
        console: Console,
        note: Callable[[str], object],
        *,
        store: str | None = None,
        kept: bool = True,
    ) -> None:
        self._session = session
        self._console = console
        self._note = note
        self._store = store
        self._kept = kept
        self.travels = False
        """A command is going to another epoch, and tells of it itself."""

    async def run(self, text: str) -> bool:
        """Do what a line asks for, and tell. False: it is no command of ours. Never raises ours."""
        found = parse(text)
        if found is None:
            return False
        name, rest = found
        command = COMMANDS[name]
        try:
            words = [rest] if command.raw and rest else shlex.split(rest)
            if words in (["?"], ["--help"], ["-h"]):
                self._console.out(f"{usage(name)}\n    {command.about}\n")
            elif not command.least <= len(words) <= command.most:
                self._note(f"usage: {usage(name)}; {command.about}")
            else:
                await command.run(self, words)
        except (PyREPL3Error, ValueError, OSError) as error:
            self._note(str(error))
        return True

    # --- looking ----------------------------------------------------------------------------------

    async def log(self, words: Sequence[str]) -> None:
        count = _count(words[0]) if words else None
        entries = await self._session.log()
        if not entries:
            self._note("no cells yet")
        else:
            show_log(self._console, entries[-count:] if count else entries)

    async def show(self, words: Sequence[str]) -> None:
        session = self._session
        if not words:
            holds = await session.diff(0)
            show_names(self._console, session.name, session.epoch, holds.added)
            return
        epochs = await session.epochs()
        epoch = find_epoch(epochs, words[0])
        if epoch is None:
            self._note(unknown(session.name, words[0], epochs))
            return
        entry = next(each for each in await session.log() if each.epoch == epoch.epoch)
        show_epoch(self._console, epoch, entry, await session.diff(None, epoch.epoch))

    async def diff(self, words: Sequence[str]) -> None:
        epochs: list[int | None] = [_epoch(word) for word in words]
        show_difference(self._console, await self._session.diff(*epochs))

    async def lost(self, _: Sequence[str]) -> None:
        found = {name: why for name, why in self._session.lost.items() if shown(name)}
        lines = [f"{name}: {why}" for name, why in sorted(found.items())]
        self._console.out("\n".join(lines or ["nothing is lost"]) + "\n")

    async def graph(self, words: Sequence[str]) -> None:
        from pyrepl3.front.flow import graph_text  # noqa: PLC0415  seldom

        found = await self._session.graph()
        if not found.cells:
            self._note("no cells yet")
        else:
            self._console.out(graph_text(found, words[0] if words else "text"))

    async def stale(self, _: Sequence[str]) -> None:
        from pyrepl3.front.flow import stale_text  # noqa: PLC0415

        self._console.out(stale_text(await self._session.stale()))

    async def slice(self, words: Sequence[str]) -> None:
        from pyrepl3.front.flow import slice_text  # noqa: PLC0415

        self._console.out(slice_text(await self._session.slice(words[0])))

    async def sessions(self, _: Sequence[str]) -> None:
        directory = sessions(self._store)
        found = await asyncio.to_thread(directory.list)
        lines = session_lines(found, mine=self._session.name)
        self._console.out("\n".join(lines or [f"no sessions in {directory.root}"]) + "\n")

    async def help(self, _: Sequence[str]) -> None:
        wide = max(len(usage(name)) for name in COMMANDS)
        lines = [f"{usage(name):{wide}}  {command.about}" for name, command in COMMANDS.items()]
        lines.append(f"{'!COMMAND, %cd, %time, %pip':{wide}}  as in notebooks")
        lines.append(
            f"{'%debug':{wide}}  where the last failure was raised, in pdb; as breakpoint()"
        )
        self._console.out("\n".join(lines) + "\n")

    # --- code before it runs ------------------------------------------------------------------------

    async def check(self, words: Sequence[str]) -> None:
        source = await asyncio.to_thread(source_of, words[0])
        report = await self._session.check(source)
        self._console.out("\n".join(report_lines(report, source)) + "\n")

    async def types(self, words: Sequence[str]) -> None:
        types = await self._session.types()
        self._console.out("\n".join(type_lines(types, words)) + "\n")

    async def hot(self, words: Sequence[str]) -> None:
        word = words[0] if words else ""
        if word not in ("", "on", "off", "counts"):
            raise ValueError(f"{word!r} is none of on, off and counts")
        watch = None if not word else word != "off"
        report = await self._session.hot(watch, counts=word == "counts")
        if watch:
            self._note("watching; %hot tells where the time goes, %hot off ends it")
        else:
            self._console.out("\n".join(hot_lines(report)) + "\n")

    # --- changing -----------------------------------------------------------------------------------

    async def undo(self, words: Sequence[str]) -> None:
        await self._travel(self._session.undo(_count(words[0]) if words else 1))

    async def restore(self, words: Sequence[str]) -> None:
        await self._travel(self._session.restore(_epoch(words[0])))

    async def _travel(self, going: Awaitable[Any]) -> None:
        session = self._session
        before = session.epoch
        self.travels = True
        try:
            await going
        finally:
            self.travels = False
        if session.epoch == before:
            self._note(f"at {epoch_name(before)} already")
            return
        show_difference(self._console, await session.diff(before, session.epoch))
        self._note(f"nothing is deleted: %restore {before} undoes this")

    async def fork(self, words: Sequence[str]) -> None:
        session = self._session
        epoch = _epoch(words[1]) if len(words) > 1 else session.epoch
        await session.fork(words[0], epoch)
        if not self._kept:
            self._note(
                f"session {words[0]} is this one at {epoch_name(epoch)}, and like it gone with this "
                "prompt, which has no --session NAME; to keep this one: %export FILE"
            )
            return
        where = f" --store {shlex.quote(self._store)}" if self._store else ""
        self._note(
            f"session {words[0]} is this one at {epoch_name(epoch)}; "
            f"to go on there: pyrepl3 --session {words[0]}{where}"
        )

    async def gc(self, words: Sequence[str]) -> None:
        found = await self._session.gc(_count(words[0]) if words else None)
        epochs = f"{found.epochs} epoch{'s' * (found.epochs != 1)}"
        self._note(f"dropped {epochs}, {readable_size(found.size)} given back")

    async def export(self, words: Sequence[str]) -> None:
        path = Path(os.path.expanduser(words[0]))  # noqa: PTH111, ASYNC240  reads no disk
        await self._session.export(path)
        size = readable_size((await asyncio.to_thread(path.stat)).st_size)
        self._note(
            f"wrote {path} ({size}); elsewhere: pyrepl3 sessions import {shlex.quote(path.name)}"
        )


class PercentCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One command: what it takes (``least`` to ``most`` words), what it does, and what does it.

    ``raw``: the rest of the line is one word, as it was typed.
    """

    takes: str = ""
    about: str
    run: Callable[[Percent, Sequence[str]], Awaitable[None]]
    least: int = 0
    most: int = 0
    raw: bool = False


COMMANDS: Mapping[str, PercentCommand] = {
    "log": PercentCommand(
        takes="[N]", about="the timeline: cells and branches (the last N)", run=Percent.log, most=1
    ),
    "show": PercentCommand(
        takes="[EPOCH|CELL]",
        about="the names there are; or a cell: source, output, changes",
        run=Percent.show,
        most=1,
    ),
    "diff": PercentCommand(
        takes="[A] [B]",
        about="what the last cell changed; or from epoch A to B (or to now)",
        run=Percent.diff,
        most=2,
    ),
    "graph": PercentCommand(
        takes="[FORMAT]",
        about="which cell used what of which (text, mermaid or dot)",
        run=Percent.graph,
        most=1,
    ),
    "stale": PercentCommand(about="cells whose result is out of date, and why", run=Percent.stale),
    "slice": PercentCommand(
        takes="NAME", about="the fewest cells that make a value", run=Percent.slice, least=1, most=1
    ),
    "undo": PercentCommand(
        takes="[N]", about="back to before the last cell, or the last N", run=Percent.undo, most=1
    ),
    "restore": PercentCommand(
        takes="EPOCH",
        about="to any epoch, back or forth; 0 is the empty session",
        run=Percent.restore,
        least=1,
        most=1,
    ),
    "fork": PercentCommand(
        takes="NAME [EPOCH]",
        about="a new session that starts as this one is, or was at EPOCH",
        run=Percent.fork,
        least=1,
        most=2,
    ),
    "gc": PercentCommand(
        takes="[KEEP]",
        about="drop branches that were left, and all but the last KEEP epochs",
        run=Percent.gc,
        most=1,
    ),
    "export": PercentCommand(
        takes="FILE", about="the whole session as one file", run=Percent.export, least=1, most=1
    ),
    "lost": PercentCommand(about="names that could not be kept, and why", run=Percent.lost),
    "sessions": PercentCommand(about="the sessions that are kept", run=Percent.sessions),
    "check": PercentCommand(
        takes="CODE",
        about="what is wrong with a line of code, or a .py file, before it runs",
        run=Percent.check,
        least=1,
        most=1,
        raw=True,
    ),
    "types": PercentCommand(
        takes="[NAME...]", about="the types of the names there are", run=Percent.types, most=1000
    ),
    "hot": PercentCommand(
        takes="[on|off|counts]",
        about="where the time goes, by line and function; counts: exact, and slower",
        run=Percent.hot,
        most=1,
    ),
    "help": PercentCommand(about="this list", run=Percent.help),
}


def parse(text: str) -> tuple[str, str] | None:
    """The command that an entry names, and the rest of its line; None where it is none of ours."""
    line = text.strip()
    if not line.startswith("%") or "\n" in line:
        return None
    name, _, rest = line[1:].partition(" ")
    if name.endswith("?"):
        name, rest = name.rstrip("?"), "?"
    return (name, rest.strip()) if name in COMMANDS else None


def guess(text: str) -> str:
    """The command that a line may have meant; "" where there is none like it."""
    from difflib import get_close_matches  # noqa: PLC0415  only after a mistake

    words = text.lstrip("% ").split()
    close = get_close_matches(words[0], COMMANDS, 1, 0.75) if words else []
    return f"did you mean {usage(close[0])}?" if close else ""


def usage(name: str) -> str:
    """How to write a command."""
    return f"%{name} {COMMANDS[name].takes}".rstrip()


def complete(text: str, cursor: int) -> tuple[str, ...] | None:
    """Names of commands that could stand at ``cursor``, without ``%``; None where Python stands there."""
    before = text[:cursor]
    if not before.startswith("%"):
        return None
    word = before[1:]
    if not word.isidentifier() and word:
        return ()
    return tuple(name for name in sorted(COMMANDS) if name.startswith(word))


def _epoch(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"{word!r} is no epoch: give a number from %log")
    return int(word)


def _count(word: str) -> int:
    if not word.isdecimal() or not int(word):
        raise ValueError(f"{word!r} is no count: give a number from 1")
    return int(word)
