"""A socket in; messages with their parts out, and sent: many bytes go by sealed shared memory.

Each side may send from any thread. The other end may be hostile: shared memory is mapped only if it is
sealed, so that nobody can shrink it under the reader, and file descriptors are bounded in number.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from pyrepl3.isolate.frames import SPARE, Frame, FrameError, Reader, header

SHARE_FROM = 64 * 1024
"""Bytes of parts from which on they go by shared memory."""
PIECE = 64 * 1024  # bytes a read: more would be mapped anew each time
_FDS = 4  # file descriptors that may be under way at once: a frame has one at most
_SPACE = socket.CMSG_SPACE(4 * _FDS) if hasattr(socket, "CMSG_SPACE") else 0
# Plain numbers: each use of an enum's own would be two calls.
_TRUNCATED = int(getattr(socket, "MSG_CTRUNC", 0))
_NO_WAIT = int(getattr(socket, "MSG_DONTWAIT", 0))
_BATCH = 512  # buffers a writev call; the kernel takes 1024

type Part = bytes | bytearray | memoryview

try:
    import fcntl

    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    SHARES = hasattr(os, "memfd_create")
except (ImportError, AttributeError):  # no Linux
    SHARES = False


class Channel:
    """One end of a socket pair. ``send`` from any thread; ``receive`` from one."""

    def __init__(self, sock: socket.socket, *, blocking: bool) -> None:
        self.sock = sock
        sock.setblocking(blocking)
        self._blocking = blocking
        self._reader = Reader()
        self._fds: deque[int] = deque()
        # Reentrant: a signal handler or a __del__ may send while this thread does.
        self._lock = threading.RLock()
        self._rest: deque[tuple[bytes | memoryview, int | None]] = deque()
        self._sending = False
        self.unsent = 0
        """Bytes that the other end has not taken yet."""
        self._closed = False
        self._spares: deque[int] | None = None
        self.handed: deque[int] = deque()
        """File descriptors that came with messages, in their order; -1 where there was no room for one."""
        self.left = False
        """Whether this is a child of the process whose channel it is."""

    def fileno(self) -> int:
        """The file descriptor of the socket, -1 when closed."""
        return self.sock.fileno()

    # --- out --------------------------------------------------------------------------------------

    def send(self, head: bytes, parts: Sequence[Part] = (), *, hand: int | None = None) -> bool:
        """Send a message. Returns whether all of it went; if not, ``flush`` when there is room.

        A blocking channel always sends all. ``hand``: a file descriptor that goes with a message without
        parts, and is closed here. Raises OSError where nobody listens, FrameError if it is too long.
        """
        size = sum(len(part) for part in parts)
        fd = hand
        if fd is None and SHARES and size >= SHARE_FROM:
            fd = self._share(parts)
        hands = hand is not None
        front = header(len(head), size, shared=fd is not None and not hands, hands=hands)
        data = b"".join((front, head, *parts)) if fd is None else front + head
        if self.left:
            raise BrokenPipeError("the channel is that of the parent")
        with self._lock:
            if self._closed:
                if fd is not None:
                    os.close(fd)
                raise BrokenPipeError("the channel is closed")
            self._rest.append((data, fd))
            self.unsent += len(data)
            return self._flush()

    def send_spare(self, most: int | None) -> bool:
        """Give the other end memory that it may fill: a confined one can have none by itself.

        ``most``: bytes that it can hold, of which only those that are written are there (None: any).
        """
        fd = _memory()
        if most is not None:
            os.ftruncate(fd, most)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        with self._lock:
            if self._closed:
                os.close(fd)
                return True
            self._rest.append((SPARE, fd))
            self.unsent += len(SPARE)
            return self._flush()

    def take_spares(self) -> None:
        """From now on the other end, which is trusted, may send spares and hand over descriptors."""
        self._spares = deque()

    def _share(self, parts: Sequence[Part]) -> int | None:
        """A sealed memory file that holds ``parts`` one after the other; None where it cannot be had."""
        with suppress(OSError):  # no descriptor is left, or a limit on file sizes holds for it, too
            return _fill(self._spares.popleft() if self._spares else _memory(), parts)
        return None

    def flush(self) -> bool:
        """Send what is left. Whether nothing is left. Raises OSError where nobody listens."""
        with self._lock:
            return self._flush()

    def _flush(self) -> bool:
        if self._sending:  # by a signal handler, in the midst of it: that goes on below
            return False
        self._sending = True
        try:
            while self._rest:
                data, fd = self._rest[0]
                try:
                    if fd is None:
                        sent = self.sock.send(data)
                    else:
                        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                        sent = self.sock.sendmsg([data], rights)
                        os.close(fd)  # it went with the first byte
                except BlockingIOError:
                    return False
                self.unsent -= sent
                if sent == len(data):
                    self._rest.popleft()
                else:
                    self._rest[0] = memoryview(data)[sent:], None
        finally:
            self._sending = False
        return True

    # --- in ---------------------------------------------------------------------------------------

    def receive(self, *, wait: bool = True) -> Iterator[tuple[bytes, memoryview]]:
        """The messages that one read brings, each with its parts. A blocking one may ``wait`` for it.

        Raises EOFError when the other end is closed, BlockingIOError, FrameError for what is no message.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(PIECE, _SPACE, 0 if wait else _NO_WAIT)
        except ConnectionError as error:
            raise EOFError from error
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if flags & _TRUNCATED and self._spares is not None:
            self._fds.append(-1)  # this process may have no more of them
        elif flags & _TRUNCATED or len(self._fds) > _FDS:
            raise FrameError("more file descriptors than messages")
        if not data:
            raise EOFError
        for frame in self._reader.feed(data):
            if frame.spare or frame.hands:
                if self._spares is None or not self._fds:
                    raise FrameError("a file descriptor that nobody has asked for")
                fd = self._fds.popleft()
                if frame.hands:
                    self.handed.append(fd)
                elif fd >= 0:
                    self._spares.append(fd)
            if not frame.spare:
                yield frame.head, self._parts_of(frame)

    def _parts_of(self, frame: Frame) -> memoryview:
        if not frame.shared:
            return memoryview(frame.parts or b"")
        if not self._fds:
            raise FrameError("a message names shared memory that did not come")
        fd = self._fds.popleft()
        if fd < 0:
            raise FrameError("a file descriptor too many for this process")
        try:
            return _map(fd, frame.size)
        finally:
            os.close(fd)

    def leave(self) -> None:
        """In a forked child: the channel is the parent's. No lock: another thread may have had it."""
        if not self.left:  # else a child of that child
            self.left = self._closed = True
            os.close(self.sock.detach())

    def close(self) -> None:
        """Let go. Idempotent; what was received stays readable."""
        with self._lock:
            self._closed = True
            for _, fd in self._rest:
                if fd is not None:
                    os.close(fd)
            self._rest.clear()
            while self._fds:
                fd = self._fds.popleft()
                if fd >= 0:
                    os.close(fd)
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def _memory() -> int:
    """A memory file, empty."""
    return os.memfd_create("pyrepl3", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _fill(fd: int, parts: Sequence[Part]) -> int:
    """``parts`` one after the other in the memory file, which is sealed then; closed if that fails."""
    try:
        for start in range(0, len(parts), _BATCH):
            rest = [memoryview(part).cast("B") for part in parts[start : start + _BATCH]]
            while rest:
                written = os.writev(fd, rest)
                while rest and written >= len(rest[0]):
                    written -= len(rest.pop(0))
                if rest:
                    rest[0] = rest[0][written:]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _map(fd: int, size: int) -> memoryview:
    """The bytes of a sealed memory file: private to the caller, writable, read when touched."""
    try:
        seals: Any = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:  # no memory file: a pipe, a device, a file that its owner can shrink
        raise FrameError("a file descriptor that is no shared memory") from error
    if seals & _SEALS != _SEALS:
        raise FrameError("shared memory that is not sealed")
    if os.fstat(fd).st_size < size or size == 0:  # what was lent may be longer
        raise FrameError("shared memory of another size than its message says")
    return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
