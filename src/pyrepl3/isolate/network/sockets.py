"""Python's own sockets, in a confined worker whose policy lists hosts: TCP connections through the host.

The methods of ``socket.socket`` are replaced in place, so that those who have the class already, and its
subclasses (``ssl``), have them too. A socket begins as one end of a pair without another; ``connect`` puts
the end that the host gives in its place. From there on the kernel does the work: ``recv``, ``send``,
timeouts, ``select`` are not ours. No wall: whoever gets around this meets the kernel, which gives no
other sockets.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
from collections.abc import Callable
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.isolate.network.book import read_address
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.places import wait

if TYPE_CHECKING:
    from pyrepl3.isolate.network.asking import Asking, Dialing

_NET = (socket.AF_INET, socket.AF_INET6)
_KEPT = 256  # connections until those that are closed are forgotten
_SOON = 5.0  # seconds that the host's word may come behind its deed
_OURS = "this session is confined: it may connect to what its policy lists, and "


class _Made:
    """A connection of a socket: where to, and what came of it."""

    __slots__ = ("dialing", "fd", "peer", "told")

    def __init__(self, fd: int, dialing: Dialing, peer: tuple[Any, ...]) -> None:
        self.fd, self.dialing, self.peer = fd, dialing, peer
        self.told = False
        """Whether somebody who did not wait has been told what came of it."""

    def settled(self) -> bool:
        """Whether it is known what came of it."""
        made = self.dialing.made
        if not made.done():
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            if poll.poll(0):  # the host's word is on its way
                wait_for([made], _SOON)
        return made.done()

    def error(self) -> OSError | None:
        """Why there is no connection; None where there is one. To be asked when it is done."""
        error = self.dialing.made.exception()
        assert error is None or isinstance(error, OSError)
        return error


class Sockets:
    """What replaces the methods of sockets. ``asking`` reaches the host."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._made: dict[int, _Made] = {}
        """By the number of the inode, which is that of one socket."""
        asking.when_reset = self._reset

    # --- sockets ----------------------------------------------------------------------------------

    def begin(self, family: int, kind: int, proto: int) -> int:
        """A descriptor for a new socket. Raises PermissionError for what is none of TCP."""
        plain = kind & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if family not in _NET or plain != socket.SOCK_STREAM or proto not in (0, 6):
            raise PermissionError(errno.EACCES, _OURS + "only by TCP")
        here, there = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        there.close()
        return here.detach()

    def connect(self, sock: Any, address: Any) -> None:
        """As ``socket.connect``."""
        made = self._find(sock)
        if made is not None:
            if not made.settled():
                raise OSError(errno.EALREADY, os.strerror(errno.EALREADY))
            if made.error() is None:
                if made.told:
                    raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
                made.told = True
                return
        made = self._dial(sock, *address[:2])
        seconds = sock.gettimeout()
        if seconds == 0:
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
        try:
            wait(made.dialing.made, CURRENT.get(), seconds)
        except TimeoutError:
            if made.dialing.made.done():
                raise
            raise TimeoutError("timed out") from None
        finally:
            made.told = made.dialing.made.done()

    def _dial(self, sock: Any, host: Any, port: int) -> _Made:
        name = _read_name(host)
        address = read_address(name)
        if address is None:
            want = 4 if sock.family == socket.AF_INET else 6
            found = map(read_address, self._asking.find(name, port))
            address = next((a for a in found if a is not None and a.version == want), None)
            if address is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not 0 < port < 65536:
            raise OverflowError("connect(): port must be 1-65535.")
        dialing, fd = self._asking.dial(address, port)
        try:
            os.set_blocking(fd, sock.gettimeout() is None)
            os.dup2(fd, sock.fileno(), inheritable=False)
        finally:
            os.close(fd)
        peer: tuple[Any, ...] = (str(address), port)
        if sock.family == socket.AF_INET6:
            peer = (str(address) if address.version == 6 else f"::ffff:{address}", port, 0, 0)
        made = _Made(sock.fileno(), dialing, peer)
        self._forget()
        self._made[os.fstat(made.fd).st_ino] = made
        return made

    def peer(self, sock: Any) -> tuple[Any, ...]:
        """As ``socket.getpeername``."""
        made = self._find(sock)
        if made is None or not made.settled() or made.error() is not None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return made.peer

    def pending_error(self, sock: Any) -> int:
        """What the option SO_ERROR says: what came of ``connect``, once."""
        made = self._find(sock)
        if made is None or made.told or not made.settled():
            return 0
        made.told = True
        error = made.error()
        return 0 if error is None else error.errno or errno.EIO

    def _reset(self, n: int) -> None:
        """Write what the host is not going to read: then its end, when closed, resets ours."""
        for inode, made in list(self._made.items()):
            if made.dialing.n == n:
                with suppress(OSError), socket.socket(fileno=os.dup(made.fd)) as end:
                    if os.fstat(end.fileno()).st_ino == inode:
                        end.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _find(self, sock: Any) -> _Made | None:
        return self._made.get(os.fstat(sock.fileno()).st_ino)

    def _forget(self) -> None:
        if len(self._made) < _KEPT:
            return
        for inode, made in list(self._made.items()):
            try:
                gone = os.fstat(made.fd).st_ino != inode
            except OSError:
                gone = True
            if gone:
                self._made.pop(inode, None)

    # --- names ------------------------------------------------------------------------------------

    def find(
        self, host: Any, port: Any, family: int, kind: int, proto: int, flags: int
    ) -> list[Any]:
        """As ``_socket.getaddrinfo``."""
        known = _known(host)
        if known is None or read_address(known) is not None or flags & socket.AI_NUMERICHOST:
            # What asks nobody.
            flags |= 0 if known is None else socket.AI_NUMERICHOST
            return _getaddrinfo(host, port, family, kind, proto, flags)
        number = _read_port(port)
        addresses = self._asking.find(known, number or None)
        found: list[Any] = []
        for text in addresses:
            is_4 = ":" not in text
            its = socket.AF_INET if is_4 else socket.AF_INET6
            if family in (0, its):
                where: tuple[Any, ...] = (text, number) if is_4 else (text, number, 0, 0)
                name = known if flags & socket.AI_CANONNAME and not found else ""
                found.append((its, kind or socket.SOCK_STREAM, proto or 6, name, where))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


