"""What a number is to machine arithmetic, and how two ways to it meet."""

from __future__ import annotations

import ast
from typing import NoReturn

import msgspec

COUNTER_BITS = 31
"""Bits of an argument that is an int, and of what range() counts."""


class RefusedError(Exception):
    """The function stays the interpreter's: ``line`` (from 1 of its file) and why."""

    def __init__(self, line: int, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(line, why)


class Kind(msgspec.Struct, frozen=True):
    """What a value is.

    ``float``, ``int`` of so many ``bits``, ``numpy`` (a numpy.float64), ``either`` (one of these two, as it
    comes), ``bool`` or ``array`` of so many ``dimensions``.
    """

    name: str
    bits: int = 0
    dimensions: int = 0


FLOAT, NUMPY, EITHER, BOOL = Kind("float"), Kind("numpy"), Kind("either"), Kind("bool")
COUNTER = Kind("int", bits=COUNTER_BITS)
FLOATS = ("float", "numpy", "either")


def array(dimensions: int) -> Kind:
    """The kind of an array of float64."""
    return Kind("array", dimensions=dimensions)


def both(
    node: ast.AST, one: dict[str, Kind], other: dict[str, Kind], *, ends: tuple[bool, bool]
) -> dict[str, Kind]:
    """What is known where two ways meet. ``ends``: a way that does not get here."""
    if ends[0]:
        return other
    if ends[1]:
        return one
    return {name: join(node, one[name], other[name]) for name in one if name in other}


def ends_with_return(body: list[ast.stmt]) -> bool:
    """Whether what stands behind ``body`` is not reached from it."""
    return bool(body) and isinstance(body[-1], ast.Return)


def join(node: ast.AST, one: Kind, other: Kind) -> Kind:
    """What a name is where it is ``one`` on one way and ``other`` on the other. Raises RefusedError."""
    if one == other:
        return one
    if one.name == other.name == "int":
        return Kind("int", bits=max(one.bits, other.bits))
    if one.name in FLOATS and other.name in FLOATS:
        return EITHER
    return refuse(node, "an int on one way and a float on the other: begin with 0.0, not 0")


def word(node: ast.AST) -> str:
    """What a node is called, for people."""
    words = {
        "Pow": "a power",
        "FloorDiv": "a floor division",
        "Mod": "a remainder",
        "AnnAssign": "an annotated assignment",
        "Expr": "a call for its effect",
    }
    return words.get(type(node).__name__, type(node).__name__.lower())


def refuse(node: ast.AST, why: str) -> NoReturn:
    """Raise RefusedError with the node's line."""
    raise RefusedError(getattr(node, "lineno", 0), why)
