"""An open file in, what pickle is to write for it out: its path, mode and position; and the file again.

The file is opened where it stood and as it was, never truncated and never created: what is not there
any more is lost, by name. Only regular files that still have the path they were opened by.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from pyrepl3.snapshot.reasons import UnstorableError, find_words

if TYPE_CHECKING:
    from pyrepl3.snapshot.commons import Pickling

_STANDARD = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def reduce_file(pickler: Pickling, value: Any) -> Any:
    """For the file types of ``io``, as ``open`` makes them."""
    del pickler
    for name in _STANDARD:
        if getattr(sys, name, None) is value:
            return getattr, (sys, name)
    words = find_words(type(value)) or "an open file"
    if value.closed:
        raise UnstorableError(words, value)
    path = _path_of(value)
    if path is None:
        raise UnstorableError(f"{words} that no path leads to", value)
    is_text = hasattr(value, "encoding")
    try:
        position = value.tell() if value.seekable() else None  # it writes out what waits
    except OSError:
        raise UnstorableError(f"{words} in the midst of a loop over its lines", value) from None
    text = None
    if is_text:
        text = (value.encoding, value.errors, value.line_buffering, value.write_through)
    raw = type(value).__name__ == "FileIO"
    return open_again, (path, value.mode, position, text, raw)


def _path_of(value: Any) -> str | None:
    try:
        name, descriptor = value.name, value.fileno()
        if type(name) not in (str, bytes):
            return None
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - it may be no Path's text
        now, there = os.fstat(descriptor), os.stat(path)  # noqa: PTH116
    except (OSError, ValueError, AttributeError):
        return None
    return path if stat.S_ISREG(now.st_mode) and os.path.samestat(now, there) else None


def open_again(
    path: str, mode: str, position: int | None, text: tuple[Any, ...] | None, raw: object
) -> Any:
    """What blobs call. Raises OSError where the file cannot be opened."""
    options: dict[str, Any] = {}
    if text is not None:
        options = {"encoding": text[0], "errors": text[1]}
    elif raw:
        options = {"buffering": 0}
    if "b" not in mode and text is None:
        mode += "b"
    opened: Any = open(path, mode, opener=_open_as_it_is, **options)  # noqa: SIM115
    if text is not None:
        opened.reconfigure(line_buffering=text[2], write_through=text[3])
    if position is not None:
        opened.seek(position)
    return opened


def _open_as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags & ~(os.O_TRUNC | os.O_CREAT | os.O_EXCL))
