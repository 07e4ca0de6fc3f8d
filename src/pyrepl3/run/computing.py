"""The statements of one cell that only compute in; their values, from children and from here, out.

A list that is written out or comprehended is computed in pieces, when its turn comes: the first here,
others in children.
"""

from __future__ import annotations

import ast
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from pyrepl3.run.asking import stop_if_asked
from pyrepl3.run.children import Family
from pyrepl3.run.output import OutRouter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.lang.parallel import Statement
    from pyrepl3.lang.proof.inputs import Proof
    from pyrepl3.run.children import Child, Children
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.parts import Part

    type Found = tuple[Any, float]
    """A value, and the seconds of a processor that it took."""

_clock = time.thread_time
_TICK = 0.05  # seconds between two looks at whether the cell is to stop


class Computing:
    """What is computed for one cell. ``statements`` and ``parts`` are its own, by place."""

    loop: asyncio.AbstractEventLoop | None = None
    """What the cell awaits on; None: it awaits nothing, and waiting for a child holds its thread."""

    def __init__(
        self,
        execution: Execution,
        names: dict[str, Any],
        statements: list[Statement],
        parts: list[Part],
        children: Children,
    ) -> None:
        self._execution, self._names = execution, names
        self._statements, self._parts = statements, parts
        self._children = children
        self._family = Family(children, execution)
        self._begun: dict[object, Child] = {}
        """By statement, or by statement and piece."""
        self._keys: dict[int, object] = {}

    def has(self, at: int) -> bool:
        """Whether statement ``at`` is computed in a child."""
        return at in self._begun

    def is_over(self, at: int) -> bool:
        """Whether it is, and to its end."""
        return at in self._begun and self._begun[at].over()

    def is_heavy(self, at: int, proof: Proof) -> bool:
        """Whether it is long enough for a child, as far as is known."""
        statement = self._statements[at]
        if statement.awaits or not statement.calls:
            return False
        return self._children.is_worth(self._key(at, proof), proof)

    def may_begin(self, at: int, proof: Proof, *, idle: bool) -> bool:
        """Whether there is reason and room to begin ``at``. ``idle``: this process is going to wait."""
        return proof.plain and self._family.room(idle=idle) > 0 and self.is_heavy(at, proof)

    def begin(self, at: int, proof: Proof) -> None:
        """Begin to compute it, where a child can be had."""
        child = self._family.begin(self._parts[at].value, self._names, proof)
        if child is not None:
            self._begun[at] = child

    def note(self, at: int, proof: Proof, seconds: float) -> None:
        """It was computed here, and took so long."""
        if self._statements[at].calls:
            self._children.note(self._key(at, proof), seconds)

    async def take(
        self, at: int, holds: Callable[[], bool], proof: Proof, more: Callable[[], object]
    ) -> tuple[Any] | None:
        """The value of ``at``; None: it has to be run as it is written. ``more`` may begin others meanwhile.

        What it has printed is told, as it would be now.
        """
        if not self.has(at):
            if not (proof.plain and self.is_heavy(at, proof) and holds()):
                return None
            found = await self._take_pieces(at, proof)
        else:
            found = await self._take(at, more)
            if not holds():
                return None
        if found is None:
            return None
        self.note(at, proof, found[1])
        return (found[0],)

    def close(self) -> None:
        """End what still goes on."""
        self._begun.clear()
        self._family.close()

    # --- inside -------------------------------------------------------------------------------------

    def _key(self, at: int, proof: Proof) -> object:
        """What a computation is known by: the functions that it calls, or its text."""
        key = self._keys.get(at)
        if key is None:
            value = self._statements[at].value
            assert value is not None
            codes = tuple(parts[0] for _, parts in proof.codes)
            key = self._keys[at] = codes or ast.unparse(value)
        return key

    async def _take(self, key: object, more: Callable[[], object]) -> Found | None:
        child = self._begun[key]
        while not child.over():
            more()
            await self._wait(child)
        del self._begun[key]
        found = self._family.end(child)
        if found is None:
            return None
        value, text, seconds = found
        if text:
            out = sys.stdout
            if not isinstance(
                out, OutRouter
            ):  # whose write may do anything, and be seen by its frames
                return None
            out.write(text)
        return value, seconds

    async def _take_pieces(self, at: int, proof: Proof) -> Found | None:
        codes = self._parts[at].pieces(self._names, 2 * self._children.most)
        if len(codes) < 2:
            return None
        late = 1

        def begin(n: int, *, idle: bool) -> None:
            nonlocal late
            late = max(late, n + 1)
            while late < len(codes) and self._family.room(idle=idle) > 0:
                child = self._family.begin(codes[late], self._names, proof)
                if child is None:
                    break
                self._begun[at, late] = child
                late += 1

        lists: list[list[Any]] = []
        total = 0.0
        for n, code in enumerate(codes):
            found: Found | None = None
            if (at, n) in self._begun:
                found = await self._take((at, n), lambda n=n: begin(n, idle=True))  # type: ignore[misc]
            if found is None:
                begin(n, idle=False)
                begun = _clock()
                found = eval(code, self._names), _clock() - begun  # noqa: S307  what this is for
            lists.append(found[0])
            total += found[1]
        return self._parts[at].join(lists), total

    async def _wait(self, child: Child) -> None:
        """Wait until a child has said something, or the cell is to stop."""
        waiting = [one for one in self._begun.values() if not one.over()]
        if child not in waiting:
            return
        if self.loop is None:
            stop_if_asked(self._execution)
            self._family.wait(waiting, _TICK)
            return
        woken = asyncio.Event()
        for one in waiting:
            self.loop.add_reader(one.fd, woken.set)
        try:
            await woken.wait()
        finally:
            for one in waiting:
                self.loop.remove_reader(one.fd)
