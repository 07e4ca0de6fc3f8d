"""A hot function in, the same function with machine code behind it out, or the reason why not.

The function keeps its identity, its names and what it is stored as: only its code is another one meanwhile
(``snapshot.plain``), which asks us at each call. What may be compiled is the business of ``lang.numeric``;
here numba compiles it on a thread of its own, the first calls run both ways, and any difference ends it.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import math
import struct
import sys
import threading
import time
import weakref
from collections import ChainMap, deque
from importlib import import_module
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Literal

from pyrepl3.lang.numbers import COUNTER, FLOAT, Kind, RefusedError, array
from pyrepl3.lang.numeric import SQRT, judge
from pyrepl3.records import HotCompiled
from pyrepl3.snapshot.plain import stand_down, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.lang.numeric import Numeric

TRIALS = 3
"""Calls that run both ways before the compiled one counts."""
WORTH = 1.5
"""How many times faster it must be."""
_RETURNED = 20  # calls that the interpreter had to run again, if they are half of all: then no more
_COUNTED = 1 << 31  # an argument that is an int is below that
_WARNS = frozenset({"warn", "ignore"})
_PLAIN_CODE = 0x1 | 0x2  # CO_OPTIMIZED, CO_NEWLOCALS
_NATIVE = f"{'<' if sys.byteorder == 'little' else '>'}f8"
_MISSING = object()

_clock = time.perf_counter


class Compiled:
    """One function on its way; ``news`` is what there is to tell: (kind, text). Any thread."""

    def __init__(self, function: FunctionType) -> None:
        self.state: Literal["compiling", "trying", "on", "refused", "dropped"] = "compiling"
        self.reason = ""
        self.name = function.__qualname__
        self.code = function.__code__
        self._function = weakref.ref(function)
        self._globals = function.__globals__
        self._plain = FunctionType(self.code, function.__globals__, function.__name__)
        self._plain.__qualname__ = function.__qualname__
        self._fast: Callable[..., Any] | None = None
        self._kinds: tuple[Kind, ...] | None = None
        self._result: Kind = FLOAT
        self._rests_on: dict[str, Any] = {}
        self._arrays = False
        self.news: deque[tuple[str, str]] = deque()
        self._trials = self._calls = self._returned = 0
        self._times = [math.inf, math.inf]
        self._lock = threading.Lock()
        self._stand_in = _make_stand_in(self.code, self.call)
        stand_in(self._stand_in, self.code)
        function.__code__ = self._stand_in

    @property
    def record(self) -> HotCompiled:
        """What there is to say of it. Any thread."""
        plain, fast = self._times
        return HotCompiled(
            name=self.name,
            state=self.state,
            reason=self.reason,
            plain=0.0 if plain == math.inf else plain,
            compiled=0.0 if fast == math.inf else fast,
            calls=self._calls,
            returned=self._returned,
        )

    def end(self, state: Literal["refused", "dropped"], reason: str) -> None:
        """Give the function its own code back. Idempotent. Any thread."""
        if self.state in ("refused", "dropped"):
            return
        self.state, self.reason = state, reason
        function = self._function()
        if function is not None and function.__code__ is self._stand_in:
            function.__code__ = self.code
            stand_down(self._stand_in)
        self.news.append(("not-compiled", f"{self.name} runs in the interpreter: {reason}"))

    # --- a call -----------------------------------------------------------------------------------

    def call(self, *args: Any) -> Any:
        """What the function gives for ``args``, exactly as if it had its own code."""
        if self.state == "on" and self._fits(args):
            assert self._fast is not None
            try:
                value = self._fast(*args)
            except Exception:  # noqa: BLE001  nothing has happened yet: the interpreter raises the real one
                return self._return(args)
            if type(value) is float and not math.isfinite(value):
                return self._return(args)  # NumPy may have something to say about it
            self._calls += 1
            return self._dressed(value)
        if self.state == "trying" and self._fits(args):
            return self._try(args)
        if self.state == "compiling" and self._kinds is None:
            self._begin(args)
        return self._plain(*args)

    def _fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the machine code is for such arguments, and nothing that it rests on has changed."""
        assert self._kinds is not None
        for value, kind in zip(args, self._kinds, strict=True):
            cls = type(value)
            if kind.name == "float":
                if cls is not float:
                    return False
            elif kind.name == "int":
                if cls is not int or not -_COUNTED < value < _COUNTED:
                    return False
            elif _kind_of(value) != kind:
                return False
        for name, held in self._rests_on.items():
            if self._globals.get(name, _MISSING) is not held:
                self.end("dropped", f"the global {name!r} was bound anew")
                return False
        return not self._arrays or _numpy_only_warns()

    def _return(self, args: tuple[Any, ...]) -> Any:
        self._returned += 1
        if self._returned >= _RETURNED and self._returned > self._calls:
            self.end("dropped", "most of its results are no finite numbers, or errors")
        return self._plain(*args)

    def _try(self, args: tuple[Any, ...]) -> Any:
        assert self._fast is not None
        begun = _clock()
        value = self._plain(*args)
        between = _clock()
        try:
            fast = self._dressed(self._fast(*args))
        except Exception as error:  # noqa: BLE001  a failure of the machine code is its end, not the cell's
            self.end("refused", f"compiled it raised {type(error).__name__}")
            return value
        ended = _clock()
        if type(value) is not type(fast) or _bits(value) != _bits(fast):
            self.end("refused", f"compiled it gave {fast!r}, and {value!r} in the interpreter")
            return value
        with self._lock:
            self._times[0] = min(self._times[0], between - begun)
            self._times[1] = min(self._times[1], ended - between)
            self._trials += 1
            if self._trials == TRIALS:
                self._decide()
        return value

    def _decide(self) -> None:
        plain, fast = self._times
        if plain < WORTH * fast:
            self.end("refused", f"it gains nothing: {plain / fast:.1f} times as fast")
            return
        self.state = "on"
        text = (
            f"{self.name} is compiled: {plain / fast:.0f} times as fast in its first {TRIALS} calls"
        )
        self.news.append(("compiled", text))

    def _dressed(self, value: Any) -> Any:
        if self._result.name == "numpy":
            import numpy as np  # noqa: PLC0415  the arguments brought it

            return np.float64(value)
        return value

    # --- compiling --------------------------------------------------------------------------------

    def _begin(self, args: tuple[Any, ...]) -> None:
        with self._lock:
            if self._kinds is not None:
                return
            kinds = [_kind_of(value) for value in args]
            self._kinds = tuple(kind for kind in kinds if kind is not None)
        if None in kinds:
            cls = type(args[kinds.index(None)]).__name__
            self.end(
                "refused",
                f"it was called with a {cls}, not with float, int or arrays of float64",
            )
            return
        self._arrays = any(kind.name == "array" for kind in self._kinds)
        # Not a daemon: an interpreter that ends must not pull the compiler's memory away.
        threading.Thread(target=self._compile, name="pyrepl3-jit").start()

    def _compile(self) -> None:
        assert self._kinds is not None
        try:
            names = ChainMap(self._globals, vars(builtins))
            numeric = judge(_definition(self.code), self._kinds, names)
            self._rests_on = {name: self._globals.get(name, _MISSING) for name in numeric.constants}
            self._result = numeric.result
            self._fast = _compile(numeric, self._kinds, names)
        except RefusedError as error:
            where = f"line {error.line}: " if error.line else ""
            self.end("refused", where + error.why)
        except ImportError as error:
            self.end("refused", f"numba cannot be used: {error}")
        except Exception as error:  # noqa: BLE001  whatever numba raises, the function stays as it is
            text = str(error).strip().split("\n")[0][:200]
            self.end("refused", f"numba: {type(error).__name__}: {text}")
        else:
            if self.state == "compiling":
                self.state = "trying"


