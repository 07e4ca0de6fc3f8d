"""Where backends are named: puts runner, store and session together. The composition root."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrepl3.config import ExecutorConfig, Isolation, Limits, check_isolation, with_limits
from pyrepl3.session import Session
from pyrepl3.session.control import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType

    from pyrepl3.durable.promises import Promises
    from pyrepl3.isolate.process import ProcessRunner
    from pyrepl3.lang.repair import Repair
    from pyrepl3.ports import Asker, Durability, Observer, Runner, Stage, Store
    from pyrepl3.run.host import LoopHost
    from pyrepl3.session.control import Reply, Request
    from pyrepl3.snapshot.process import Process
    from pyrepl3.store.directory import SessionDirectory
    from pyrepl3.store.directory import SessionInfo as SessionInfo  # noqa: PLC0414 - front ends too


def open_session(
    name: str | None = None,
    *,
    store: Store | Path | str | None = None,
    config: ExecutorConfig | None = None,
    limits: Limits | None = None,
    observe: Observer | None = None,
    ask: Asker | None = None,
    stages: Sequence[Stage] = (),
    durability: Durability | None = None,
    resonate: str | None = None,
    process: bool | None = None,
    recompute: bool = False,
    isolation: Isolation = "none",
) -> Opening:
    """A session, to be opened with ``async with``; it comes back after a crash if it has a name.

    ``name``: letters, digits, ``-``, ``_`` and ``.``; None: a session that is not kept. ``store``: the
    directory that holds sessions (None: the user's data directory), or a Store. ``config`` brings
    limits and an import policy, ``limits`` replaces its limits; without both there are none.
    ``observe`` is told every event, on any thread; ``ask`` answers ``input()`` and ``getpass()``.
    What steps of cells came to is kept in files of the session's own directory, or on the Resonate server
    at the URL ``resonate`` (``$RESONATE_TOKEN`` is its token), or by ``durability``.

    ``process``: the process is the session's, and what belongs to all of it (``random``, ``os.environ``,
    the working directory, …) is kept and comes back with it; None: on a command line only.
    ``recompute``: names that could not be kept are made again, by the cells that made them, as
    ``Session.restore`` does.

    ``isolation``: "process" runs the cells in a process of their own, which may be stopped whatever it
    does, and may die: the session goes on from its last epoch, in memory if it has no name. Values cross as
    text, or by ``fetch``; ``stages`` do not. "confined" is not built yet.

    Entering raises SessionInUseError, StoreError, ValueError for a bad name, WorkerDiedError where no worker
    process can be had. Raises ValueError for what does not go together.
    """
    check_isolation(isolation, limits, stages)
    return Opening(
        name,
        store=store,
        config=with_limits(config, limits),
        observe=observe,
        ask=ask,
        stages=stages,
        process=process,
        recompute=recompute,
        durability=durability,
        resonate=resonate,
        isolation=isolation,
        limits=limits,
    )


_unnamed = itertools.count(1)


class Opening:
    """What ``open_session`` gives: enter it to have the Session, leave it to close that."""

    def __init__(
        self,
        name: str | None,
        *,
        store: Store | Path | str | None,
        config: ExecutorConfig | None,
        observe: Observer | None,
        ask: Asker | None,
        stages: Sequence[Stage],
        process: bool | None,
        recompute: bool,
        durability: Durability | None,
        resonate: str | None,
        isolation: Isolation,
        limits: Limits | None,
    ) -> None:
        self._name = name
        self._store = store
        self._config = config
        self._observe = observe
        self._ask = ask
        self._stages = stages
        self._process, self._recompute = process, recompute
        self._durability = durability
        self._resonate = resonate
        self._isolation = isolation
        self._limits = limits
        self.main_file = ""
        """What ``__file__`` is to be in the cells of a worker process; "": nothing."""
        self.host: LoopHost | None = None
        """Where cells run, if it is not a thread of the session's own."""
        self._folder: Path | None = None
        self._session: Session | None = None
        self._control: Control | None = None
        self._worker: ProcessRunner | None = None

    async def __aenter__(self) -> Session:
        store = await self._open_store()
        try:
            if self._isolation == "none":
                runner, name = self._in_process(store)
            else:
                runner, name = self._in_worker()
            session = Session(
                runner,
                name=self._name or name,
                store=store,
                observe=self._observe,
                durability=self._durability,
            )
            self._session = session
            if self._worker is not None:
                self._worker.revive = session.revive
                self._worker.when_died = session.note_death
            if self.host is not None:
                _hosted[self.host] = runner
        except BaseException:
            if store is not None:
                store.close()
            raise
        try:
            if self._worker is not None:
                await self._worker.start()
            await session.resume(recompute=self._recompute)
            await self._open_control(session)
        except BaseException:
            await session.aclose()
            raise
        return session

    def _in_process(self, store: Store | None) -> tuple[Runner, str]:
        from pyrepl3.run.display import display  # noqa: PLC0415  the engine loads when first used
        from pyrepl3.run.namespace import NamespaceManager, fresh_main  # noqa: PLC0415
        from pyrepl3.run.thread import ThreadRunner  # noqa: PLC0415

        module = None if self.host is None else fresh_main()
        manager = NamespaceManager(
            name=self._name or "session", module=module, process=self._make_process(store)
        )
        manager.get_for_execution()["display"] = display
        runner = ThreadRunner(
            manager,
            config=self._config,
            ask=self._ask,
            stages=self._stages,
            host=self.host,
            durability=self._durability,
        )
        return runner, manager.name

    def _in_worker(self) -> tuple[Runner, str]:
        from pyrepl3.isolate.process import ProcessRunner  # noqa: PLC0415  only where asked for

        limits = self._limits
        if limits is None and self._config is not None:
            limits = self._config.limits
        name = self._name or f"session-{next(_unnamed)}"
        self._worker = ProcessRunner(
            name,
            config=self._config,
            limits=limits,
            ask=self._ask,
            durability=self._durability,
            file=self.main_file,
        )
        return self._worker, name

    async def _open_control(self, session: Session) -> None:
        """Let other processes of the user reach the session; it does without where it cannot be."""
        if self._folder is None:
            return
        control = Control(session, self._folder)
        with suppress(OSError):  # a file system without sockets
            await control.open()
            self._control = control

    def _make_process(self, store: Store | None) -> Process | None:
        owned = self.host is not None if self._process is None else self._process
        if not owned or store is None:
            return None
        from pyrepl3.snapshot.process import Process  # noqa: PLC0415  kept sessions only

        return Process()

    async def _open_store(self) -> Store | None:
        if self._store is not None and not isinstance(self._store, (str, Path)):
            return self._store
        if self._name is None:
            if self._store is not None or self._resonate is not None:
                raise ValueError("a session without a name is not kept: give a name, or no store")
            if self._isolation == "none":
                return None
            from pyrepl3.store.memory import MemoryStore  # noqa: PLC0415

            return MemoryStore()  # so that it outlives its worker
        directory, name = sessions(self._store), self._name
        store = await asyncio.to_thread(directory.open, name)
        self._folder = directory.path_of(name)
        if self._durability is None:
            self._durability = open_durability(name, self._folder, self._resonate)
        return store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        control, self._control = self._control, None
        if self.host is not None:
            _hosted.pop(self.host, None)
        if control is not None:
            await control.aclose()
        if session is not None:
            await session.aclose()


