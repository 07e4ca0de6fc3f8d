"""A debugger for the cells of a session: a server to attach to, breakpoints, the last failure again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrepl3.records import Breakpoint, Debug, DebugServer

if TYPE_CHECKING:
    from pyrepl3.ports import Runner
    from pyrepl3.records import Outcome

_POST_MORTEM = "__import__('pyrepl3').post_mortem(globals().get('_last_exception'))"


class Debugged:
    """The part of a Session that debuggers go through. Needs ``pyrepl3[debug]``."""

    name: str
    _runner: Runner

    if TYPE_CHECKING:

        def _check(self) -> None: ...

        async def run(self, source: str) -> Outcome: ...

    async def debug(self, port: int = 0) -> DebugServer:
        """Let a client of the Debug Adapter Protocol attach, as VS Code is: the address, on loopback only.

        ``port`` 0: any that is free. Asked again, the same server. One process has one server, for all of
        its sessions that asked; a worker process has its own. Only threads of cells ever stop for it,
        and while they do the clock of ``Limits.wall`` stands (confined: goes on). Whoever can connect can
        run code as this user: loopback is open to all users of the machine. Cells cost more from here on.
        Raises DebugError, MissingExtraError.
        """
        self._check()
        found: DebugServer = await self._runner.ask(Debug(port=port))
        return found

    async def breakpoint(
        self,
        cell: int | str,
        line: int,
        *,
        condition: str | None = None,
        hits: str | None = None,
        log: str | None = None,
        clear: bool = False,
    ) -> None:
        """Stop at ``line`` (from 1) of a cell while a client is attached, whether the cell has run or not.

        ``cell``: its number, or the file name that it was given. ``condition``: an expression. ``hits``:
        ``"3"`` the third time, ``">= 3"``, ``"% 3"`` each third. ``log``: a text for the client, with
        ``{expressions}``; nothing stops. ``clear``: take it away. One a line. Raises DebugError.
        """
        self._check()
        filename = f"<{self.name} cell {cell}>" if isinstance(cell, int) else cell
        asked: Any = Breakpoint(
            filename=filename, line=line, condition=condition, hits=hits, log=log, clear=clear
        )
        await self._runner.ask(asked)

    async def post_mortem(self) -> Outcome:
        """Stop where the last failed cell raised, in the client that is attached, or in pdb.

        A cell of its own, which ends when the client goes on; pdb asks through ``open_session(ask=…)``. It
        fails with DebugError where no cell has failed, or the failure was in another process.
        """
        return await self.run(_POST_MORTEM)
