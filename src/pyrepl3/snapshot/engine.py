"""The engine's own state in, bytes out, and back: part by part, so that one bad part costs itself only.

Each item of a list stands alone, since context variables hold what users put there. Values that
are bound to a name of the session, and ContextVars, are referred to by that name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from pyrepl3.records import Blob
from pyrepl3.snapshot import rebuild
from pyrepl3.snapshot.commons import BUILDER, MAGIC, PROLOGUE, VALUES, Commons
from pyrepl3.snapshot.loader import Entry, Loader, explain
from pyrepl3.snapshot.pickler import BlobPickler
from pyrepl3.snapshot.reasons import describe, explain_failure, find_path
from pyrepl3.snapshot.stream import pack_positions

_ATOMS = frozenset({int, float, bool, type(None), complex, str, bytes})

type _Find = Callable[[object], str | None]


def pickle_engine(
    commons: Commons, extra: Mapping[str, object], find_name: _Find
) -> tuple[bytes, dict[str, str]]:
    """The bytes, and the parts that are not in them: path to reason.

    ``find_name`` tells by which name the store holds an object, if it does.
    """
    if not extra:
        return b"", {}
    parts: dict[str, Any] = {}
    dropped: dict[str, str] = {}
    for key, value in extra.items():
        if type(value) in _ATOMS:
            parts[key] = ("atom", value)
        elif type(value) in (list, tuple):
            assert isinstance(value, (list, tuple))
            items = []
            for n, item in enumerate(value):
                data = _pickle(commons, item, find_name, f"{key}[{n}]", dropped)
                if data is not None:
                    items.append(data)
            parts[key] = (type(value).__name__, items)
        else:
            data = _pickle(commons, value, find_name, key, dropped)
            if data is not None:
                parts[key] = data
    return pickle.dumps(parts, 5), dropped


def load_engine(
    loader: Loader, data: bytes, prefix: str = ""
) -> tuple[dict[str, object], dict[str, str]]:
    """The state, and the parts that could not be loaded: path to reason. Of keys with ``prefix`` only."""
    extra: dict[str, object] = {}
    dropped: dict[str, str] = {}
    if not data:
        return extra, dropped
    for key, part in pickle.loads(data).items():
        if not key.startswith(prefix):
            continue
        if isinstance(part, bytes):
            for value in _load(loader, part, key, dropped):
                extra[key] = value
        else:
            kind, items = part
            if kind == "atom":
                extra[key] = items
                continue
            values = [
                v for n, i in enumerate(items) for v in _load(loader, i, f"{key}[{n}]", dropped)
            ]
            extra[key] = tuple(values) if kind == "tuple" else values
    return extra, dropped


def _pickle(
    commons: Commons, value: object, find_name: _Find, path: str, dropped: dict[str, str]
) -> bytes | None:
    file = io.BytesIO()
    file.write(MAGIC + VALUES + pack_positions() + PROLOGUE)
    pickler = BlobPickler(file, commons, {})
    pickler.lone = True
    try:
        pickler.dump({"": _refer(value, find_name, 2)})
    except BaseException as error:  # noqa: BLE001 - user code may raise anything; it is told
        failure = explain_failure(error, pickler.last)
        dropped[path] = describe(failure, find_path(path, value, failure.value))
        return None
    return file.getvalue()


def _refer(value: object, find_name: _Find, depth: int) -> object:
    """``value`` with what is bound to a name replaced by a reference, two containers deep."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    name = find_name(value)
    if name is not None:
        return rebuild.Call(rebuild.by_name, BUILDER, name)
    if depth and kind in (list, tuple):
        assert isinstance(value, (list, tuple))
        return kind(_refer(item, find_name, depth - 1) for item in value)
    if depth and kind is dict:
        assert isinstance(value, dict)
        return {key: _refer(item, find_name, depth - 1) for key, item in value.items()}
    return value


def _load(loader: Loader, data: bytes, path: str, dropped: dict[str, str]) -> list[object]:
    try:
        return [Entry(loader, Blob(names=(), data=data)).load()[""]]
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - user code; it is told
        dropped[path] = explain(error)
        return []
