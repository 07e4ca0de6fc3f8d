"""A piece of source and a cursor in; out come the words that could stand there, from the live namespace."""

from __future__ import annotations

import re
import rlcompleter
from typing import Any

_WORD = re.compile(r"[\w.]*$")


def complete(source: str, cursor: int, namespace: dict[str, Any]) -> tuple[str, ...]:
    """Completions of the dotted name before ``cursor``, sorted as found, without duplicates.

    Attributes are looked up on live objects, as ``rlcompleter`` does: a property that raises is left out.
    """
    match = _WORD.search(source[:cursor])
    word = match.group() if match else ""
    if not word:
        return ()
    completer = rlcompleter.Completer(namespace)
    found: dict[str, None] = {}
    state = 0
    while (text := completer.complete(word, state)) is not None:
        found[text] = None
        state += 1
    return tuple(found)
