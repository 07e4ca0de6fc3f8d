"""Inside a worker: messages in, cells on the main thread, events and answers out.

Control is a thread of its own beside the cells, so it answers while one blocks, unless C code holds the GIL:
then the host sees that nothing is heard, and ends the process. Events go straight from the thread that
tells them into the pipe. When the host is gone the process ends itself.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pyrepl3.errors import LimitExceededError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.channel import Channel
from pyrepl3.isolate.failures import to_wire
from pyrepl3.isolate.frames import FrameError
from pyrepl3.isolate.keeping import Forwarded
from pyrepl3.isolate.packed import WireSnapshot, pack_delta, unpack_snapshot
from pyrepl3.isolate.process_limits import hold
from pyrepl3.isolate.telling import Teller, Window
from pyrepl3.isolate.values import pack_value
from pyrepl3.records import Complete, Explain, Fetch, Notes, Tasks, Variables
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.display import display
from pyrepl3.run.execution import Group
from pyrepl3.run.host import LoopHost
from pyrepl3.run.namespace import NamespaceManager, fresh_main
from pyrepl3.run.questions import answer
from pyrepl3.run.signals import MainThread
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.snapshot.process import Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyrepl3.isolate.channel import Part


def reset_signals() -> None:
    """As a process starts that nobody prepared: a host under nohup ignores signals, a test blocks some."""
    for number in signal.valid_signals():
        # Two that cannot be set, and two that Python ignores so that writing raises instead.
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ):
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def end_group() -> NoReturn:
    """End this process and what it has started, at once."""
    with suppress(OSError):
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def serve(fd: int) -> NoReturn:
    """Serve one session over the socket ``fd``, on the main thread, to its end. Never returns."""
    channel = Channel(socket.socket(fileno=fd), blocking=True)
    os.register_at_fork(after_in_child=channel.leave)  # a child of a cell has nothing to say here
    try:
        first = _receive_one(channel)
        if not isinstance(first, m.Setup):
            raise FrameError("the first message is no Setup")
        worker = _Worker(channel, first)
    except (EOFError, OSError, FrameError):  # the host has changed its mind
        end_group()
    worker.run()
    atexit._run_exitfuncs()  # noqa: SLF001  what the session's code asked for
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def _receive_one(channel: Channel) -> m.ToWorker:
    while True:
        for head, _ in channel.receive():
            return m.decode_in_worker(head)


class _Worker:
    """One session. Made on the main thread."""

    def __init__(self, channel: Channel, setup: m.Setup) -> None:
        self._channel = channel
        self._prepare(setup)
        unheld = {} if setup.limits is None else hold(setup.limits)
        self._kept = Forwarded(self._send)
        self._host = LoopHost("main", on_main=True)
        self._manager = NamespaceManager(name=setup.name, module=fresh_main(), process=Process())
        names = self._manager.get_for_execution()
        names["display"] = display
        if setup.file:
            names["__file__"] = setup.file
        self._runner = ThreadRunner(
            self._manager,
            config=setup.config,
            ask=self._ask_host if setup.asks else None,
            host=self._host,
            durability=self._kept if setup.keeps else None,
        )
        self._signals = MainThread(self._runner.interrupt, running=lambda: self._runner.foreground)
        self._windows: dict[bytes, Window] = {}
        self._cells: dict[bytes, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wants: dict[int, tuple[threading.Event, list[m.Given]]] = {}
        self._asked = 0
        self._ended: asyncio.Event | None = None
        self._send(m.Ready(pid=os.getpid(), unheld=unheld))

    def _prepare(self, setup: m.Setup) -> None:
        os.environ.clear()
        os.environ.update(setup.environment)
        with suppress(OSError):  # gone, or not to be entered: the cell's own open() will say so
            os.chdir(setup.directory or "/")
        sys.path[:] = setup.path
        sys.argv[:] = setup.arguments or ("",)

    def run(self) -> None:
        """Serve cells on this thread until the host says Close."""
        self._signals.install()
        control = threading.Thread(target=self._control, name="pyrepl3-control", daemon=True)
        control.start()
        self._host.serve()
        control.join()

    # --- control, on its own thread ---------------------------------------------------------------

    def _control(self) -> None:
        try:
            asyncio.run(self._listen())
        except BaseException:  # noqa: BLE001  without control nobody could stop this process
            traceback.print_exc()
            end_group()
        self._host.stop()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        loop.add_reader(self._channel.fileno(), self._read)
        await self._ended.wait()
        loop.remove_reader(self._channel.fileno())

    def _read(self) -> None:
        try:
            for head, parts in self._channel.receive():
                self._take(m.decode_in_worker(head), parts)
        except (EOFError, OSError):
            end_group()

    def _take(self, message: m.ToWorker, parts: memoryview) -> None:
        match message:
            case m.Run():
                self._start(self._run(message))
            case m.Stop():
                # After the first step of a Run that came just before.
                asyncio.get_running_loop().call_soon(self._stop, message)
            case m.Room(key=key, size=size):
                if key in self._windows:
                    self._windows[key].give(size)
            case m.Given(n=n):
                event, given = self._wants.pop(n, (threading.Event(), []))
                given.append(message)
                event.set()
            case m.Held():
                self._kept.take(message)
            case m.Ask():
                self._reply(message.key, lambda: self._answer(message))
            case m.Checkpoint(key=key):
                self._start(self._checkpoint(key))
            case m.Mark(key=key):
                self._reply(key, self._runner.mark)
            case m.Audit(key=key, hurry=hurry):
                self._reply(key, lambda: self._runner.audit(hurry=hurry))
            case m.Restore(key=key, snapshot=snapshot):
                wire = m.unpack(snapshot, WireSnapshot)
                found = unpack_snapshot(wire, parts)
                self._reply(key, lambda: self._runner.restore(found))
            case m.Close():
                self._start(self._close())
            case m.Setup():
                raise FrameError("a second Setup")

    def _start(self, coro: Any) -> None:
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, message: m.Run) -> None:
        key, cell = message.key, message.cell
        window = self._windows[key] = Window()
        self._cells[key] = cell.id
        teller = Teller(key, self._send, window)
        try:
            await self._runner.run(cell, teller.tell, window.wait)
        except Exception as error:  # noqa: BLE001  the engine's own fault: the host must not wait for ever
            teller.end(cell, error)
        finally:
            del self._cells[key]
            while (
                len(self._windows) > 1000
            ):  # its tasks may still write, without a bound from here on
                self._windows.pop(next(iter(self._windows))).close()

    def _stop(self, stop: m.Stop) -> None:
        cell_id = self._cells.get(stop.key)
        if cell_id is not None and stop.limit is None:
            self._runner.interrupt(cell_id)
        elif stop.limit is not None:
            for execution in self._runner.executor.running():
                if execution.cell.id == cell_id:
                    request_stop(execution, LimitExceededError(stop.limit, stop.used, stop.allowed))
        self._send(m.Heard(key=stop.key))

    async def _checkpoint(self, key: bytes) -> None:
        try:
            wire, parts = pack_delta(await self._runner.snapshot())
            self._send(m.Answered(key=key, data=m.pack(wire)), parts)
        except Exception as error:  # noqa: BLE001  the host wants to know; too much to send is one
            self._send(m.Answered(key=key, error=to_wire(error)))

    def _reply(self, key: bytes, call: Callable[[], Awaitable[Any]]) -> None:
        async def reply() -> None:
            try:
                answered = m.Answered(key=key, data=m.pack(await call()))
            except Exception as error:  # noqa: BLE001  the host wants to know
                answered = m.Answered(key=key, error=to_wire(error))
            self._send(answered)

        self._start(reply())

    async def _answer(self, question: m.Ask) -> Any:
        # What needs no loop is answered here: the other one may be held by a cell.
        match question.what:
            case "fetch":
                value = await self._runner.ask(Fetch(name=question.text))
                return pack_value(value, question.text)
            case "tasks":
                return await self._runner.ask(Tasks())
            case "notes":
                return await self._runner.ask(Notes())
            case "stack":
                return describe_stacks()
            case "variables":
                found: Any = Variables()
            case "complete":
                found = Complete(source=question.text, cursor=question.cursor)
            case "explain":
                found = Explain(source=question.text)
        return answer(found, self._runner.executor, Group())

    async def _close(self) -> None:
        try:
            await self._runner.aclose()
        finally:
            assert self._ended is not None
            self._ended.set()

    # --- out, from any thread ---------------------------------------------------------------------

    def _send(self, message: m.ToHost, parts: list[Part] | None = None) -> None:
        try:
            self._channel.send(m.encode(message), parts or ())
        except OSError:
            if not self._channel.left:  # the host is gone
                end_group()

    def _ask_host(self, prompt: str, password: bool) -> str:  # noqa: FBT001  the Asker port
        self._asked += 1
        n = self._asked
        event, given = self._wants[n] = threading.Event(), []
        self._send(m.Want(n=n, prompt=prompt, password=password))
        event.wait()
        answer_ = given[0]
        if answer_.error:
            raise KeyboardInterrupt if answer_.error == "KeyboardInterrupt" else EOFError
        return answer_.text


def describe_stacks() -> str:
    """Where each thread is, for people."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines: list[str] = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  the documented way
        lines.append(f"thread {names.get(ident, ident)}:\n")
        lines += traceback.format_stack(frame)
    return "".join(lines)
