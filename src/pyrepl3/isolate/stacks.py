"""Where each thread of this process is, as text: for whoever asks a worker why nothing happens."""

from __future__ import annotations

import sys
import threading
import traceback


def describe_stacks() -> str:
    """Where each thread is, for people."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines: list[str] = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  the documented way
        lines.append(f"thread {names.get(ident, ident)}:\n")
        lines += traceback.format_stack(frame)
    return "".join(lines)
