"""What a session's worker is to be like in; a worker that is so out, or the reason why there is none."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.errors import ConfinementError, WorkerDiedError
from pyrepl3.isolate.messages import Ready, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyrepl3.config import ExecutorConfig, Limits, Policy
    from pyrepl3.isolate.cgroups import Leaf
    from pyrepl3.isolate.link import Link, Network
    from pyrepl3.isolate.network.exchange import Resolve
    from pyrepl3.isolate.pool import Pool, Worker

_START = 60.0  # seconds that a worker may take for its Setup
_HARMLESS = ("PATH", "LANG", "LANGUAGE", "TZ")
"""What confined code sees of the environment in any case, and all that begins with LC_."""
_ESSENTIAL = frozenset({"files", "network", "programs"})
"""Where one of these walls does not stand, code is not confined, whatever the others do."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What every worker of one session is to be like. ``policy``: confined, with a workdir of its own."""

    name: str
    config: ExecutorConfig | None = None
    limits: Limits | None = None
    file: str = ""
    policy: Policy | None = None
    workdir: str = ""
    strict: bool = False
    tools: tuple[tuple[str, str], ...] = ()

    def setup(self, pool: Pool, *, asks: bool, keeps: bool) -> Setup:
        """The first message to a worker: with our directory, arguments and environment, and our path.

        A confined one has a directory and an environment of its own, and no arguments; another interpreter
        its own path.
        """
        try:
            directory = os.getcwd()  # noqa: PTH109
        except OSError:  # it was removed
            directory = ""
        environment = dict(os.environ)
        if self.policy is not None:
            directory = self.workdir
            environment = {
                name: value
                for name, value in os.environ.items()
                if name in _HARMLESS or name.startswith("LC_")
            }
            environment |= {"HOME": self.workdir, "TMPDIR": self.workdir, **self.policy.environment}
        return Setup(
            name=self.name,
            config=self.config,
            limits=self.limits,
            asks=asks,
            keeps=keeps,
            directory=os.fsencode(directory),
            path=_raw(sys.path) if pool.python is None else None,
            arguments=_raw(sys.argv) if self.policy is None else (),
            environment=tuple(map(_raw_pair, environment.items())),
            file=os.fsencode(self.file),
            policy=self.policy,
            workdir=self.workdir,
            tools=self.tools,
            attached=pool.attached,
        )

    def check(self, ready: Ready) -> None:
        """Raise where what holds in a worker is not enough. Nothing of the session has run in it."""
        if self.strict and ready.unheld:
            held = "; ".join(f"Limits.{name}: {reason}" for name, reason in ready.unheld.items())
            raise ConfinementError(
                f"a limit does not hold here, and strict=True asks for all: {held}"
            )
        if self.policy is None:
            return
        fallen = [f"{wall.name}: {wall.detail}" for wall in ready.walls if not wall.stands]
        stand = {wall.name for wall in ready.walls if wall.stands}
        if not stand >= _ESSENTIAL:
            raise ConfinementError(
                "code cannot be confined here, and nothing of it has run: "
                + ("; ".join(fallen) or "no wall was told of")
            )
        if self.strict and fallen:
            raise ConfinementError(
                "a wall does not stand here, and strict=True asks for all: " + "; ".join(fallen)
            )


def open_network(policy: Policy, resolve: Resolve | None) -> Network | None:
    """What makes the network of each worker of a session; None where the policy lists no host."""
    if not policy.network:
        return None
    from pyrepl3.isolate.network import exchange  # noqa: PLC0415  only where hosts are listed
    from pyrepl3.isolate.network.carrying import Traffic  # noqa: PLC0415

    traffic = Traffic(policy.traffic)  # of all workers that the session will have
    return lambda post: exchange.Exchange(
        policy.network, traffic, post, resolve=resolve or exchange.resolve_here
    )


async def begin(
    wanted: Wanted, pool: Pool, connect: Callable[[Worker], Link], *, asks: bool, keeps: bool
) -> tuple[Link, Ready]:
    """A worker that has taken its Setup. Raises WorkerDiedError, ConfinementError."""
    setup = wanted.setup(pool, asks=asks, keeps=keeps)
    while True:
        try:
            worker = await asyncio.to_thread(pool.lease)
        except OSError as error:
            raise WorkerDiedError(f"no worker process could be started: {error}") from error
        link = connect(worker)
        try:
            return link, await _set_up(link, setup, wanted)
        except BaseException as error:
            # One that had waited may have come to harm meanwhile: another one then.
            again = isinstance(error, WorkerDiedError) and worker.warm and not worker.alive
            await link.gone.wait()  # its socket is closed then, and not when the loop may be
            if not again:
                raise


async def _set_up(link: Link, setup: Setup, wanted: Wanted) -> Ready:
    limits = wanted.limits
    try:
        if limits is not None and (limits.memory is not None or limits.processes is not None):
            link.leaf = await asyncio.to_thread(_enclose, link.worker.pid)
        link.post(setup)
        async with asyncio.timeout(_START):
            ready = await asyncio.shield(link.ready)
        if limits is not None and (link.leaf is not None or "processes" in ready.unheld):
            ready = await asyncio.to_thread(_limit, link.leaf, limits, ready)
        wanted.check(ready)
    except TimeoutError:
        link.end("it was not ready in time")
        raise WorkerDiedError(f"no worker process: it was not ready in {_START:g} s") from None
    except BaseException:
        link.end("nobody waits for it any more")
        raise
    if wanted.policy is not None:
        link.lend(None if wanted.limits is None else wanted.limits.memory)
    return ready


def _enclose(pid: int) -> Leaf | None:
    """A cgroup with the worker in it, which has run nothing yet; None where there are none."""
    from pyrepl3.isolate.cgroups import make_leaf  # noqa: PLC0415  only with such limits

    leaf = make_leaf()
    if leaf is not None:
        try:
            leaf.enter(pid)
        except OSError:
            leaf.end()
            return None
    return leaf


def _limit(leaf: Leaf | None, limits: Limits, ready: Ready) -> Ready:
    """What a cgroup holds no rlimit need hold: the superuser's processes have none."""
    from pyrepl3.isolate.cgroups import why_not  # noqa: PLC0415  only with such limits

    unheld = dict(ready.unheld)
    why = why_not()
    if leaf is not None:
        try:
            leaf.limit(limits)
        except OSError as error:
            why = str(error)
        else:
            unheld.pop("memory", None)
            unheld.pop("processes", None)
    if "processes" in unheld:
        unheld["processes"] += f"; nor can a cgroup hold them: {why}"
    return msgspec.structs.replace(ready, unheld=unheld)


def _raw(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(os.fsencode, texts))


def _raw_pair(pair: tuple[str, str]) -> tuple[bytes, bytes]:
    return os.fsencode(pair[0]), os.fsencode(pair[1])
