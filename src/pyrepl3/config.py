"""Settings, read once and passed down. Frozen; unknown fields are refused; None means no limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


def _check_positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive or None (no limit), not {value!r}")


type Isolation = Literal["none", "process", "confined"]
"""Where cells run: in the caller's process, in a worker process, in one that is confined, too."""

ONLY_IN_WORKERS = ("cpu", "processes", "open_files", "file_size")
ONLY_CONFINED = ("workdir_bytes", "workdir_files")
"""Limits that nothing could hold in the caller's process."""


class Limits(_Settings, frozen=True, kw_only=True):
    """What one cell may use. Every field is per cell; None means no limit.

    ``wall``: seconds from start to end, waiting included. ``memory``: bytes by which the process may
    grow while the cell runs (watched, not enforced, in the caller's process). ``output``: bytes
    written to stdout and stderr, in UTF-8. ``coroutines``: tasks alive at once.

    Only for worker processes, where the kernel holds them: ``cpu``: seconds of processor time.
    ``processes``: how many processes and threads the session may start. ``open_files``: file descriptors
    open at once. ``file_size``: bytes of any file that it writes.

    Only for confined sessions, counted by the host some ten times a second: ``workdir_bytes``: bytes on the
    disk below the workdir, 512 for each file beside what it holds. ``workdir_files``: how many files,
    directories and links. What is there stays when a cell exceeds them; later cells may remove it.
    """

    wall: float | None = None
    memory: int | None = None
    output: int | None = None
    coroutines: int | None = None
    cpu: float | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    workdir_bytes: int | None = None
    workdir_files: int | None = None

    def __post_init__(self) -> None:
        _check_positive(
            self, "wall", "memory", "output", "coroutines", *ONLY_IN_WORKERS, *ONLY_CONFINED
        )


class Tool(_Settings, frozen=True, kw_only=True):
    """A function of the host that cells may call, with more than its name to be said of it.

    ``timeout``: seconds that a call may take, as its caller sees it; None: no limit. A plain function
    runs on a thread, which nothing can stop: it goes on, and its result is dropped.
    """

    fn: Callable[..., Any]
    timeout: float | None = 60.0

    def __post_init__(self) -> None:
        _check_positive(self, "timeout")


class ImportPolicy(_Settings, frozen=True, kw_only=True):
    """Which top packages the cells' own import statements may name. A policy, not a boundary.

    ``allowed=None`` allows all that is not denied; ``denied`` wins over ``allowed``.
    """

    allow: bool = True
    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()


