"""After a cell: what it may not leave broken for others is put back, and its observer told so.

Only what the process and later cells cannot do without: routed streams, builtins, ``sys.modules``, a
usable limit of recursion. Everything else that a cell changes in the process stays changed.
"""

from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.run.execution import Execution
    from pyrepl3.run.output import Routing

# Bound here: a cell may have deleted the builtins that this module would need.
_len, _list, _getlimit = len, list, sys.getrecursionlimit

_builtins = vars(builtins)
_builtins_then = dict(_builtins)
_builtins_seen = _len(_builtins)
_modules = sys.modules
_modules_then = dict(_modules)
_limit_then = _getlimit()


def tidy(execution: Execution, routing: Routing) -> None:
    """Show the last output of a cell, and mend. Never raises. Any thread."""
    mended = _mend()
    mended += [f"sys.{name}" for name in routing.end(execution)]
    sink = execution.sink
    assert sink is not None
    sink.end()
    if mended:
        text = (
            f"cell {execution.cell.n} left {', '.join(mended)} changed; put back for the next cells"
        )
        sink.notice("put-back", text)


def _mend() -> list[str]:
    global _builtins_seen  # noqa: PLW0603  what was seen last, in one process
    mended = []
    if _len(_builtins) < _builtins_seen:
        missing = [name for name in _builtins_then if name not in _builtins]
        for name in missing:
            _builtins[name] = _builtins_then[name]
        if missing:
            mended.append("builtins")
    _builtins_seen = _len(_builtins)
    if sys.modules is not _modules or "pyrepl3" not in _modules or "sys" not in _modules:
        sys.modules = _modules
        for name, module in _modules_then.items():
            _modules.setdefault(name, module)
        mended.append("sys.modules")
    if _getlimit() < _limit_then and _getlimit() < 1000:
        sys.setrecursionlimit(_limit_then)
        mended.append("the recursion limit")
    return mended
