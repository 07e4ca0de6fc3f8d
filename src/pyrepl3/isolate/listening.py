"""What the host of a worker says in, taken at once, also while a cell holds the main thread.

While the loop of the cells waits it reads by itself, and a cell begins without a hop between threads. While
it does not wait, since a cell or a callback has its thread, a thread of control reads. Which of the two the
kernel wakes is switched around each wait of the loop, in an epoll that control sleeps on: so control sleeps
through a cell to which nothing is said. Where there is no epoll, control reads always.
"""

from __future__ import annotations

import select
import selectors
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from pyrepl3.isolate.channel import Channel

    type Later = Callable[[], object]
    type Take = Callable[[bytes, memoryview], Later | None]


class Listener:
    """Reads ``channel`` on whichever thread is free: messages come in their order, one at a time.

    ``take(head, parts)`` is to be quick; what may take its time it returns, and that is called when others
    may be taken. ``lost(error)`` is told that nothing can be read any more.
    """

    def __init__(
        self, channel: Channel, take: Take, lost: Callable[[BaseException], object]
    ) -> None:
        self._channel = channel
        self._take = take
        self._lost = lost
        self._lock = threading.Lock()
        self._waiting = False
        self._fd = channel.fileno()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            self._epoll.register(self._fd, select.EPOLLIN)

    def selector(self) -> selectors.BaseSelector | None:
        """What the loop of the cells is to wait on, so that it reads while it waits; None: anything."""
        if self._epoll is None:
            return None
        return _Selector(self._fd, self._read, self._waits)

    def attach(self, loop: AbstractEventLoop) -> None:
        """Let the loop of control read while that of the cells does not wait."""
        if self._epoll is None:
            loop.add_reader(self._fd, self._read)
        else:
            loop.add_reader(self._epoll.fileno(), self._read_for_it)

    def leave(self) -> None:
        """In a forked child: the epoll is the parent's, and the same one."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def _waits(self, waits: bool) -> None:  # noqa: FBT001  a callback
        self._waiting = waits
        if self._epoll is not None:
            # The end of the connection is told by an empty mask, too.
            self._epoll.modify(self._fd, 0 if waits else select.EPOLLIN)

    def _read_for_it(self) -> None:
        if not self._waiting:  # else it came to wait in between, and was woken as well
            for call in self._read():
                call()

    def _read(self) -> list[Later]:
        later: list[Later] = []
        try:
            with self._lock:
                for head, parts in self._channel.receive(wait=False):
                    call = self._take(head, parts)
                    if call is not None:
                        later.append(call)
        except BlockingIOError:  # the other thread was quicker
            pass
        except BaseException as error:  # noqa: BLE001  whatever it is, a message is lost
            self._lost(error)
        return later


class _Selector(selectors.DefaultSelector):
    """Reads by itself what comes for ``fd``; ``waits(…)`` is told when its loop waits, and when no more.

    No reader of the loop: those run after callbacks that are ready already, and any of these may block.
    """

    def __init__(
        self, fd: int, read: Callable[[], list[Later]], waits: Callable[[bool], object]
    ) -> None:
        super().__init__()
        self._mine = fd
        self._read = read
        self._waits = waits
        self.register(fd, selectors.EVENT_READ)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = timeout is None or timeout > 0
        if waits:
            self._waits(True)  # noqa: FBT003
        later: list[Later] = []
        try:
            ready = super().select(timeout)
            for event in ready:
                if event[0].fd == self._mine:
                    ready.remove(event)
                    # Before control is let in again: it would be woken by what is read here.
                    later = self._read()
                    break
        finally:
            if waits:
                self._waits(False)  # noqa: FBT003
        for call in later:
            call()
        return ready