def may_be_compiled(function: FunctionType) -> str:
    """Why a function cannot be looked at; "" if it can."""
    code = function.__code__
    if code.co_flags & ~0x1000000 != _PLAIN_CODE:  # a future's flag changes nothing here
        return "it is a generator or a coroutine, has *args, or is made in a function"
    if code.co_kwonlyargcount or code.co_posonlyargcount or code.co_freevars or code.co_cellvars:
        return "it takes more than plain arguments, or shares variables with other functions"
    return ""


def _make_stand_in(code: CodeType, call: Callable[..., Any]) -> CodeType:
    """Code with the same arguments that hands them to ``call``."""
    names = code.co_varnames[: code.co_argcount]
    formal = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    # Its callee is a constant, so that no name can be in its way; `… if 1 else …` folds, and warns nobody.
    callee = ast.IfExp(ast.Constant(1), ast.Constant("here"), ast.Constant(0))
    loaded: list[ast.expr] = [ast.Name(name, ast.Load()) for name in names]
    made = ast.FunctionDef(
        name=code.co_name,
        args=formal,
        body=[ast.Return(ast.Call(callee, loaded, []))],
        decorator_list=[],
        type_params=[],
    )
    module = ast.fix_missing_locations(ast.Module([made], []))
    compiled = compile(module, code.co_filename, "exec", dont_inherit=True)
    (inner,) = (const for const in compiled.co_consts if isinstance(const, CodeType))
    line = code.co_firstlineno
    return inner.replace(
        co_consts=tuple(call if const == "here" else const for const in inner.co_consts),
        co_firstlineno=line,
        co_qualname=code.co_qualname,
        co_flags=code.co_flags,
    )


