"""The sessions of a store in, a table out; and their removal."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.engine.stored import sessions
from pyrepl3.errors import PyREPL3Error

if TYPE_CHECKING:
    from pyrepl3.engine.stored import SessionInfo

_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def run_list(options: argparse.Namespace) -> int:
    """Print the sessions of a store, by name. Returns the exit status."""
    directory = sessions(options.store)
    try:
        found = directory.list()
    except PyREPL3Error as error:
        print(f"pyrepl3: {error}", file=sys.stderr)
        return 2
    if options.json:
        for info in found:
            print(msgspec.json.encode(info).decode())
        return 0
    if not found:
        print(f"no sessions in {directory.root}; `pyrepl3 --session NAME` starts one")
        return 0
    print("\n".join(session_lines(found)))
    return 0


def session_lines(found: Sequence[SessionInfo], *, mine: str = "") -> list[str]:
    """A table of sessions; ``mine`` is the one that this process has open. Nothing for none."""
    if not found:
        return []
    rows = [("NAME", "CELLS", "SIZE", "LAST USED", "")]
    rows += [
        (
            info.name,
            "?" if info.epochs is None else str(info.epochs),
            readable_size(info.size),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(info.last_used)),
            "this one" if info.name == mine else state(info.epochs, info.in_use_pid),
        )
        for info in found
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    return [
        f"{name:{widths[0]}}  {cells:>{widths[1]}}  {size:>{widths[2]}}  "
        f"{used:{widths[3]}}  {what}".rstrip()
        for name, cells, size, used, what in rows
    ]


def state(epochs: int | None, pid: int | None) -> str:
    """What is special about a session, in words."""
    if pid is not None:
        return f"in use by pid {pid}"
    return "cannot be read" if epochs is None else ""


def readable_size(size: int) -> str:
    """Bytes, for people."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


def run_remove(options: argparse.Namespace) -> int:
    """Remove sessions by name. Returns 0, or 2 if one could not be removed; the others are."""
    directory = sessions(options.store)
    status = 0
    for name in options.names:
        try:
            directory.remove(name)
        except (PyREPL3Error, ValueError) as error:
            print(f"pyrepl3: {error}", file=sys.stderr)
            status = 2
        else:
            print(f"removed session {name}")
    return status
