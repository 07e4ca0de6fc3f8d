"""A piece of source and a cursor in; out come the words that could stand there, from the live namespace."""

from __future__ import annotations

import builtins
import keyword
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# A dotted name at the end, unless it goes on from a call, a subscript or a number: those are not evaluated.
_WORD = re.compile(r"(?<![\w.)\]}\"'])(?:[^\W\d]\w*\.)*(?:[^\W\d]\w*)?\Z")


def complete(source: str, cursor: int, namespace: Mapping[str, Any]) -> tuple[str, ...]:
    """Completions of the dotted name before ``cursor``, as whole words, sorted, without duplicates.

    Names of keywords, of the namespace and of builtins; behind a dot the attributes that ``dir`` gives,
    looked up on live objects: the properties on the way to the last dot run, those behind it do not.
    Names with a leading underscore only where one is written. Nothing for an empty word, a position
    outside of ``source``, or where the user's code raises.
    """
    match = _WORD.search(source[: max(cursor, 0)])
    word = match.group() if match else ""
    if not word:
        return ()
    path, dot, start = word.rpartition(".")
    if not dot:
        names: Iterable[object] = {*keyword.kwlist, *dir(builtins), *list(namespace)}
    else:
        try:
            names = dir(_look_up(path, namespace))
        except BaseException:  # noqa: BLE001  a property or __dir__ of the user's; nobody asked it to run
            return ()
    return tuple(
        path + dot + name
        for name in sorted({name for name in names if isinstance(name, str)})
        if name.startswith(start) and (start.startswith("_") or not name.startswith("_"))
    )


def _look_up(path: str, namespace: Mapping[str, Any]) -> Any:
    first, *rest = path.split(".")
    value = namespace[first] if first in namespace else getattr(builtins, first)
    for name in rest:
        value = getattr(value, name)
    return value
