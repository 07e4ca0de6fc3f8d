"""An exception in; out comes its traceback with the user's frames and nobody else's, or the text of it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CompilationError
from pyrepl3.run.points import is_ours
from pyrepl3.run.text import bounded
from pyrepl3.snapshot.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEEPEST = 2000  # frames whose source lines are looked up; Python's own limit of recursion is 1000
_ENDS = 500  # frames kept at either end of a deeper one

# Read past what a class of the user's may have put there: its property would be code that runs, or raises.
traceback_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__[
    "__traceback__"
].__get__
exceptions_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__[
    "exceptions"
].__get__
_get_cause: Any = BaseException.__dict__["__cause__"].__get__
_get_context: Any = BaseException.__dict__["__context__"].__get__
_with_traceback: Any = BaseException.with_traceback


def trimmed(traceback: TracebackType | None) -> TracebackType | None:
    """``traceback`` without frames of ours, at its start or anywhere in it. None if none is left."""
    frames: list[TracebackType] = []
    foreign = 0  # frames of the user's since the last of ours
    step = traceback
    while step is not None:
        code = step.tb_frame.f_code
        if is_ours(code.co_filename) or plain(code) is not code:
            foreign = 0
        else:
            foreign += 1
            frames.append(step)
        step = step.tb_next
    if foreign == len(frames):  # the common case keeps the objects: ours are the first frames only
        return frames[0] if frames else None
    return _chain(frames, None)


def _chain(frames: list[TracebackType], rest: TracebackType | None) -> TracebackType | None:
    """New traceback entries for ``frames``, in their order, with ``rest`` behind them."""
    for frame in reversed(frames):
        # An interrupt may hit an instruction that belongs to no line.
        line = frame.tb_lineno or frame.tb_frame.f_code.co_firstlineno
        rest = TracebackType(rest, frame.tb_frame, frame.tb_lasti, line)
    return rest


def trim(error: BaseException) -> BaseException:
    """Take our frames out of ``error`` and all that it carries: causes, contexts, groups. Never raises."""
    for one in _related(error):
        before = traceback_of(one)
        after = trimmed(before)
        if after is not before:
            _with_traceback(one, after)
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
        rest += [other for other in (_get_cause(one), _get_context(one)) if other is not None]
        if issubclass(type(one), BaseExceptionGroup):
            rest += exceptions_of(one)


def format_error(error: BaseException, *, verbose: bool = True) -> str:
    """The text a user reads, ending in a newline. Never raises an Exception.

    Lines, columns and carets of cells, notes and groups whole. ``verbose=False``: the last line only. At
    most ``text.LONGEST`` characters. The ``__str__`` of an exception is the user's code: it runs here.
    """
    import traceback  # noqa: PLC0415  no cell that succeeds needs it

    tb = _shortened(traceback_of(error))
    try:
        shown = _as_syntax_error(error) if type(error) is CompilationError else error
        if any(map(_is_endless, _related(error))):
            text = _format_frames(tb, error, "a group that gives other parts than it has")
        else:
            report = traceback.TracebackException(type(shown), shown, tb, compact=True)
            text = "".join(report.format() if verbose else report.format_exception_only())
    except Exception as failure:  # noqa: BLE001  an exception that the traceback module cannot take
        text = _format_frames(tb, error, f"its text cannot be shown: {type(failure).__name__}")
    return bounded(text)


def _format_frames(tb: TracebackType | None, error: BaseException, instead: str) -> str:
    """Where ``error`` was raised, and ``instead`` of what it says: nothing of it is asked."""
    import traceback  # noqa: PLC0415

    name = type.__dict__["__name__"].__get__(type(error))
    frames = "".join(traceback.format_tb(tb))
    return f"Traceback (most recent call last):\n{frames}{name}: <{instead}>\n"


def _is_endless(error: BaseException) -> bool:
    """A group with ``exceptions`` of its own: the traceback module would follow them for ever."""
    return issubclass(type(error), BaseExceptionGroup) and any(
        "exceptions" in vars(cls) for cls in type(error).__mro__ if cls is not BaseExceptionGroup
    )


def _as_syntax_error(error: CompilationError) -> SyntaxError:
    """The same error under the name that people know."""
    place = (error.filename, error.lineno, error.offset, error.text)
    shown = SyntaxError(error.msg, (*place, error.end_lineno, error.end_offset))
    shown.__cause__, shown.__context__ = error.__cause__, error.__context__
    shown.__suppress_context__ = error.__suppress_context__
    for note in getattr(error, "__notes__", ()):
        shown.add_note(note)
    return shown


def _shortened(traceback: TracebackType | None) -> TracebackType | None:
    """``traceback``, or its two ends where a raised limit let recursion go very deep."""
    frames: list[TracebackType] = []
    step = traceback
    while step is not None:
        frames.append(step)
        step = step.tb_next
    if len(frames) <= _DEEPEST:
        return traceback
    return _chain(frames[:_ENDS], frames[-_ENDS])
