"""What blobs call for pandas objects when they are loaded: parts in, the object out.

Under the rule of ``rebuild``: names and arguments are the storage format.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def make_users() -> Any:
    """Who uses some memory: nobody yet."""
    return importlib.import_module("pandas._libs.internals").BlockValuesRefs()


def make_block(function: Callable[..., Any], args: tuple[Any, ...], users: Any) -> Any:
    """A block that uses the same memory as the other ``users``."""
    block = function(*args)
    users.add_reference(block)
    block.refs = users
    return block


def make_column(kind: type[Any], block: Any, index: Any) -> Any:
    """What is inside a Series."""
    return kind(block, index, verify_integrity=False)


def make_index(function: Callable[..., Any], args: tuple[Any, ...], users: Any) -> Any:
    """An index that uses the same memory as the other ``users``."""
    index = function(*args)
    users.add_index_reference(index)
    index._references = users  # noqa: SLF001 - where pandas keeps it
    return index
