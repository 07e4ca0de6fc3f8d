"""stdout, stderr and input of cells: to and from the cell that caused them, from any task or thread.

While a ``Routing`` is open, ``sys.stdout``, ``sys.stderr``, ``sys.stdin``, ``input`` and ``getpass`` are
routers. Each asks ``CURRENT`` (or the thread's origin) which cell is speaking; code of nobody's cell
passes to the streams that were there before. Routings are counted: the last to close puts them back.
"""

from __future__ import annotations

import builtins
import io
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import CellInterrupt, LimitExceededError
from pyrepl3.records import Notice, Output, Stream
from pyrepl3.run.execution import CURRENT, Execution
from pyrepl3.run.watchdog import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyrepl3.ports import Observer

_PIECE = 256 * 1024  # characters an event at most, so that one huge print can be cut and shown
_PENDING = 8 * 1024  # characters held back at most, like the buffer of a text file
_LATE = 0.05  # seconds until held text is shown although no line ended


class Sink:
    """Where the output of one cell goes: events to its observer, lines together.

    Text is held until a line ends, ``flush``, 8 KiB or 50 ms, whichever is first. ``allowed`` is the
    output limit in bytes; what exceeds it is dropped and ``exceeded`` called once. Any thread.
    """

    def __init__(
        self,
        cell_id: str,
        observe: Observer,
        *,
        allowed: int | None = None,
        exceeded: Callable[[LimitExceededError], None] | None = None,
    ) -> None:
        self._cell_id = cell_id
        self._observe = observe
        self._allowed = allowed
        self._exceeded = exceeded
        self._used = 0
        self._cut = False
        self._lock = threading.RLock()
        self._held: list[str] = []
        self._held_size = 0
        self._held_stream: Stream = "stdout"
        self._late: Any = None

    def write(self, stream: Stream, text: str) -> None:
        """Take ``text``. Raises CellInterrupt in the cell's own code once the limit is reached."""
        with self._lock:
            if self._allowed is not None:
                text = self._count(text)
            if not text:
                if self._cut:
                    raise CellInterrupt
                return
            if stream != self._held_stream:
                self._emit()
                self._held_stream = stream
            self._held.append(text)
            self._held_size += len(text)
            if "\n" in text or self._held_size >= _PENDING:
                self._emit()
            elif self._late is None:
                self._late = WATCHDOG.call_later(_LATE, self.flush)
            if self._cut:
                self._emit()
                raise CellInterrupt

    def _count(self, text: str) -> str:
        assert self._allowed is not None
        if self._cut:
            return ""
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self._used += size
        if self._used <= self._allowed:
            return text
        self._cut = True
        room = self._allowed - (self._used - size)
        error = LimitExceededError("output", self._used, self._allowed)
        if self._exceeded is not None:
            self._exceeded(error)
        return text.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore")

    def _emit(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if not self._held:
            return
        text = "".join(self._held)
        self._held.clear()
        self._held_size = 0
        stream = self._held_stream
        for start in range(0, len(text), _PIECE):
            piece = text if len(text) <= _PIECE else text[start : start + _PIECE]
            self.emit(Output(cell_id=self._cell_id, stream=stream, text=piece))

    def emit(self, event: Any) -> None:
        """Tell the observer. What it raises is reported on the real stderr, never to the cell."""
        token = CURRENT.set(None)  # what the observer prints is not the cell's
        try:
            self._observe(event)
        except Exception:  # an observer's fault is the host's, not the cell's: report, go on
            sys.excepthook(*sys.exc_info())
        finally:
            CURRENT.reset(token)

    def display(self, event: Any) -> None:
        """Tell the observer of a rich value, after the text written before it."""
        with self._lock:
            self._emit()
            self.emit(event)

    def notice(self, kind: str, text: str) -> None:
        """Tell the observer something of ours."""
        self.display(Notice(cell_id=self._cell_id, kind=kind, text=text))

    def flush(self) -> None:
        """Show what is held."""
        with self._lock:
            self._emit()


# --- who is speaking --------------------------------------------------------------------------

_origins: weakref.WeakKeyDictionary[threading.Thread, Execution] = weakref.WeakKeyDictionary()


def speaker() -> Execution | None:
    """The execution whose code this is called from, or None."""
    execution = CURRENT.get()
    if execution is None and _origins:
        execution = _origins.get(threading.current_thread())
    return execution


class _Buffer(io.RawIOBase):
    """``sys.stdout.buffer``: bytes of a cell become text of the cell."""

    def __init__(self, stream: _OutRouter) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        execution = speaker()
        if execution is None or execution.sink is None:
            return int(self._stream.original.buffer.write(data))
        execution.sink.write(self._stream.name_, bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


class _OutRouter(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr."""

    def __init__(self, name: Stream, original: Any) -> None:
        self.name_: Stream = name
        self.original = original
        self._buffer = _Buffer(self)

    def write(self, text: str, /) -> int:
        execution = speaker()
        if execution is None or execution.sink is None:
            return int(self.original.write(text) or 0)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        execution.sink.write(self.name_, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        execution = speaker()
        if execution is None or execution.sink is None:
            if not self.original.closed:
                self.original.flush()
        else:
            execution.sink.flush()

    def isatty(self) -> bool:
        execution = speaker()
        return bool(self.original.isatty()) if execution is None or execution.sink is None else False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.original.fileno())

    def close(self) -> None:
        """Do nothing: a cell cannot close the process's streams."""

    @property
    def buffer(self) -> Any:
        return self._buffer

    @property
    def name(self) -> str:
        return f"<{self.name_}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self.original, "encoding", None) or "utf-8")

    @property
    def errors(self) -> str:  # type: ignore[override]
        return str(getattr(self.original, "errors", None) or "strict")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _InRouter(io.TextIOBase):
    """Stands in for sys.stdin: a cell's reading asks whoever runs the cell."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        asker = _asker()
        if asker is None:
            return str(self.original.readline(size))
        try:
            return asker("", False) + "\n"
        except EOFError:
            return ""

    def read(self, size: int | None = -1, /) -> str:
        if _asker() is None:
            return str(self.original.read(size))
        return "".join(iter(self.readline, ""))

    def __iter__(self) -> Any:
        return iter(self.readline, "")

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self.original.isatty()) if _asker() is None else False

    def fileno(self) -> int:
        return int(self.original.fileno())

    def close(self) -> None:
        """Do nothing: a cell cannot close the process's streams."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _asker() -> Callable[[str, bool], str] | None:
    execution = speaker()
    return None if execution is None else execution.asker


def ask(execution: Execution, prompt: str, password: bool) -> str:
    """Ask on a thread of its own and wait, so that an interrupt reaches the waiting cell.

    A lock that is waited for without end cannot be broken off the main thread; this wait looks
    every 20 ms whether the cell is to stop. The late answer of an interrupted question is dropped.
    """
    asker = execution.asker
    assert asker is not None
    if execution.sink is not None:
        execution.sink.flush()
    answer: list[str] = []
    failure: list[BaseException] = []

    def put() -> None:
        try:
            answer.append(str(asker(prompt, password)))
        except BaseException as error:  # noqa: BLE001  it belongs to the cell, on its own thread
            failure.append(error)

    thread = threading.Thread(target=put, name="pyrepl3-input", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.02)
        stop = execution.stop
        if stop is not None and not stop.delivered:
            stop.delivered = True
            raise CellInterrupt
        if execution.abandoned:
            raise CellInterrupt
    if failure:
        raise failure[0]
    return answer[0]


class Routing:
    """Routes the process's streams while at least one is open. ``open`` and ``close`` from any thread."""

    _lock = threading.Lock()
    _open = 0
    _saved: dict[str, Any] = {}

    def __init__(self) -> None:
        self._is_open = False

    def open(self) -> None:
        """Start routing. Idempotent."""
        with Routing._lock:
            if self._is_open:
                return
            self._is_open = True
            Routing._open += 1
            if Routing._open == 1:
                _install(Routing._saved)
            # Somebody (a test runner, say) put other streams there meanwhile: route those.
            elif not isinstance(sys.stdout, _OutRouter) or not isinstance(sys.stderr, _OutRouter):
                _route_streams(Routing._saved)

    def close(self) -> None:
        """Stop routing; the last one out puts back what was there. Idempotent."""
        with Routing._lock:
            if not self._is_open:
                return
            self._is_open = False
            Routing._open -= 1
            if Routing._open == 0:
                _uninstall(Routing._saved)


def _route_streams(saved: dict[str, Any]) -> None:
    if not isinstance(sys.stdout, _OutRouter):
        saved["stdout"] = sys.stdout
        sys.stdout = _OutRouter("stdout", sys.stdout)
    if not isinstance(sys.stderr, _OutRouter):
        saved["stderr"] = sys.stderr
        sys.stderr = _OutRouter("stderr", sys.stderr)
    if not isinstance(sys.stdin, _InRouter):
        saved["stdin"] = sys.stdin
        sys.stdin = _InRouter(sys.stdin)


def _install(saved: dict[str, Any]) -> None:
    saved.clear()
    _route_streams(saved)
    original_input = saved["input"] = builtins.input

    def input(prompt: object = "", /) -> str:  # noqa: A001  it stands in for the builtin
        execution = speaker()
        if execution is None or execution.asker is None:
            return original_input(prompt)
        return ask(execution, str(prompt), False)

    input.__doc__ = original_input.__doc__
    builtins.input = input
    saved["routed_input"] = input
    carry_into_threads(saved)


def _uninstall(saved: dict[str, Any]) -> None:
    for name, kind in (("stdout", _OutRouter), ("stderr", _OutRouter), ("stdin", _InRouter)):
        # Only what is still ours: a router of somebody else on top of ours stays.
        if isinstance(getattr(sys, name), kind):
            setattr(sys, name, saved[name])
    if builtins.input is saved["routed_input"]:
        builtins.input = saved["input"]
    if "getpass" in saved:
        module, original, routed = saved["getpass"]
        if module.getpass is routed:
            module.getpass = original
    release_threads(saved)
    saved.clear()


def route_getpass() -> None:
    """Let ``getpass.getpass`` ask whoever runs the cell. Called when a cell names it; idempotent."""
    import getpass  # noqa: PLC0415  few cells need it

    saved = Routing._saved
    with Routing._lock:
        if not Routing._open or "getpass" in saved:
            return
        original = getpass.getpass

        def routed(prompt: str = "Password: ", stream: Any = None, **options: Any) -> str:
            execution = speaker()
            if execution is None or execution.asker is None:
                return original(prompt, stream, **options)
            return ask(execution, prompt, True)

        routed.__doc__ = original.__doc__
        getpass.getpass = routed
        saved["getpass"] = (getpass, original, routed)


# --- threads and pools --------------------------------------------------------------------------


def carry_into_threads(saved: dict[str, Any]) -> None:
    """Let threads that a cell starts, and calls that it gives to a thread pool, speak for that cell."""
    start = saved["start"] = threading.Thread.start

    def start_carrying(self: threading.Thread) -> None:
        execution = speaker()
        if execution is not None:
            _origins[self] = execution
        start(self)

    start_carrying.__doc__ = start.__doc__
    saved["routed_start"] = start_carrying
    threading.Thread.start = start_carrying  # type: ignore[method-assign]

    # Importing the pool costs milliseconds that a small run never needs; asyncio has it already.
    pool = sys.modules.get("concurrent.futures.thread")
    if pool is None:
        return
    submit = saved["submit"] = pool.ThreadPoolExecutor.submit

    def submit_carrying(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        execution = speaker()
        if execution is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, _speak_for, execution, fn, *args, **kwargs)

    submit_carrying.__doc__ = submit.__doc__
    saved["routed_submit"] = submit_carrying
    pool.ThreadPoolExecutor.submit = submit_carrying


def _speak_for(execution: Execution, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    token = CURRENT.set(execution)
    try:
        return fn(*args, **kwargs)
    finally:
        CURRENT.reset(token)


def release_threads(saved: dict[str, Any]) -> None:
    """Undo ``carry_into_threads``."""
    if threading.Thread.start is saved["routed_start"]:
        threading.Thread.start = saved["start"]  # type: ignore[method-assign]
    pool = sys.modules.get("concurrent.futures.thread")
    if pool is not None and "submit" in saved:
        if pool.ThreadPoolExecutor.submit is saved["routed_submit"]:
            pool.ThreadPoolExecutor.submit = saved["submit"]


def now() -> float:
    """Seconds since the epoch, for records."""
    return time.time()