def sessions(store: Path | str | None = None) -> SessionDirectory:
    """The directory that holds sessions: to list and remove them. None: the user's data directory."""
    from pyrepl3.store.directory import SessionDirectory  # noqa: PLC0415  sqlite3 loads with it

    return SessionDirectory(None if store is None else Path(store))


def export_session(name: str, path: Path | str, *, store: Path | str | None = None) -> None:
    """Write session ``name`` of a store to ``path``, a single file that must not exist yet.

    As it is now: somebody may have it open. Blocks. Raises SessionNotFoundError, StoreError, ValueError
    for a name that is none.
    """
    sessions(store).export(name, Path(path))


def import_session(
    path: Path | str, name: str | None = None, *, store: Path | str | None = None
) -> str:
    """Add the session that ``path`` was exported from to a store. Returns its name (None: as it was).

    Blocks; every byte is checked before anything is added. The file holds pickles: import only what
    you trust. Raises SessionExistsError where the name is taken, StoreCorruptError where the file is
    damaged or none of ours, StoreError, ValueError for a name that is none.
    """
    return sessions(store).take_in(Path(path), name)


_DURABLE = "durable.db"


def open_durability(name: str, folder: Path, resonate: str | None = None) -> Durability:
    """What keeps the steps of session ``name`` in its directory, or on a server.

    It opens nothing before the first step.
    """
    from pyrepl3.durable.steps import ResonateDurability  # noqa: PLC0415  kept sessions only

    def connect() -> Promises:
        if resonate is not None:
            from pyrepl3.durable.remote import RemotePromises, connect_to  # noqa: PLC0415

            return RemotePromises(connect_to(resonate))
        from pyrepl3.durable.embedded import Embedded  # noqa: PLC0415  the first step
        from pyrepl3.durable.local import LocalPromises  # noqa: PLC0415

        return LocalPromises(Embedded(folder / _DURABLE))

    def identity() -> str:
        if resonate is None:
            return ""  # it has a file of its own
        from pyrepl3.durable.remote import identity_of  # noqa: PLC0415

        return identity_of(folder)

    return ResonateDurability(connect, name=name, folder=folder / "steps", identity=identity)


