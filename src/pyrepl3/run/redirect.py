"""``contextlib.redirect_stdout`` in a cell redirects that cell; elsewhere it does what it always did.

The standard library's swaps ``sys.stdout`` for the whole process, so what other sessions print
meanwhile would land in this cell's buffer. Tasks and threads of the cell are redirected with it.
"""

from __future__ import annotations

import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from pyrepl3.run.speaker import speaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.records import Stream
    from pyrepl3.run.sink import Sink


class Block:
    """One ``with redirect_stdout(target)`` of a cell that has been entered."""

    __slots__ = ("_sink", "_stream", "before", "busy", "target")

    def __init__(self, sink: Sink, stream: Stream, target: Any) -> None:
        self.target = target
        self.before = sink.blocks.get(stream)
        self._sink = sink
        self._stream = stream
        self.busy: set[int] = set()
        sink.blocks[stream] = self

    def leave(self) -> None:
        """Go back to what was there before."""
        if self.before is None:
            self._sink.blocks.pop(self._stream, None)
        else:
            self._sink.blocks[self._stream] = self.before

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the target; while it runs, what it writes itself goes to ``before``.

        A target may write on to the stream that it found: a tee does.
        """
        me = threading.get_ident()
        self.busy.add(me)
        try:
            return function(*arguments)
        finally:
            self.busy.discard(me)

    def current(self) -> Block | None:
        """The block that holds here: this one, or one around it if this thread is inside a call of it."""
        block: Block | None = self
        while block is not None and threading.get_ident() in block.busy:
            block = block.before
        return block


class Redirecting:
    """Makes the two context managers of ``contextlib`` do this until ``end``."""

    def __init__(self) -> None:
        self._patches = [(cls, *_patch(cls)) for cls in (redirect_stdout, redirect_stderr)]

    def end(self) -> None:
        """Undo it, where nobody has put something else there since."""
        for cls, enter, leave in self._patches:
            if cls.__dict__.get("__enter__") is enter:
                del cls.__enter__
            if cls.__dict__.get("__exit__") is leave:
                del cls.__exit__


def _patch(cls: Any) -> tuple[Any, Any]:
    # Both inherit from one private class, so that what is put on them here hides it and nothing is lost.
    stream: Stream = cls._stream
    original_enter, original_exit = cls.__enter__, cls.__exit__

    def __enter__(self: Any) -> Any:  # noqa: N807
        execution = speaker()
        routed = getattr(getattr(sys, stream), "routes_cells", False)
        if execution is None or execution.sink is None or not routed:
            return original_enter(self)
        self._old_targets.append(Block(execution.sink, stream, self._new_target))
        return self._new_target

    def __exit__(self: Any, *raised: Any) -> Any:  # noqa: N807
        if isinstance(self._old_targets[-1], Block):
            self._old_targets.pop().leave()
            return None
        return original_exit(self, *raised)

    cls.__enter__, cls.__exit__ = __enter__, __exit__
    return __enter__, __exit__
