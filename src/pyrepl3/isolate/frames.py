"""The pipe protocol without the pipe: bytes in any pieces in, frames out; and frames to bytes.

A frame is a header, a head (a message, by msgpack) and parts (many bytes beside it). The parts follow
the head, or lie in shared memory whose file descriptor comes with the header; then only their length is
here. Nothing is copied but what spans two pieces. Whoever sends what is no frame is not listened to again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

VERSION = 1
MOST_HEAD = 64 * 1024 * 1024
"""Bytes of a head at most: a cell's source, or what it shows."""
MOST_INLINE = 256 * 1024 * 1024
"""Bytes of parts that may follow a head at most; more go by shared memory, where there is any."""
MOST_SHARED = 1 << 40
"""Bytes of parts in shared memory at most: whoever maps them sees to it that they are there."""

_MAGIC = b"P3"
_HEADER = struct.Struct(">2sBBIQ")  # magic, version, flags, length of the head, of the parts
_SHARED = 1
_SPARE = 2
_HANDS = 4

SPARE = _HEADER.pack(_MAGIC, VERSION, _SPARE, 0, 0)
"""The frame that a spare comes with."""


class FrameError(Exception):
    """What came is no frame: whoever sent it cannot be understood any more."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """``head`` and ``parts``, which are None where ``shared`` says that a file descriptor has them.

    ``size`` is the length of the parts in bytes. ``spare``: nothing but a file descriptor, of memory that
    whoever gets it may fill and send. ``hands``: a file descriptor comes with the message.
    """

    head: bytes
    parts: bytes | None = b""
    size: int = 0
    shared: bool = False
    spare: bool = False
    hands: bool = False


def header(head: int, parts: int = 0, *, shared: bool = False, hands: bool = False) -> bytes:
    """The header of a frame with a head and parts of these lengths. Raises FrameError if too long."""
    _check(head, parts, shared=shared)
    flags = (_SHARED if shared else 0) | (_HANDS if hands else 0)
    return _HEADER.pack(_MAGIC, VERSION, flags, head, parts)


class Reader:
    """Takes bytes as they come and gives whole frames. Raises FrameError once and for all."""

    def __init__(self, *, most_head: int = MOST_HEAD) -> None:
        self._most_head = most_head
        self._held = bytearray()
        self._need = _HEADER.size
        self._broken = False

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that ``data`` completes."""
        if self._broken:
            raise FrameError("nothing can be read after what was no frame")
        held = self._held
        # Mostly whole frames come: these are cut out of what was read, and held nowhere.
        source: bytes | bytearray | memoryview = data
        if held:
            held += data
            source = held
        at, size = 0, len(source)
        try:
            while size - at >= self._need:
                frame = self._cut(source, at)
                if frame is not None:
                    at += self._need
                    self._need = _HEADER.size
                    yield frame
        except FrameError:
            self._broken, at = True, size
            raise
        finally:
            if source is held:
                del held[:at]
            else:
                held += source[at:]

    @property
    def idle(self) -> bool:
        """Whether no part of a frame is held."""
        return not self._held

    def _cut(self, source: bytes | bytearray | memoryview, at: int) -> Frame | None:
        """The frame that begins there; None: there is more of it to come, which ``_need`` tells then."""
        magic, version, flags, head, parts = _HEADER.unpack_from(source, at)
        if magic != _MAGIC:
            raise FrameError(f"not a frame: it starts with {bytes(magic)!r}")
        if version != VERSION:
            raise FrameError(f"frames of version {version}, and {VERSION} is spoken here")
        known = flags in (0, _SHARED, _SPARE, _HANDS)
        if not known or (flags & _SPARE and (head or parts)):
            raise FrameError(f"a frame with unknown flags {flags:#x}")
        shared = bool(flags & _SHARED)
        _check(head, parts, shared=shared, most_head=self._most_head)
        start = at + _HEADER.size
        after = start + head
        end = after if shared else after + parts
        self._need = end - at
        if len(source) < end:
            return None
        return Frame(
            head=bytes(source[start:after]),
            parts=None if shared else bytes(source[after:end]),
            size=parts,
            shared=shared,
            spare=bool(flags & _SPARE),
            hands=bool(flags & _HANDS),
        )


def _check(head: int, parts: int, *, shared: bool, most_head: int = MOST_HEAD) -> None:
    if head > most_head:
        raise FrameError(f"a message of {head:,} bytes; {most_head:,} are allowed")
    most = MOST_SHARED if shared else MOST_INLINE
    if parts > most:
        raise FrameError(f"{parts:,} bytes beside a message; {most:,} are allowed")