def _definition(code: CodeType) -> ast.FunctionDef:
    """The text of a function as a tree. Raises RefusedError where it is not to be had."""
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = compile(
            source, code.co_filename, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
    except (SyntaxError, ValueError):
        raise RefusedError(0, "its source is not to be had") from None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name == code.co_name
        and min([node.lineno, *(d.lineno for d in node.decorator_list)]) == code.co_firstlineno
    ]
    if len(found) != 1 or [one.arg for one in found[0].args.args] != [
        *code.co_varnames[: code.co_argcount]
    ]:
        raise RefusedError(0, "its source is not to be had")
    return found[0]


def _compile(numeric: Numeric, kinds: tuple[Kind, ...], names: Any) -> Callable[..., Any]:
    """Machine code for it. Raises what numba raises."""
    numba: Any = import_module("numba")  # an extra, and heavy

    tree = numeric.tree
    tree.args.defaults = []
    module = ast.fix_missing_locations(ast.Module([tree], []))
    space: dict[str, Any] = {name: names[name] for name in numeric.constants}
    space[SQRT] = _sqrt(numba)
    exec(compile(module, "<pyrepl3 compiled>", "exec", dont_inherit=True), space)
    types = tuple(_numba_type(numba, kind) for kind in kinds)
    # nogil: what runs long must not keep those who could stop it. boundscheck: as Python's indices.
    options = {"nogil": True, "error_model": "python", "boundscheck": True, "fastmath": False}
    made: Callable[..., Any] = numba.njit(types, **options)(space[tree.name])
    return made


_root: list[Any] = []


def _sqrt(numba: Any) -> Any:
    """``math.sqrt`` that raises below zero, as Python's does."""
    if not _root:

        def root(x: float) -> float:
            if x < 0.0:
                raise ValueError("math domain error")
            return math.sqrt(x)

        _root.append(numba.njit(error_model="python", nogil=True)(root))
    return _root[0]


def _numba_type(numba: Any, kind: Kind) -> Any:
    if kind.name == "array":
        return numba.types.Array(numba.types.float64, kind.dimensions, "A", readonly=True)
    return numba.types.float64 if kind.name == "float" else numba.types.int64


def _kind_of(value: Any) -> Kind | None:
    """The kind of an argument; None for what is not taken."""
    cls = type(value)
    if cls is float:
        return FLOAT
    if cls is int:
        return COUNTER if -_COUNTED < value < _COUNTED else None
    if cls.__module__ == "numpy" and cls.__name__ == "ndarray":
        if value.dtype.str == _NATIVE and 1 <= value.ndim <= 3 and value.flags.aligned:
            return array(value.ndim)
    return None


def _numpy_only_warns() -> bool:
    import numpy as np  # noqa: PLC0415  the arguments brought it

    return _WARNS.issuperset(np.geterr().values())


def _bits(value: Any) -> object:
    """What two results are compared by: a float's bits, so that -0.0 is not 0.0, and NaN is itself."""
    return struct.pack("<d", value) if isinstance(value, float) else value
