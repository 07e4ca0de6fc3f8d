"""An exception in; out comes its traceback with the user's frames and nobody else's, or the text of it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from pyrepl3.run.cancel import _OURS

if TYPE_CHECKING:
    from collections.abc import Iterator


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)


def trimmed(traceback: TracebackType | None) -> TracebackType | None:
    """``traceback`` without frames of ours, at its start or anywhere in it. None if none is left."""
    frames: list[TracebackType] = []
    found = False
    step = traceback
    while step is not None:
        if _is_ours(step.tb_frame.f_code.co_filename):
            found = True
        else:
            frames.append(step)
        step = step.tb_next
    if not found:
        return traceback
    # The common case keeps the objects: ours are the first frames only.
    if frames and _chain_length(frames[0]) == len(frames):
        return frames[0]
    result: TracebackType | None = None
    for frame in reversed(frames):
        # An interrupt may hit an instruction that belongs to no line.
        line = frame.tb_lineno or frame.tb_frame.f_code.co_firstlineno
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, line)
    return result


def _chain_length(traceback: TracebackType | None) -> int:
    length = 0
    while traceback is not None:
        length += 1
        traceback = traceback.tb_next
    return length


def trim(error: BaseException) -> BaseException:
    """Take our frames out of ``error`` and all that it carries: causes, contexts, groups."""
    for one in _related(error):
        one.__traceback__ = trimmed(one.__traceback__)
    return error


def _related(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    rest = [error]
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        rest += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            rest += one.exceptions


def format_error(error: BaseException, *, verbose: bool = True) -> str:
    """The text a user reads, ending in a newline. Never raises.

    Lines, columns and carets of cells, notes and groups whole. ``verbose=False``: the last line only.
    """
    import traceback  # noqa: PLC0415  no cell that succeeds needs it

    try:
        report = traceback.TracebackException.from_exception(error, compact=True)
        return "".join(report.format() if verbose else report.format_exception_only())
    except Exception as failure:  # noqa: BLE001  a __str__ or __repr__ of the user's that raises
        return f"{type(error).__name__}: <its text cannot be shown: {type(failure).__name__}>\n"
