"""Two connected sockets in; the bytes of each carried to the other, until both have ended."""

from __future__ import annotations

import asyncio
import socket

_PIECE = 64 * 1024  # bytes a read
_LINGER = 5.0  # seconds in which what was written last must be gone


class SpentError(Exception):
    """The connections of a session have carried all that they may."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        super().__init__(most)

    def __str__(self) -> str:
        return (
            f"the connections of this session have carried the {self.most:,} bytes that its policy allows: "
            "open_session(policy=Policy(traffic=...)) allows more"
        )


class Traffic:
    """Counts bytes, of which there may be ``most`` in all (None: any number). One thread at a time."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.carried = 0

    @property
    def spent(self) -> bool:
        """Whether there may be no more."""
        return self.most is not None and self.carried >= self.most

    def take(self, size: int) -> None:
        """So many more. Raises SpentError where that is too many."""
        self.carried += size
        if self.most is not None and self.carried > self.most:
            raise SpentError(self.most)


class Carrying:
    """Carries between ``near`` and ``far``, both non-blocking. To be used on one event loop."""

    def __init__(self, near: socket.socket, far: socket.socket, traffic: Traffic) -> None:
        self._loop = asyncio.get_running_loop()
        self._traffic = traffic
        self._out = self._loop.create_task(self._carry(near, far))
        self._in = self._loop.create_task(self._carry(far, near))

    async def run(self) -> None:
        """Until both ways have ended, or one is broken. Raises what broke it: OSError, SpentError."""
        both = {self._out, self._in}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)  # no descriptor may be watched when it is closed

    def leave(self) -> None:
        """Nobody reads at the near end any more: what was written there goes, within seconds."""
        self._in.cancel()
        self._loop.call_later(_LINGER, self._out.cancel)

    async def _carry(self, source: socket.socket, target: socket.socket) -> None:
        piece = memoryview(bytearray(_PIECE))
        while size := await self._loop.sock_recv_into(source, piece):
            self._traffic.take(size)
            await self._loop.sock_sendall(target, piece[:size])
            await asyncio.sleep(
                0
            )  # neither of these waits while there is room: others have their turn
        target.shutdown(socket.SHUT_WR)
