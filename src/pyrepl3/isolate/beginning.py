"""What a session is to be like in, the Setup for its worker out: this process as it is now."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pyrepl3.isolate.messages import Setup

if TYPE_CHECKING:
    from pyrepl3.config import ExecutorConfig, Limits


def make_setup(
    name: str,
    *,
    config: ExecutorConfig | None,
    limits: Limits | None,
    asks: bool,
    keeps: bool,
    file: str,
    own_path: bool,
) -> Setup:
    """The first message to a worker. It has our directory, arguments and environment, and our path.

    ``own_path``: of another interpreter, whose own path is the one to search.
    """
    try:
        directory = os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        directory = ""
    return Setup(
        name=name,
        config=config,
        limits=limits,
        asks=asks,
        keeps=keeps,
        directory=directory,
        path=None if own_path else tuple(sys.path),
        arguments=tuple(sys.argv),
        environment=dict(os.environ),
        file=file,
    )
