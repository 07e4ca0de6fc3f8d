"""Confines this process for ever: a policy in, the walls that stand out. The order is what holds it up.

To be called in a worker that the zygote has forked (a process group of its own, a signal at the death of its
parent, signals as at the start), with its limits set, before there is a second thread and before any code of
a cell. Then: namespaces, while there is the power to leave them; powers away; files; the filter of calls
last, since it forbids what the others needed.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyrepl3.isolate.confine import landlock, places, rights, seccomp
from pyrepl3.isolate.confine.system import machine
from pyrepl3.isolate.confine.walls import NAMES, Walls
from pyrepl3.records import Wall

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.config import Policy

_held: list[int] = []


def confine(policy: Policy, workdir: str, *, keep: int) -> tuple[Wall, ...]:
    """Build every wall that can be had here, then try each. ``keep``: the descriptor of the channel.

    Never raises for a wall that cannot be built: it is told as one that does not stand, with the reason.
    """
    here = machine()
    if not here:
        reason = f"it is not known how to build it on {sys.platform}"
        return tuple(Wall(name=name, stands=False, detail=reason) for name in NAMES)
    _let_go(keep)
    failed: dict[str, str] = {}
    apart = rights.leave_namespaces()  # one wall more behind the filter, where it can be had
    if apart:
        failed["network"] = f"no network namespace of its own: {apart}"
    try:
        rights.drop_powers(here)
    except OSError as error:
        failed["powers"] = str(error)
    # Held open, so that the kernel keeps the very directory that the rule below is about.
    _held.append(os.open("/proc/self", os.O_PATH | os.O_CLOEXEC))
    try:
        landlock.restrict(
            read=[*places.readable(policy), f"/proc/{os.getpid()}"],
            write=places.writable(policy, workdir),
            programs=policy.subprocesses,
        )
    except OSError as error:
        failed["files"] = f"Landlock: {error.strerror}"
    sys.addaudithook(_explain(policy))
    try:
        calls = seccomp.program(
            here, os.getpid(), subprocesses=policy.subprocesses, abi=landlock.version()
        )
        seccomp.install(here, calls)
    except OSError as error:
        for name in ("network", "programs", "processes", "namespaces", "kernel", "end"):
            failed.setdefault(name, f"seccomp: {error.strerror}")
    return Walls(here, workdir, policy).probe(failed)


def _let_go(keep: int) -> None:
    """No descriptor but the channel's: neither a terminal nor what the zygote had."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        if fd > 2 and fd != keep:
            with suppress(OSError):  # that of the listing itself
                os.close(fd)


_STARTS = frozenset(
    ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system")
)


_NAMED = frozenset(("socket.getaddrinfo", "socket.gethostbyname"))


def _explain(policy: Policy) -> Callable[[str, tuple[Any, ...]], None]:
    """Says what to do, before the kernel says no more than 'permission denied'. No wall by itself."""
    starts = frozenset() if policy.subprocesses else _STARTS
    network = bool(policy.network)  # whose sockets say it themselves

    def explain(event: str, args: tuple[Any, ...]) -> None:
        if event in starts:
            raise PermissionError(
                "this session is confined and starts no processes: "
                "open_session(policy=Policy(subprocesses=True)) allows it"
            )
        if network:
            return
        if (event == "socket.__new__" and args[1] not in (1, -1)) or (  # AF_UNIX: of a pair
            event in _NAMED and _is_name(args[0])
        ):
            raise PermissionError(
                "this session is confined and has no network: "
                "open_session(policy=Policy(network=('example.org:443',))) lists hosts"
            )

    return explain


def _is_name(host: object) -> bool:
    """Whether a host would have to be looked up: addresses have no letters but those of numbers."""
    return isinstance(host, str) and ":" not in host and any(c.isalpha() for c in host)
