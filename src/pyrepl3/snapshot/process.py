"""What cells change in the process beside their names in; how it differs from the start out, and back.

Random generators, warnings filters, environment, working directory, ``sys.path``, recursion limit, locale
and loaded modules belong to the whole process. So they are kept only for a session that owns its process
(the command line, the prompt, a program that says so), and only what changed since the session was
opened: a process that comes back elsewhere keeps its own environment otherwise. The decimal context and
``numpy.errstate`` are context variables, and kept with these for any session.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pyrepl3.snapshot.reaches import ESCAPES

EARLY = "early:"
"""Starts the keys of what must be there before values are loaded: their modules are found by it."""
_LATE = "process:"
# What the engine loads for itself, when it needs it.
_OURS = frozenset({"blake3", "msgspec", "prompt_toolkit", "pygments", "pyrepl3", "resonate"})


class Process:
    """The process as it was when this was made, compared with what it is. One thread."""

    def __init__(self) -> None:
        self._base: dict[str, Any] = {key: read() for key, (read, _) in _PARTS.items()}
        self._modules = _top_level()
        self._loads = _last_load()
        self._mentioned: set[str] = set()
        self._any = self._ran = False
        self._loaded: list[str] = []

    def saw(self, names: Collection[str]) -> None:
        """A cell is about to run that names these: what it imports is the session's, not the engine's."""
        self._ran = True
        self._mentioned.update(names)
        if not self._any:
            self._any = not ESCAPES.isdisjoint(names)

    def changes(self, *, busy: bool = False) -> dict[str, object]:
        """What is no longer as it was, for ``prepare`` and ``resume``. ``busy``: code of cells still runs."""
        found: dict[str, object] = {}
        for key, (read, _) in _PARTS.items():
            base, now = self._base[key], read()
            if now is None or _equal(now, base):
                continue
            found[key] = {"now": _difference(key, base, now)}
        # Modules that came while no code of a cell ran are the engine's, which loads what a command needs.
        loaded = self._find_loaded(ours=not (self._ran or busy))
        self._ran = False
        if loaded:
            found[f"{_LATE}modules"] = {"now": loaded}
        return found

    def prepare(self, state: Mapping[str, Any]) -> list[str]:
        """Bring back what must be there before values are loaded. Returns what failed, in words."""
        return self._write(state, EARLY)

    def resume(self, state: Mapping[str, Any]) -> list[str]:
        """Bring back the rest. Runs the code of modules. Returns what failed, in words."""
        notes = self._write(state, _LATE)
        self._loaded = list(state.get(f"{_LATE}modules", {"now": []})["now"])
        for name in self._loaded:
            if name not in sys.modules:
                try:
                    importlib.import_module(name)
                except Exception as error:  # noqa: BLE001 - the module's own code; it is told
                    notes.append(f"the module {name!r} was loaded, and cannot be: {error}")
        return notes

    def _write(self, state: Mapping[str, Any], prefix: str) -> list[str]:
        notes = []
        for key, (read, write) in _PARTS.items():
            if not key.startswith(prefix):
                continue
            base, part = self._base[key], state.get(key)
            if base is None and part is None:
                continue
            value = base if part is None else _whole(key, base, part["now"])
            if _equal(read(), value):
                continue
            try:
                write(value)
            except (OSError, ValueError, TypeError, ImportError) as error:
                notes.append(f"{key.partition(':')[2]} could not be restored: {error}")
        return notes

    def _find_loaded(self, *, ours: bool) -> list[str]:
        if (loads := _last_load()) != self._loads:
            self._loads = loads
            for name in sorted(_top_level() - self._modules):
                self._modules.add(name)
                if ours or name in _OURS or name.startswith("_"):
                    continue
                spec = getattr(sys.modules.get(name), "__spec__", None)
                if spec is not None and (self._any or name in self._mentioned):
                    self._loaded.append(name)
        return self._loaded


def is_kept(key: str) -> bool:
    """Whether a part of the engine's state is one of these."""
    return key.startswith((EARLY, _LATE))


