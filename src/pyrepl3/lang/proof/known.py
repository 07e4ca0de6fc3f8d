"""Code objects and values in; which function they are, of those that a proof may enter, out."""

from __future__ import annotations

import ast
import builtins
import sys
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING

from pyrepl3.lang.compile import FUTURE_FLAGS
from pyrepl3.lang.parse import FLAGS
from pyrepl3.lang.proof.inputs import MARK, Written
from pyrepl3.lang.quiet import quiet

if TYPE_CHECKING:
    from types import CodeType

_PURE = frozenset(
    "abs all any bin bool bytes chr complex dict divmod enumerate float frozenset hex int len list max min "
    "oct ord pow print range repr reversed round set sorted str sum tuple zip".split()
)

_NUMERIC = ("math", "cmath")
_NEW = frozenset({"dict", "list", "set", "sorted"})


def is_declared(value: object) -> bool:
    """Whether ``value`` is a function that its author has declared to be independent."""
    if isinstance(value, Written):
        return value.declared
    return type(value) is FunctionType and vars(value).get(MARK) is True


def find_definition(code: CodeType, text: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The definition in ``text`` that ``code`` was compiled from; None where it is not there any more."""
    if not text:
        return None
    flags = FLAGS | (code.co_flags & FUTURE_FLAGS)
    try:
        with quiet():  # they were told when the cell ran
            tree = compile(text, "<cell>", "exec", ast.PyCF_ONLY_AST | flags, dont_inherit=True)
            codes = [compile(text, "<cell>", "exec", flags, dont_inherit=True)]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    for one in codes:  # grows while it is read
        codes += [const for const in one.co_consts if type(const) is type(code)]
    if code not in codes:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def is_sleep(value: object) -> bool:
    """Whether it is asyncio's own."""
    return (
        type(value) is FunctionType
        and value.__module__ == "asyncio.tasks"
        and value.__qualname__ == "sleep"
        and value.__globals__.get("sleep") is value
    )


def is_pure_builtin(value: object) -> bool:
    """Whether it only computes, given plain data, or prints."""
    name = getattr(value, "__name__", "") if type(value) in (BuiltinFunctionType, type) else ""
    if name in _PURE and vars(builtins).get(name) is value:
        return True
    # Each function of these modules computes a number of numbers.
    module = value.__module__ if type(value) is BuiltinFunctionType else None
    return module in _NUMERIC and vars(sys.modules.get(module, builtins)).get(name) is value


def makes_new(name: str) -> bool:
    """Whether the builtin of that name gives a container that nobody else holds."""
    return name in _NEW


def method_of(value: object, name: str) -> object:
    """The function that ``value.name`` would call, found without running code; None if that cannot be."""
    cls = type(value)
    if issubclass(cls, type) or type(cls) is not type:
        return None
    for base in cls.__mro__:
        if base is not object and not {"__getattribute__", "__getattr__"}.isdisjoint(vars(base)):
            return None
    if name in getattr(value, "__dict__", {}):
        return None
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
