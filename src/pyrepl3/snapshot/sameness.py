"""A blob that is to be written in, those of its names whose values are what they were out.

Names are written anew too where only what they share objects with has changed, and where the same bytes
do not come out of what a restore brought: a set of strings has another order in each process.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Collection
from typing import Any

from pyrepl3.snapshot.commons import MAGIC, VALUES, Commons
from pyrepl3.snapshot.pickler import Pickled, pickle_names
from pyrepl3.snapshot.state import State
from pyrepl3.snapshot.stream import unpack_positions

REMEMBERED = 16 * 1024
"""Bytes; what a restore read is kept for a comparison if it is shorter."""


def find_same(
    state: State, commons: Commons, pickled: Pickled, changed: Collection[str]
) -> set[str]:
    """The names of ``pickled`` that have the value of the last mark, as far as it is known.

    Not those ``changed``: bound to another object. Only after ``seal``.
    """
    names = [name for name in pickled.names if name not in changed]
    digests = {name: pickled.digest_of(name) for name in names}
    same = {name for name in names if digests[name] and digests[name] == state.values.get(name)}
    if len(same) < len(pickled.names) and _was_read(state, commons, pickled):
        return set(names)
    return same


def _was_read(state: State, commons: Commons, pickled: Pickled) -> bool:
    """Whether a restore has read what ``pickled`` holds, in other bytes."""
    group = state.groups.get(pickled.names[0])
    if group is None or group.read is None or group.names != set(pickled.names) or pickled.contents:
        return False
    values = _read_plain(group.read)
    if values is None or values.keys() != group.names:
        return False
    # Read and written in this process, as what the session has: the same bytes, if it is the same.
    again = pickle_names(commons, {name: values[name] for name in pickled.names})
    return isinstance(again, Pickled) and again.data == pickled.data


def _read_plain(data: bytes) -> dict[str, Any] | None:
    """What a blob holds, if that is builtin containers and atoms: no other code runs for it."""
    at = len(MAGIC) + 1
    if data[:at] != MAGIC + VALUES:
        return None
    positions, start = unpack_positions(data, at)
    if positions:
        return None
    file = io.BytesIO(data)
    file.seek(start)
    reader = _PlainUnpickler(file)
    try:
        reader.load()  # the prologue
        return {sys.intern(name): value for name, value in reader.load().items()}
    except Exception:  # noqa: BLE001 - it holds something else, or is no such blob
        return None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the session's own dict and module
        return object()  # which no plain value refers to
