"""open_session: what a session is to be like in, the session out, to be entered and left."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrepl3.config import (
    ExecutorConfig,
    Isolation,
    Limits,
    Policy,
    Tool,
    check_isolation,
    with_parts,
)
from pyrepl3.engine.checkers import OnFirstUse
from pyrepl3.engine.options import Options, check_kinds
from pyrepl3.engine.runners import run_here, run_in_worker
from pyrepl3.engine.stored import open_durability, sessions
from pyrepl3.errors import MissingExtraError
from pyrepl3.session import Session
from pyrepl3.session.control import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from tempfile import TemporaryDirectory
    from types import TracebackType

    from pyrepl3.isolate.pool import Pool
    from pyrepl3.isolate.process import ProcessRunner
    from pyrepl3.ports import Asker, Durability, Observer, Runner, Stage, Store
    from pyrepl3.run.host import LoopHost
    from pyrepl3.run.offers import Offer, Serving


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
    preload: Sequence[str] = (),
    python: Path | str | None = None,
    pool: Pool | None = None,
    policy: Policy | None = None,
    strict: bool = False,
    workdir: Path | str | None = None,
    tools: Mapping[str, Tool | Callable[..., Any]] | None = None,
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
    text, or by ``fetch``; ``stages`` do not. "confined", on Linux: that process can do no more than
    ``policy`` says (None: nothing outside its directory, no network, no programs), whatever its code tries;
    ``Session.walls`` tells what holds. ``workdir``: its directory, made if need be, and its HOME (None: a
    temporary one, removed with the session). ``strict``: refuse to run where a limit or a wall that was asked
    for does not hold; else what does not is told with the first cell.
    ``preload`` names modules that the worker is to have imported already, ``python`` is the interpreter that
    it is to be, of a virtual environment, say (3.12 or later; see docs/how-to/workers.md). Sessions that ask
    for the same share what was loaded; or say ``pool``, a Pool of your own.

    ``tools``: functions of the caller that cells may call by these names, as ``await search("x")`` or
    ``search.sync("x")``; async ones run on the loop that the session is opened on, plain ones on threads.
    Arguments and results are plain values; what they raise is a ToolError in the cell; see ``Tool``.

    Entering raises SessionInUseError, StoreError, ValueError for a bad name, WorkerDiedError where no worker
    process can be had, ConfinementError where it cannot be confined as asked.
    Raises ValueError for what does not go together, TypeError for an argument of another kind.
    """
    check_kinds(locals())  # the arguments, by their names
    check_isolation(
        isolation,
        limits=limits,
        stages=stages,
        policy=policy,
        strict=strict,
        workdir=workdir,
        preload=preload,
        python=python,
        pool=pool,
    )
    if config is not None and config.jit and find_spec("numba") is None:
        raise MissingExtraError("ExecutorConfig.jit needs numba", "jit")
    imports = None if policy is None else policy.imports
    return Opening(
        name,
        Options(
            store=store,
            config=with_parts(config, limits=limits, imports=imports),
            limits=limits,
            observe=observe,
            ask=ask,
            stages=stages,
            durability=durability,
            resonate=resonate,
            process=process,
            recompute=recompute,
            isolation=isolation,
            preload=preload,
            python=python,
            pool=pool,
            policy=policy,
            strict=strict,
            workdir=workdir,
            tools=_make_offers(tools),
        ),
    )


def _make_offers(
    tools: Mapping[str, Tool | Callable[..., Any]] | None,
) -> dict[str, Offer] | None:
    if not tools:
        return None
    from pyrepl3.run.offers import make_offers  # noqa: PLC0415  only where something is offered

    return make_offers(tools)


class Opening:
    """What ``open_session`` gives: enter it to have the Session, leave it to close that."""

    def __init__(self, name: str | None, options: Options) -> None:
        self.main_file = ""
        """What ``__file__`` is to be in the cells of a worker process; "": nothing."""
        self.outlives = True
        """Whether a session without a name is to survive its worker process, by epochs in memory."""
        self.host: LoopHost | None = None
        """Where cells run, if it is not a thread of the session's own."""
        self.runner: Runner | None = None
        """What runs the cells, while the session is open."""
        self._name = name
        self._options = options
        self._session: Session | None = None
        self._control: Control | None = None
        self._worker: ProcessRunner | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._serving: Serving | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{name!r}: the session is not open yet; async with open_session(...) as session",
                name=name,
                obj=self,
            )

    async def __aenter__(self) -> Session:
        store, folder = await self._open_store()
        session: Session | None = None
        try:
            durability = self._options.durability
            if durability is None and folder is not None and self._name is not None:
                durability = open_durability(self._name, folder, self._options.resonate)
            session = self._make_session(store, durability)
            if self._worker is not None:
                await self._worker.start()
            await session.resume(recompute=self._options.recompute)
            if folder is not None:
                await self._open_control(session, folder)
        except BaseException:
            if session is not None:
                await session.aclose()
            elif store is not None:
                store.close()
            self._remove_temporary()
            raise
        self._session = session
        return session

    def _make_session(self, store: Store | None, durability: Durability | None) -> Session:
        options = self._options
        workdir = ""
        if options.isolation == "none":
            self.runner, name, self._serving = run_here(
                self._name, options, durability, host=self.host, kept=store is not None
            )
        else:
            workdir = self._own_directory()
            self._worker, name = run_in_worker(
                self._name, options, durability, file=self.main_file, workdir=workdir
            )
            self.runner = self._worker
        session = Session(
            self.runner, name=name, store=store, observe=options.observe, durability=durability
        )
        session.use_checker(OnFirstUse())
        if workdir:
            session.use_files(workdir)
        if self._worker is not None:
            self._worker.revive, self._worker.when_died = session.revive, session.note_death
        return session

    def _own_directory(self) -> str:
        """The workdir of a confined session, "" for others."""
        if self._options.isolation != "confined":
            return ""
        if self._options.workdir is not None:
            Path(self._options.workdir).mkdir(exist_ok=True)  # else its own code could not make it
            return os.path.realpath(self._options.workdir)
        import tempfile  # noqa: PLC0415  confined sessions only

        self._temporary = tempfile.TemporaryDirectory(prefix="pyrepl3-", ignore_cleanup_errors=True)
        return os.path.realpath(self._temporary.name)

    async def _open_store(self) -> tuple[Store | None, Path | None]:
        """The store, and the session's own directory in it where it has one."""
        name, store = self._name, self._options.store
        if store is not None and not isinstance(store, (str, Path)):
            return store, None
        if name is None:
            if store is not None or self._options.resonate is not None:
                raise ValueError("a session without a name is not kept: give a name, or no store")
            if self._options.isolation == "none" or not self.outlives:
                return None, None
            from pyrepl3.store.memory import MemoryStore  # noqa: PLC0415

            return MemoryStore(), None  # so that it outlives its worker
        directory = sessions(store)
        return await asyncio.to_thread(directory.open, name), directory.path_of(name)

    async def _open_control(self, session: Session, folder: Path) -> None:
        """Let other processes of the user reach the session; it does without where it cannot be."""
        control = Control(session, folder)
        with suppress(OSError):  # a file system without sockets
            await control.open()
            self._control = control

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        control, self._control = self._control, None
        self.runner = None
        try:
            if control is not None:
                await control.aclose()
            if session is not None:
                await session.aclose()
        finally:
            if self._serving is not None:
                self._serving.close()
            self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
