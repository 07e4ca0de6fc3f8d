"""A session in, a socket out, over which another process of the same user stops its cells and answers them.

A message is four bytes of length, the highest first, and so many bytes of MessagePack; one question, one
reply, and the connection is closed. The socket lies in the session's directory, mode 0600.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import msgspec

from pyrepl3.errors import PyREPL3Error, SessionError
from pyrepl3.records import Asked, Collected

if TYPE_CHECKING:
    from types import TracebackType

    from pyrepl3.session import Session

SOCKET = "control"
"""What the socket is called in a session's directory."""
LONGEST = 1024 * 1024
"""Bytes of a message, at most."""
_PATIENCE = 10.0  # seconds for one exchange
_LONG = 600.0  # and for one that may read or copy a whole session
_HEAD = struct.Struct(">I")


class Interrupt(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Stop a cell (None: the one in the foreground)."""

    cell: str | None = None


class Answer(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Answer a question; ``asked`` is its id or the end of it."""

    asked: str
    value: str


class Status(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What runs, and what is asked."""


class Undo(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Go ``n`` cells back."""

    n: int = 1


class Restore(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Go to an epoch."""

    epoch: int


class Fork(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Make a new session of an epoch (None: the current one)."""

    name: str
    epoch: int | None = None


class Collect(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Drop epochs."""

    keep: int | None = None


type Request = Interrupt | Answer | Status
type Change = Undo | Restore | Fork | Collect
"""What without an owner needs the store only."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """``ok``: it was done. ``running``: ids of cells. ``error``: why it could not be done.

    ``before``: the epoch that the session was at, where it has gone to another; ``dropped``: what was.
    """

    ok: bool = True
    error: str = ""
    pid: int = 0
    epoch: int = 0
    count: int = 0
    running: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()
    before: int = 0
    dropped: Collected = Collected()


_encode = msgspec.msgpack.Encoder().encode


class Control:
    """Serves the socket of a session; opened and closed on the session's loop."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to serve. What an owner that was killed has left there is replaced. Raises OSError."""
        served = await asyncio.to_thread(_bind, self._folder)
        try:
            self._server = await asyncio.start_unix_server(self._serve, sock=served)
        except BaseException:
            served.close()
            raise

    async def aclose(self) -> None:
        """Stop serving. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.to_thread(_remove, self._folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async with asyncio.timeout(_PATIENCE) as limit:
                if not _is_ours(writer.get_extra_info("socket")):
                    return
                (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                if size > LONGEST:
                    reply = Reply(ok=False, error=f"a message has {LONGEST} bytes at most")
                else:
                    data = await reader.readexactly(size)
                    limit.reschedule(asyncio.get_running_loop().time() + _LONG)
                    reply = await self._reply(data)
                data = _encode(reply)
                writer.write(_HEAD.pack(len(data)) + data)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # whoever asked is gone, or we are closing
        finally:
            self._open.discard(task)
            writer.close()

    async def _reply(self, data: bytes) -> Reply:
        try:
            request = msgspec.msgpack.decode(data, type=Request | Change)
        except msgspec.MsgspecError as error:
            return Reply(ok=False, error=f"not understood: {error}")
        try:
            return await self._do(request)
        except (PyREPL3Error, ValueError) as error:
            return Reply(ok=False, error=str(error))

    async def _do(self, request: Request | Change) -> Reply:
        session = self._session
        match request:
            case Interrupt(cell=cell):
                done = session.interrupt(cell)
                return Reply(
                    ok=done, error="" if done else f"no cell {cell or ''}".rstrip() + " runs"
                )
            case Answer(asked=asked, value=value):
                done = await session.answer(asked, value)
                return Reply(ok=done, error="" if done else no_question(asked))
            case Status():
                return Reply(
                    pid=os.getpid(),
                    epoch=session.epoch,
                    count=session.count,
                    running=session.running,
                    asked=await session.asked(),
                )
            case Undo(n=n):
                before = session.epoch
                await session.undo(n)
                return Reply(before=before, epoch=session.epoch)
            case Restore(epoch=epoch):
                before = session.epoch
                await session.restore(epoch)
                return Reply(before=before, epoch=session.epoch)
            case Fork(name=name, epoch=at):
                at = session.epoch if at is None else at
                await session.fork(name, at)
                return Reply(epoch=at)
            case Collect(keep=keep):
                return Reply(dropped=await session.gc(keep), epoch=session.epoch)
            case _:
                assert_never(request)

    async def __aenter__(self) -> None:
        await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def no_question(asked: str) -> str:
    """What to say where nobody asks that."""
    return f"no question {asked} waits for an answer"


def ask_owner(folder: Path, request: Request | Change) -> Reply | None:
    """The reply of the process that has the session in ``folder`` open; None: none serves it. Blocks.

    Raises SessionError where it does not answer in 10 s (a change: 10 minutes), or not sensibly.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as client:
            quick = isinstance(request, (Interrupt, Answer, Status))
            client.settimeout(_PATIENCE if quick else _LONG)
            try:
                client.connect(_short(folder, fd))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            data = _encode(request)
            client.sendall(_HEAD.pack(len(data)) + data)
            (size,) = _HEAD.unpack(_read(client, _HEAD.size))
            return msgspec.msgpack.decode(_read(client, min(size, LONGEST)), type=Reply)
    except (OSError, msgspec.MsgspecError) as error:
        what = "in time" if isinstance(error, TimeoutError) else f"as it should: {error}"
        raise SessionError(
            f"the owner of session {folder.name!r} does not answer {what}"
        ) from error
    finally:
        os.close(fd)


def _bind(folder: Path) -> socket.socket:
    _remove(folder)
    served = socket.socket(socket.AF_UNIX)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            served.bind(_short(folder, fd))
        finally:
            os.close(fd)
        (folder / SOCKET).chmod(0o600)  # the directory is ours alone already
        served.setblocking(False)  # noqa: FBT003  the standard library's
    except BaseException:
        served.close()
        raise
    return served


def _remove(folder: Path) -> None:
    path = folder / SOCKET
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _read(client: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = client.recv(left)
        if not part:
            raise ConnectionResetError("it hung up")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _short(folder: Path, fd: int) -> str:
    """A name of the socket: its own holds 107 bytes at most, so Linux takes a way by the open directory."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) < 100:
        return path
    return f"/proc/self/fd/{fd}/{SOCKET}"


def _is_ours(peer: socket.socket) -> bool:
    """Whether the same user is at the other end; where the system does not tell, the mode says so."""
    kind = getattr(socket, "SO_PEERCRED", None)
    if kind is None:
        return True
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, kind, 12))
    return bool(uid in (os.getuid(), 0))