_getaddrinfo = _socket.getaddrinfo


def _known(host: Any) -> str | None:
    """The name that is asked for; None where none is."""
    return None if host is None or host in ("", b"") else _read_name(host)


def _read_name(host: Any) -> str:
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    if not isinstance(host, str):
        raise TypeError("a host is a str, bytes or None")
    if not host.isascii():
        with suppress(UnicodeError):
            host = host.encode("idna").decode()
    return str(host).lower().removesuffix(".")


def _read_port(port: Any) -> int:
    if isinstance(port, (bytes, str)):
        text = port.decode("ascii", "replace") if isinstance(port, bytes) else port
        if text.isdigit():
            return int(text)
        try:
            return socket.getservbyname(text) if text else 0
        except OSError:
            raise socket.gaierror(
                socket.EAI_SERVICE, "Servname not supported for ai_socktype"
            ) from None
    return int(port or 0)


# --- in the place of Python's own --------------------------------------------------------------------

_first: dict[str, Callable[..., Any]] = {
    name: getattr(socket.socket, name)
    for name in "__init__ connect bind listen getpeername getsockname getsockopt setsockopt".split()
}


class _Methods:
    """The methods of ``socket.socket`` that are replaced. Sockets of other families go the first way."""

    ours: Sockets
    family: int

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002  the original's
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is not None or family == socket.AF_UNIX:
            _first["__init__"](self, family, type, proto, fileno)
            return
        family = socket.AF_INET if family == -1 else family
        kind = socket.SOCK_STREAM if type == -1 else type
        fd = _Methods.ours.begin(family, kind, max(proto, 0))
        try:
            _first["__init__"](self, family, kind, max(proto, 0), fd)
        except BaseException:
            os.close(fd)
            raise

    def connect(self, address: Any) -> None:
        if self.family not in _NET:
            _first["connect"](self, address)
        else:
            _Methods.ours.connect(self, address)

    def connect_ex(self, address: Any) -> int:
        try:
            _Methods.connect(self, address)
        except socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def bind(self, address: Any) -> None:
        if self.family not in _NET:
            _first["bind"](self, address)
        elif address[0] not in ("", "0.0.0.0", "::") or address[1]:  # noqa: S104  nothing is bound
            raise PermissionError(errno.EACCES, _OURS + "from no address of its own")

    def listen(self, *backlog: int) -> None:
        if self.family not in _NET:
            _first["listen"](self, *backlog)
        else:
            raise PermissionError(errno.EACCES, _OURS + "serves nobody")

    def getpeername(self) -> Any:
        return _Methods.ours.peer(self) if self.family in _NET else _first["getpeername"](self)

    def getsockname(self) -> Any:
        if self.family not in _NET:
            return _first["getsockname"](self)
        return ("0.0.0.0", 0) if self.family == socket.AF_INET else ("::", 0, 0, 0)  # noqa: S104

    def getsockopt(self, level: int, option: int, *size: int) -> Any:
        if self.family in _NET:
            if level != socket.SOL_SOCKET:
                return bytes(*size) if size else 0
            if option == socket.SO_ERROR and not size:
                return _Methods.ours.pending_error(self) or _first["getsockopt"](
                    self, level, option
                )
        return _first["getsockopt"](self, level, option, *size)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        # What is said of TCP or IP is for the host's own connection, which sends at once.
        if self.family not in _NET or level == socket.SOL_SOCKET:
            _first["setsockopt"](self, level, option, *value)


def install(asking: Asking) -> None:
    """Replace the methods of ``socket.socket``, and the functions that look names up. For ever."""
    ours = _Methods.ours = Sockets(asking)
    for name in (*_first, "connect_ex"):
        method, original = vars(_Methods)[name], getattr(socket.socket, name)
        method.__qualname__, method.__doc__ = f"socket.{name}", original.__doc__
        setattr(socket.socket, name, method)

    def getaddrinfo(
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002  the original's
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        return ours.find(host, port, family, type, proto, flags)

    def gethostbyname(hostname: str) -> str:
        return str(ours.find(hostname, 0, socket.AF_INET, 0, 0, 0)[0][4][0])

    def gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
        found = ours.find(hostname, 0, socket.AF_INET, 0, 0, 0)
        return hostname, [], [str(entry[4][0]) for entry in found]

    module: Any = _socket
    module.getaddrinfo = getaddrinfo  # socket.getaddrinfo calls it
    for function in (gethostbyname, gethostbyname_ex):
        setattr(module, function.__name__, function)
        setattr(socket, function.__name__, function)
