"""Calls of cells in, functions of the host called, answers out: the host's side of ``tools``.

What comes may be sent by anybody: it is decoded without running code, held against the signature, and
bounded in number and bytes. Of an exception only class and message go back.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import keyword
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.config import Tool
from pyrepl3.run.namespace import ENGINE_NAMES
from pyrepl3.run.plain import NotPlainError, pack_value, unpack_value
from pyrepl3.run.tools import IN_FLIGHT, MOST_RESULT, MOST_SENT, Calls, Fault, make_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrepl3.run.namespace import NamespaceManager

    type Reply = Callable[[int, bytes, Fault | None], object]
    type _Answer = tuple[bytes, Fault | None]

_MOST_TEXT = 2000  # characters of a message
_GIVEN_UP = "calls that were given up still run in the host: it can take no more of them now"


class Offer:
    """One function, checked: what it takes. Raises TypeError for what cannot be offered."""

    def __init__(self, name: str, tool: Tool | Callable[..., Any]) -> None:
        if not name.isidentifier() or keyword.iskeyword(name) or name in ENGINE_NAMES:
            raise ValueError(f"{name!r} cannot be the name of a function in cells")
        given = tool if isinstance(tool, Tool) else Tool(fn=tool)
        if not callable(given.fn):
            raise TypeError(f"tools[{name!r}] is to be a function or a Tool, not {tool!r}")
        self.name, self.fn, self.timeout = name, given.fn, given.timeout
        self.waits = inspect.iscoroutinefunction(self.fn) or inspect.iscoroutinefunction(
            getattr(self.fn, "__call__", None)  # noqa: B004
        )
        self._signature: inspect.Signature | None
        try:
            self._signature = inspect.signature(self.fn)
        except ValueError:  # of C code that says nothing
            self._signature = None
        self._kinds = {} if self._signature is None else self._find_kinds(self._signature)
        text = "(...)" if self._signature is None else str(self._signature)
        self.doc = f"{name}{text}\n\n{inspect.getdoc(self.fn) or ''}".strip()

    def _find_kinds(self, signature: inspect.Signature) -> dict[str, Any]:
        """The type of each parameter that has one. Raises TypeError for one that checks nothing."""
        fn = inspect.unwrap(self.fn)
        names = getattr(fn, "__globals__", getattr(type(fn).__call__, "__globals__", {}))
        kinds: dict[str, Any] = {}
        for parameter in signature.parameters.values():
            kind: Any = parameter.annotation
            if kind is parameter.empty:
                continue
            try:
                if isinstance(kind, str):
                    kind = eval(kind, names)  # noqa: S307  the host's own annotation
                if parameter.kind is parameter.VAR_POSITIONAL:
                    kind = tuple.__class_getitem__((kind, ...))
                elif parameter.kind is parameter.VAR_KEYWORD:
                    kind = dict.__class_getitem__((str, kind))
                msgspec.msgpack.Decoder(kind)
            except Exception as error:  # whatever an annotation raises
                raise TypeError(
                    f"tools[{self.name!r}]: {parameter}: no argument can be held against that ({error}); "
                    "annotate it with a type of plain values, or not at all"
                ) from error
            kinds[parameter.name] = kind
        return kinds

    def bind(self, data: bytes | memoryview) -> inspect.BoundArguments:
        """The arguments as the function takes them. Raises TypeError, and whatever no arguments are."""
        args, kwargs = msgspec.convert(unpack_value(data), tuple[list[Any], dict[str, Any]])
        if self._signature is None:
            bound = inspect.Signature(_ANY).bind(*args, **kwargs)
        else:
            bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in self._kinds:
                try:
                    bound.arguments[name] = msgspec.convert(value, self._kinds[name])
                except msgspec.ValidationError as error:
                    raise TypeError(f"{name}: {error}") from None
        return bound


_ANY = (
    inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
    inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
)


def make_offers(tools: Mapping[str, Tool | Callable[..., Any]]) -> dict[str, Offer]:
    """The functions that are offered, by name. Raises TypeError and ValueError for what cannot be."""
    return {name: Offer(name, tool) for name, tool in tools.items()}


class Serving:
    """The calls of one caller. To be used on the event loop that it was made on, where functions run.

    ``reply(n, data, fault)`` is called once for each call. ``take`` and ``drop`` raise ValueError for what
    no honest caller sends.
    """

    def __init__(self, offers: Mapping[str, Offer], reply: Reply) -> None:
        self._offers = offers
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._tasks: dict[int, asyncio.Task[_Answer]] = {}
        self._sizes: dict[int, int] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._busy = 0
        self._closed = False

    def take(self, n: int, name: str, data: bytes | memoryview) -> None:
        """Call a function."""
        if self._closed:
            return
        if n in self._tasks or name not in self._offers:
            raise ValueError("a call of no function, or a second one of the same number")
        if len(self._tasks) >= IN_FLIGHT or sum(self._sizes.values()) + len(data) > MOST_SENT:
            raise ValueError("more calls at once than are allowed")
        self._sizes[n] = len(data)
        task = self._tasks[n] = self._loop.create_task(
            self._answer(self._offers[name], data),
            name=f"pyrepl3 tool {name}",
            context=self._context.copy(),
        )
        task.add_done_callback(lambda task: self._end(n, task))

    def drop(self, n: int) -> None:
        """Nobody waits for a call any more: cancel it. Its answer goes all the same."""
        if n in self._tasks:  # else the answer is on its way
            self._tasks[n].cancel()

    def close(self) -> None:
        """Cancel all calls. Idempotent."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _end(self, n: int, task: asyncio.Task[_Answer]) -> None:
        del self._tasks[n], self._sizes[n]
        if task.cancelled():
            answer: _Answer = b"", ("CancelledError", "the call was cancelled")
        else:
            error = task.exception()
            answer = task.result() if error is None else (b"", (type(error).__name__, _say(error)))
        if not self._closed:
            self._reply(n, *answer)

    async def _answer(self, offer: Offer, data: bytes | memoryview) -> _Answer:
        try:
            bound = offer.bind(data)
        except Exception as error:  # noqa: BLE001  anything that is no arguments; its caller is told
            return b"", ("", _say(error))
        within = asyncio.timeout(offer.timeout)
        try:
            async with within:
                value = await self._call(offer, bound)
        except TimeoutError as error:
            text = f"it took more than {offer.timeout:g} s" if within.expired() else _say(error)
            return b"", ("TimeoutError", text)
        # Its own fault, told to the caller. A SystemExit of a task would end the host's loop.
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001
            return b"", (type(error).__qualname__, _say(error))
        try:
            result = pack_value(value)
        except NotPlainError as error:
            return b"", ("TypeError", f"it returned {error}, which does not cross to a cell")
        except UnicodeEncodeError as error:
            return b"", ("UnicodeEncodeError", _say(error))
        if len(result) > MOST_RESULT:
            text = f"it returned {len(result):,} bytes; {MOST_RESULT:,} are allowed"
            return b"", ("ValueError", text)
        return result, None

    async def _call(self, offer: Offer, bound: inspect.BoundArguments) -> Any:
        if offer.waits:
            return await offer.fn(*bound.args, **bound.kwargs)
        if self._busy >= IN_FLIGHT:
            raise RuntimeError(_GIVEN_UP)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(IN_FLIGHT, "pyrepl3-tools")
        context = contextvars.copy_context()
        self._busy += 1
        future = self._pool.submit(context.run, offer.fn, *bound.args, **bound.kwargs)
        future.add_done_callback(lambda _: self._later(self._freed))
        value = await asyncio.wrap_future(future)
        return await value if inspect.isawaitable(value) else value

    def _freed(self) -> None:
        self._busy -= 1

    def _later(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: nobody counts
            return


def offer_here(offers: Mapping[str, Offer], namespace: NamespaceManager) -> Serving:
    """Offer functions of the running loop to cells of ``namespace``, in this process."""
    loop = asyncio.get_running_loop()

    def later(call: Callable[..., None]) -> Callable[..., None]:
        def send(*args: Any) -> None:
            try:
                loop.call_soon_threadsafe(call, *args)
            except RuntimeError:  # closed, as its session should have been
                return

        return send

    calls = Calls(later(lambda *args: serving.take(*args)), later(lambda n: serving.drop(n)))  # noqa: PLW0108
    serving = Serving(offers, calls.take)
    namespace.offer(make_functions(calls, [(offer.name, offer.doc) for offer in offers.values()]))
    return serving


def _say(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  its own method
        return ""
    return text[:_MOST_TEXT].encode("utf-8", "backslashreplace").decode()
