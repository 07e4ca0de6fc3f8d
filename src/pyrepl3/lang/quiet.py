"""A kind of warning in, a block in which it is not told out; what was told once before is not told again.

``warnings.catch_warnings`` makes every module forget what it has warned about.
"""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet(category: type[Warning] = Warning, *, module: str | None = None) -> Iterator[None]:
    """A block in which ``category`` is not told. ``module``: only what code of that module causes."""
    where = None if module is None else re.compile(re.escape(module) + r"\Z")
    mine = ("ignore", None, category, where, 0)
    # The list that the interpreter looks at; simplefilter() would replace nothing else, and forget.
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    filters.insert(0, mine)
    try:
        yield
    finally:
        for at, one in enumerate(filters):
            if one is mine:
                del filters[at]
                break
