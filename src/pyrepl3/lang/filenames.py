"""Code objects in, the same code under another file name out."""

from __future__ import annotations

import _imp
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What the import system does, in place, to code that it reads from a .pyc file.
_rename: Callable[[CodeType, str], None] | None = getattr(_imp, "_fix_co_filename", None)
_count: Callable[[Any], int] = getattr(sys, "getrefcount", lambda _: 0)


def renamed_code(code: CodeType, filename: str) -> CodeType:
    """A copy of ``code``, and of the code in it, with another file name in its tracebacks."""
    consts = code.co_consts
    for const in consts:
        if type(const) is CodeType:
            consts = tuple(
                renamed_code(const, filename) if type(const) is CodeType else const
                for const in consts
            )
            return code.replace(co_filename=filename, co_consts=consts)
    return code.replace(co_filename=filename)


def lent_code(code: CodeType, filename: str) -> CodeType:
    """``code``, which has no code in it, under another file name: itself, where nobody can tell, or a copy.

    Nobody can where only two refer to it: who keeps it, and the variable of who calls this. Each frame,
    traceback, coroutine or tool that has it is one more, and what they saw must stay as it was. Renaming
    takes a tenth of the time of a copy, which the interpreter would have to specialise again. Any thread.
    """
    if _rename is None or _count(code) != _UNSHARED:
        return code.replace(co_filename=filename)
    _rename(code, filename)
    return code


def _seen(code: CodeType) -> int:
    return _count(code)


def _count_unshared() -> int:
    """What ``lent_code`` counts for code that nobody else has; it differs between versions of Python."""
    kept = [compile("0", "<kept>", "exec")]
    code = kept[0]
    return _seen(code)


_UNSHARED = -1
if hasattr(sys, "getrefcount") and getattr(sys, "_is_gil_enabled", lambda: True)():
    # Elsewhere a count tells nothing: always a copy.
    _UNSHARED = _count_unshared()
