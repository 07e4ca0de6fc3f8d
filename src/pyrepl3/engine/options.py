"""Options: what ``open_session`` was asked for, in one record, passed down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyrepl3.config import ExecutorConfig, Isolation, Limits, Policy
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
