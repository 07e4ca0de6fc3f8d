"""An object or an exception in, words out: why a value cannot be stored, for the person who made it."""

from __future__ import annotations

import re
import sys
import types

# By qualified type name, so that nothing is imported to recognise it. Subclasses count too.
_WORDS: dict[str, str] = {
    "builtins.generator": "a generator",
    "builtins.coroutine": "a coroutine",
    "builtins.coroutine_wrapper": "a coroutine",
    "builtins.async_generator": "an asynchronous generator",
    "builtins.async_generator_asend": "an asynchronous generator's step",
    "builtins.async_generator_athrow": "an asynchronous generator's step",
    "builtins.frame": "a stack frame",
    "builtins.traceback": "a traceback",
    "builtins.super": "a super() object",
    "weakref.ProxyType": "a weak proxy",
    "weakref.CallableProxyType": "a weak proxy",
    "_asyncio.Task": "a task",
    "asyncio.tasks.Task": "a task",
    "_asyncio.Future": "a future",
    "asyncio.futures.Future": "a future",
    "asyncio.events.Handle": "a scheduled call",
    "asyncio.events.AbstractEventLoop": "an event loop",
    "asyncio.events.AbstractServer": "a server",
    "asyncio.streams.StreamReader": "a network stream",
    "asyncio.streams.StreamWriter": "a network stream",
    "asyncio.transports.BaseTransport": "a network transport",
    "concurrent.futures._base.Future": "a future",
    "concurrent.futures._base.Executor": "a pool of workers",
    "contextvars.Context": "a context",
    "_contextvars.Context": "a context",
    "contextvars.Token": "a context variable's token",
    "_contextvars.Token": "a context variable's token",
    "_io.FileIO": "an open file",
    "_io.TextIOWrapper": "an open file",
    "_io.BufferedReader": "an open file",
    "_io.BufferedWriter": "an open file",
    "_io.BufferedRandom": "an open file",
    "_io.BufferedRWPair": "an open file",
    "tempfile._TemporaryFileWrapper": "an open file",
    "posix.ScandirIterator": "a directory listing",
    "_thread.lock": "a lock",
    "_thread.RLock": "a lock",
    "_thread._local": "thread-local data",
    "_thread._ThreadHandle": "a thread",
    "threading.Thread": "a thread",
    "threading.Condition": "a lock",
    "threading.Semaphore": "a lock",
    "threading.Event": "a thread's event",
    "threading.Barrier": "a lock",
    "queue.Queue": "a queue between threads",
    "_queue.SimpleQueue": "a queue between threads",
    "multiprocessing.process.BaseProcess": "a process",
    "subprocess.Popen": "a process",
    "_socket.socket": "a socket",
    "select.epoll": "a poll object",
    "select.poll": "a poll object",
    "selectors.BaseSelector": "a selector",
    "ssl.SSLObject": "a secure connection",
    "_ssl._SSLContext": "a secure connection's settings",
    "mmap.mmap": "a memory map",
    "sqlite3.Connection": "a database connection",
    "sqlite3.Cursor": "a database cursor",
    "sqlite3.Blob": "an open database blob",
    "re.Match": "a regular expression's match",
    "_ctypes.CFuncPtr": "a C function",
    "_ctypes.PyCPointerType": "a C pointer",
    "builtins.PyCapsule": "an object of a C library",
    "builtins.SimpleQueue": "a queue between threads",
    "hashlib.HASH": "a running hash",
    "_hashlib.HASH": "a running hash",
    "_blake2.blake2b": "a running hash",
    "_blake2.blake2s": "a running hash",
    "zlib.Compress": "a running compression",
    "zlib.Decompress": "a running decompression",
}


_CANNOT_PICKLE = re.compile(r"cannot pickle '(.+)' object")  # what C code says


class UnstorableError(Exception):
    """An object cannot be stored: ``what`` it is ("a generator"), and the object itself."""

    def __init__(self, what: str, value: object) -> None:
        self.what, self.value = what, value
        super().__init__(what)


class Failure:
    """Why one pickling failed: in words, and the object that was being pickled (None: unknown)."""

    __slots__ = ("value", "what", "why")

    def __init__(self, *, what: str, why: str, value: object = None) -> None:
        self.what, self.why, self.value = what, why, value