def reach_session(name: str, request: Request, *, store: Path | str | None = None) -> Reply:
    """Have ``request`` done by whichever process has session ``name`` open, or here if none has. Blocks.

    Where none has it, questions can be seen and answered, and there is no cell to stop. Raises
    SessionNotFoundError, SessionInUseError where the owner serves no socket, SessionError where it does not
    answer, DurabilityError, StoreError, ValueError for a name that is none.
    """
    from pyrepl3.session.control import ask_owner  # noqa: PLC0415  commands only
    from pyrepl3.session.offline import reply_offline  # noqa: PLC0415

    directory = sessions(store)
    folder = directory.path_of(name)
    reply = ask_owner(folder, request)
    if reply is not None:
        return reply
    opened = directory.find(name)  # and locked
    try:
        durability = open_durability(name, folder) if (folder / _DURABLE).exists() else None
        try:
            return reply_offline(request, durability, count=opened.load(0).count, epoch=opened.head)
        finally:
            if durability is not None:
                durability.aclose().result()
    finally:
        opened.close()


def propose(source: str, error: SyntaxError | None = None) -> Repair | None:
    """A repaired source that compiles, with what was changed; None where none was found."""
    from pyrepl3.lang import repair  # noqa: PLC0415  only for source that does not compile

    return repair.propose(source, error)


_hosted: dict[LoopHost, Any] = {}


def host_main(
    main: Callable[[Callable[..., Opening]], Coroutine[Any, Any, int]],
    *,
    on_sigint: Callable[[], object] | None = None,
    on_unheard: Callable[[int], object] | None = None,
) -> int:
    """Give cells the main thread: run ``main(open_session)`` on a loop in a second thread. Its result.

    To be called on the main thread. While a cell runs Ctrl-C interrupts it; while none runs
    ``on_sigint`` is called (on the main thread). While C code keeps the main thread ``on_unheard`` is told
    how often in a row Ctrl-C was pressed in vain (on a thread of ours; it may end the process). One
    session at a time. What ``main`` raises comes out.
    """
    from pyrepl3.run.host import LoopHost  # noqa: PLC0415
    from pyrepl3.run.signals import MainThread  # noqa: PLC0415

    host = LoopHost("main", on_main=True)
    before = sys.modules["__main__"]

    def opener(name: str | None = None, **options: Any) -> Opening:
        opening = open_session(name, **options)
        opening.host = host
        return opening

    ended: list[int] = []
    failed: list[BaseException] = []

    def run_control() -> None:
        try:
            ended.append(asyncio.run(main(opener)))
        except BaseException as error:  # noqa: BLE001  raised again on the main thread
            failed.append(error)
        finally:
            host.stop()

    def interrupt() -> bool:
        runner = _hosted.get(host)
        return runner is not None and runner.interrupt()

    interrupts = MainThread(
        interrupt,
        on_sigint,
        on_unheard,
        running=lambda: getattr(_hosted.get(host), "foreground", None),
    )
    interrupts.install()
    thread = threading.Thread(target=run_control, name="pyrepl3-control")
    thread.start()
    try:
        host.serve()
        thread.join()
    finally:
        interrupts.restore()
        sys.modules["__main__"] = before
    if failed:
        raise failed[0]
    return ended[0]
