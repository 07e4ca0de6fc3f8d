"""A pickle's bytes in, a short inline part and long cuts out; and the file that reads them again.

Whatever is long (a run of the pickle's frames, one big bytes or str) becomes a cut: a buffer of its own, so
that only its changed chunks are stored. The pickler calls ``Sink.write``, which is Python code,
every 64 KiB: other threads run then, however big the value is.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence

from pyrepl3.records import CHUNK

_FRAME = b"\x95"
_count, _position = struct.Struct("<I"), struct.Struct("<Q")


class StoppedError(BaseException):
    """Raised by the ``write`` of a sink that wants no more: not for user code to catch."""


class Sink:
    """The file that a pickler writes to."""

    __slots__ = ("_inline", "_positions", "_rest", "_run", "cuts", "size")

    def __init__(self) -> None:
        self._inline = bytearray()
        self._positions: list[int] = []  # of each cut, where it belongs in the inline part
        self.cuts: list[Sequence[bytes | memoryview]] = []
        self.size = 0
        self._run: list[bytes] = []  # chunks that are full
        self._rest = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """What a pickler calls: with a frame, with less, or with one big object's bytes as they are."""
        size = len(data)
        self.size += size
        if size >= CHUNK and bytes(data[:9]) != _FRAME + (size - 9).to_bytes(8, "little"):
            self.close()
            view = memoryview(data)
            self._cut([view[at : at + CHUNK] for at in range(0, size, CHUNK)])
            return size
        rest = self._rest
        rest += data
        while len(rest) >= CHUNK:
            self._run.append(bytes(rest[:CHUNK]))
            del rest[:CHUNK]
        return size

    def close(self) -> None:
        """End a run: to be called before the results are read."""
        if self._run:
            if self._rest:
                self._run.append(bytes(self._rest))
            self._cut(self._run)
            self._run = []
        else:
            self._inline += self._rest
        self._rest = bytearray()

    def _cut(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._positions.append(len(self._inline))
        self.cuts.append(pieces)

    def divert(self, write: Callable[[], object]) -> bytes:
        """What ``write`` writes, a few bytes; it is no part of the result."""
        write()
        data, self._rest = bytes(self._rest), bytearray()
        return data

    def getvalue(self) -> bytes:
        """The inline part, and before it where the cuts belong."""
        return pack_positions(self._positions) + bytes(self._inline)


def pack_positions(positions: Sequence[int] = ()) -> bytes:
    """What stands before an inline part."""
    return _count.pack(len(positions)) + b"".join(map(_position.pack, positions))


def unpack_positions(data: bytes, start: int) -> tuple[list[int], int]:
    """The positions, and where the inline part begins."""
    (count,) = _count.unpack_from(data, start)
    start += _count.size
    stop = start + count * _position.size
    return [_position.unpack_from(data, at)[0] for at in range(start, stop, _position.size)], stop


class Source(io.RawIOBase):
    """The inline part with the cuts put back in, for an unpickler to read."""

    def __init__(self, inline: bytes, positions: Sequence[int], cuts: Sequence[memoryview]) -> None:
        super().__init__()
        view, before = memoryview(inline), 0
        self._parts: list[memoryview] = []
        for position, cut in zip(positions, cuts, strict=True):
            self._parts += (view[before:position], cut)
            before = position
        self._parts.append(view[before:])
        self._parts.reverse()

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        """Fill ``target`` as far as there is something."""
        view = memoryview(target).cast("B")  # type: ignore[arg-type] # any buffer
        done = 0
        while done < len(view) and self._parts:
            part = self._parts.pop()
            some = part[: len(view) - done]
            view[done : done + len(some)] = some
            done += len(some)
            if len(some) < len(part):
                self._parts.append(part[len(some) :])
        return done

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes, or all that are left."""
        if size < 0:
            size = sum(map(len, self._parts))
        elif self._parts and len(self._parts[-1]) > size:
            part = self._parts.pop()
            self._parts.append(part[size:])
            return bytes(part[:size])
        data = bytearray(size)
        done = self.readinto(data)
        return bytes(data[:done])
