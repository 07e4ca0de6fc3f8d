"""One debug server for this process, by debugpy: sessions that are to be debugged in, a port out.

A client (VS Code, anything that speaks DAP) attaches, leaves and attaches again. Only threads that run cells,
and those that these start, can be stopped; the caller's own go on. Cells keep their file names: pydevd
has a map from them to files with their sources, which editors can open. Loaded when first asked for.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import re
import selectors
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import DebugError, MissingExtraError
from pyrepl3.records import Breakpoint, DebugServer
from pyrepl3.run.cancel import STOPPING
from pyrepl3.run.execution import CURRENT, Standstill
from pyrepl3.run.paging import page_variables
from pyrepl3.run.points import spare
from pyrepl3.run.requests import answer_requests, read_filters
from pyrepl3.run.stoppable import Stoppable, find_awaiting_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from pyrepl3.run.execution import Group

_HOST = "127.0.0.1"
_SHOWN = 1000  # cells that have files of their own
_STEP_OVER, _SET_BREAK = 108, 111  # pydevd's numbers
_HITS = re.compile(r"(?P<sign>==|>=|<=|>|<|%)?\s*(?P<count>[0-9]+)")
_lock = threading.RLock()
_server: Server | None = None


def start_server(port: int) -> Server:
    """The debug server of this process, started at the first call. Blocks for a second then.

    Raises MissingExtraError without debugpy, DebugError where that port cannot be had.
    """
    global _server  # noqa: PLW0603  one process has one pydevd
    with _lock:
        if _server is None:
            _server = Server(port)
        elif port not in (0, _server.endpoint.port):
            raise DebugError(
                f"the debugger of this process listens on port {_server.endpoint.port} already"
            )
        return _server


def attached_server() -> Server | None:
    """The debug server of this process, if a client is attached to it."""
    return _server if _server is not None and _server.attached else None


class Server:
    """pydevd, made to leave alone what is not ours. Methods from any thread."""

    def __init__(self, port: int) -> None:
        hook = sys.breakpointhook  # pydevd puts its own there
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # what it warns of is stderr's
        try:
            import debugpy  # noqa: PLC0415  an extra, and heavy
            from debugpy.server import api as _  # noqa: F401, PLC0415  it puts pydevd on sys.path
        except ImportError:
            raise MissingExtraError("the debugger needs debugpy", "debug") from None
        _check_port(port)
        self._debugpy: Any = debugpy
        spare(str(Path(debugpy.__file__).parent))
        self.threads = Stoppable()
        self.folder = Path(tempfile.mkdtemp(prefix="pyrepl3-debug-"))  # readable by this user only
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._shown: dict[str, str] = {}
        self._ids = 1_000_000  # pydevd's own count from 0
        try:
            host, port = debugpy.listen((_HOST, port), in_process_debug_adapter=True)
        except (OSError, RuntimeError) as error:  # somebody else has called it in this process
            raise DebugError(f"no debug server on port {port}: {error}") from error
        self.endpoint = DebugServer(host=host, port=port, folder=str(self.folder))
        self._adjust()
        self._take_breakpoint(hook)
        STOPPING.append(lambda execution: self.resume(execution.group))

    @property
    def attached(self) -> bool:
        return bool(self._debugpy.is_client_connected())

    # --- pydevd, adjusted -------------------------------------------------------------------------

    def _adjust(self) -> None:
        from _pydev_bundle import pydev_monkey  # noqa: PLC0415
        from _pydevd_bundle.pydevd_api import PyDevdAPI  # noqa: PLC0415
        from _pydevd_bundle.pydevd_constants import get_global_debugger  # noqa: PLC0415

        self._api: Any = PyDevdAPI()
        self._pydevd: Any = get_global_debugger()
        # It would trace each new thread, and stop it while another is stopped.
        pydev_monkey.disable_trace_thread_modules()
        # No frames of what cells run in, and no steps into it.
        hidden = (
            str(Path(__file__).parent.parent) + os.sep,
            str(Path(asyncio.__file__).parent) + os.sep,
            str(Path(concurrent.futures.__file__).parent) + os.sep,
            str(Path(self._debugpy.__file__).parent) + os.sep,
            contextlib.__file__,
            threading.__file__,
            selectors.__file__,
        )
        self._api.set_dont_trace_start_end_patterns(self._pydevd, hidden, ())
        judge = self._pydevd._internal_get_file_type  # noqa: SLF001  asked before those patterns

        def judge_ours_first(names: tuple[str, ...]) -> Any:
            return self._pydevd.PYDEV_FILE if names[0].startswith(hidden) else judge(names)

        self._pydevd._internal_get_file_type = judge_ours_first  # noqa: SLF001
        # A client may leave; the process is not its to end, and the streams are the session's.
        type(self._api).request_terminate_process = lambda api, pydevd: api.request_disconnect(
            pydevd, resume_threads=True
        )
        self._pydevd.enable_output_redirection = lambda *_: None
        self._steps_across_tasks()
        page_variables()
        answer_requests()
        connect = self._pydevd.initialize_network

        def connect_and_watch(*args: Any, **kwargs: Any) -> None:
            connect(*args, **kwargs)
            # Its non-daemon thread waits at the end of the process until all has been sent: a writer
            # whose client went away with some of it on the way has ended, and sends no more.
            writer = self._pydevd.writer
            is_empty = writer.empty
            writer.empty = lambda: not writer.is_alive() or is_empty()
            watch = threading.Thread(target=self._watch, args=(self._pydevd.reader,), daemon=True)
            watch.name = "pyrepl3-debug"
            watch.start()

        self._pydevd.initialize_network = connect_and_watch

    def _steps_across_tasks(self) -> None:
        """A step out of the outermost coroutine of a task leads to what awaits that task."""
        leaving = False

        class Listener:
            def before_send(self, _: Any) -> None: ...

            def after_receive(self, message: Any) -> None:
                nonlocal leaving
                if message.get("type") == "request":
                    read_filters(message)
                    command = message.get("command")
                    if command in ("continue", "next", "stepIn", "stepOut", "disconnect"):
                        leaving = command == "stepOut"

        self._pydevd.add_dap_messages_listener(Listener())
        wait = self._pydevd.do_wait_suspend

        def wait_and_leave(thread: Any, frame: FrameType, *rest: Any, **named: Any) -> None:
            nonlocal leaving
            with self._standing():
                wait(thread, frame, *rest, **named)
            left, leaving = leaving, False
            if left and frame.f_back is not None and self._hides(frame.f_back):
                awaiting = find_awaiting_frame()
                if awaiting is None or self._hides(awaiting):
                    return
                state = thread.additional_info
                state.pydev_original_step_cmd = state.pydev_step_cmd = _STEP_OVER
                state.pydev_step_stop = awaiting
                state.update_stepping_info()
                self._pydevd.set_trace_for_frame_and_parents(thread.ident, awaiting)

        self._pydevd.do_wait_suspend = wait_and_leave

    @contextlib.contextmanager
    def _standing(self) -> Iterator[None]:
        """A thread stops: the clock of its cell's limit stands."""
        execution = CURRENT.get()
        if execution is None:
            yield
            return
        with _lock:
            standstill = execution.standstill = execution.standstill or Standstill()
        standstill.begin()
        try:
            yield
        finally:
            standstill.end()

    def _hides(self, frame: FrameType) -> bool:
        return bool(self._pydevd.get_file_type(frame) == self._pydevd.PYDEV_FILE)

    def _watch(self, reader: threading.Thread) -> None:
        """When a client is gone without a word, nothing stays stopped for it."""
        reader.join()
        if self._pydevd.reader is reader:
            self._api.request_disconnect(self._pydevd, resume_threads=True)

    def _take_breakpoint(self, before: Any) -> None:
        def breakpointhook(*args: Any, **kwargs: Any) -> Any:
            thread, frame = threading.current_thread(), sys._getframe(1)  # noqa: SLF001
            if self.attached and thread in self.threads:
                self._pydevd.set_suspend(thread, _SET_BREAK)
                with self.threads.untraced():
                    self._pydevd.do_wait_suspend(thread, frame, "line", None)
            elif before is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT"):
                import pdb  # noqa: PLC0415  what the built-in hook does, two frames up

                pdb.Pdb().set_trace(frame)
            else:
                before(*args, **kwargs)

        sys.breakpointhook = breakpointhook

    def post_mortem(self, error: BaseException, *, uncaught: bool) -> None:
        """Stop where ``error`` was raised, until the client says go on.

        ``uncaught``: if the client wants to stop at what nobody catches.
        """
        with self.threads.untraced():
            self._debugpy.trigger_exception_handler(error, as_uncaught=uncaught)

    def resume(self, owner: Group) -> None:
        """Let the stopped threads of ``owner`` go on: its cell is to end."""
        from _pydevd_bundle.pydevd_constants import get_thread_id  # noqa: PLC0415

        for thread in self.threads.stopped(owner):
            self._api.request_resume_thread(get_thread_id(thread))

    # --- cells --------------------------------------------------------------------------------------

    def show(self, filename: str, source: str) -> None:
        """Give the cell of this name a file that editors can open, and lines to break at."""
        if self._shown.get(filename) == source or not filename.startswith("<"):
            return
        self._shown[filename] = source
        if len(self._shown) > _SHOWN:
            self.forget(next(iter(self._shown)))
        path = self._path(filename)
        path.write_text(source, "utf-8", newline="")
        lines = max(1, source.count("\n") + 1)
        entry = self._api.SourceMappingEntry(1, lines, 1, filename)
        self._api.set_source_mapping(self._pydevd, str(path), [entry])

    def _path(self, filename: str) -> Path:
        return self.folder / (re.sub(r"[^\w.-]+", "-", filename.strip("<>")) + ".py")

    def forget(self, filename: str) -> None:
        """Nobody needs that file any more."""
        if self._shown.pop(filename, None) is not None:
            path = self._path(filename)
            self._api.set_source_mapping(self._pydevd, str(path), [])
            path.unlink(missing_ok=True)

    def refresh(self, wanted: Mapping[tuple[str, int], Breakpoint]) -> None:
        """Set what breakpoints are not set; and have pydevd look anew at code that it knows.

        It knows code by equality, to which the file name is nothing: see ``lang.compile.renamed``.
        """
        for (filename, line), found in wanted.items():
            if line not in self._pydevd.breakpoints.get(filename, {}):
                self._set(filename, line, found)
        self._pydevd.on_breakpoints_changed()

    def _set(self, filename: str, line: int, wanted: Breakpoint) -> None:
        from _pydevd_bundle.pydevd_utils import (  # noqa: PLC0415
            convert_dap_log_message_to_expression,
        )

        log = wanted.log
        self._ids += 1
        self._api.add_breakpoint(
            self._pydevd,
            filename,
            "python-line",
            self._ids,
            line,
            wanted.condition,
            "None",
            None if log is None else convert_dap_log_message_to_expression(log),
            "ALL",
            hit_condition(wanted.hits),
            log is not None,
        )

    def take(self, filename: str, line: int) -> None:
        """Take one of our breakpoints away."""
        found = self._pydevd.breakpoints.get(filename, {}).get(line)
        if found is not None:
            self._api.remove_breakpoint(self._pydevd, filename, "python-line", found.breakpoint_id)


def _check_port(port: int) -> None:
    """Raise DebugError for a port that cannot be had: debugpy would wait for it for ever."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        raise DebugError(f"no debug server on port {port}: {error}; 0 takes any") from error


def hit_condition(hits: str | None) -> str | None:
    """As pydevd wants it: ``@HIT@`` is how often the line has been reached."""
    if hits is None:
        return None
    found = _HITS.fullmatch(hits.strip())
    if found is None:
        raise DebugError(f'hits is "3", ">= 3" or "% 3", say, not {hits!r}')
    sign, count = found["sign"] or "==", found["count"]
    return f"@HIT@ % {count} == 0" if sign == "%" else f"@HIT@ {sign} {count}"
