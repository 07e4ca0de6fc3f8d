"""Functions of the host as cells see them: a call in, what the host answers out.

They are called like other async functions, ``await search("x")``, or by ``search.sync("x")`` in plain code.
Only plain values go and come (see ``plain``), as copies, wherever the host is.
"""

from __future__ import annotations

import inspect
import itertools
import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from pyrepl3.errors import ToolError
from pyrepl3.lang.values import declare_blocking
from pyrepl3.run.execution import CURRENT
from pyrepl3.run.namespace import OFFERED
from pyrepl3.run.places import reach, wait
from pyrepl3.run.plain import NotPlainError, pack_value, unpack_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IN_FLIGHT = 64
"""Calls that a session may have under way; more wait in the cell."""
MOST_SENT = 8 * 1024 * 1024
"""Bytes of the arguments of all that are under way: so few bytes may become many objects in the host."""
MOST_RESULT = 64 * 1024 * 1024
"""Bytes of a result."""

type Fault = tuple[str, str]
"""What a function raised: the name of the class, or "" for arguments that it does not take; and the text."""
type Result = tuple[bytes | memoryview, Fault | None]


class _Call:
    """One call, from its begin until the host has answered."""

    __slots__ = ("data", "future", "n", "name")

    def __init__(self, n: int, name: str, data: bytes) -> None:
        self.n, self.name, self.data = n, name, data
        self.future: Future[Result] = Future()


class Calls:
    """The calls of one session that are under way. Any thread.

    ``send(n, name, data)`` hands a call to the host, ``drop(n)`` says that nobody waits for it any more.
    The host answers each call that it was sent, a dropped one too, by ``take``.
    """

    def __init__(
        self, send: Callable[[int, str, bytes], object], drop: Callable[[int], object]
    ) -> None:
        self._send, self._drop = send, drop
        self._pid = os.getpid()
        # Reentrant: a signal handler or a __del__ may call while this thread does.
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._waiting: deque[_Call] = deque()
        self._flying: dict[int, _Call] = {}
        self._size = 0

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Call ``name``. Raises TypeError for arguments that do not cross, ValueError for too many bytes."""
        if os.getpid() != self._pid:
            raise ToolError(name, "RuntimeError", "a forked process has no way to the host")
        try:
            data = pack_value([list(args), kwargs])
        except NotPlainError as error:
            raise TypeError(
                f"{name}(): {error} does not cross to the host; make plain values, lists, tuples, sets, "
                "dicts or arrays of numbers of it"
            ) from None
        if len(data) > MOST_SENT:
            raise ValueError(
                f"{name}(): arguments of {len(data):,} bytes; {MOST_SENT:,} are allowed: write a file, "
                "and pass its name"
            )
        call = _Call(next(self._numbers), name, data)
        with self._lock:
            self._waiting.append(call)
            self._send_more()
        return call

    def leave(self, call: _Call) -> None:
        """Nobody waits for ``call`` any more."""
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
            elif call.n in self._flying:
                self._drop(call.n)

    def take(self, n: int, data: bytes | memoryview, fault: Fault | None) -> None:
        """The host has answered."""
        with self._lock:
            call = self._flying.pop(n, None)
            if call is None:  # of code that wrote to the pipe by itself
                return
            self._size -= len(call.data)
            self._send_more()
        call.future.set_result((data, fault))

    def _send_more(self) -> None:
        while self._waiting and len(self._flying) < IN_FLIGHT:
            call = self._waiting[0]
            if self._size + len(call.data) > MOST_SENT:
                break
            self._waiting.popleft()
            self._flying[call.n] = call
            self._size += len(call.data)
            self._send(call.n, call.name, call.data)


class HostFunction:
    """A function of the host. ``await`` what a call gives, or call ``sync`` in plain code."""

    def __init__(self, name: str, calls: Calls | None, doc: str = "") -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        self._calls = calls
        inspect.markcoroutinefunction(self)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the host's function returns. Raises ToolError for what it raises, TypeError."""
        calls, call = self._begin(args, kwargs)
        try:
            result = await reach(call.future)
        except BaseException:
            calls.leave(call)
            raise
        return self._result(result)

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """The same for plain code: waits on this thread. In a coroutine it would hold up the loop."""
        calls, call = self._begin(args, kwargs)
        execution = CURRENT.get()
        try:
            result = call.future.result() if execution is None else wait(call.future, execution)
        except BaseException:
            calls.leave(call)
            raise
        return self._result(result)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Calls, _Call]:
        if self._calls is None:
            text = "the host does not offer this function now: open the session with it in tools="
            raise ToolError(self.__name__, "LookupError", text)
        return self._calls, self._calls.begin(self.__name__, args, kwargs)

    def _result(self, result: Result) -> Any:
        data, fault = result
        if fault is None:
            return unpack_value(data)
        kind, text = fault
        if not kind:
            raise TypeError(f"{self.__name__}(): {text}")
        raise ToolError(self.__name__, kind, text)

    def __repr__(self) -> str:
        return f"<function {self.__name__} of the host>"

    # It is kept by name, and is the host's function of that name where it comes back.

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return find_host_function, (self.__name__,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


declare_blocking(HostFunction)  # by ``sync``; what is awaited waits where it is


def find_host_function(name: str) -> HostFunction:
    """What the host offers by that name to the session that is being restored; else one that says so."""
    found = OFFERED.get().get(name)
    return found if isinstance(found, HostFunction) else HostFunction(name, None)


def make_functions(calls: Calls, docs: Iterable[tuple[str, str]]) -> dict[str, HostFunction]:
    """The functions that ``docs`` names, each with what is said of it."""
    return {name: HostFunction(name, calls, doc) for name, doc in docs}
