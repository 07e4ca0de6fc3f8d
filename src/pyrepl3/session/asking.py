"""What the cells of a session ask in; the answers of people in, too: the cells go on."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrepl3.ports import Durability, Runner
    from pyrepl3.records import Asked, Cell

_NUMBERED = re.compile(r".*-c([0-9]+)-[0-9a-f]{8}(?:-b[0-9]+)?-.*")


class Asking:
    """The part of a Session that questions go through; see ``pyrepl3.ask``."""

    name: str
    count: int
    _runner: Runner
    _durability: Durability | None
    _running: dict[str, Cell]

    if TYPE_CHECKING:

        def _check(self) -> None: ...

    async def asked(self) -> tuple[Asked, ...]:
        """The questions that wait for an answer, oldest first.

        Those of a cell that a crash has cut are among them, while it can still be run again.
        """
        self._check()
        if self._durability is None:
            return ()
        found = await asyncio.wrap_future(self._durability.asked())
        return still_open(found, self.count, self._running.values())

    async def answer(self, asked_id: str, value: str) -> bool:
        """Answer a question; on disk when this returns. False: it is not waiting, or not any more.

        ``asked_id``: its id, or how that ends where only one of them ends so. Raises ValueError for what
        is none of its choices.
        """
        asked = find_asked(await self.asked(), asked_id)
        if asked is None or self._durability is None:
            return False
        check_choice(asked, value)
        return await asyncio.wrap_future(self._durability.answer(asked.id, value.encode()))

    def _stop_named(self, durable_name: str) -> None:
        """Somebody cancelled the promise of a cell. Any thread."""
        for cell in list(self._running.values()):
            if cell.durable_name == durable_name:
                self._runner.interrupt(cell.id)


def still_open(
    found: Iterable[Asked], count: int, running: Iterable[Cell] = ()
) -> tuple[Asked, ...]:
    """Without the questions of cells that cannot come back: their number went to another cell."""
    names = tuple(f"{cell.durable_name}-" for cell in running)
    kept = []
    for asked in found:
        match = _NUMBERED.fullmatch(asked.id)
        # On a server ids begin with what tells this session from others of its name.
        if match is None or int(match[1]) > count or any(name in asked.id for name in names):
            kept.append(asked)
    return tuple(kept)


def find_asked(found: Iterable[Asked], asked_id: str) -> Asked | None:
    """The question of that id, or the only one whose id ends so."""
    questions = [*found]
    exact = [asked for asked in questions if asked.id == asked_id]
    close = exact or [asked for asked in questions if asked_id and asked.id.endswith(asked_id)]
    return close[0] if len(close) == 1 else None


def check_choice(asked: Asked, value: str) -> None:
    """Raise ValueError where ``value`` is none of the answers that are allowed."""
    if asked.choices and value not in asked.choices:
        allowed = ", ".join(asked.choices)
        raise ValueError(f"{value!r} is no answer to {asked.prompt!r}: choose one of {allowed}")
