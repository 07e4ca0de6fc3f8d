"""An exception in, what pickle is to write for it out: type, arguments, causes and the traceback's text.

The traceback itself holds frames, which cannot be stored. An exception that cannot be stored whole
becomes one that looks the same.
"""

from __future__ import annotations

import io
from typing import Any

from pyrepl3.snapshot import rebuild_values
from pyrepl3.snapshot.commons import Pickling
from pyrepl3.snapshot.reasons import safe_text

_LONGEST = 50_000  # characters of a traceback that are kept
_HEAP = 1 << 9


def reduce_exception(pickler: Pickling, error: BaseException) -> Any:
    cls = type(error)
    text = (
        cls.__module__,
        cls.__qualname__,
        isinstance(error, Exception),
        safe_text(error) if not error.args or type(error.args[0]) is not str else _text(error),
    )
    links = (error.__cause__, error.__context__, error.__suppress_context__)
    try:
        reduced = _reduce(error, text)
        if pickler.trial_depth < 3:
            _try_out(pickler, reduced)
    except BaseException:  # noqa: BLE001 - user code; what it looked like is kept
        reduced = rebuild_values.make_standin, text, None
    function, args, fields = reduced
    if fields is None or type(fields) is dict:
        fields = dict(fields or {})
        notes = getattr(error, "__notes__", None)
        if type(notes) is list and all(type(note) is str for note in notes):
            fields["__notes__"] = notes
        shown = _traceback_text(error)
        if shown is not None:
            fields["traceback_text"] = shown
    return function, args, (fields or None, *links), None, None, rebuild_values.set_exception


def _reduce(error: BaseException, text: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    reduced: Any = error.__reduce_ex__(5)
    function, args = reduced[:2]
    fields = reduced[2] if len(reduced) > 2 else None
    if isinstance(error, NameError) and error.name is not None:
        fields = {**(fields or {}), "name": error.name}  # 3.13 forgets it
    if function is type(error) and _reduces_as_built_in(function):
        return rebuild_values.make_exception, (function, args, text), fields
    return rebuild_values.call_exception, (function, args, text), fields


def _reduces_as_built_in(cls: type[BaseException]) -> bool:
    for base in cls.__mro__:
        if "__reduce__" in vars(base) or "__reduce_ex__" in vars(base):
            return not base.__flags__ & _HEAP
    return True


def _try_out(pickler: Pickling, reduced: tuple[Any, Any, Any]) -> None:
    """Raises what storing these parts raises; what it writes is thrown away."""
    trial = type(pickler)(io.BytesIO(), pickler.commons, pickler.roots)
    trial.trial_depth = pickler.trial_depth + 1
    trial.dump(reduced[1:])


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - the user's own __str__
        return "<no text>"


def _traceback_text(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        return None
    import traceback

    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
    except BaseException:  # noqa: BLE001 - it calls the user's __str__
        return None
    return "".join(lines)[-_LONGEST:]