class Policy(_Settings, frozen=True, kw_only=True):
    """What the code of a confined session may do beside computing. By default: nothing outside its workdir.

    ``read`` and ``write``: absolute paths of files and directories (with all beneath); ``write`` implies
    reading. The interpreter, its packages and the system's libraries may be read always. ``subprocesses``:
    it may start programs, behind the same walls. ``environment``: the variables that it sees beside
    harmless ones (``PATH``, the language). ``imports``: as ``ExecutorConfig`` has it; a policy, no wall.

    ``network``: hosts and ports to which Python's own sockets may connect, by TCP, each as
    ``"example.org:443"``, ``"*.example.org:443"`` (any name below it), ``"192.0.2.7:443"`` or
    ``"[2001:db8::7]:443"``. This process looks names up and connects; an address that is not public counts
    only where it is listed itself. ``traffic``: bytes that all connections of the session may carry, both
    ways together (None: no limit).
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    traffic: int | None = None
    subprocesses: bool = False
    environment: Mapping[str, str] = {}
    imports: ImportPolicy | None = None

    def __post_init__(self) -> None:
        for name in ("read", "write"):
            for path in getattr(self, name):
                if not path.startswith("/"):
                    raise ValueError(f"Policy.{name} takes absolute paths, not {path!r}")
        _check_positive(self, "traffic")
        if not self.network:
            return
        given: Any = self.network
        if isinstance(given, str):
            raise TypeError(f"Policy.network takes several: ({given!r},), not {given!r}")
        msgspec.structs.force_setattr(self, "network", tuple(given))
        from pyrepl3.records.endpoints import read_endpoint  # noqa: PLC0415  for those who list hosts

        for text in self.network:
            try:
                read_endpoint(text)
            except ValueError as error:
                raise ValueError(f"Policy.network: {error}") from None


class ExecutorConfig(_Settings, frozen=True, kw_only=True):
    """Configuration for AsyncExecutor and Session: the specification's fields and defaults.

    It takes effect only where it is passed; without one there are no limits and no import policy.
    ``max_execution_time`` in seconds, ``max_memory_usage`` and ``max_output`` and ``cache_bytes`` in
    bytes, ``max_coroutines`` and ``cache_size`` are counts.

    ``enable_ast_optimization`` lets ``ASTOptimizer`` change each cell's tree before it is compiled:
    loops at the top of a cell run faster, nothing else differs. ``trace_execution`` reports each line
    that runs as an event, ``max_trace_events`` of a cell at most (None: all), ``collect_stats`` counts,
    ``verbose_errors`` gives whole tracebacks instead of the last line only.
    """

    # Execution limits
    max_execution_time: float | None = 30.0
    max_memory_usage: int | None = 512 * MiB
    max_coroutines: int | None = 1000
    max_output: int | None = None

    # Optimisation settings
    enable_compilation_cache: bool = True
    enable_ast_optimization: bool = True
    cache_size: int = 1000
    cache_bytes: int = 64 * MiB

    # Compile numeric functions that prove hot, with numba (`pyrepl3[jit]`)
    jit: bool = False

    # Safety settings
    allow_imports: bool = True
    allowed_modules: frozenset[str] | None = None
    denied_modules: frozenset[str] | None = frozenset({"os", "sys", "subprocess"})

    # Debug settings
    trace_execution: bool = False
    max_trace_events: int | None = 10_000
    collect_stats: bool = True
    verbose_errors: bool = True

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "max_execution_time",
            "max_memory_usage",
            "max_coroutines",
            "max_output",
            "max_trace_events",
            "cache_size",
            "cache_bytes",
        )
        for name in ("allowed_modules", "denied_modules"):
            value: Any = getattr(self, name)
            if isinstance(value, str):
                raise TypeError(f"{name} takes a set of module names, not the string {value!r}")
            if value is not None and not isinstance(value, frozenset):
                msgspec.structs.force_setattr(self, name, frozenset(value))

    @property
    def limits(self) -> Limits:
        """The limits among these settings."""
        return Limits(
            wall=self.max_execution_time,
            memory=self.max_memory_usage,
            output=self.max_output,
            coroutines=self.max_coroutines,
        )

    @property
    def imports(self) -> ImportPolicy:
        """The import policy among these settings."""
        return ImportPolicy(
            allow=self.allow_imports,
            allowed=self.allowed_modules,
            denied=self.denied_modules or frozenset(),
        )


def unlimited(*, denied: Iterable[str] = ()) -> ExecutorConfig:
    """The configuration that holds where none is passed: no limits, no import policy."""
    return ExecutorConfig(
        max_execution_time=None,
        max_memory_usage=None,
        max_coroutines=None,
        denied_modules=frozenset(denied),
    )


def check_isolation(
    isolation: str,
    *,
    limits: Limits | None = None,
    stages: Sequence[object] = (),
    policy: Policy | None = None,
    strict: bool = False,
    workdir: object | None = None,
    preload: Sequence[str] = (),
    python: object | None = None,
    pool: object | None = None,
) -> None:
    """Raise ValueError for what does not go together, TypeError for a ``preload`` that is one string."""
    if isinstance(preload, str):
        raise TypeError(f"preload takes names of modules, not the string {preload!r}")
    if isolation not in ("none", "process", "confined"):
        raise ValueError(f'isolation is "none", "process" or "confined", not {isolation!r}')
    if isolation != "none" and stages:
        raise ValueError("stages are objects of this process; leave them out of a worker's session")
    for names, needed, there in (
        (ONLY_CONFINED, ("confined",), "without a workdir of its own"),
        (ONLY_IN_WORKERS, ("process", "confined"), "in this process"),
    ):
        asked = [name for name in names if getattr(limits, name, None) is not None]
        if isolation not in needed and asked:
            raise ValueError(
                f'nothing holds Limits.{asked[0]} {there}: pass isolation="{needed[0]}", too'
            )
    if isolation != "confined" and (policy is not None or workdir is not None):
        raise ValueError('a policy and a workdir are for isolation="confined"')
    if isolation == "none" and strict:
        raise ValueError('strict is for isolation="process" and "confined"')

    of_worker = {"preload": bool(preload), "python": python is not None, "pool": pool is not None}
    given = [name for name, wanted in of_worker.items() if wanted]
    if isolation == "none" and given:
        raise ValueError(f'{given[0]} is for worker processes: pass isolation="process", too')
    if pool is not None and len(given) > 1:
        raise ValueError(f"the pool has its own {given[0]}: say it to Pool({given[0]}=…)")


def with_parts(
    config: ExecutorConfig | None, *, limits: Limits | None, imports: ImportPolicy | None
) -> ExecutorConfig | None:
    """The configuration with these limits and this import policy instead of its own (None: as it is)."""
    if limits is not None:
        config = msgspec.structs.replace(
            config or unlimited(),
            max_execution_time=limits.wall,
            max_memory_usage=limits.memory,
            max_output=limits.output,
            max_coroutines=limits.coroutines,
        )
    if imports is not None:
        config = msgspec.structs.replace(
            config or unlimited(),
            allow_imports=imports.allow,
            allowed_modules=imports.allowed,
            denied_modules=imports.denied,
        )
    return config
