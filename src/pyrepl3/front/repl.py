"""Keys in, cells run: the plain prompt."""

from __future__ import annotations

from pyrepl3.config import Limits


def run_prompt(*, session: str | None, store: str | None, limits: Limits | None) -> int:
    raise NotImplementedError