def find_words(kind: type) -> str | None:
    """What an object of type ``kind`` is called, if such objects can never be stored; else None."""
    for base in kind.__mro__:
        words = _WORDS.get(f"{base.__module__}.{base.__qualname__}")
        if words is not None:
            return words
    return None


def explain_failure(error: BaseException, value: object) -> Failure:
    """What stopped a pickling of which ``value`` was the last object looked at."""
    if isinstance(error, UnstorableError):
        return Failure(what=error.what, why="cannot be stored", value=error.value)
    if isinstance(error, RecursionError):
        return Failure(what="a structure", why="is nested too deeply to be stored")
    if isinstance(error, MemoryError):
        return Failure(what="a value", why="needs more memory to be stored than there is")
    kind = type(value)
    what = _with_article(f"{type_name(kind)} object") if value is not None else "a value"
    text = safe_text(error)
    named = _CANNOT_PICKLE.fullmatch(text)
    if isinstance(error, TypeError) and named is not None:
        called = find_words(kind) or _with_article(f"{named[1]} object")
        return Failure(what=called, why="cannot be stored", value=value)
    return Failure(what=what, why=f"cannot be stored ({type(error).__name__}: {text})", value=value)


def describe(failure: Failure, path: str | None) -> str:
    """The sentence for the user; ``path`` says where in the value, as in ``x['conn']``."""
    if path is None:
        return f"{failure.what} {failure.why}; recreate it after a restart"
    return f"{path} is {failure.what}, which {failure.why}; recreate it after a restart"


def find_path(name: str, value: object, target: object, *, limit: int = 5000) -> str | None:
    """How to get from ``name`` to ``target`` inside its ``value``; None for the value itself.

    Looks through plain containers and instance dicts only and runs no user code. None as well where
    it is not found within ``limit`` objects.
    """
    if target is None or value is target:
        return None
    seen = {id(value)}
    queue: list[tuple[str, object]] = [(name, value)]
    for path, holder in queue:  # grows while it runs: breadth first
        for step, item in _items(holder):
            if item is target:
                return path + step
            if id(item) not in seen and len(queue) < limit:
                seen.add(id(item))
                queue.append((path + step, item))
    return None


def safe_text(error: BaseException) -> str:
    """``str(error)`` in one line of at most 200 characters; never raises."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - the user's own __str__
        return "<no text>"
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"


def type_name(kind: type) -> str:
    """``Point`` for types made in cells and builtins, ``socket.socket`` for the others."""
    module = kind.__module__
    if type(module) is not str or module == "builtins" or _is_cells(module):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def _is_cells(module: str) -> bool:
    return module == "__main__" or module.startswith("pyrepl3.cells.") or module not in sys.modules


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _items(holder: object) -> list[tuple[str, object]]:
    kind = type(holder)
    if kind is dict:
        assert isinstance(holder, dict)
        pairs = list(holder.items())
        return [(f"[{_key(key)}]", item) for key, item in pairs]
    if kind in (list, tuple):
        assert isinstance(holder, (list, tuple))
        return [(f"[{n}]", item) for n, item in enumerate(holder)]
    if kind in (set, frozenset):
        assert isinstance(holder, (set, frozenset))
        return [("{…}", item) for item in holder]
    if kind is types.CellType:
        assert isinstance(holder, types.CellType)
        try:
            return [("", holder.cell_contents)]
        except ValueError:
            return []
    if kind is types.FunctionType:
        assert isinstance(holder, types.FunctionType)
        names = holder.__code__.co_freevars
        cells = zip(names, holder.__closure__ or (), strict=True)
        found: list[tuple[str, object]] = [(f" (its {name})", cell) for name, cell in cells]
        found += [(f".__defaults__[{n}]", d) for n, d in enumerate(holder.__defaults__ or ())]
        return found
    try:
        fields = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        return []
    if type(fields) is not dict:
        return []
    return [(f".{key}", item) for key, item in list(fields.items())]


def _key(key: object) -> str:
    if type(key) in (int, float, bool, str, bytes, type(None)):
        text = repr(key)
        return text if len(text) <= 30 else text[:29] + "…"
    return "…"
