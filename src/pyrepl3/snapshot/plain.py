"""Code that stands in for a function's own in, the function's own out: what is stored, compared and shown.

A compiled function keeps its identity: only its code is another one for a while, which calls the engine.
"""

from __future__ import annotations

from types import CodeType

_PLAIN: dict[int, tuple[CodeType, CodeType]] = {}  # by id: equal code may be another function's


def stand_in(code: CodeType, plain: CodeType) -> None:
    """From now on ``code`` stands in for ``plain``. Any thread."""
    _PLAIN[id(code)] = code, plain


def stand_down(code: CodeType) -> None:
    """Undo ``stand_in``. Frames may still run ``code``. Any thread."""
    _PLAIN.pop(id(code), None)


def plain(code: CodeType) -> CodeType:
    """The code that a person wrote. Any thread."""
    if not _PLAIN:
        return code
    found = _PLAIN.get(id(code))
    return code if found is None or found[0] is not code else found[1]
