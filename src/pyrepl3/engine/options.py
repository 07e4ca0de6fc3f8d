"""Options: what ``open_session`` was asked for, in one record, passed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.config import ExecutorConfig, Limits, Policy

if TYPE_CHECKING:
    from pyrepl3.config import Isolation
    from pyrepl3.isolate.pool import Pool
    from pyrepl3.ports import Asker, Durability, Observer, Stage, Store
    from pyrepl3.run.offers import Offer


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What ``open_session`` was asked for; its docstring says what each means."""

    store: Store | Path | str | None
    config: ExecutorConfig | None
    limits: Limits | None
    observe: Observer | None
    ask: Asker | None
    stages: Sequence[Stage]
    durability: Durability | None
    resonate: str | None
    process: bool | None
    recompute: bool
    isolation: Isolation
    policy: Policy | None
    strict: bool
    workdir: Path | str | None
    preload: Sequence[str] = ()
    python: Path | str | None = None
    pool: Pool | None = None
    tools: Mapping[str, Offer] | None = None


_KINDS: dict[str, tuple[Any, str]] = {
    "name": (str, "a str"),
    "store": ((str, Path), "a path or a Store"),
    "config": (ExecutorConfig, "an ExecutorConfig"),
    "limits": (Limits, "a Limits, as Limits(wall=5)"),
    "observe": (Callable, "a function"),
    "ask": (Callable, "a function"),
    "stages": (Sequence, "a list or tuple"),
    "durability": ((), "a Durability"),
    "resonate": (str, "a URL"),
    "preload": (Sequence, "a list or tuple"),
    "python": ((str, Path), "a path"),
    "pool": ((), "a Pool"),
    "policy": (Policy, "a Policy"),
    "workdir": ((str, Path), "a path"),
    "tools": (Mapping, "a dict of names and functions"),
}
# What a port is known by: to ask for its class would be to load it.
_PORTS = {"store": "commit", "durability": "settle", "pool": "lease"}


def check_kinds(given: Mapping[str, object]) -> None:
    """Raise TypeError for an argument of ``open_session`` that is of another kind; None is of any."""
    for name, (kind, words) in _KINDS.items():
        value = given[name]
        if value is None or isinstance(value, kind):
            continue
        if name not in _PORTS or not hasattr(value, _PORTS[name]):
            raise TypeError(f"{name} is to be {words}, not {value!r}")