def _top_level() -> set[str]:
    return {name for name in list(sys.modules) if "." not in name}


def _last_load() -> tuple[int, str | None]:
    """Something else after anything was loaded, also where as much was thrown out: the newest stands last."""
    while True:
        try:
            return len(sys.modules), next(reversed(sys.modules), None)
        except RuntimeError:  # another thread loads something just now
            continue


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a filter's category, a path of a strange kind
        return False


# --- parts: how each is read and written -------------------------------------------------------------


def _read_environ() -> object:
    return dict(os.environ)


def _write_environ(target: dict[str, str]) -> None:
    for name in os.environ.keys() - target.keys():
        del os.environ[name]
    for name, value in target.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _read_directory() -> object:
    try:
        return os.getcwd()  # noqa: PTH109 - what os.chdir takes
    except FileNotFoundError:
        return None


def _write_path(target: list[str]) -> None:
    sys.path[:] = target


def _read_random() -> object:
    random = sys.modules.get("random")
    return None if random is None else random.getstate()


def _write_random(state: Any) -> None:
    import random

    random.setstate(state)


def _read_numpy() -> object:
    random = sys.modules.get("numpy.random")
    if random is None:
        return None
    state = random.get_state()
    return (state[0], state[1].tobytes(), *state[2:])


def _write_numpy(state: Any) -> None:
    import numpy as np

    whole = (state[0], np.frombuffer(state[1], np.uint32), *state[2:])
    np.random.set_state(whole)  # noqa: NPY002 - the old generator is what is asked for


def _read_warnings() -> object:
    warnings = sys.modules.get("warnings")
    return None if warnings is None else list(warnings.filters)


def _write_warnings(filters: list[Any]) -> None:
    import warnings

    warnings.resetwarnings()  # forgets what was decided by the old ones
    warnings.filters[:] = filters  # type: ignore[index] # typeshed says Sequence, it is a list


def _read_locale() -> object:
    locale = sys.modules.get("_locale")
    return None if locale is None else locale.setlocale(locale.LC_ALL, None)


def _write_locale(name: str) -> None:
    import locale

    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error as error:
        raise ValueError(f"{name!r}: {error}") from error


_PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    f"{EARLY}environment": (_read_environ, _write_environ),
    f"{EARLY}working directory": (_read_directory, os.chdir),
    f"{EARLY}sys.path": (lambda: list(sys.path), _write_path),
    f"{EARLY}recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    f"{_LATE}random": (_read_random, _write_random),
    f"{_LATE}numpy.random": (_read_numpy, _write_numpy),
    f"{_LATE}warnings filters": (_read_warnings, _write_warnings),
    f"{_LATE}locale": (_read_locale, _write_locale),
}


def _difference(key: str, base: Any, now: Any) -> object:
    """What to store of ``now``: of what each process has its own, only how it was changed."""
    if key == f"{EARLY}environment":
        return {
            name: now.get(name)
            for name in base.keys() | now.keys()
            if base.get(name) != now.get(name)
        }
    if key == f"{EARLY}sys.path":
        return {"before": base, "after": now}
    return now


def _whole(key: str, base: Any, stored: Any) -> Any:
    """The value that ``stored`` means in a process that began with ``base``."""
    if key == f"{EARLY}environment":
        changed = {**base, **stored}
        return {name: value for name, value in changed.items() if value is not None}
    if key == f"{EARLY}sys.path":
        return merge_path(base, stored["before"], stored["after"])
    return stored


def merge_path(base: list[str], before: Iterable[str], after: list[str]) -> list[str]:
    """``after``, for a process whose path began as ``base`` and not as ``before``."""
    known, kept = set(before), set(base)
    own = [entry for entry in base if entry not in known]
    return [entry for entry in after if entry not in known or entry in kept] + own
