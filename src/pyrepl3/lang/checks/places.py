"""A compiled cell in, where its code loads and binds which global names out, as the compiler has them."""

from __future__ import annotations

from collections.abc import Iterator
from opcode import hasjrel, opmap, opname
from typing import TYPE_CHECKING, Literal

import msgspec

from pyrepl3.lang.parse import column_of

if TYPE_CHECKING:
    from types import CodeType

    from pyrepl3.lang.compile import CompiledCell

_EXTENDED = opmap["EXTENDED_ARG"]
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_LOADS = frozenset({opmap["LOAD_NAME"], opmap["LOAD_FROM_DICT_OR_GLOBALS"]})
_STORE_NAME = opmap["STORE_NAME"]
_STORE_GLOBAL = opmap["STORE_GLOBAL"]
_BACKWARD = frozenset(op for op in hasjrel if "BACKWARD" in opname[op])
_OPTIMIZED = 0x1  # CO_OPTIMIZED: a function, not a module or a class body


class Place(msgspec.Struct, frozen=True):
    """One use of a global name. ``start`` and ``end``: line from 1, column from 0, in characters.

    ``top``: by code that runs when the cell does, not in a function or class. ``early``: nothing before it
    in that code binds the name, and no loop leads back to it.
    """

    kind: Literal["load", "bind"]
    name: str
    start: tuple[int, int]
    end: tuple[int, int]
    top: bool
    early: bool


def find_places(compiled: CompiledCell, lines: list[str]) -> Iterator[Place]:
    """All of them, in no order. ``lines``: the cell's."""
    bound: set[str] = set()
    for code in (compiled.body, compiled.tail):
        if code is not None:
            yield from _scan(code, lines, bound, top=not compiled.wrapped)
    for code in compiled.nested:
        yield from _scan(code, lines, set(), top=False)


def _scan(code: CodeType, lines: list[str], bound: set[str], *, top: bool) -> Iterator[Place]:
    names, bytecode = code.co_names, code.co_code
    is_class = not top and not code.co_flags & _OPTIMIZED
    loops = _loops(bytecode)
    extended = 0
    for at, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        op = bytecode[2 * at]
        arg = bytecode[2 * at + 1] | extended
        extended = arg << 8 if op == _EXTENDED else 0
        if op == _LOAD_GLOBAL:
            name, kind = names[arg >> 1], "load"
        elif op in _LOADS:
            name, kind = names[arg], "load"
            if is_class and name in bound:
                continue  # the class's own
        elif op == _STORE_GLOBAL or (op == _STORE_NAME and not is_class):
            name, kind = names[arg], "bind"
        elif op == _STORE_NAME:
            bound.add(names[arg])
            continue
        else:
            continue
        if line is None or end_line is None or column is None or end_column is None:
            continue  # the compiler's own
        if line > len(lines) or end_line > len(lines):
            continue
        early = top and name not in bound and not any(a <= at <= b for a, b in loops)
        yield Place(
            "load" if kind == "load" else "bind",
            name,
            (line, column_of(lines[line - 1], column)),
            (end_line, column_of(lines[end_line - 1], end_column)),
            top,
            early,
        )
        if kind == "bind":
            bound.add(name)


def _loops(bytecode: bytes) -> list[tuple[int, int]]:
    """From where to where the code jumps back, in instructions."""
    found = []
    extended = 0
    for at in range(len(bytecode) // 2):
        op = bytecode[2 * at]
        arg = bytecode[2 * at + 1] | extended
        extended = arg << 8 if op == _EXTENDED else 0
        if op in _BACKWARD:
            found.append((at - arg, at))
    return found
