"""A pandas object in, what pickle is to write for it out: memory that is shared until written stays so.

A table and what was taken out of it share memory, and each block knows who else uses its own: whoever
writes first makes a copy. pandas forgets it in a pickle, and a restored column would write into its table.
"""

from __future__ import annotations

from typing import Any

from pyrepl3.snapshot import rebuild_tables
from pyrepl3.snapshot.commons import Handler, Pickling


def find_table_handler(kind: type[Any]) -> Handler | None:
    """For types of pandas alone."""
    if kind.__module__ == "pandas.core.internals.blocks":
        return reduce_block
    if kind.__module__ == "pandas._libs.internals" and kind.__name__ == "BlockValuesRefs":
        return reduce_users
    if kind.__name__ == "SingleBlockManager":
        return reduce_column
    if any(base.__name__ == "Index" for base in kind.__mro__) and hasattr(kind, "_references"):
        return reduce_index
    return None


def reduce_block(pickler: Pickling, block: Any) -> Any:
    users = getattr(block, "refs", None)
    if users is None or not users.has_reference():
        return NotImplemented
    function, args = block.__reduce__()
    return rebuild_tables.make_block, (function, args, users)


def reduce_column(pickler: Pickling, column: Any) -> Any:
    """What is inside a Series; its own way stores the values without their block."""
    (block,) = column.blocks
    if not block.refs.has_reference():
        return NotImplemented
    return rebuild_tables.make_column, (type(column), block, column.index)


def reduce_index(pickler: Pickling, index: Any) -> Any:
    users = vars(index).get("_references")  # of a RangeIndex it is made up when asked for
    if users is None or not users.has_reference():
        return NotImplemented
    function, args, *state = index.__reduce__()
    if any(part is not None for part in state):
        return NotImplemented
    return rebuild_tables.make_index, (function, args, users)


def reduce_users(pickler: Pickling, users: Any) -> Any:
    return rebuild_tables.make_users, ()
