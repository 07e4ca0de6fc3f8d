"""Inside a worker: messages in, cells on the main thread, events and answers out.

What the host says is heard while a cell blocks, too (see ``listening``), unless C code holds the GIL: then
the host sees that nothing is heard, and ends the process. Events go straight from the thread that tells
them into the pipe. When the host is gone the process ends itself.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pyrepl3.config import Limits
from pyrepl3.errors import LimitExceededError, NamespaceError
from pyrepl3.isolate import messages as m
from pyrepl3.isolate.asking import from_wire
from pyrepl3.isolate.channel import Channel
from pyrepl3.isolate.failures import to_wire
from pyrepl3.isolate.frames import FrameError
from pyrepl3.isolate.keeping import Forwarded
from pyrepl3.isolate.listening import Listener
from pyrepl3.isolate.packed import WireSnapshot, pack_delta, unpack_snapshot
from pyrepl3.isolate.process_limits import hold
from pyrepl3.isolate.stacks import describe_stacks
from pyrepl3.isolate.telling import Teller, Window
from pyrepl3.isolate.values import pack_value, pickle_value
from pyrepl3.records import Breakpoint, Debug, Fetch, Notes, Reload, Tasks
from pyrepl3.run.asking import stop_if_asked
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.display import display
from pyrepl3.run.execution import Group
from pyrepl3.run.host import LoopHost
from pyrepl3.run.namespace import NamespaceManager, fresh_main
from pyrepl3.run.questions import answer
from pyrepl3.run.signals import MainThread
from pyrepl3.run.speaker import speaker
from pyrepl3.run.thread import ThreadRunner
from pyrepl3.run.tools import Calls, make_functions
from pyrepl3.snapshot.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pyrepl3.config import Policy
    from pyrepl3.isolate.channel import Part
    from pyrepl3.isolate.listening import Later
    from pyrepl3.isolate.network.asking import Asking
    from pyrepl3.records import Delta, Question, Wall

    type Reply = Callable[[Any, BaseException | None], None]
    type _Replied = m.Given | m.Held | m.Returned | m.Found | m.Plugged | m.Dialed

_STARTS = frozenset(("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.forkpty"))
"""Audit events before another process writes to the same places."""
_SHOWN = 1.0  # seconds that the host may take to show what was told before
_WINDOWS = 1000  # cells whose output is bounded in what is under way


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


def _may_fork(policy: Policy | None) -> bool:
    """Whether children that compute may be started here, and ended again."""
    if sys.platform != "linux" or policy is None:
        return sys.platform == "linux"
    from pyrepl3.isolate.confine.seccomp import may_signal_children  # noqa: PLC0415  as above

    return policy.subprocesses and may_signal_children()


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
        walls: tuple[Wall, ...] = ()
        if setup.policy is not None:
            from pyrepl3.isolate.confine.build import confine  # noqa: PLC0415  where it is asked for

            channel.take_spares()
            walls = confine(setup.policy, setup.workdir, keep=channel.fileno())
        self._listener = Listener(channel, self._take, self._lost)
        os.register_at_fork(after_in_child=self._listener.leave)
        self._kept = Forwarded(self._send)
        self._host = LoopHost("main", on_main=True, selector=self._listener.selector())
        self._manager = NamespaceManager(name=setup.name, module=fresh_main(), process=Process())
        names = self._manager.get_for_execution()
        names["display"] = display
        if setup.file:
            names["__file__"] = os.fsdecode(setup.file)
        self._asking: Asking | None = None
        if setup.policy is not None and setup.policy.network:
            from pyrepl3.isolate.network import asking, sockets  # noqa: PLC0415  where it is asked for

            self._asking = asking.Asking(setup.policy.network, self._send)
            sockets.install(self._asking)
        self._called = Calls(self._call, lambda n: self._send(m.Drop(n=n)))
        self._manager.offer(make_functions(self._called, setup.tools))
        self._runner = ThreadRunner(
            self._manager,
            config=setup.config,
            ask=self._ask_host if setup.asks else None,
            host=self._host,
            durability=self._kept if setup.keeps else None,
            forks=(setup.limits or Limits()) if _may_fork(setup.policy) else None,
        )
        self._presses: dict[str, list[int]] = {}
        """How often each cell was to be stopped, by a signal and by the host."""
        self._signals = MainThread(self._on_ctrl_c, running=lambda: self._runner.foreground)
        self._windows: dict[bytes, Window] = {}
        self._cells: dict[bytes, str] = {}
        self._control_loop = asyncio.new_event_loop()
        self._wants: dict[int, tuple[threading.Event, list[m.Given]]] = {}
        self._numbers = itertools.count(1)
        if setup.attached:
            sys.addaudithook(self._on_audit)
        self._closing = asyncio.Event()
        self._send(m.Ready(pid=os.getpid(), unheld=unheld, walls=walls))

    def _prepare(self, setup: m.Setup) -> None:
        os.environ.clear()
        os.environb.update(setup.environment)
        with suppress(OSError):  # gone, or not to be entered: the cell's own open() will say so
            os.chdir(setup.directory or b"/")
        if setup.path is not None:
            sys.path[:] = map(os.fsdecode, setup.path)
        sys.argv[:] = map(os.fsdecode, setup.arguments or (b"",))

    def run(self) -> None:
        """Serve cells on this thread until the host says Close."""
        self._signals.install()
        control = threading.Thread(target=self._control, name="pyrepl3-control", daemon=True)
        control.start()
        self._host.serve()
        control.join()

    # --- in, on the main thread or that of control ------------------------------------------------

    def _control(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._control_loop) as runner:
                runner.run(self._listen())
        except BaseException:  # noqa: BLE001  without control nobody could stop this process
            traceback.print_exc()
            end_group()
        self._host.stop()

    async def _listen(self) -> None:
        self._listener.attach(self._control_loop)
        await self._closing.wait()
        await self._runner.aclose()

    def _lost(self, error: BaseException) -> NoReturn:
        if not isinstance(error, (EOFError, OSError)):
            traceback.print_exception(error)
        end_group()

    def _take(self, head: bytes, parts: memoryview) -> Later | None:
        message = m.decode_in_worker(head)
        match message:
            case m.Run():
                return self._run(message)
            case m.Stop():
                self._stop(message)
            case m.Room(key=key, size=size):
                if key in self._windows:
                    self._windows[key].give(size)
            case m.Given() | m.Held() | m.Returned() | m.Found() | m.Plugged() | m.Dialed():
                self._replied(message, parts)
            case m.Ask(key=key):
                return lambda: self._ask(message)
            case m.Checkpoint(key=key):
                return self._doing(self._runner.executor.snapshot, self._checkpoint(key))
            case m.Mark(key=key):
                return self._doing(self._runner.executor.mark, self._reply(key))
            case m.Audit(key=key, hurry=hurry):
                return self._doing(
                    lambda: self._runner.executor.audit(hurry=hurry), self._reply(key)
                )
            case m.Restore(key=key, snapshot=snapshot):
                wire = m.unpack(snapshot, WireSnapshot)
                found = unpack_snapshot(wire, parts)
                return self._doing(lambda: self._runner.executor.restore(found), self._reply(key))
            case m.Close():
                self._control_loop.call_soon_threadsafe(self._closing.set)
            case m.Setup():
                raise FrameError("a second Setup")
        return None

    def _doing(self, make: Callable[[], Coroutine[Any, Any, Any]], reply: Reply) -> Later:
        return lambda: self._runner.call(make, reply)

    def _run(self, message: m.Run) -> Later:
        key, cell = message.key, message.cell
        window = self._windows[key] = Window()
        self._cells[key] = cell.id
        teller = Teller(key, self._send_bytes, window)

        def over(error: BaseException | None) -> None:
            del self._cells[key]
            self._presses.pop(cell.id, None)
            if error is not None:  # the engine's own fault: the host must not wait for ever
                teller.end(cell, error)
            # The tasks of cells long ago may still write, without a bound from here on.
            while len(self._windows) > _WINDOWS:
                self._windows.pop(next(iter(self._windows))).close()

        return self._runner.prepare(cell, teller.tell, over, window.wait)

    def _replied(self, message: _Replied, parts: memoryview) -> None:
        """The host's answer to what a cell has asked it for."""
        match message:
            case m.Given(n=n):
                event, given = self._wants.pop(n, (threading.Event(), []))
                given.append(message)
                event.set()
            case m.Held():
                self._kept.take(message)
            case m.Returned(n=n, fault=fault):
                self._called.take(n, parts, fault)
            case m.Found() | m.Plugged() | m.Dialed():
                assert self._asking is not None
                fd = self._channel.handed.popleft() if isinstance(message, m.Plugged) else -1
                self._asking.take(message, fd)

    def _stop(self, stop: m.Stop) -> None:
        cell_id = self._cells.get(stop.key)
        if cell_id is not None and stop.limit is None:
            self._press(cell_id, by_host=True)
        elif stop.limit is not None:
            for execution in self._runner.executor.running():
                if execution.cell.id == cell_id:
                    request_stop(execution, LimitExceededError(stop.limit, stop.used, stop.allowed))
        self._send(m.Heard(key=stop.key))

    def _on_ctrl_c(self, cell_id: str | None) -> bool:
        """A SIGINT: of a terminal that the host shares, of a host in despair, or of a cell."""
        cell_id = cell_id or self._runner.foreground
        return cell_id is not None and self._press(cell_id, by_host=False)

    def _press(self, cell_id: str, *, by_host: bool) -> bool:
        """Stop a cell, once for a press that comes both ways."""
        counts = self._presses.setdefault(cell_id, [0, 0])
        counts[by_host] += 1
        if counts[by_host] <= counts[not by_host]:
            return True
        # The main thread reads only while its loop waits: nothing of a cell runs then.
        answers = by_host and threading.current_thread() is threading.main_thread()
        return self._runner.interrupt(cell_id, answers=answers)

    def _checkpoint(self, key: bytes) -> Reply:
        def reply(delta: Delta | None, error: BaseException | None) -> None:
            try:
                if delta is None:
                    raise error or RuntimeError("no delta")
                wire, parts = pack_delta(delta)
                self._send(m.Answered(key=key, data=m.pack(wire)), parts)
            except Exception as problem:  # noqa: BLE001  the host wants to know; too much to send is one
                self._send(m.Answered(key=key, error=to_wire(problem)))

        return reply

    def _reply(self, key: bytes) -> Reply:
        def reply(result: object, error: BaseException | None) -> None:
            try:
                if error is not None:
                    raise error
                self._send(m.Answered(key=key, data=m.pack(result)))
            except Exception as problem:  # noqa: BLE001  the host wants to know
                self._send(m.Answered(key=key, error=to_wire(problem)))

        return reply

    def _ask(self, message: m.Ask) -> None:
        reply = self._reply(message.key)
        executor = self._runner.executor
        question = from_wire(message)
        found: Any
        try:
            match question:
                case Tasks() | Notes() | Reload():
                    asked = question
                    return self._runner.call(lambda: executor.ask(asked), reply)
                case Debug() | Breakpoint():
                    return self._beside(question, reply)
                # What needs no loop is answered here: the other one may be held by a cell.
                case None:
                    found = describe_stacks()
                case Fetch():
                    return self._fetch(message.key, question)
                case _:
                    found = answer(question, executor, Group())
        except Exception as error:  # noqa: BLE001  the host wants to know
            return reply(None, error)
        return reply(found, None)

    def _beside(self, question: Question, reply: Reply) -> None:
        """Answer on a thread of its own: it takes a while, and the loop may be stopped by it."""

        def work() -> None:
            found, problem = None, None
            try:
                found = answer(question, self._runner.executor, Group())
            except Exception as error:  # noqa: BLE001  the host wants to know
                problem = error
            reply(found, problem)

        threading.Thread(target=work, name="pyrepl3-answer", daemon=True).start()

    def _fetch(self, key: bytes, asked: Fetch) -> None:
        names = self._manager.get_for_execution()
        if asked.name not in names:
            raise NamespaceError(f"no name {asked.name!r} in this session")
        pack = pickle_value if asked.trusted else pack_value
        data, parts = pack(names[asked.name], asked.name)
        self._send(m.Answered(key=key, data=m.pack(data)), parts)

    # --- out, from any thread ---------------------------------------------------------------------

    def _send(self, message: m.ToHost, parts: Sequence[Part] = ()) -> None:
        self._send_bytes(m.encode(message), parts)

    def _send_bytes(self, message: bytes, parts: Sequence[Part] = ()) -> None:
        try:
            self._channel.send(message, parts)
        except OSError:
            if not self._channel.left:  # the host is gone
                end_group()

    def _call(self, n: int, name: str, data: bytes) -> None:
        self._send(m.Call(n=n, name=name), [data])

    def _on_audit(self, event: str, _: object) -> None:
        """What another process writes to our terminal or pipe comes after what cells have printed so far."""
        if event not in _STARTS or self._channel.left:
            return
        execution = speaker()
        if execution is None or execution.sink is None:
            return
        execution.sink.flush()
        n = next(self._numbers)
        shown, _given = self._wants[n] = threading.Event(), []
        self._send(m.Show(n=n))
        shown.wait(_SHOWN)
        stop_if_asked(
            execution
        )  # an interrupt while we waited: before there is a process to look after

    def _ask_host(self, prompt: str, password: bool) -> str:  # noqa: FBT001  the Asker port
        n = next(self._numbers)
        event, given = self._wants[n] = threading.Event(), []
        self._send(m.Want(n=n, prompt=prompt, password=password))
        event.wait()
        answer_ = given[0]
        if answer_.error:
            ended = EOFError("EOF when reading a line")  # as Python says it
            raise KeyboardInterrupt if answer_.error == "KeyboardInterrupt" else ended
        return answer_.text
