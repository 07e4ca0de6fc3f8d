"""Options in, the Runner that they ask for out: one in this process, or a worker process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pyrepl3.config import Policy

if TYPE_CHECKING:
    from pyrepl3.engine.options import Options
    from pyrepl3.isolate.process import ProcessRunner
    from pyrepl3.ports import Durability, Runner
    from pyrepl3.run.host import LoopHost
    from pyrepl3.run.offers import Serving
    from pyrepl3.snapshot.process import Process

_unnamed = itertools.count(1)


def run_here(
    name: str | None,
    options: Options,
    durability: Durability | None,
    *,
    host: LoopHost | None,
    kept: bool,
) -> tuple[Runner, str, Serving | None]:
    """A runner in this process, on ``host`` or a thread of its own; the name of the session; its tools."""
    from pyrepl3.run.display import display  # noqa: PLC0415  the engine loads when first used
    from pyrepl3.run.namespace import NamespaceManager, fresh_main  # noqa: PLC0415
    from pyrepl3.run.thread import ThreadRunner  # noqa: PLC0415

    owned = host is not None if options.process is None else options.process
    process: Process | None = None
    if owned and kept:
        from pyrepl3.snapshot.process import Process  # noqa: PLC0415  kept sessions only

        process = Process()
    manager = NamespaceManager(
        name=name or "session", module=None if host is None else fresh_main(), process=process
    )
    manager.get_for_execution()["display"] = display
    runner = ThreadRunner(
        manager,
        config=options.config,
        ask=options.ask,
        stages=options.stages,
        host=host,
        durability=durability,
    )
    serving: Serving | None = None
    if options.tools:
        from pyrepl3.run.offers import offer_here  # noqa: PLC0415  only where something is offered

        serving = offer_here(options.tools, manager)
    return runner, name or manager.name, serving


def run_in_worker(
    name: str | None,
    options: Options,
    durability: Durability | None,
    *,
    file: str,
    workdir: str,
) -> tuple[ProcessRunner, str]:
    """A runner in a worker process, not started yet; and the name of the session.

    ``workdir``: what belongs to it, where it is confined.
    """
    from pyrepl3.isolate.pool import shared_pool  # noqa: PLC0415  only where asked for
    from pyrepl3.isolate.process import ProcessRunner  # noqa: PLC0415

    limits = options.limits
    if limits is None and options.config is not None:
        limits = options.config.limits
    pool = options.pool or shared_pool(options.python, options.preload)
    if name is None:  # a command line has one
        name = "session" if pool.attached else f"session-{next(_unnamed)}"
    policy = (options.policy or Policy()) if options.isolation == "confined" else None
    runner = ProcessRunner(
        name,
        pool=pool,
        config=options.config,
        limits=limits,
        ask=options.ask,
        durability=durability,
        file=file,
        policy=policy,
        workdir=workdir,
        strict=options.strict,
        tools=options.tools,
    )
    return runner, name
