"""Coroutines of cells that nobody awaited in, warnings that name the cell's line out.

Python's own names the line that happened to drop the coroutine: often one of ours, or the collector's.
"""

from __future__ import annotations

import warnings
from typing import Any

from pyrepl3.run.sources import is_cell


class Unawaited:
    """Warns of coroutines that cells made, where they were made, until ``end``."""

    def __init__(self) -> None:
        # CPython looks it up here each time (Python/_warnings.c, _PyErr_WarnUnawaitedCoroutine).
        self._before = before = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001

        def warn_unawaited(coro: Any) -> None:
            origin = coro.cr_origin
            if not origin or not is_cell(origin[0][0]):
                before(coro)
                return
            text = f"coroutine {coro.__qualname__!r} was never awaited"
            warnings.warn_explicit(text, RuntimeWarning, origin[0][0], origin[0][1])

        self._ours = warn_unawaited
        warnings._warn_unawaited_coroutine = warn_unawaited  # type: ignore[attr-defined]  # noqa: SLF001

    def end(self) -> None:
        """Undo it, where nobody has put something else there since."""
        if warnings._warn_unawaited_coroutine is self._ours:  # type: ignore[attr-defined]  # noqa: SLF001
            warnings._warn_unawaited_coroutine = self._before  # type: ignore[attr-defined]  # noqa: SLF001
